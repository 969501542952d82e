// One agent a network namespace and a state file: two would attach and program against each other.
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "common/result.h"
#include "node-agent/dataplane/fd.h"

namespace sluice::agent {

// The lock's path. Who removes the state file removes it, too: a purge leaves nothing, even while the agent still runs.
std::string lock_beside(const std::string& state_file);

// Held until the process ends, however it ends. Two things that an agent holds: a name of the network namespace, which
// anybody in there can take and which therefore counts in root's hands only, and a lock beside the state file, which
// only root can open and which counts whoever has the name.
class SingleInstance {
 public:
  // Waits for another agent to go (an update starts the new one while the old one ends) up to `patience`. Fails with
  // `exists` where it has not gone. The state file's directory may be missing: then no agent has that file.
  static Result<SingleInstance> acquire(const std::string& state_file, std::chrono::milliseconds patience);
  SingleInstance(SingleInstance&&) noexcept = default;
  SingleInstance& operator=(SingleInstance&&) = delete;
  SingleInstance(const SingleInstance&) = delete;
  SingleInstance& operator=(const SingleInstance&) = delete;
  ~SingleInstance();

 private:
  SingleInstance(dataplane::Fd name, dataplane::Fd lock, std::string path)
      : name_(std::move(name)), lock_(std::move(lock)), path_(std::move(path)) {}
  dataplane::Fd name_;
  dataplane::Fd lock_;
  std::string path_;  // of the lock
};

}  // namespace sluice::agent
