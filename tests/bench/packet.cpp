// tests/bench/packet: how many nanoseconds a packet takes in the XDP program, beyond those that it takes to make the
// packet and to return XDP_TX (the floor: packet.bpf.c in front of a program that does no more, in turn with the
// program under test). Medians of pairs; the time of this thread. Needs root.
//
//   packet [--scenario GLOB] [--flows 1,1k,64k,1M] [--rounds N] [--json] [--list]
//
// A scenario is MODE/FAMILY/FLOWS/SERVICES/STATE, as in "nat-forward/v4/known/1/idle": --list names them.
#include <fmt/format.h>
#include <fnmatch.h>
#include <getopt.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <stdexcept>

#include "tests/bench/packet_network.h"
#include "tests/bench/packet_stage.h"

namespace sluice::bench {
namespace {

constexpr uint32_t kFewest = 1'024;  // new flows below which the clock says nothing

struct Arguments {
  std::string glob = "*";
  std::vector<uint32_t> flows{1, 1U << 10, 1U << 16, 1U << 20};
  uint32_t rounds = 181;
  bool json = false;
  bool list = false;
};

// By how many flows.
using Results = std::map<uint32_t, Result>;

uint32_t parse_flows(const std::string& text) {
  char* rest = nullptr;
  const unsigned long number = std::strtoul(text.c_str(), &rest, 10);
  const std::string unit = rest;
  const uint32_t flows = static_cast<uint32_t>(number) << (unit == "k" ? 10 : unit == "M" ? 20 : 0);
  if (flows == 0 || (flows & (flows - 1)) != 0 || flows > 1U << 20 || (!unit.empty() && unit != "k" && unit != "M"))
    throw std::invalid_argument("--flows " + text + ": a power of two up to 1M, as 1, 4k, 1M");
  return flows;
}

std::string flows_text(uint32_t flows) {
  return flows >= 1U << 20   ? fmt::format("{}M", flows >> 20)
         : flows >= 1U << 10 ? fmt::format("{}k", flows >> 10)
                             : fmt::format("{}", flows);
}

Arguments parse(int argc, char** argv) {
  static constexpr option kOptions[] = {
      {"scenario", required_argument, nullptr, 's'}, {"flows", required_argument, nullptr, 'f'},
      {"rounds", required_argument, nullptr, 'r'},   {"json", no_argument, nullptr, 'j'},
      {"list", no_argument, nullptr, 'l'},           {nullptr, 0, nullptr, 0}};
  Arguments arguments;
  for (int one = 0; (one = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    if (one == 's') arguments.glob = optarg;
    if (one == 'r') arguments.rounds = static_cast<uint32_t>(std::max(1, std::atoi(optarg)));
    if (one == 'j') arguments.json = true;
    if (one == 'l') arguments.list = true;
    if (one == '?')
      throw std::invalid_argument("packet [--scenario GLOB] [--flows 1,1k,64k,1M] [--rounds N] [--json] [--list]");
    if (one == 'f') {
      arguments.flows.clear();
      std::string all = optarg;
      for (size_t begin = 0; begin <= all.size();) {
        const size_t end = std::min(all.find(',', begin), all.size());
        arguments.flows.push_back(parse_flows(all.substr(begin, end - begin)));
        begin = end + 1;
      }
    }
  }
  return arguments;
}

void print_head(const Arguments& arguments) {
  fmt::print("{:<34}", "ns a packet, net of the floor");
  for (const uint32_t flows : arguments.flows) fmt::print("{:>9}", flows_text(flows));
  fmt::print("{:>9}\n", "floor");
}

void print_line(const Arguments& arguments, const Scenario& scenario, const Results& results) {
  fmt::print("{:<34}", scenario.name());
  double floor = 0;
  for (const uint32_t flows : arguments.flows) {
    const auto found = results.find(flows);
    fmt::print("{:>9}", found == results.end() ? "-" : fmt::format("{:.1f}", found->second.net));
    if (found != results.end()) floor += found->second.floor / static_cast<double>(results.size());
  }
  fmt::print("{:>9.1f}\n", floor);
}

void print_json(const Scenario& scenario, const Results& results) {
  for (const auto& [flows, result] : results)
    fmt::print(
        "{{\"scenario\": \"{}\", \"flows\": {}, \"net_ns\": {:.2f}, \"net_low_ns\": {:.2f}, \"net_high_ns\": {:.2f}, "
        "\"floor_ns\": {:.2f}}}\n",
        scenario.name(), flows, result.net, result.low, result.high, result.floor);
}

// Scenarios that share a program, one after the other for so many flows: what is known stays known.
void run_group(const Arguments& arguments, const std::vector<Scenario>& members) {
  Stage stage(members.front(), *std::max_element(arguments.flows.begin(), arguments.flows.end()));
  std::vector<Results> results(members.size());
  for (const uint32_t flows : arguments.flows) {
    for (const bool fresh : {false, true}) {
      for (size_t i = 0; i < members.size(); ++i) {
        const Scenario& scenario = members[i];
        if (fresh != (scenario.flows == Flows::fresh) || (fresh && flows < kFewest)) continue;
        results[i][flows] = stage.measure(scenario, flows, arguments.rounds);
      }
    }
  }
  for (size_t i = 0; i < members.size(); ++i)
    arguments.json ? print_json(members[i], results[i]) : print_line(arguments, members[i], results[i]);
  std::fflush(stdout);
}

int run(const Arguments& arguments) {
  // In the order of the list.
  std::vector<std::vector<Scenario>> groups;
  for (const Scenario& scenario : scenarios()) {
    if (fnmatch(arguments.glob.c_str(), scenario.name().c_str(), 0) != 0) continue;
    if (groups.empty() || !same_stage(groups.back().front(), scenario)) groups.emplace_back();
    groups.back().push_back(scenario);
  }
  if (groups.empty()) throw std::invalid_argument("no scenario is called " + arguments.glob);
  if (arguments.list) {
    for (const auto& members : groups)
      for (const Scenario& scenario : members) fmt::print("{}\n", scenario.name());
    return 0;
  }
  stay_on_cpu(kCpu);
  enter_network();
  if (!arguments.json) print_head(arguments);
  for (const auto& members : groups) run_group(arguments, members);
  return 0;
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  try {
    return sluice::bench::run(sluice::bench::parse(argc, argv));
  } catch (const std::exception& failure) {
    fmt::print(stderr, "packet: {}\n", failure.what());
    return 1;
  }
}
