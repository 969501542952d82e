#include "node-agent/dataplane/grace.h"

#include <bpf/bpf.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "node-agent/dataplane/fd.h"

namespace sluice::agent::dataplane {

Status grace_by_membarrier() {
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0) {
    return fail_errno(errno, "wait for a grace period by membarrier", "");
  }
  return {};
}

Status grace_by_map_of_maps() {
  const char* operation = "wait for a grace period by a map of maps";
  const Fd inner(bpf_map_create(BPF_MAP_TYPE_ARRAY, "grace_inner", 4, 4, 1, nullptr));
  if (!inner) {
    return fail_errno(errno, operation, "");
  }
  LIBBPF_OPTS(bpf_map_create_opts, options, .inner_map_fd = static_cast<__u32>(inner.get()));
  const Fd outer(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "grace_outer", 4, 4, 1, &options));
  if (!outer) {
    return fail_errno(errno, operation, "");
  }
  const __u32 key = 0;
  const int value = inner.get();
  if (bpf_map_update_elem(outer.get(), &key, &value, BPF_ANY) != 0) {
    return fail_errno(errno, operation, "");
  }
  return {};
}

Status wait_for_grace_period() {
  Status done = grace_by_membarrier();
  return done ? done : grace_by_map_of_maps();
}

}  // namespace sluice::agent::dataplane
