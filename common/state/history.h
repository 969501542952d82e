// How a service's history grows: the one rule by which the planner and a YAML file turn what is wanted now into stays
// with `joined` and `left`. Pure.
#pragma once

#include "common/state/desired_state.h"

namespace sluice::state {

// `previous` (nullptr: the service is new) moved on to `wanted` at `revision`, which must be above every revision in
// `previous`. Of `wanted`, `groups` and `backends` say who shall be in the choice (`left`, `sizes` and any `joined` but
// kNotYet are ignored; a repeated {address, port, group} counts once); all other fields are taken as they are.
//
// - A member that stays in a group of the same name and weight keeps its stay; one that is new joins at `revision`; one
// that
//   is missing left at `revision` and stays listed. A changed weight is another group: its members leave and join.
// - A new member whose wanted `joined` is kNotYet is listed and does not join yet; it joins at the revision at which it
// is wanted without, and is gone without a trace where it is not wanted any more. Where nobody else that takes flows is
// in the choice, it joins at once. One that has joined already is not concerned.
// - The members of a service without previous are there since ever: it has no history.
// - The table grows as soon as its members want a larger one and shrinks when twice as many would do with a smaller
// one.
// - Groups without any stay are not listed; at most kMaxBoundaries boundaries are kept, and no more
//   than leave room for kMaxBackends stays.
//
// Where nothing changed, the outcome equals `previous`.
Service evolve(const Service* previous, Service wanted, Revision revision);

// The service with the history up to `keep_from` forgotten (maglev::forget_history), and without the groups that only
// that history named. UINT64_MAX forgets all of it.
Service forget(Service service, Revision keep_from);

}  // namespace sluice::state
