// What the agent remembers across restarts: the last good state, and the highest epoch of each cluster it has heard
// from.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "common/result.h"
#include "common/state/desired_state.h"

namespace sluice::agent {

struct Memory {
  std::map<std::string, state::Epoch> epochs;  // by cluster id
  std::optional<state::DesiredState> state;
};

class StateFile {
 public:
  explicit StateFile(std::string path) : path_(std::move(path)) {}
  [[nodiscard]] const std::string& path() const { return path_; }
  // An empty memory where there is no file. Fails where there is one that cannot be understood.
  [[nodiscard]] Result<Memory> load() const;
  // Either the old content or the new is on disk, whatever happens. Mode 0600: it holds the flow hash key.
  [[nodiscard]] Status save(const Memory& memory) const;
  // Also what was set aside.
  [[nodiscard]] Status remove() const;
  // Out of the way, for a person to look at; its new path.
  [[nodiscard]] Result<std::string> set_aside() const;

 private:
  std::string path_;
};

}  // namespace sluice::agent
