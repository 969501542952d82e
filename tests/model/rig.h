// The programs, loaded and filled by the agent's own dataplane, and packets through them one by one.
#pragma once

#include <memory>

#include "node-agent/dataplane/kernel_dataplane.h"
#include "tests/model/model.h"

namespace sluice::model {

class Rig {
 public:
  // For the interface that packets come in by; the calling thread stays on the CPU that it is on. Throws
  // std::runtime_error that says what was refused, as do the others.
  Rig(const agent::dataplane::Options& options, const std::string& interface);
  ~Rig();
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  // Makes the maps hold the scene, and reads them back.
  void program(const Scene& scene);
  void forget_flows();

  struct Passed {
    uint32_t code = 0;  // XDP_..., or of what leaves TC_ACT_...
    Bytes frame;
    std::vector<std::string> reasons;  // that have been counted meanwhile, ascending
  };
  Passed receive(const Bytes& frame);
  Passed leave(const Bytes& frame);

  [[nodiscard]] agent::dataplane::Dataplane& dataplane() { return *dataplane_; }

 private:
  void find_programs();
  Passed run(int program, const Bytes& frame);
  // What has been counted since it was asked last.
  std::vector<std::string> reasons();

  std::unique_ptr<agent::dataplane::Dataplane> dataplane_;
  uint32_t interface_ = 0, ingress_id_ = 0;
  int ingress_ = -1, egress_ = -1, counters_ = -1, fragments_ = -1;
  size_t cpus_ = 0;
  std::vector<uint64_t> counted_;  // packets by reason
  Bytes out_;
};

}  // namespace sluice::model
