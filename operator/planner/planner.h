// The desired state: from the one in force, the cluster, who has which address, and how far the agents are, to the next
// one and to why it is so. Pure; deterministic; time is a parameter.
#pragma once

#include "operator/planner/resolve.h"
#include "operator/planner/values.h"

namespace sluice::planner {

struct Input {
  const state::DesiredState& previous;  // in force; of another cluster id: ignored
  const resources::ClusterState& cluster;
  const std::map<Owner, ipam::Decision>& addresses;
  const Agents& agents;
  const Options& options;
  const Memory& memory;  // of the plan before, in this term
  Time now;
  std::chrono::system_clock::time_point wall;
  std::array<uint64_t, 2> random;  // new in each round: a secret may be made of it
};

// `cache` is kept by the caller over rounds; results do not depend on it.
Plan plan(const Input& input, ResolveCache& cache);

// Addresses that agents have or may still have: the allocator's `busy`.
std::set<net::IpAddress> busy_addresses(const state::DesiredState& previous, const Memory& memory);

// --- one whole round

struct Round {
  ipam::Pools pools;
  ipam::Outcome addresses;
  Plan plan;
};
struct RoundInput {
  const state::DesiredState& previous;
  const resources::ClusterState& cluster;
  const Agents& agents;
  const Options& options;
  const Memory& memory;
  Time now;
  std::chrono::system_clock::time_point wall;
  std::array<uint64_t, 2> random;
};
// Pools, allocation and plan, one after the other. Not before every Service, LoadBalancer and claim was read by a
// consistent LIST.
Round decide(const RoundInput& input, ResolveCache& cache);

}  // namespace sluice::planner
