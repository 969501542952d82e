// From what went wrong to the conditions and failures that people and the operator read. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/state/desired_state.h"
#include "node-agent/agent/interfaces.h"
#include "node-agent/health/facts.h"

namespace sluice::agent {

// What stands in the way of forwarding, in the order in which it is found out.
struct Troubles {
  std::optional<Error> open;         // the dataplane could not be loaded
  std::vector<std::string> missing;  // interfaces that are not there
  std::optional<Error> attach;       // interfaces that refused
  std::optional<Error> announce;     // addresses that it was to answer for and could not
  std::optional<Error> state_file;   // what is remembered could not be saved
  GenericBecause generic_because;    // nothing to say: none is generic, or it was asked for
};

// How far a desired state has come: there is none, it is held, it was brought to the maps by this process.
enum class Stage : uint8_t { no_state, held, programmed };

// Ready: the agent can do its work. One reason, the first in the order above; every trouble in the message.
health::Condition ready_condition(const Troubles& troubles, const std::vector<dataplane::AttachedInterface>& attached,
                                  Stage stage);

// Programmed: every service of the state stands in the maps, as read back.
health::Condition programmed_condition(bool has_state, const std::vector<dataplane::ServiceFailure>& failures);

// TunnelsProved: every tunnel that this node sends through is, but for those that have only just begun.
health::Condition tunnels_condition(const std::vector<tunnel::TunnelFact>& tunnels, tunnel::Clock::time_point now);

// Services with a backend in the choice that there is no way to: one failure each, reason Unreachable.
std::vector<dataplane::ServiceFailure> unreachable(const state::DesiredState& state,
                                                   const std::map<net::IpAddress, std::string>& unresolved,
                                                   const std::vector<tunnel::TunnelFact>& tunnels = {});

// A failure for every service of a state that is not programmed, or where nothing is attached: what Ready says stands
// in the way, or, where nothing does, that it is under way.
std::vector<dataplane::ServiceFailure> all_failed(const state::DesiredState& state, const health::Condition& ready);

// What of `now` is new, and the services of `before` that have no failure any more. Both lists ascending, as `merge`
// and `all_failed` give them.
struct FailureChanges {
  std::vector<dataplane::ServiceFailure> come;
  std::vector<std::string> gone;
};
FailureChanges failure_changes(const std::vector<dataplane::ServiceFailure>& before,
                               const std::vector<dataplane::ServiceFailure>& now);

// `first` and then those of `second` whose service has none yet; ascending by service, reason and message.
std::vector<dataplane::ServiceFailure> merge(std::vector<dataplane::ServiceFailure> first,
                                             const std::vector<dataplane::ServiceFailure>& second);

}  // namespace sluice::agent
