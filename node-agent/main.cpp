// sluice-agent: see --help.
#include <algorithm>
#include <bit>
#include <cstdio>
#include <memory>
#include <string>

#include "common/log/log.h"
#include "common/process/termination.h"
#include "node-agent/agent/options.h"
#include "node-agent/agent/run.h"
#include "node-agent/dataplane/kernel_dataplane.h"
#include "node-agent/dataplane/probe.h"
#include "node-agent/health/node_facts.h"
#include "node-agent/tunnel/probe_sender.h"

namespace {

using sluice::Status;
namespace agent = sluice::agent;

constexpr uint32_t kLeastKeys = 1U << 12;
constexpr uint32_t kIpv6Share = 4;  // room for IPv6 is a quarter of that for IPv4

agent::dataplane::Options dataplane_options(const agent::Options& options) {
  agent::dataplane::Options out;
  out.directory = options.bpffs;
  out.nat_ports = {options.nat_port_first, options.nat_port_last};
  if (options.max_services != 0) {
    // Each service has an entry for every address, and two generations of the table lie side by side at a low load.
    const uint32_t entries_each = out.sizes.tables.keys / out.sizes.tables.services;
    const uint32_t services = std::bit_ceil(options.max_services);
    out.sizes.tables.services = services;
    out.sizes.owned_addresses = agent::dataplane::owned_room(services);
    out.sizes.tables.keys = std::max(kLeastKeys, services * entries_each);
    out.sizes.tables.keys6 = std::max(kLeastKeys, out.sizes.tables.keys / kIpv6Share);
  }
  if (options.max_backends != 0) out.sizes.tables.backends = std::bit_ceil(options.max_backends);
  if (options.max_slots != 0) out.sizes.tables.slots = std::bit_ceil(options.max_slots);
  if (options.max_flows != 0) {
    constexpr uint32_t kLeastFlows = 64;
    out.sizes.flows4 = std::max(kLeastFlows, std::bit_ceil(options.max_flows));
    out.sizes.half_open4 = std::max(kLeastFlows, out.sizes.flows4 / 4);
    out.sizes.flows6 = std::max(kLeastFlows, out.sizes.flows4 / kIpv6Share);
    out.sizes.half_open6 = std::max(kLeastFlows, out.sizes.half_open4 / kIpv6Share);
  }
  return out;
}

agent::Kernel real_kernel(const agent::Options& options) {
  const auto dataplane = dataplane_options(options);
  return {[dataplane] { return agent::dataplane::KernelDataplane::open(dataplane); },
          [dataplane] { return agent::dataplane::KernelDataplane::purge(dataplane.directory); },
          [dataplane] { return agent::dataplane::usable(dataplane.directory); }, agent::health::read_node_facts,
          [sender = std::make_shared<agent::tunnel::ProbeSender>()](const agent::tunnel::Frame& frame) {
            return sender->send(frame);
          }};
}

int end(const Status& failed) {
  std::fprintf(stderr, "sluice-agent: %s\n", failed.error().message().c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  const auto parsed = agent::parse_options(argc, argv);
  if (parsed.exit_code) return *parsed.exit_code;
  const agent::Options& options = parsed.options;
  if (auto logging = sluice::log::setup(options.log_level, options.log_format); !logging) return end(logging);
  if (auto prepared = sluice::process::prepare_signals(); !prepared) return end(prepared);
  if (options.check) return agent::run_check(options);
  if (options.purge) return agent::run_purge(options, real_kernel(options));
  return agent::run_agent(options, real_kernel(options));
}
