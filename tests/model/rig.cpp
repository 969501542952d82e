#include "tests/model/rig.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "bpf/sluice.h"
#include "node-agent/dataplane/bpffs.h"

namespace sluice::model {
namespace {

using agent::dataplane::AttachMode;
using agent::dataplane::KernelDataplane;

constexpr size_t kGrowth = 512;  // bytes that a program may add

struct ReasonText {
  const char* text;
  bool forward;
};
constexpr ReasonText kReasons[] = {
#define SLUICE_MODEL_REASON(name, text, kind) {text, std::string_view(#kind) == "forward"},
    SLUICE_REASONS(SLUICE_MODEL_REASON)
#undef SLUICE_MODEL_REASON
};

template <typename Value>
Value must(Result<Value> value) {
  if (!value) throw std::runtime_error(value.error().message());
  return std::move(*value);
}

void must(bool done, const std::string& what) {
  if (!done) throw std::runtime_error(what + ": " + std::strerror(errno));
}

void stay_on_this_cpu() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(sched_getcpu()), &set);
  must(sched_setaffinity(0, sizeof(set), &set) == 0, "stay on one CPU");
}

std::vector<__u32> maps_of(int program, std::string& name) {
  std::array<__u32, 64> ids{};
  bpf_prog_info info{};
  info.nr_map_ids = ids.size();
  info.map_ids = reinterpret_cast<uintptr_t>(ids.data());
  __u32 size = sizeof info;
  if (bpf_obj_get_info_by_fd(program, &info, &size) != 0) return {};
  name = static_cast<const char*>(info.name);
  std::vector<__u32> maps(ids.begin(), ids.begin() + std::min<size_t>(info.nr_map_ids, ids.size()));
  std::sort(maps.begin(), maps.end());
  return maps;
}

// The classifier that shares maps with the program on ingress.
int egress_beside(int ingress) {
  std::string name;
  const auto wanted = maps_of(ingress, name);
  for (__u32 id = 0; bpf_prog_get_next_id(id, &id) == 0;) {
    const int program = bpf_prog_get_fd_by_id(id);
    if (program < 0) continue;
    const auto maps = maps_of(program, name);
    std::vector<__u32> shared;
    std::set_intersection(maps.begin(), maps.end(), wanted.begin(), wanted.end(), std::back_inserter(shared));
    if (name == "sluice_egress" && !shared.empty()) return program;
    close(program);
  }
  throw std::runtime_error("cannot find the classifier on egress");
}

}  // namespace

Rig::Rig(const agent::dataplane::Options& options, const std::string& interface)
    : dataplane_(must(KernelDataplane::open(options))) {
  stay_on_this_cpu();
  interface_ = must(dataplane_->attach({{interface, AttachMode::native}})).front().ifindex;
  find_programs();
  const std::string maps = agent::dataplane::layout_directory(options.directory) + "/maps/";
  counters_ = bpf_obj_get((maps + "reasons").c_str());
  fragments_ = bpf_obj_get((maps + "fragments").c_str());
  must(counters_ >= 0 && fragments_ >= 0, "get at the counters");
  const int cpus = libbpf_num_possible_cpus();
  must(cpus > 0, "count the CPUs");
  cpus_ = static_cast<size_t>(cpus);
  counted_.resize(std::size(kReasons));
  reasons();
}

Rig::~Rig() {
  for (const int fd : {ingress_, egress_, counters_, fragments_}) close(fd);
}

// What is attached: the agent replaces it where what is fixed in it changes.
void Rig::find_programs() {
  __u32 id = 0;
  must(bpf_xdp_query_id(static_cast<int>(interface_), 0, &id) == 0, "find the program on ingress");
  if (id == ingress_id_) return;
  for (const int fd : {ingress_, egress_})
    if (fd >= 0) close(fd);
  ingress_ = bpf_prog_get_fd_by_id(id);
  must(ingress_ >= 0, "get at the program on ingress");
  egress_ = egress_beside(ingress_);
  ingress_id_ = id;
}

void Rig::program(const Scene& scene) {
  const auto outcome = dataplane_->program(scene.desired, scene.node, scene.network);
  if (outcome.failures.empty()) return find_programs();
  const auto& failure = outcome.failures.front();
  throw std::runtime_error(failure.service + ": " + failure.reason + ": " + failure.message);
}

void Rig::forget_flows() {
  using std::chrono::seconds;
  using std::chrono::steady_clock;
  const agent::dataplane::IdleTimes none{seconds{0}, seconds{0}, seconds{0}, seconds{0}, seconds{0}, seconds{0}};
  const auto deadline = steady_clock::now() + seconds{20};
  // A flow of this very tick is not idle yet.
  for (uint64_t live = 1; live != 0;) {
    live = must(dataplane_->sweep(none)).live;
    must(live == 0 || steady_clock::now() < deadline, "sweep the flows away");
  }
  Bytes key(64);
  while (bpf_map_get_next_key(fragments_, nullptr, key.data()) == 0) bpf_map_delete_elem(fragments_, key.data());
}

Rig::Passed Rig::receive(const Bytes& frame) {
  return run(ingress_, frame);
}

Rig::Passed Rig::leave(const Bytes& frame) {
  return run(egress_, frame);
}

Rig::Passed Rig::run(int program, const Bytes& frame) {
  out_.resize(frame.size() + kGrowth);
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_out = out_.data(),
              .data_size_in = static_cast<__u32>(frame.size()), .data_size_out = static_cast<__u32>(out_.size()),
              .repeat = 1);
  must(bpf_prog_test_run_opts(program, &options) == 0, "run the program");
  return {.code = options.retval,
          .frame = Bytes(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(options.data_size_out)),
          .reasons = reasons()};
}

std::vector<std::string> Rig::reasons() {
  std::vector<sluice_count> values(counted_.size() * cpus_);
  std::vector<__u32> keys(counted_.size());
  __u32 next = 0;
  __u32 count = static_cast<__u32>(counted_.size());
  const int error = bpf_map_lookup_batch(counters_, nullptr, &next, keys.data(), values.data(), &count, nullptr);
  must(error == 0 || errno == ENOENT, "read the counters");
  std::vector<std::string> texts;
  for (size_t i = 0; i < count; ++i) {
    uint64_t sum = 0;
    for (size_t cpu = 0; cpu < cpus_; ++cpu) sum += values[i * cpus_ + cpu].packets;
    uint64_t& counted = counted_.at(keys[i]);
    for (; counted < sum; ++counted) texts.emplace_back(kReasons[keys[i]].text);
  }
  std::sort(texts.begin(), texts.end());
  return texts;
}

}  // namespace sluice::model
