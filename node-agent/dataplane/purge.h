// Taking Sluice off this machine. Internal to dataplane/.
#pragma once

#include <string>

#include "common/result.h"
#include "node-agent/dataplane/fd.h"

namespace sluice::agent::dataplane {

// Holds the directory for this process; conflict where another has it.
Result<Fd> lock_directory(const std::string& directory);

// Detaches every link pinned below `directory`, of any layout, takes every classifier of ours off tc, and removes the
// node link with its rules and routes, and the directory.
Status purge_all(const std::string& directory);

// Removes the directory with everything pinned in it; what is attached by a link in it goes too. The directory itself
// stays where it holds something else.
Status remove_layouts(const std::string& directory);

}  // namespace sluice::agent::dataplane
