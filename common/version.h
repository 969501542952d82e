// What this build is.
#pragma once

namespace sluice {

const char* version();       // "0.1.0"
const char* git_revision();  // of the tree it was built from, "-dirty" with changes; "unknown" outside a repository

}  // namespace sluice
