#include "node-agent/dataplane/program_object.h"

#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>

#include "bpf/sluice.skel.h"
#include "node-agent/dataplane/causes.h"

namespace sluice::agent::dataplane {

void ProgramObject::Deleter::operator()(sluice_bpf* skeleton) const {
  sluice_bpf__destroy(skeleton);
}

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

Result<ProgramObject> ProgramObject::load(const Maps& maps, const Device& device) {
  ProgramObject object;
  object.skeleton_.reset(sluice_bpf__open());
  if (object.skeleton_ == nullptr) {
    return fail_errno(errno, kOperation, device.name);
  }
  sluice_bpf& skeleton = *object.skeleton_;
  skeleton.rodata->interface_index = device.ifindex;
  std::copy(device.mac.begin(), device.mac.end(), std::begin(skeleton.rodata->interface_mac));
  if (Status shared = maps.share_with(skeleton.obj); !shared) {
    return tl::unexpected(shared.error());
  }
  if (const int error = sluice_bpf__load(&skeleton); error != 0) {
    return load_refused(-error, device.name);
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
