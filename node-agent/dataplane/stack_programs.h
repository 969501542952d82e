// The programs for the node's own network stack, loaded once, and the devices that they are on. Internal to dataplane/.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/result.h"
#include "node-agent/dataplane/loader.h"
#include "node-agent/dataplane/maps.h"
#include "node-agent/dataplane/network.h"

namespace sluice::agent::dataplane {

class StackPrograms {
 public:
  // Finds the devices that an earlier process has left them on.
  Status find();

  // Fine where they are loaded already.
  Status load(const Maps& maps);
  [[nodiscard]] bool loaded() const { return skeleton_ != nullptr; }
  // The maps that lead them to each other, as ProgramObject::stages.
  [[nodiscard]] const std::vector<std::pair<uint32_t, int>>& stages() const { return stages_; }

  // Puts them on a device, in the place of those of an earlier process. They have been loaded.
  Status put(uint32_t ifindex, const StackDevice& device);
  // Takes them off; fine where they are not there.
  Status take_off(uint32_t ifindex, const std::string& device);

  // Puts them on each of these that has them not, or none of this process's, and takes them off others but `kept`. Goes
  // on past what fails, and says the first of it.
  Status follow(const std::map<uint32_t, StackDevice>& devices, const std::set<uint32_t>& kept);
  Status take_off_all();

  // Devices, by name, where somebody has taken them off.
  [[nodiscard]] std::vector<std::string> missing() const;
  // Puts them back there. Goes on past what fails, and says the first of it.
  Status mend();

 private:
  struct Place {
    StackDevice device;
    bool own = false;  // put there by this process
  };
  StackSkeleton skeleton_;
  std::vector<std::pair<uint32_t, int>> stages_;
  std::map<uint32_t, Place> places_;  // by ifindex
};

}  // namespace sluice::agent::dataplane
