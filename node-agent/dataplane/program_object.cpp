#include "node-agent/dataplane/program_object.h"

#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>

#include "bpf/sluice.skel.h"

namespace sluice::agent::dataplane {

void ProgramObject::Deleter::operator()(sluice_bpf* skeleton) const {
  sluice_bpf__destroy(skeleton);
}

Result<ProgramObject> ProgramObject::load(const Maps& maps, const Device& device) {
  const char* operation = "load programs for interface";
  ProgramObject object;
  object.skeleton_.reset(sluice_bpf__open());
  if (object.skeleton_ == nullptr) {
    return fail_errno(errno, operation, device.name);
  }
  sluice_bpf& skeleton = *object.skeleton_;
  skeleton.rodata->interface_index = device.ifindex;
  std::copy(device.mac.begin(), device.mac.end(), std::begin(skeleton.rodata->interface_mac));
  if (Status shared = maps.share_with(skeleton.obj); !shared) {
    return tl::unexpected(shared.error());
  }
  if (const int error = sluice_bpf__load(&skeleton); error != 0) {
    auto failed = fail_errno(-error, operation, device.name);
    if (error == -EINVAL || error == -E2BIG || error == -EACCES) {
      failed.value().reason += " (the kernel's verifier refuses them: its log is in the debug log)";
    }
    return failed;
  }
  return object;
}

int ProgramObject::xdp() const {
  return bpf_program__fd(skeleton_->progs.sluice_xdp);
}
int ProgramObject::egress() const {
  return bpf_program__fd(skeleton_->progs.sluice_egress);
}

}  // namespace sluice::agent::dataplane
