// Between the desired state and its wire form, without letting protobuf's headers out.
#pragma once

#include <string>
#include <string_view>

#include "common/state/delta.h"
#include "common/state/desired_state.h"

namespace sluice::api {

// Deterministic: equal states give equal bytes.
std::string serialise(const state::DesiredState& state);
// Checks shapes (address lengths, ports, protocol numbers) but not meaning: state::validate does that.
Result<state::DesiredState> parse(std::string_view bytes);

// A node.v1.Delta message, as it stands in OperatorMessage.delta. Parsing checks shapes, as above.
std::string serialise(const state::Delta& delta);
Result<state::Delta> parse_delta(std::string_view bytes);

// The same value as JSON text, for the agent's file on disk and for people.
std::string to_json(const state::DesiredState& state);
Result<state::DesiredState> from_json(std::string_view text);

}  // namespace sluice::api
