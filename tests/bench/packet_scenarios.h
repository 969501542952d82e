// What is measured, in the terms of the desired state.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/bench/packet_plane.h"
#include "tests/bench/packet_stencil.h"

namespace sluice::bench {

enum class Towards : uint8_t {
  services,
  strangers,  // addresses that are no service's and not the node's
  node,       // the node's own address
};

struct Verdict {
  uint32_t action = 0;      // XDP_... or TC_ACT_...
  const char* reason = "";  // by the program's own counters
};

// What backends answer passes by here.
struct Returns {
  Hook hook = Hook::xdp;
  Verdict verdict;
};

using MakeSituation = Situation (*)(net::Family family, uint32_t services);

// One line of the table.
struct Mode {
  const char* name;
  Towards towards;
  MakeSituation situation;
  Verdict verdict;
  std::optional<Returns> returns = {};
  bool measure_returns = false;  // those, and not what clients send
  bool records = false;          // there is a record of each flow: known flows and new ones differ
  // The packets come from another node, which has made them of what clients send: in this situation, with this verdict.
  MakeSituation peer = nullptr;
  Verdict sent = {};
};
const std::vector<Mode>& modes();

enum class Flows : uint8_t { known, fresh };

struct Scenario {
  const Mode* mode = nullptr;
  net::Family family = net::Family::ipv4;
  Flows flows = Flows::known;
  uint32_t services = 1;
  bool busy = false;  // another thread changes other services all the time
  // "nat-forward/v4/known/1/idle"
  [[nodiscard]] std::string name() const;
};
std::vector<Scenario> scenarios();

// What clients send, in such flows: `count` of them, a power of two.
Stencil packets_of(Towards towards, net::Family family, uint8_t tcp_flags);
bench_flows flows_of(Towards towards, uint32_t services, uint32_t count);

// The same situation with `turn`'s parity deciding what some services that no packet goes to have for backends.
Situation turned(const Situation& situation, uint32_t turn);

}  // namespace sluice::bench
