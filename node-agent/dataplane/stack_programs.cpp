#include "node-agent/dataplane/stack_programs.h"

#include <algorithm>

#include "bpf/stack.skel.h"
#include "node-agent/dataplane/device.h"
#include "node-agent/dataplane/program_object.h"
#include "node-agent/dataplane/tc.h"

namespace sluice::agent::dataplane {

Status StackPrograms::find() {
  const auto names = device_names();
  if (!names) {
    return tl::unexpected(names.error());
  }
  for (const auto& [ifindex, name] : *names) {
    const auto there = has_egress(ifindex, name);
    if (!there) {
      return tl::unexpected(there.error());
    }
    if (*there) {
      places_[ifindex] = {{name, true}, false};
    }
  }
  return {};
}

Status StackPrograms::load(const Maps& maps) {
  if (skeleton_) {
    return {};
  }
  auto skeleton = open_stack_skeleton(maps.sizes());
  if (!skeleton) {
    return tl::unexpected(skeleton.error());
  }
  if (Status shared = maps.share_with((*skeleton)->obj); !shared) {
    return shared;
  }
  if (const int error = load_skeleton(**skeleton); error != 0) {
    return load_refused(error, "the node's own network stack");
  }
  auto stages = program_arrays((*skeleton)->obj);
  if (!stages) {
    return tl::unexpected(stages.error());
  }
  stages_ = std::move(*stages);
  skeleton_ = std::move(*skeleton);
  return {};
}

Status StackPrograms::put(uint32_t ifindex, const StackDevice& device) {
  const int egress = program_fd(skeleton_->obj, device.ethernet ? "sluice_egress" : "sluice_egress_bare");
  if (Status attached = attach_egress(ifindex, device.name, egress); !attached) {
    return attached;
  }
  places_[ifindex] = {device, true};
  return {};
}

Status StackPrograms::take_off(uint32_t ifindex, const std::string& device) {
  places_.erase(ifindex);
  return detach_classifiers(ifindex, device);
}

Status StackPrograms::follow(const std::map<uint32_t, StackDevice>& devices, const std::set<uint32_t>& kept) {
  Status outcome;
  const auto note = [&outcome](const Status& one) {
    if (outcome && !one && one.error().kind != ErrorKind::not_found) {
      outcome = one;
    }
  };
  for (const auto& [ifindex, device] : devices) {
    const auto place = places_.find(ifindex);
    if (place == places_.end() || !place->second.own || place->second.device != device) {
      note(put(ifindex, device));
    }
  }
  for (auto place = places_.begin(); place != places_.end();) {
    const auto [ifindex, what] = *place++;
    if (!devices.contains(ifindex) && !kept.contains(ifindex)) {
      note(take_off(ifindex, what.device.name));
    }
  }
  return outcome;
}

Status StackPrograms::take_off_all() {
  return follow({}, {});
}

std::vector<std::string> StackPrograms::missing() const {
  std::vector<std::string> missing;
  const auto names = device_names();
  for (const auto& [ifindex, place] : places_) {
    // Where the kernel does not say, nobody has said that it is gone.
    const auto there = has_egress(ifindex, place.device.name);
    if (there && !*there && names && names->contains(ifindex)) {
      missing.push_back(place.device.name);
    }
  }
  return missing;
}

Status StackPrograms::mend() {
  Status outcome;
  const auto without = loaded() ? missing() : std::vector<std::string>{};
  for (auto& [ifindex, place] : places_) {
    if (std::find(without.begin(), without.end(), place.device.name) != without.end()) {
      if (Status again = put(ifindex, place.device); !again && outcome) {
        outcome = again;
      }
    }
  }
  return outcome;
}

}  // namespace sluice::agent::dataplane
