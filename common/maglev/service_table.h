// From a service of the desired state to its slot tables, now and at earlier revisions. Pure; the same on every node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/state/desired_state.h"

namespace sluice::maglev {

constexpr size_t kMaxPlanes = 8;  // the table in force and up to seven earlier candidates of a slot

// Planes of 2^log2 slots each; a slot holds an index into Service::backends or kNoBackend. planes[0] is the table in
// force; planes[1..] name, slot by slot, the distinct earlier candidates, newest first, then kNoBackend. A service
// whose table has not moved within the history has one plane. Where no backend is in the choice, planes[0] is all
// kNoBackend, and the earlier ones name who was.
//
// log2 is the greatest size within the history, so that an older, larger table keeps its resolution; a smaller table is
// read through its own mask. History is the newest state::kMaxBoundaries boundaries.
//
// Candidates are told apart by {address, port}: a stay in another group is the same backend, and the index given is
// that of the newest stay (of two that joined at once, the first listed), also in a table from before that stay. An
// endpoint in two groups at one time has the sum of both shares.
struct ServiceTable {
  uint8_t log2 = 0;
  std::vector<std::vector<uint16_t>> planes;
  friend bool operator==(const ServiceTable&, const ServiceTable&) = default;
};

// The service must be valid (state::validate).
ServiceTable build_service_table(const state::Service& service);

// The table in force at one revision, 2^(size at that revision) slots. UINT64_MAX: now.
std::vector<uint16_t> table_at(const state::Service& service, state::Revision revision);

// Revisions at which the service's choice changed, newest first (joined, left and sizes; without 0 and kNotYet). All of
// them.
std::vector<state::Revision> boundaries(const state::Service& service);

// The service with all history older than `keep_from` forgotten: stays that ended at or before it are dropped, stays
// that began at or before it began "since ever". Tables from keep_from on stay what they are. keep_from = UINT64_MAX
// forgets everything. Groups stay, also those without a member.
state::Service forget_history(state::Service service, state::Revision keep_from);

// What names a backend in every table: a hash of its address and port that is the same on every machine.
uint64_t identity(const net::IpAddress& address, uint16_t port);

}  // namespace sluice::maglev
