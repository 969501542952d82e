// The core's tunnels to other nodes: their ways, their probes, and what the maps are told of them.

#include <algorithm>
#include <utility>

#include "common/log/spdlog.h"
#include "node-agent/agent/core.h"

namespace sluice::agent {

void Core::follow_tunnel_ways() {
  std::map<net::IpAddress, tunnel::Tunnels::Way> ways;
  for (const net::IpAddress& address : tunnels_.addresses()) {
    const auto hop = network_.ways.next_hops.find(address);
    const auto way = network_.ways.every.find(address);
    if (hop == network_.ways.next_hops.end() || way == network_.ways.every.end() || hop->second.local) continue;
    if (way->second.transmit_by == 0) continue;  // neither can the XDP program transmit there
    ways.emplace(address, tunnel::Tunnels::Way{hop->second, way->second.own, way->second.mtu});
  }
  tunnels_.follow_ways(std::move(ways), tunnel::Clock::now());
}

void Core::tend_tunnels(tunnel::Clock::time_point now) {
  if (tunnels_.empty() || !dataplane_ || !programmed_ || !kernel_.send_probe) return;
  for (const tunnel::Frame& frame : tunnels_.tick(now, dataplane_->proofs())) {
    const Status sent = kernel_.send_probe(frame);
    if (!sent && probe_trouble_ != sent.error()) spdlog::error("{}", sent.error().message());
    probe_trouble_ = sent ? std::nullopt : std::optional<Error>(sent.error());
    if (!sent) break;
  }
  tell_tunnels();
}

// The maps, where something differs from what they were told.
void Core::tell_tunnels() {
  auto peers = tunnels_.peers();
  if (!dataplane_ || !programmed_ || peers == programmed_ways_.peers) return;
  for (const tunnel::TunnelFact& fact : tunnels_.facts()) {
    const auto before = programmed_ways_.peers.find(fact.node);
    const bool was_usable = before != programmed_ways_.peers.end() && before->second.usable;
    const bool other_size = was_usable && before->second.fits4 != fact.fits4;
    if (fact.usable && !was_usable) {
      spdlog::info("tunnel to node {}: proved, for packets of up to {} bytes (IPv4) and {} (IPv6)", fact.node,
                   fact.fits4, fact.fits6);
    } else if (fact.usable && other_size) {
      spdlog::info("tunnel to node {}: carries packets of up to {} bytes (IPv4) and {} (IPv6) now", fact.node,
                   fact.fits4, fact.fits6);
    } else if (!fact.usable && was_usable) {
      spdlog::warn("tunnel to node {}: not usable: {}", fact.node, fact.why);
    }
  }
  std::swap(programmed_ways_.peers, peers);
  if (const Status updated = dataplane_->update_ways(programmed_ways_); !updated) {
    spdlog::error("{}", updated.error().message());
    std::swap(programmed_ways_.peers, peers);
    return;
  }
  report();
}

}  // namespace sluice::agent
