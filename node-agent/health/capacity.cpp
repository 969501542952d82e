#include "node-agent/health/capacity.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace sluice::agent::health {
namespace {

constexpr size_t kNamed = 4;  // how many of many a message names
constexpr unsigned kStep = 5;

class Search {
 public:
  explicit Search(const std::vector<Shortage>& before) : before_(before) {}

  void look(const char* reason, std::string what, uint64_t used, uint64_t room, const char* way_out) {
    if (room != 0) note(reason, std::move(what), used * 100 / room, room, way_out);
  }

  void note(const char* reason, std::string what, uint64_t all_percent, uint64_t room, const char* way_out) {
    const auto percent = static_cast<unsigned>(std::min<uint64_t>(100, all_percent));
    const bool told = std::ranges::find(before_, what, &Shortage::what) != before_.end();
    if (percent < (told ? kRoomAgain : kNearlyFull)) return;
    found_.push_back({reason, std::move(what), percent / kStep * kStep, room, way_out});
  }

  void flows(const dataplane::FlowUse& use, const char* family) {
    constexpr const char* kReason = "FlowTableNearlyFull";
    constexpr const char* kWayOut = "raise --max-flows (agent.sizes.maxFlows)";
    look(kReason, fmt::format("established {} flows", family), use.established, use.established_room, kWayOut);
    look(kReason, fmt::format("half-open {} flows", family), use.half_open, use.half_open_room, kWayOut);
  }

  // What it may have changes with what others have. It may have nothing more where that is 0.
  void share(const dataplane::ShareUse& use) {
    note("FlowShareNearlyUsed",
         fmt::format("the share of {} in established {} flows", use.service, use.ipv6 ? "IPv6" : "IPv4"),
         use.most == 0 ? 100 : use.flows * 100 / use.most, 0, "raise --max-flows (agent.sizes.maxFlows)");
  }

  void table(const dataplane::TableUse& use) {
    static constexpr std::array<std::pair<const char*, const char*>, 3> kWaysOut = {{
        {"services", "raise --max-services (agent.sizes.maxServices)"},
        {"backends", "raise --max-backends (agent.sizes.maxBackends)"},
        {"slots", "raise --max-slots (agent.sizes.maxSlots)"},
    }};
    const auto* const known = std::ranges::find(kWaysOut, use.table, &std::pair<const char*, const char*>::first);
    if (known == kWaysOut.end()) return;
    look("ServiceTableNearlyFull", "the table of " + use.table, use.used, use.room, known->second);
  }

  void ports(const dataplane::PortUse& use) {
    look("SourcePortsNearlyUsed", "source ports " + port_use_text(use), use.ports, use.room,
         "widen --nat-ports (agent.natPorts), or add backends");
  }

  std::vector<Shortage> take() { return std::move(found_); }

 private:
  const std::vector<Shortage>& before_;
  std::vector<Shortage> found_;
};

}  // namespace

std::vector<Shortage> find_shortages(const Usage& usage, const std::vector<Shortage>& before) {
  Search search(before);
  search.flows(usage.flows_ipv4, "IPv4");
  search.flows(usage.flows_ipv6, "IPv6");
  for (const auto& share : usage.shares) search.share(share);
  for (const auto& table : usage.tables) search.table(table);
  for (const auto& ports : usage.nat_ports) search.ports(ports);
  return search.take();
}

Condition capacity_condition(const std::vector<Shortage>& shortages) {
  if (shortages.empty()) {
    return {"CapacityLeft", true, "CapacityLeft", "flow tables, service tables and source ports have room"};
  }
  std::vector<std::string> texts;
  for (const Shortage& one : shortages) {
    if (texts.size() == kNamed) break;
    const std::string of = one.room == 0 ? std::string() : fmt::format(" of {}", one.room);
    texts.push_back(fmt::format("{}: {} %{} or more are in use: {}", one.what, one.percent, of, one.way_out));
  }
  const std::string more =
      shortages.size() > kNamed ? fmt::format("; and {} more", shortages.size() - kNamed) : std::string();
  return {"CapacityLeft", false, shortages.front().reason, fmt::format("{}{}", fmt::join(texts, "; "), more)};
}

}  // namespace sluice::agent::health
