// The XDP programs, loaded for one interface. Internal to dataplane/.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/result.h"
#include "node-agent/dataplane/device.h"
#include "node-agent/dataplane/loader.h"
#include "node-agent/dataplane/maps.h"

namespace sluice::agent::dataplane {

// What a refusal of the programs is called. `error`: errno of loading them.
tl::unexpected<Error> load_refused(int error, const std::string& interface);

// `egress`: its index in `egress`; 0: it has none.
InterfaceConstants constants_of(const Device& device, uint32_t egress);

class ProgramObject {
 public:
  // `egress`: the interface's index in `egress`; 0: it has none.
  static Result<ProgramObject> load(const Maps& maps, const Device& device, uint32_t egress);

  [[nodiscard]] int xdp() const;  // file descriptor
  // The maps that lead the programs to each other, {id, file descriptor} each. They lead nowhere when nobody holds them
  // from outside the kernel: they are to be pinned for as long as the programs run.
  [[nodiscard]] const std::vector<std::pair<uint32_t, int>>& stages() const { return stages_; }
  [[nodiscard]] const InterfaceConstants& constants() const { return constants_; }

 private:
  Skeleton skeleton_;
  InterfaceConstants constants_;
  std::vector<std::pair<uint32_t, int>> stages_;
};

}  // namespace sluice::agent::dataplane
