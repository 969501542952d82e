// Where the agent answers sluicectl.
#pragma once

namespace sluice::agent::inspect {

inline constexpr const char* kSocket = "/run/sluice/agent.sock";

}  // namespace sluice::agent::inspect
