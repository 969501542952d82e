#include "tests/bench/packet_harness.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <stdexcept>

#include "bench/packet.skel.h"

namespace sluice::bench {
namespace {

constexpr size_t kGrowth = 256;  // bytes that a program may add

double thread_nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

void must(bool done, const char* what, int error) {
  if (!done) throw std::runtime_error(fmt::format("{}: {}", what, strerror(error)));
}

}  // namespace

void stay_on_cpu(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  must(sched_setaffinity(0, sizeof(set), &set) == 0, "stay on one CPU, while another is used too", errno);
}

Harness::Harness(const Stencil& stencil, uint32_t rows, Hook hook, int program)
    : hook_(hook), frame_(stencil.frame), words_(stencil.shape.words) {
  // The kernel wants all programs behind one another to be of one kind, and does not tell which that is.
  if (load(stencil, rows, program, 0) || load(stencil, rows, program, BPF_F_XDP_HAS_FRAGS)) return;
  throw std::runtime_error("the kernel does not put the program behind the benchmark's");
}

Harness::~Harness() {
  if (!rows_.empty()) munmap(rows_.data(), rows_.size_bytes());
  packet_bench_bpf__destroy(skeleton_);
}

const bpf_program* Harness::before(int lane) const {
  const auto& programs = skeleton_->progs;
  if (hook_ == Hook::xdp) return lane == BENCH_FLOOR ? programs.before_floor : programs.before_program;
  return lane == BENCH_FLOOR ? programs.classifier_before_floor : programs.classifier_before_program;
}

// False: the program is of another kind than these flags make.
bool Harness::load(const Stencil& stencil, uint32_t rows, int program, uint32_t flags) {
  packet_bench_bpf__destroy(skeleton_);
  skeleton_ = packet_bench_bpf__open();
  must(skeleton_ != nullptr, "open the benchmark's BPF object", errno);
  std::memcpy(const_cast<bench_shape*>(&skeleton_->rodata->shape), &stencil.shape, sizeof(bench_shape));
  bpf_program* one = nullptr;
  bpf_object__for_each_program(one, skeleton_->obj) {
    const bool classifier = bpf_program__type(one) == BPF_PROG_TYPE_SCHED_CLS;
    bpf_program__set_autoload(one, classifier == (hook_ == Hook::tc));
    if (!classifier) bpf_program__set_flags(one, flags);
  }
  if (stencil.shape.from_rows != 0) {
    bpf_map__set_value_size(skeleton_->maps.rows, words_ * 8);
    bpf_map__set_max_entries(skeleton_->maps.rows, rows);
  }
  const int error = packet_bench_bpf__load(skeleton_);
  must(error == 0, "load the benchmark's programs", -error);
  const auto& programs = skeleton_->progs;
  const int nothing = bpf_program__fd(hook_ == Hook::xdp ? programs.only_return : programs.classifier_only_return);
  if (!put_behind(BENCH_FLOOR, nothing) || !put_behind(BENCH_PROGRAM, program)) return false;
  set_headers(stencil.headers);
  if (stencil.shape.from_rows != 0) map_rows(rows);
  return true;
}

void Harness::map_rows(uint32_t rows) {
  const size_t bytes = (size_t{rows} * words_ * 8 + 4095) / 4096 * 4096;
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(skeleton_->maps.rows), 0);
  must(memory != MAP_FAILED, "map the rows into memory", errno);
  rows_ = {static_cast<uint64_t*>(memory), bytes / 8};
}

bool Harness::put_behind(uint32_t lane, int program) {
  const bpf_map* const map = hook_ == Hook::xdp ? skeleton_->maps.programs : skeleton_->maps.classifiers;
  return bpf_map_update_elem(bpf_map__fd(map), &lane, &program, BPF_ANY) == 0;
}

void Harness::set_headers(const bench_template& headers) {
  skeleton_->bss->headers = headers;
}

void Harness::set_flows(const bench_flows& flows) {
  skeleton_->bss->flows = flows;
  std::fill(std::begin(skeleton_->bss->packets), std::end(skeleton_->bss->packets), 0);
}

void Harness::set_rows(uint32_t count, const std::function<Frame(uint32_t)>& make) {
  for (uint32_t number = 0; number < count; ++number) {
    const Frame frame = make(number);
    if (frame.size() != frame_.size()) throw std::logic_error("packets of different lengths in one scenario");
    std::memcpy(rows_.subspan(size_t{number} * words_, words_).data(), frame.data(), size_t{words_} * 8);
  }
}

void Harness::attach(const std::array<uint32_t, BENCH_LANES>& interfaces) const {
  if (hook_ != Hook::xdp) return;
  for (const int lane : {BENCH_FLOOR, BENCH_PROGRAM}) {
    const auto interface = static_cast<int>(interfaces.at(static_cast<size_t>(lane)));
    const int error = bpf_xdp_attach(interface, bpf_program__fd(before(lane)), XDP_FLAGS_DRV_MODE, nullptr);
    must(error == 0, "attach the benchmark's programs", -error);
  }
}

Run Harness::run(int lane, uint32_t packets) {
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame_.data(),
              .data_size_in = static_cast<uint32_t>(frame_.size()), .repeat = static_cast<int>(packets));
  const double begin = thread_nanoseconds();
  const int error = bpf_prog_test_run_opts(bpf_program__fd(before(lane)), &options);
  const double end = thread_nanoseconds();
  must(error == 0, "run the program", -error);
  if (options.retval == BENCH_FAILED) throw std::runtime_error("a packet could not be made anew");
  return {(end - begin) / packets, options.retval};
}

Frame Harness::make_one() {
  return pass(bpf_program__fd(before(BENCH_FLOOR)), frame_).frame;
}

Outcome pass(int program, const Frame& frame) {
  Outcome outcome;
  outcome.frame.resize(frame.size() + kGrowth);
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_out = outcome.frame.data(),
              .data_size_in = static_cast<uint32_t>(frame.size()),
              .data_size_out = static_cast<uint32_t>(outcome.frame.size()), .repeat = 1);
  const int error = bpf_prog_test_run_opts(program, &options);
  must(error == 0, "run the program", -error);
  outcome.frame.resize(options.data_size_out);
  outcome.action = options.retval;
  return outcome;
}

}  // namespace sluice::bench
