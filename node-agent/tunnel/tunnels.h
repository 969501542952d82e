// This node's tunnels as a whole: from the desired state, the ways and what came back of the probes to what the
// dataplane is told of each peer. Pure.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/state/desired_state.h"
#include "node-agent/dataplane/network.h"
#include "node-agent/tunnel/plan.h"
#include "node-agent/tunnel/probe_frame.h"
#include "node-agent/tunnel/prover.h"

namespace sluice::agent::tunnel {

// A tunnel as people see it.
struct TunnelFact {
  std::string node;
  net::IpAddress address;
  bool usable = false;
  uint16_t fits4 = 0, fits6 = 0;           // bytes of inner packet
  std::string why;                         // not usable: what is in the way
  uint16_t port = 0;                       // UDP, host order
  uint32_t key = 0;                        // the id of the key that our packets' token is of
  uint32_t mtu = 0;                        // bytes of outer IP packet that are known to go through; 0: none are
  std::optional<Clock::time_point> since;  // it has been usable, or not
  std::optional<Clock::time_point> heard;  // when a probe came back last; nullopt: none has
  friend bool operator==(const TunnelFact&, const TunnelFact&) = default;
};

class Tunnels {
 public:
  explicit Tunnels(uint64_t secret, const Times& times = {}) : prover_(times, secret) {}

  // What stood in the maps at the start, whoever put it there: taken over by the first follow_ways(). Before it.
  void found(std::vector<dataplane::Peer> peers) { found_ = std::move(peers); }

  void follow_state(const state::DesiredState& state, const std::string& node);
  void clear();
  [[nodiscard]] bool empty() const { return tunnels_.empty(); }
  // Underlay addresses of the other nodes: ways to them are needed.
  [[nodiscard]] std::vector<net::IpAddress> addresses() const;

  // The way to each of addresses() that there is one to.
  struct Way {
    dataplane::NextHop hop;
    dataplane::Mac own{};  // of the interface
    uint32_t mtu = 0;      // largest IP packet
    friend bool operator==(const Way&, const Way&) = default;
  };
  void follow_ways(std::map<net::IpAddress, Way> ways, Clock::time_point now);

  // Takes in what has come back; the probes to be sent now.
  std::vector<Frame> tick(Clock::time_point now, const std::map<std::string, Proof>& proofs);
  // A pass over all flow records has found flows by nat behind these underlay addresses, and behind no others.
  void swept(const std::set<net::IpAddress>& with_nat_flows);

  [[nodiscard]] std::map<std::string, dataplane::Peer> peers() const;
  [[nodiscard]] std::vector<TunnelFact> facts() const;
  // The node's backends are reached by a tunnel now.
  [[nodiscard]] bool usable(const std::string& node) const { return prover_.proved(node).usable; }

 private:
  struct Tunnel {
    PlannedTunnel planned;
    std::optional<Way> way;
    // Flows may be in the flow table, by nat, from times when the tunnel was not usable.
    bool has_nat = true;
    int sweeps_without = 0;  // in a row, while it was usable
  };
  void adopt(Clock::time_point now);
  void note_unusable();
  [[nodiscard]] std::string why_not(const std::string& node, const Tunnel& tunnel) const;

  Prover prover_;
  std::map<std::string, Tunnel> tunnels_;
  std::vector<dataplane::Peer> found_;
};

}  // namespace sluice::agent::tunnel
