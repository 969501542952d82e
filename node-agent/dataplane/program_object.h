// The two programs, loaded for one interface. Internal to dataplane/.
#pragma once

#include <memory>

#include "common/result.h"
#include "node-agent/dataplane/device.h"
#include "node-agent/dataplane/maps.h"

struct sluice_bpf;

namespace sluice::agent::dataplane {

// What a refusal of the programs is called. `error`: errno of loading them.
tl::unexpected<Error> load_refused(int error, const std::string& interface);

class ProgramObject {
 public:
  static Result<ProgramObject> load(const Maps& maps, const Device& device);

  [[nodiscard]] int xdp() const;     // file descriptor
  [[nodiscard]] int egress() const;  // file descriptor

 private:
  struct Deleter {
    void operator()(sluice_bpf* skeleton) const;
  };
  std::unique_ptr<sluice_bpf, Deleter> skeleton_;
};

}  // namespace sluice::agent::dataplane
