// From a service of the desired state to its slot tables, now and at earlier revisions. Pure; the same on every node.
#pragma once

#include <cstdint>
#include <vector>

#include "common/state/desired_state.h"

namespace sluice::maglev {

constexpr size_t kMaxPlanes = 4;  // the table in force and up to three earlier candidates of a slot

// Planes of 2^log2 slots each; a slot holds an index into Service::backends or kNoBackend. planes[0] is the table in
// force; planes[1..] name, slot by slot, the distinct earlier candidates, newest first. A service whose table has not
// moved within the history has one plane. Candidates are told apart by {address, port}: a stay in another group is the
// same backend, and the index given is that of the newest stay.
struct ServiceTable {
  uint8_t log2 = 0;
  std::vector<std::vector<uint16_t>> planes;
};

ServiceTable build_service_table(const state::Service& service);

// The table in force at one revision, 2^(size at that revision) slots.
std::vector<uint16_t> table_at(const state::Service& service, state::Revision revision);

// Revisions at which the service's choice changed, newest first (joined, left and sizes; without 0).
std::vector<state::Revision> boundaries(const state::Service& service);

// The service with all history older than `keep_from` forgotten: stays that ended at or before it are dropped, stays
// that began at or before it began "since ever". keep_from = UINT64_MAX forgets everything.
state::Service forget_history(state::Service service, state::Revision keep_from);

}  // namespace sluice::maglev
