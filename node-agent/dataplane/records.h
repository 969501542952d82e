// What is programmed, as others read it. Internal to dataplane/.
#pragma once

#include <vector>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/program/programmer.h"

namespace sluice::agent::dataplane {

// The backends' records that are in use, ascending by service.
std::vector<BackendRecord> records_of(const program::Programmer& programmer);

}  // namespace sluice::agent::dataplane
