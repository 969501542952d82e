#include "node-agent/tunnel/tunnels.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "bpf/sluice.h"

namespace sluice::agent::tunnel {
namespace {

// A packet that saw the tunnel as not usable may still make its flow while the first pass goes on.
constexpr int kSweepsToForget = 2;

uint16_t inner(uint32_t outer, bool outer_ipv6, bool inner_ipv6) {
  const uint32_t overhead = SLUICE_TUNNEL_OVERHEAD(outer_ipv6, inner_ipv6);
  return static_cast<uint16_t>(outer > overhead ? outer - overhead : 0);
}

bool same_ends(const PlannedTunnel& a, const PlannedTunnel& b) {
  return a.address == b.address && a.source == b.source && a.port == b.port;
}

}  // namespace

void Tunnels::follow_state(const state::DesiredState& state, const std::string& node) {
  auto planned = plan_tunnels(state, node);
  std::erase_if(tunnels_, [&](const auto& entry) {
    const auto still = planned.find(entry.first);
    const bool gone = still == planned.end() || !same_ends(still->second, entry.second.planned);
    if (gone) prover_.forget(entry.first);
    return gone;
  });
  for (auto& [name, one] : planned) tunnels_[name].planned = std::move(one);
}

void Tunnels::clear() {
  tunnels_.clear();
  found_.clear();
  prover_.follow({}, {});
}

std::vector<net::IpAddress> Tunnels::addresses() const {
  std::vector<net::IpAddress> out;
  for (const auto& [node, tunnel] : tunnels_) out.push_back(tunnel.planned.address);
  return out;
}

void Tunnels::follow_ways(std::map<net::IpAddress, Way> ways, Clock::time_point now) {
  std::map<std::string, Prover::Way> to_prove;
  for (auto& [node, tunnel] : tunnels_) {
    const auto way = ways.find(tunnel.planned.address);
    tunnel.way = way == ways.end() ? std::nullopt : std::optional(way->second);
    const uint32_t mtu = tunnel.way ? tunnel.way->mtu : 0;
    if (tunnel.planned.carries) to_prove.emplace(node, Prover::Way{mtu, !tunnel.planned.address.is_ipv4()});
  }
  prover_.follow(to_prove, now);
  adopt(now);
  note_unusable();
}

void Tunnels::adopt(Clock::time_point now) {
  for (dataplane::Peer& was : std::exchange(found_, {})) {
    const auto same = std::ranges::find_if(tunnels_, [&was](const auto& entry) {
      const PlannedTunnel& planned = entry.second.planned;
      return planned.address == was.address && planned.source == was.source && planned.port == was.port;
    });
    if (same == tunnels_.end() || !was.usable || prover_.proved(same->first).bytes != 0) continue;
    if (!same->second.way) {
      found_.push_back(std::move(was));
      continue;
    }
    prover_.adopt(same->first, was.fits4 + SLUICE_TUNNEL_OVERHEAD(!was.address.is_ipv4(), false), now);
    same->second.has_nat = was.has_nat;
  }
}

void Tunnels::note_unusable() {
  for (auto& [node, tunnel] : tunnels_) {
    if (usable(node)) continue;
    tunnel.has_nat = true;
    tunnel.sweeps_without = 0;
  }
}

std::vector<Frame> Tunnels::tick(Clock::time_point now, const std::map<std::string, Proof>& proofs) {
  std::vector<Frame> frames;
  const auto probes = prover_.tick(now, proofs);
  note_unusable();
  if (probes.empty()) return frames;
  const auto told = peers();
  for (const Probe& probe : probes) {
    frames.push_back(probe_frame(told.at(probe.node), tunnels_.at(probe.node).way->own, probe));
  }
  return frames;
}

void Tunnels::swept(const std::set<net::IpAddress>& with_nat_flows) {
  for (auto& [node, tunnel] : tunnels_) {
    if (!usable(node)) continue;
    tunnel.sweeps_without = with_nat_flows.contains(tunnel.planned.address) ? 0 : tunnel.sweeps_without + 1;
    if (tunnel.sweeps_without >= kSweepsToForget) tunnel.has_nat = false;
  }
}

std::map<std::string, dataplane::Peer> Tunnels::peers() const {
  std::map<std::string, dataplane::Peer> out;
  for (const auto& [node, tunnel] : tunnels_) {
    dataplane::Peer& peer = out[node];
    const bool ipv6 = !tunnel.planned.address.is_ipv4();
    peer.address = tunnel.planned.address;
    peer.source = tunnel.planned.source;
    peer.port = tunnel.planned.port;
    peer.underlay = tunnel.planned.underlay;
    if (tunnel.way) peer.way = tunnel.way->hop;
    const Proved proved = prover_.proved(node);
    peer.usable = proved.usable;
    peer.has_nat = tunnel.has_nat;
    peer.fits4 = inner(proved.bytes, ipv6, false);
    peer.fits6 = inner(proved.bytes, ipv6, true);
    peer.token = tunnel.planned.token;
    peer.accepted = tunnel.planned.accepted;
  }
  return out;
}

std::string Tunnels::why_not(const std::string& node, const Tunnel& tunnel) const {
  const std::string address = tunnel.planned.address.to_string();
  if (!tunnel.way) return fmt::format("there is no way to {} that XDP can take", address);
  if (const uint32_t least = least_bytes(!tunnel.planned.address.is_ipv4()); tunnel.way->mtu < least) {
    return fmt::format("the way to {} has an MTU of {}: tunnels need {}", address, tunnel.way->mtu, least);
  }
  if (const uint32_t told = prover_.told(node); told != 0 && told < least_bytes(!tunnel.planned.address.is_ipv4())) {
    return fmt::format("a router on the way to {} lets no more than {} bytes through: tunnels need {}", address, told,
                       least_bytes(!tunnel.planned.address.is_ipv4()));
  }
  return fmt::format("{} from {} to {} port {} (UDP)",
                     prover_.heard(node) ? "probes come back no more" : "no probe has come back",
                     tunnel.planned.source.to_string(), address, tunnel.planned.port);
}

std::vector<TunnelFact> Tunnels::facts() const {
  std::vector<TunnelFact> out;
  for (const auto& [node, peer] : peers()) {
    const Tunnel& tunnel = tunnels_.at(node);
    if (!tunnel.planned.carries) continue;
    out.push_back({node, peer.address, peer.usable, peer.fits4, peer.fits6,
                   peer.usable ? std::string() : why_not(node, tunnel), tunnel.planned.port, tunnel.planned.key,
                   prover_.proved(node).bytes, prover_.since(node), prover_.heard(node)});
  }
  return out;
}

}  // namespace sluice::agent::tunnel
