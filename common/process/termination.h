// How a process is told to end. Signals are taken as values by one waiting thread, never by a handler that may run
// between any two instructions.
#pragma once

#include "common/result.h"

namespace sluice::process {

// First thing in main, before any thread starts: SIGTERM and SIGINT are blocked here and in all threads started from
// here on, and SIGPIPE is ignored (a write to a closed connection is an error, not the end).
Status prepare_signals();

// Waits for SIGTERM or SIGINT and gives which. Only one thread may wait.
Result<int> wait_for_termination();

// Makes wait_for_termination return SIGTERM, from any thread: for a part that cannot go on.
void request_termination();

}  // namespace sluice::process
