// One whole round: pools, allocation and plan.
#include "operator/planner/planner.h"
#include "operator/planner/requests.h"

namespace sluice::planner {

std::set<net::IpAddress> busy_addresses(const state::DesiredState& previous, const Memory& memory) {
  std::set<net::IpAddress> out;
  for (const auto& [id, service] : previous.services) out.insert(service.addresses.begin(), service.addresses.end());
  for (const auto& [address, revision] : memory.releasing) out.insert(address);
  return out;
}

Round decide(const RoundInput& input, ResolveCache& cache) {
  Round out;
  out.pools = ipam::Pools(input.cluster.pools, ipam::reserved_ranges(input.cluster, input.options.ranges));
  const std::vector<ipam::Request> requests = make_requests(input.cluster, input.previous, input.options);
  const std::set<net::IpAddress> busy = busy_addresses(input.previous, input.memory);
  out.addresses = ipam::allocate({out.pools, input.cluster.claims, input.cluster.namespaces, requests, busy});
  out.plan = plan({input.previous, input.cluster, out.addresses.decisions, input.agents, input.options, input.memory,
                   input.now, input.wall, input.random},
                  cache);
  return out;
}

}  // namespace sluice::planner
