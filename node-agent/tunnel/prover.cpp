#include "node-agent/tunnel/prover.h"

#include <algorithm>
#include <utility>

#include "bpf/sluice.h"

namespace sluice::agent::tunnel {
namespace {

constexpr uint32_t kLeastIpv6 = 1280;
constexpr uint32_t kLeastToldIpv4 = 576;  // RFC 791, section 3.1: every host takes that; less is somebody's mischief
constexpr uint32_t kNonceBytes = 8;
constexpr uint32_t kMostBytes = 0xffff;  // of an IP packet
constexpr size_t kLeastBurst = 64;
constexpr uint32_t kTicksPerSecond = 10;

// The middle of what is not known yet.
uint32_t middle(uint32_t works, uint32_t fails) {
  return works + (fails - works) / 2;
}

}  // namespace

uint32_t least_bytes(bool outer_ipv6) {
  return kLeastIpv6 + SLUICE_TUNNEL_OVERHEAD(outer_ipv6, true);
}

uint32_t small_bytes(bool outer_ipv6) {
  return SLUICE_TUNNEL_OVERHEAD(outer_ipv6, false) - SLUICE_TUNNEL_CANDIDATE4 + kNonceBytes;
}

void Prover::start_anew(Tunnel& tunnel, Clock::time_point now) {
  if (tunnel.usable) tunnel.since = now;
  tunnel.usable = false;
  tunnel.works = 0;
  tunnel.fails = 0;
  tunnel.hint = 0;
  tunnel.round.reset();
  tunnel.next = now;
}

void Prover::take_way(Tunnel& tunnel, const Way& way, Clock::time_point now) {
  const Way before = std::exchange(tunnel.way, way);
  tunnel.hint = 0;
  if (before.outer_ipv6 != way.outer_ipv6 || way.mtu < least_bytes(way.outer_ipv6) || !tunnel.usable) {
    start_anew(tunnel, now);
    tunnel.carried = std::min(tunnel.carried, way.mtu);
  } else if (way.mtu < tunnel.works) {
    tunnel.works = tunnel.carried = way.mtu;
    tunnel.fails = 0;
    tunnel.round.reset();
  } else {
    tunnel.fails = 0;
    tunnel.next_search = now;
  }
}

void Prover::follow(const std::map<std::string, Way>& ways, Clock::time_point now) {
  std::erase_if(tunnels_, [&](const auto& entry) { return !ways.contains(entry.first); });
  for (const auto& [node, wanted] : ways) {
    const Way way{std::min(wanted.mtu, kMostBytes), wanted.outer_ipv6};
    const auto [entry, is_new] = tunnels_.try_emplace(node);
    if (is_new) {
      entry->second.way = way;
      entry->second.begun = entry->second.since = now;
      start_anew(entry->second, now);
    } else if (entry->second.way != way) {
      take_way(entry->second, way, now);
    }
  }
}

void Prover::adopt(const std::string& node, uint32_t bytes, Clock::time_point now) {
  const auto found = tunnels_.find(node);
  if (found == tunnels_.end()) return;
  Tunnel& tunnel = found->second;
  bytes = std::min(bytes, tunnel.way.mtu);
  if (bytes < least_bytes(tunnel.way.outer_ipv6)) return;
  tunnel.since = now;
  tunnel.usable = true;
  tunnel.works = tunnel.carried = bytes;
  tunnel.next = now;
  tunnel.next_large = now;
  tunnel.next_search = now + times_.search_again;
}

std::chrono::milliseconds Prover::stretched(std::chrono::milliseconds beat, uint32_t per_second) const {
  return std::max(beat, std::chrono::milliseconds(tunnels_.size() * 1000 / per_second));
}

// Nobody has answered for long.
bool Prover::hopeless(const Tunnel& tunnel, Clock::time_point now) const {
  return !tunnel.usable && now - tunnel.heard.value_or(tunnel.begun) >= times_.give_up;
}

// The search is over: `works` is what the tunnel carries.
void Prover::found(Tunnel& tunnel, Clock::time_point now) const {
  if (!tunnel.usable) tunnel.since = now;
  tunnel.usable = true;
  tunnel.fails = 0;
  tunnel.next_search = now + times_.search_again;
}

void Prover::came_back(Tunnel& tunnel, uint32_t bytes, Clock::time_point now) const {
  tunnel.heard = now;
  const bool first = std::exchange(tunnel.in_vain, false);
  tunnel.next = now + stretched(times_.beat, times_.probes_per_second);
  if (bytes < tunnel.works) return;
  tunnel.next_large = now + stretched(times_.large_beat, times_.large_per_second);
  const bool larger = bytes > tunnel.works;
  tunnel.works = tunnel.carried = bytes;
  if (!larger && tunnel.usable) return;
  if (bytes >= tunnel.way.mtu || (tunnel.fails != 0 && bytes + 1 >= tunnel.fails)) {
    found(tunnel, now);
  } else if (first && tunnel.fails == tunnel.way.mtu) {
    // That one was lost when there was perhaps nobody at the other end: it says nothing of its size.
    tunnel.fails = tunnel.way.mtu + 1;
    tunnel.hint = tunnel.way.mtu;
  }
}

void Prover::lost_all(Tunnel& tunnel, Clock::time_point now) const {
  start_anew(tunnel, now);
  tunnel.in_vain = true;
  tunnel.next = now + (hopeless(tunnel, now) ? stretched(times_.rare_beat, times_.large_per_second) : times_.beat);
}

void Prover::was_lost(Tunnel& tunnel, uint32_t bytes, Clock::time_point now) const {
  const uint32_t least = least_bytes(tunnel.way.outer_ipv6);
  if (bytes > tunnel.works) {
    tunnel.fails = bytes;
    if (tunnel.works == 0) {
      if (bytes <= least) lost_all(tunnel, now);
    } else if (tunnel.works + 1 >= tunnel.fails) {
      found(tunnel, now);
    }
  } else if (tunnel.usable && bytes == tunnel.works && bytes > least) {
    // Small ones may still go through: the way has become narrower, or all is lost.
    start_anew(tunnel, now);
    tunnel.fails = bytes;
    tunnel.carried = least;
  } else {
    lost_all(tunnel, now);
  }
}

// A router says that no more than `fits` goes on from it.
void Prover::narrow(Tunnel& tunnel, uint32_t fits, Clock::time_point now) const {
  const uint32_t least = least_bytes(tunnel.way.outer_ipv6);
  tunnel.carried = std::min(tunnel.carried, fits);  // as the kernel side has done
  if (tunnel.round && tunnel.round->bytes > fits) tunnel.round.reset();
  if (tunnel.usable && fits == tunnel.works) {
    found(tunnel, now);  // nothing larger is to be had
  } else if (tunnel.usable && fits < tunnel.works && fits >= least) {
    tunnel.works = tunnel.carried = fits;
    tunnel.fails = 0;
    tunnel.next_large = now;
    tunnel.next_search = now + times_.search_again;
  } else if (fits < least) {
    lost_all(tunnel, now);
  } else {
    if (fits <= tunnel.works) start_anew(tunnel, now);
    tunnel.fails = tunnel.fails == 0 ? fits + 1 : std::min(tunnel.fails, fits + 1);
    tunnel.hint = fits;
  }
}

// What was told before the tunnel was followed is of another time.
void Prover::listen(Tunnel& tunnel, const Proof& proof, Clock::time_point now) const {
  const std::pair said(proof.told_mtu, proof.told_seen);
  const bool is_new = tunnel.error && *tunnel.error != said;
  tunnel.error = said;
  if (!is_new || proof.told_mtu == 0) return;
  tunnel.told = std::max(proof.told_mtu, tunnel.way.outer_ipv6 ? kLeastIpv6 : kLeastToldIpv4);
  if (tunnel.told < tunnel.way.mtu) narrow(tunnel, tunnel.told, now);
}

uint32_t Prover::next_size(const Tunnel& tunnel, Clock::time_point now) {
  const uint32_t least = least_bytes(tunnel.way.outer_ipv6);
  if (tunnel.way.mtu < least) return 0;
  const bool hinted = tunnel.hint > tunnel.works && tunnel.hint < tunnel.fails;
  if (!tunnel.usable) {
    if (hinted) return tunnel.hint;
    if (tunnel.works != 0) return middle(tunnel.works, tunnel.fails);
    if (now < tunnel.next) return 0;
    return tunnel.fails == 0 ? tunnel.way.mtu : least;
  }
  if (now >= tunnel.next_large) return tunnel.works;
  if (now >= tunnel.next) return small_bytes(tunnel.way.outer_ipv6);
  if (hinted) return tunnel.hint;
  if (tunnel.fails != 0) return middle(tunnel.works, tunnel.fails);
  if (tunnel.works < tunnel.way.mtu && now >= tunnel.next_search) return tunnel.way.mtu;
  return 0;
}

void Prover::look(Tunnel& tunnel, const Proof* proof, Clock::time_point now) const {
  if (!tunnel.round) return;
  const Round& round = *tunnel.round;
  const auto sent = std::min(round.sent, kTries);
  const auto* const end = round.nonces.begin() + sent;
  if (proof != nullptr && proof->bytes == round.bytes && std::find(round.nonces.begin(), end, proof->nonce) != end) {
    const uint32_t bytes = round.bytes;
    tunnel.round.reset();
    came_back(tunnel, bytes, now);
  } else if (now - round.last >= times_.patience && (sent == kTries || hopeless(tunnel, now))) {
    const uint32_t bytes = round.bytes;
    tunnel.round.reset();
    was_lost(tunnel, bytes, now);
  }
}

std::vector<Probe> Prover::tick(Clock::time_point now, const std::map<std::string, Proof>& proofs) {
  std::vector<Probe> probes;
  for (auto& [node, tunnel] : tunnels_) {
    const auto proof = proofs.find(node);
    look(tunnel, proof == proofs.end() ? nullptr : &proof->second, now);
    listen(tunnel, proof == proofs.end() ? Proof{} : proof->second, now);
  }
  const size_t most = std::max<size_t>(kLeastBurst, times_.probes_per_second / kTicksPerSecond);
  auto at = tunnels_.upper_bound(last_served_);
  for (size_t i = 0; i < tunnels_.size() && probes.size() < most; ++i, ++at) {
    if (at == tunnels_.end()) at = tunnels_.begin();
    Tunnel& tunnel = at->second;
    if (tunnel.round && now - tunnel.round->last < times_.patience) continue;
    if (!tunnel.round) {
      const uint32_t bytes = next_size(tunnel, now);
      if (bytes == 0) continue;
      tunnel.round = Round{bytes, 0, {}, now};
      if (bytes == tunnel.hint) tunnel.hint = 0;
    }
    Round& round = *tunnel.round;
    round.nonces.at(round.sent++) = next_nonce_;
    round.last = now;
    probes.push_back({at->first, next_nonce_++, round.bytes});
    last_served_ = at->first;
  }
  return probes;
}

Proved Prover::proved(const std::string& node) const {
  const auto found = tunnels_.find(node);
  return found == tunnels_.end() ? Proved{} : Proved{found->second.usable, found->second.carried};
}

std::optional<Clock::time_point> Prover::heard(const std::string& node) const {
  const auto found = tunnels_.find(node);
  return found == tunnels_.end() ? std::nullopt : found->second.heard;
}

std::optional<Clock::time_point> Prover::since(const std::string& node) const {
  const auto found = tunnels_.find(node);
  return found == tunnels_.end() ? std::nullopt : std::optional(found->second.since);
}

uint32_t Prover::told(const std::string& node) const {
  const auto found = tunnels_.find(node);
  return found == tunnels_.end() ? 0 : found->second.told;
}

}  // namespace sluice::agent::tunnel
