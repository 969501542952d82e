// A network between nodes as values: what probes go in, and which come back.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "node-agent/tunnel/prover.h"

namespace sluice::agent::tunnel {

inline net::IpAddress ip(const std::string& text) {
  return net::IpAddress::parse(text).value();
}

// Moves on by tenths of a second, as the agent does.
class World {
 public:
  explicit World(const Times& times = {}) : prover(times, 1000) {}

  // Sends what the prover wants sent; what comes back is seen at the next step.
  std::vector<Probe> step() {
    auto probes = prover.tick(now, proofs);
    for (const Probe& probe : probes) {
      sent.push_back(probe);
      if (routers.contains(probe.node) && probe.bytes > routers[probe.node]) {
        refuse(probe.node, routers[probe.node]);
      } else if (largest.contains(probe.node) && probe.bytes <= largest[probe.node]) {
        proofs[probe.node].nonce = probe.nonce;
        proofs[probe.node].bytes = probe.bytes;
      }
    }
    now += std::chrono::milliseconds(100);
    return probes;
  }
  // A router on the way to the node says that no more than so many bytes fit.
  void refuse(const std::string& node, uint32_t fits) {
    proofs[node].told_mtu = fits;
    ++proofs[node].told_seen;
  }
  void run(std::chrono::milliseconds time) {
    for (const auto until = now + time; now < until;) step();
  }
  // The milliseconds until the tunnel is as wanted; -1: not within `patience`.
  int64_t until(const std::string& node, bool usable, std::chrono::milliseconds patience) {
    const auto begin = now;
    while (prover.proved(node).usable != usable) {
      if (now - begin > patience) return -1;
      step();
    }
    return std::chrono::duration_cast<std::chrono::milliseconds>(now - begin).count();
  }
  Prover prover;
  Clock::time_point now{std::chrono::hours(1)};
  std::map<std::string, uint32_t> largest;  // outer packets that come back, of nodes that answer
  std::map<std::string, uint32_t> routers;  // outer packets that a router lets through: it answers larger ones
  std::map<std::string, Proof> proofs;
  std::vector<Probe> sent;
};

}  // namespace sluice::agent::tunnel
