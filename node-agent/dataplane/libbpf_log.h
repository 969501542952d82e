// libbpf's own messages. Internal to dataplane/.
#pragma once

namespace sluice::agent::dataplane {

// Sends what libbpf prints to the log, at level debug: what matters of it comes back as errors. Once a process.
void route_libbpf_log();

}  // namespace sluice::agent::dataplane
