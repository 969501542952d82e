// sluice-agent: see --help.
#include <algorithm>
#include <bit>
#include <cstdio>
#include <string>

#include "common/log/log.h"
#include "common/process/termination.h"
#include "node-agent/agent/options.h"
#include "node-agent/agent/run.h"
#include "node-agent/dataplane/kernel_dataplane.h"
#include "node-agent/dataplane/probe.h"

namespace {

using sluice::Status;
namespace agent = sluice::agent;

constexpr uint32_t kLeastKeys = 1U << 12;

agent::dataplane::Options dataplane_options(const agent::Options& options) {
  agent::dataplane::Options out;
  out.directory = options.bpffs;
  out.nat_ports = {options.nat_port_first, options.nat_port_last};
  if (options.max_services != 0) {
    // Each service has an entry for every address, and two generations of the table lie side by side at a low load.
    const uint32_t entries_each = out.sizes.tables.service_keys / out.sizes.tables.services;
    out.sizes.tables.services = options.max_services;
    out.sizes.owned_addresses = agent::dataplane::owned_room(options.max_services);
    out.sizes.tables.service_keys = std::max(kLeastKeys, std::bit_ceil(options.max_services * entries_each));
  }
  if (options.max_backends != 0) out.sizes.tables.backends = options.max_backends;
  if (options.max_slots != 0) out.sizes.tables.slots = options.max_slots;
  if (options.max_flows != 0) out.sizes.flows = options.max_flows;
  return out;
}

agent::Kernel real_kernel(const agent::Options& options) {
  const auto dataplane = dataplane_options(options);
  return {[dataplane] { return agent::dataplane::KernelDataplane::open(dataplane); },
          [dataplane] { return agent::dataplane::KernelDataplane::purge(dataplane.directory); },
          [dataplane] { return agent::dataplane::usable(dataplane.directory); }};
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
