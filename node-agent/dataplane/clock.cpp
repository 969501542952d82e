#include "node-agent/dataplane/clock.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>

#include "bpf/sluice.skel.h"
#include "node-agent/dataplane/loader.h"

namespace sluice::agent::dataplane {
namespace {

constexpr const char* kOperation = "read the clock of flows";

}  // namespace

Result<Clock> Clock::open() {
  const auto skeleton = open_skeleton({}, {});
  if (!skeleton) {
    return tl::unexpected(skeleton.error());
  }
  // It uses no map and no constant: loaded by itself, without the maps that the object has.
  const bpf_program* program = (*skeleton)->progs.sluice_clock;
  LIBBPF_OPTS(bpf_prog_load_opts, options, .prog_flags = BPF_F_SLEEPABLE);
  Fd fd(bpf_prog_load(BPF_PROG_TYPE_SYSCALL, bpf_program__name(program), "Dual BSD/GPL", bpf_program__insns(program),
                      bpf_program__insn_cnt(program), &options));
  if (!fd) {
    return fail_errno(errno, "load program", bpf_program__name(program));
  }
  return Clock(std::move(fd));
}

Result<uint32_t> Clock::now() const {
  sluice_clock clock{};
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &clock, .ctx_size_in = sizeof clock);
  if (bpf_prog_test_run_opts(program_.get(), &options) != 0) {
    return fail_errno(errno, kOperation, "");
  }
  return clock.jiffies;
}

}  // namespace sluice::agent::dataplane
