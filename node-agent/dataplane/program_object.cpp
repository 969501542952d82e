#include "node-agent/dataplane/program_object.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>

#include "bpf/sluice.skel.h"
#include "node-agent/dataplane/causes.h"
#include "node-agent/dataplane/node_link.h"

namespace sluice::agent::dataplane {

namespace {
constexpr const char* kOperation = "load programs for interface";
}  // namespace

tl::unexpected<Error> load_refused(int error, const std::string& interface) {
  auto failed = fail_errno(error, kOperation, interface);
  if (error == EPERM) {
    failed.value().reason += " (with every capability there: a seccomp or AppArmor profile, or kernel lockdown)";
    return because(cause::kBpfRefused, failed);
  }
  if (error == EACCES || error == EINVAL || error == E2BIG) {
    failed.value().reason += " (the kernel's verifier refuses them: its log is in the debug log)";
    return because(cause::kProgramRefused, failed);
  }
  return failed;
}

InterfaceConstants constants_of(const Device& device, uint32_t egress) {
  return {device.ifindex, device.mac, egress, device.name == kNodeLinkFar};
}

Result<ProgramObject> ProgramObject::load(const Maps& maps, const Device& device, uint32_t egress) {
  ProgramObject object;
  object.constants_ = constants_of(device, egress);
  auto skeleton = open_skeleton(maps.sizes(), object.constants_);
  if (!skeleton) {
    return tl::unexpected(skeleton.error());
  }
  object.skeleton_ = std::move(*skeleton);
  if (Status shared = maps.share_with(object.skeleton_->obj); !shared) {
    return tl::unexpected(shared.error());
  }
  if (const int error = load_skeleton(*object.skeleton_); error != 0) {
    return load_refused(error, device.name);
  }
  auto stages = program_arrays(object.skeleton_->obj);
  if (!stages) {
    return tl::unexpected(stages.error());
  }
  object.stages_ = std::move(*stages);
  return object;
}

int ProgramObject::xdp() const {
  return program_fd(skeleton_->obj, "sluice_xdp");
}

}  // namespace sluice::agent::dataplane
