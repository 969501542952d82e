#include "node-agent/agent/version.h"

namespace sluice::agent {

const char* const kVersion = SLUICE_VERSION;
const char* const kGitRevision = SLUICE_GIT_REVISION;

}  // namespace sluice::agent
