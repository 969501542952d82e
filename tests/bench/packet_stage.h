// One program with its maps filled, and what it takes for the packets of the scenarios that can share it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/bench/packet_scenarios.h"

namespace sluice::bench {

struct Result {
  double net = 0;            // ns a packet beyond the floor: the median of the rounds
  double low = 0, high = 0;  // its quartiles
  double floor = 0;          // ns a packet, the median
};

// They differ in `flows` and `busy` alone.
[[nodiscard]] bool same_stage(const Scenario& a, const Scenario& b);

class Stage {
 public:
  // For all scenarios that are as this one by same_stage(), of at most `flows` flows.
  Stage(const Scenario& scenario, uint32_t flows);
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  // Throws std::runtime_error where a packet had another verdict than the scenario's.
  Result measure(const Scenario& scenario, uint32_t flows, uint32_t rounds);

 private:
  [[nodiscard]] Harness& measured() { return mode_.measure_returns ? *returns_ : *arrivals_; }
  [[nodiscard]] const Verdict& verdict() const {
    return mode_.measure_returns ? mode_.returns->verdict : mode_.verdict;
  }
  [[nodiscard]] bench_flows flows(uint32_t count) const { return flows_of(mode_.towards, services_, count); }
  [[nodiscard]] Stencil sent(uint8_t tcp_flags) const { return packets_of(mode_.towards, family_, tcp_flags); }
  [[nodiscard]] Frame arrival(const bench_flows& flows, uint32_t number, uint8_t tcp_flags) const;
  [[nodiscard]] Frame returned(const bench_flows& flows, uint32_t number) const;
  void check_packets();
  // From here on the packets are of so many flows.
  void aim_arrivals(uint32_t count, uint8_t tcp_flags);
  void aim_returns(const std::vector<Frame>& frames, uint8_t tcp_flags);
  void make_known(uint32_t count);
  void run_checked(Harness& harness, const Verdict& verdict, uint32_t packets);
  void check(const std::map<std::string, uint64_t>& before, const Verdict& verdict, uint64_t packets) const;
  Result rounds_of(uint32_t packets, uint32_t rounds, bool forget);

  const Mode& mode_;
  net::Family family_;
  uint32_t services_;
  Situation situation_;
  Plane plane_;
  std::unique_ptr<Plane> peer_;
  std::unique_ptr<Harness> arrivals_;  // makes what comes from clients, or from the peer
  std::unique_ptr<Harness> returns_;   // makes what comes from backends
  std::optional<uint32_t> known_;      // so many flows are known, and the packets are theirs
};

}  // namespace sluice::bench
