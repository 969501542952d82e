// Which build this is. Set by CMake on version.cpp alone, so that a commit does not recompile the agent.
#pragma once

namespace sluice::agent {

extern const char* const kVersion;      // "0.1.0"
extern const char* const kGitRevision;  // as git describes it

}  // namespace sluice::agent
