// Between the desired state and its wire form, without letting protobuf's headers out.
#pragma once

#include <string>
#include <string_view>

#include "common/state/delta.h"
#include "common/state/desired_state.h"

namespace sluice::api {

// Deterministic: equal states give equal bytes.
std::string serialise(const state::DesiredState& state);
// Checks shapes (address lengths, ports, protocol numbers, group indices, table sizes, keys given twice) but not
// meaning: state::validate does that. The reason starts with the field: "services[3].backends[7].address: ...". Unknown
// fields are ignored.
Result<state::DesiredState> parse(std::string_view bytes);

// A node.v1.Delta message, as it stands in OperatorMessage.delta. Parsing checks shapes, as above.
std::string serialise(const state::Delta& delta);
Result<state::Delta> parse_delta(std::string_view bytes);

// The same value as JSON text, for the agent's file on disk and for people: addresses, prefixes and names of choices as
// people write them, one service, node or announcement a line. It holds the flow hash key and the tunnel's keys, which
// are secret. Equal states give equal text. Reading checks shapes as `parse` does; fields that are unknown are ignored,
// those that say nothing may be left out; the reason starts with the field, or with line and column where it is not
// JSON.
std::string to_json(const state::DesiredState& state);
Result<state::DesiredState> from_json(std::string_view text);

}  // namespace sluice::api
