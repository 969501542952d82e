#include "tests/bench/packet_plane.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "node-agent/dataplane/kernel_dataplane.h"

namespace sluice::bench {
namespace {

constexpr uint32_t kFlows = 1U << 22;  // four times as many as there are ever, also half open: no window is full
constexpr uint32_t kFew = 1U << 10;
constexpr uint32_t kBackends = 1U << 18;  // 10,000 services with 15 each
constexpr std::chrono::seconds kPatience{20};

agent::dataplane::Options options_for(const std::string& interface, net::Family family) {
  agent::dataplane::Options options;
  options.directory = "/sys/fs/bpf/" + interface;
  options.sizes.tables.backends = kBackends;
  options.sizes.tables.keys6 = 1U << 16;
  options.sizes.flows4 = options.sizes.half_open4 = family == net::Family::ipv4 ? kFlows : kFew;
  options.sizes.flows6 = options.sizes.half_open6 = family == net::Family::ipv6 ? kFlows : kFew;
  options.nat_ports = {.first = 1024, .last = 65535};
  return options;
}

template <typename Value>
Value must(Result<Value> value) {
  if (!value) throw std::runtime_error(value.error().message());
  return std::move(*value);
}

// The maps that a program uses, ascending; and, where it is asked for, its name.
std::vector<__u32> maps_of(int program, std::string* name) {
  std::array<__u32, 64> ids{};
  bpf_prog_info info{};
  info.nr_map_ids = ids.size();
  info.map_ids = reinterpret_cast<uintptr_t>(ids.data());
  __u32 size = sizeof(info);
  if (bpf_obj_get_info_by_fd(program, &info, &size) != 0) return {};
  if (name != nullptr) *name = info.name;
  std::vector<__u32> maps(ids.begin(), ids.begin() + std::min<size_t>(info.nr_map_ids, ids.size()));
  std::sort(maps.begin(), maps.end());
  return maps;
}

int attached_ingress(uint32_t interface) {
  __u32 id = 0;
  const int error = bpf_xdp_query_id(static_cast<int>(interface), XDP_FLAGS_DRV_MODE, &id);
  const int program = error == 0 && id != 0 ? bpf_prog_get_fd_by_id(id) : -1;
  if (program < 0) throw std::runtime_error("cannot get at the XDP program that is attached (needs CAP_SYS_ADMIN)");
  return program;
}

// The classifier that shares its maps with an XDP program.
int egress_beside(int ingress) {
  const auto wanted = maps_of(ingress, nullptr);
  for (__u32 id = 0; bpf_prog_get_next_id(id, &id) == 0;) {
    const int program = bpf_prog_get_fd_by_id(id);
    if (program < 0) continue;
    std::string name;
    std::vector<__u32> shared;
    const auto maps = maps_of(program, &name);
    std::set_intersection(maps.begin(), maps.end(), wanted.begin(), wanted.end(), std::back_inserter(shared));
    if (name == "sluice_egress" && !shared.empty()) return program;
    close(program);
  }
  throw std::runtime_error("cannot find the classifier on egress");
}

}  // namespace

Plane::Plane(const std::string& interface, net::Family family)
    : dataplane_(must(agent::dataplane::KernelDataplane::open(options_for(interface, family)))) {
  interface_ = must(dataplane_->attach({{interface, agent::dataplane::AttachMode::native}})).front().ifindex;
}

Plane::~Plane() {
  close_programs();
  std::ignore = dataplane_->purge();
}

void Plane::program(const Situation& situation) {
  const std::lock_guard lock(mutex_);
  const auto outcome = dataplane_->program(situation.desired, situation.node, situation.network);
  if (outcome.failures.empty()) {
    find_programs();
    return;
  }
  const auto& failure = outcome.failures.front();
  throw std::runtime_error(fmt::format("{}: {}: {}", failure.service, failure.reason, failure.message));
}

// Others may be attached now: what is fixed in them has become known.
void Plane::find_programs() {
  const int ingress = attached_ingress(interface_);
  if (ingress_ >= 0 && maps_of(ingress, nullptr) == maps_of(ingress_, nullptr)) {
    close(ingress);
    return;
  }
  close_programs();
  ingress_ = ingress;
  egress_ = egress_beside(ingress);
}

void Plane::close_programs() {
  for (int* const program : {&ingress_, &egress_}) {
    if (*program >= 0) close(*program);
    *program = -1;
  }
}

void Plane::forget_flows() {
  using std::chrono::seconds;
  const agent::dataplane::IdleTimes none{seconds{0}, seconds{0}, seconds{0}, seconds{0}, seconds{0}, seconds{0}};
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  // A flow of this very tick is not idle yet.
  for (uint64_t live = 1; live != 0;) {
    const std::lock_guard lock(mutex_);
    live = must(dataplane_->sweep(none)).live;
    if (live != 0 && std::chrono::steady_clock::now() > deadline)
      throw std::runtime_error(fmt::format("{} flows cannot be swept away", live));
  }
}

std::map<std::string, uint64_t> Plane::reasons() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, uint64_t> packets;
  for (const auto& counter : must(dataplane_->counters()).reasons)
    if (counter.service.empty()) packets[counter.reason] += counter.packets;
  return packets;
}

}  // namespace sluice::bench
