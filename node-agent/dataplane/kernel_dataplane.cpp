#include "node-agent/dataplane/kernel_dataplane.h"

#include <bpf/bpf.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <optional>
#include <set>

#include "common/log/spdlog.h"
#include "node-agent/dataplane/attachments.h"
#include "node-agent/dataplane/bpffs.h"
#include "node-agent/dataplane/counter_maps.h"
#include "node-agent/dataplane/flow_sweep.h"
#include "node-agent/dataplane/grace.h"
#include "node-agent/dataplane/libbpf_log.h"
#include "node-agent/dataplane/probe.h"
#include "node-agent/dataplane/purge.h"
#include "node-agent/dataplane/read_back.h"

namespace sluice::agent::dataplane {
namespace {

constexpr const char* kNotOpen = "the dataplane has been purged";
constexpr const char* kAnswer = "answer ARP for";
constexpr int kMostRounds = 64;  // of waiting for freed room, in one program()

uint64_t monotonic_now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(time.tv_nsec);
}

Status check(const Options& options) {
  const program::Sizes& sizes = options.sizes.tables;
  const auto invalid = [](const char* what) { return fail(ErrorKind::invalid, "open the dataplane", "", what); };
  if (options.directory.empty() || options.directory[0] != '/') {
    return invalid("the directory for pins must be an absolute path");
  }
  if (sizes.service_keys < 128 || sizes.service_keys > 1U << 24) {
    return invalid("the service table must have 128 to 16777216 entries");
  }
  if (sizes.services == 0 || sizes.backends == 0 || sizes.backends > 1U << 25) {
    return invalid("there must be room for 1 service and 1 to 33554432 backends");
  }
  if (sizes.slots < SLUICE_SLOT_UNIT || sizes.slots % SLUICE_SLOT_UNIT != 0 || sizes.slots > 1U << 27) {
    return invalid("the slots must be a multiple of 8, at most 134217728");
  }
  if (options.sizes.flows == 0 || options.sizes.owned_addresses == 0) {
    return invalid("there must be room for flows and for owned addresses");
  }
  if (options.nat_ports.first == 0 || options.nat_ports.first > options.nat_ports.last) {
    return invalid("the ports for nat must be a range from 1 on");
  }
  return {};
}

void add_failures(std::vector<ServiceFailure>& failures, const std::vector<ServiceFailure>& more) {
  failures.insert(failures.end(), more.begin(), more.end());
}

void merge(program::Touched& all, const program::Touched& more) {
  all.services.insert(all.services.end(), more.services.begin(), more.services.end());
  all.removed_keys.insert(all.removed_keys.end(), more.removed_keys.begin(), more.removed_keys.end());
}

}  // namespace

struct KernelDataplane::Open {
  Open(Options chosen, Fd locked, Maps opened)
      : options(std::move(chosen)),
        lock(std::move(locked)),
        maps(std::move(opened)),
        programmer(options.sizes.tables, options.nat_ports),
        counters(options.sizes.tables, maps.fresh_tables()),
        attachments(options.directory) {}

  static Result<std::unique_ptr<Open>> take_over(const Options& options);

  using MakePlan = std::function<program::Plan(const program::Ways&)>;
  void decode();
  [[nodiscard]] program::Ways ways(const NextHops& next_hops) const;
  ProgramOutcome run(const NextHops& next_hops, const MakePlan& make_plan);
  void store(const program::WriteList& writes) const;
  bool grace();
  std::vector<ServiceFailure> read_back(const program::Touched* touched);
  Status find_owned();
  OwnedOutcome set_owned(const std::set<OwnedAddress>& wanted, std::chrono::nanoseconds valid_for);

  Options options;
  Fd lock;
  Maps maps;
  program::Programmer programmer;
  CounterKeeper counters;
  Attachments attachments;
  std::vector<ServiceFailure> plan_failures;    // of the last plan
  bool decode_again = false;                    // the maps are not what was taken for granted
  std::optional<std::set<OwnedAddress>> owned;  // what the map holds; nullopt: not known yet
};

Result<std::unique_ptr<KernelDataplane::Open>> KernelDataplane::Open::take_over(const Options& options) {
  if (Status prepared = prepare_directory(options.directory); !prepared) {
    return tl::unexpected(prepared.error());
  }
  auto lock = lock_directory(options.directory);
  if (!lock) {
    return tl::unexpected(lock.error());
  }
  auto maps = Maps::open(options.directory, options.sizes);
  if (!maps) {
    return tl::unexpected(maps.error());
  }
  auto open = std::make_unique<Open>(options, std::move(*lock), std::move(*maps));
  if (!open->maps.fresh_tables()) {
    open->decode();
  }
  if (Status found = open->attachments.find(); !found) {
    return tl::unexpected(found.error());
  }
  return open;
}

void KernelDataplane::Open::decode() {
  if (Status waited = wait_for_grace_period(); !waited) {
    spdlog::warn("{}", waited.error().message());
  }
  auto decoded = program::Programmer::decode(options.sizes.tables, options.nat_ports, maps.view());
  decoded.remember(programmer);
  programmer = std::move(decoded);
  decode_again = false;
}

program::Ways KernelDataplane::Open::ways(const NextHops& next_hops) const {
  program::Ways ways;
  ways.next_hops = next_hops;
  for (const auto& [address, way] : next_hops) {
    if (way.local || way.ifindex == 0 || ways.interfaces.contains(way.ifindex)) {
      continue;
    }
    // One that has just gone, or has no MAC, is no way.
    const auto device = device_by_index(way.ifindex);
    if (device && device->ethernet) {
      const auto mtu = static_cast<uint16_t>(std::min<uint32_t>(device->mtu, UINT16_MAX));
      ways.interfaces[way.ifindex] = program::Interface{device->mac, mtu};
    }
  }
  return ways;
}

void KernelDataplane::Open::store(const program::WriteList& writes) const {
  for (const program::Write& write : writes.writes()) {
    program::apply(write, writes.values(write), maps.memory(write.map));
  }
}

// Lets go of what was left. False: it is kept until a wait succeeds.
bool KernelDataplane::Open::grace() {
  if (!programmer.awaits_grace()) {
    return true;
  }
  if (Status waited = wait_for_grace_period(); !waited) {
    spdlog::warn("{}; what is left in the maps is not used again meanwhile", waited.error().message());
    return false;
  }
  store(programmer.grace_over());
  return true;
}

ProgramOutcome KernelDataplane::Open::run(const NextHops& next_hops, const MakePlan& make_plan) {
  if (decode_again) {
    decode();
  }
  const program::Ways ways_now = ways(next_hops);
  ProgramOutcome outcome;
  program::Touched touched;
  program::Plan plan;
  for (int round = 0; round < kMostRounds; ++round) {
    plan = make_plan(ways_now);
    if (Status kept = counters.prepare(maps, plan); !kept) {
      spdlog::warn("{}; counts of services that are new may begin elsewhere than at 0", kept.error().message());
    }
    store(plan.writes);
    outcome.writes += plan.writes.elements();
    merge(touched, plan.touched);
    if (!grace() || !plan.retry_after_grace) {
      break;
    }
  }
  plan_failures = plan.failures;
  outcome.failures = plan_failures;
  add_failures(outcome.failures, read_back(&touched));
  return outcome;
}

std::vector<ServiceFailure> KernelDataplane::Open::read_back(const program::Touched* touched) {
  if (touched != nullptr && touched->services.empty() && touched->removed_keys.empty()) {
    return {};
  }
  const auto copy = ReadBack::read(maps, programmer.regions(touched));
  std::vector<ServiceFailure> failures;
  if (!copy) {
    const auto fail_one = [&](const std::string& id) {
      failures.push_back({id, "ReadBackDiffers", copy.error().message()});
    };
    if (touched != nullptr) {
      std::for_each(touched->services.begin(), touched->services.end(), fail_one);
    } else {
      for (const auto& [id, service] : programmer.programmed()) {
        fail_one(id);
      }
    }
    return failures;
  }
  failures = programmer.check(copy->view(), touched);
  decode_again = decode_again || !failures.empty();
  return failures;
}

// What an earlier process has left in the map.
Status KernelDataplane::Open::find_owned() {
  if (owned) {
    return {};
  }
  std::set<OwnedAddress> found;
  sluice_owned_key key{};
  const void* before = nullptr;
  while (bpf_map_get_next_key(maps.fd("owned_addresses"), before, &key) == 0) {
    before = &key;
    found.insert({net::IpAddress::from_ipv4(key.address), key.ifindex});
  }
  if (errno != ENOENT) {
    return fail_errno(errno, "read map", "owned_addresses");
  }
  owned = std::move(found);
  return {};
}

OwnedOutcome KernelDataplane::Open::set_owned(const std::set<OwnedAddress>& wanted,
                                              std::chrono::nanoseconds valid_for) {
  const int fd = maps.fd("owned_addresses");
  std::set<OwnedAddress>& there = *owned;
  OwnedOutcome outcome;
  const auto note = [&outcome](const tl::unexpected<Error>& failed) {
    if (!outcome.trouble) {
      outcome.trouble = failed.value();
    }
  };
  const auto key_of = [](const OwnedAddress& one) { return sluice_owned_key{one.address.ipv4(), one.ifindex}; };
  const sluice_owned value{monotonic_now() + static_cast<uint64_t>(std::max<int64_t>(valid_for.count(), 0))};
  const auto answer = [&](const OwnedAddress& one) {
    if (!one.address.is_ipv4()) {
      note(fail(ErrorKind::not_supported, kAnswer, one.address.to_string(), "IPv6 is not supported"));
      return;
    }
    if (const auto key = key_of(one); bpf_map_update_elem(fd, &key, &value, BPF_ANY) != 0) {
      note(fail_errno(errno, kAnswer, one.address.to_string()));
    } else {
      outcome.answered.push_back(one);
    }
  };
  // Those that go make the room that those that come may need.
  for (auto one = there.begin(); one != there.end();) {
    const auto key = key_of(*one);
    if (wanted.contains(*one)) {
      answer(*one++);
    } else if (bpf_map_delete_elem(fd, &key) != 0 && errno != ENOENT) {
      note(fail_errno(errno, "stop answering ARP for", one->address.to_string()));
      ++one;
    } else {
      one = there.erase(one);
    }
  }
  for (const OwnedAddress& one : wanted) {
    if (!there.contains(one)) {
      answer(one);
    }
  }
  there.insert(outcome.answered.begin(), outcome.answered.end());
  std::sort(outcome.answered.begin(), outcome.answered.end());
  return outcome;
}

KernelDataplane::KernelDataplane(std::unique_ptr<Open> open) : open_(std::move(open)) {}
KernelDataplane::~KernelDataplane() = default;

Result<std::unique_ptr<Dataplane>> KernelDataplane::open(const Options& options) {
  route_libbpf_log();
  // Needed before Linux 5.11 only, and may be refused.
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &unlimited);
  for (const Status& status : {check(options), usable(options.directory)}) {
    if (!status) {
      return tl::unexpected(status.error());
    }
  }
  const bool nothing_there = layout_directories(options.directory).empty();
  auto opened = Open::take_over(options);
  if (!opened) {
    // Its lock is let go by now: another process may have the directory, or have attached by way of it.
    const auto lock = lock_directory(options.directory);
    if (nothing_there && lock && entries(layout_directory(options.directory) + "/links").empty()) {
      if (Status removed = remove_layouts(options.directory); !removed) {
        spdlog::warn("{}", removed.error().message());
      }
    }
    return tl::unexpected(opened.error());
  }
  return std::unique_ptr<Dataplane>(new KernelDataplane(std::move(*opened)));
}

ProgramOutcome KernelDataplane::program(const state::DesiredState& desired, const std::string& node,
                                        const NextHops& next_hops) {
  if (open_ == nullptr) {
    ProgramOutcome outcome;
    for (const auto& [id, service] : desired.services) {
      outcome.failures.push_back({id, "NotSupported", kNotOpen});
    }
    return outcome;
  }
  return open_->run(next_hops, [&](const program::Ways& ways) {
    return open_->programmer.plan(open_->maps.view(), desired, node, ways);
  });
}

Status KernelDataplane::update_next_hops(const NextHops& next_hops) {
  if (open_ == nullptr) {
    return fail(ErrorKind::unavailable, "update next hops", "", kNotOpen);
  }
  const auto outcome = open_->run(
      next_hops, [&](const program::Ways& ways) { return open_->programmer.plan_ways(open_->maps.view(), ways); });
  for (const ServiceFailure& failure : outcome.failures) {
    if (failure.reason == "ReadBackDiffers") {
      return fail(ErrorKind::internal, "update next hops", failure.service, failure.message);
    }
  }
  return {};
}

ProgramOutcome KernelDataplane::verify() {
  ProgramOutcome outcome;
  if (open_ == nullptr) {
    return outcome;
  }
  outcome.failures = open_->plan_failures;
  add_failures(outcome.failures, open_->read_back(nullptr));
  return outcome;
}

Result<std::vector<AttachedInterface>> KernelDataplane::attach(const std::vector<InterfaceRequest>& interfaces) {
  if (open_ == nullptr) {
    return fail(ErrorKind::unavailable, "attach", "", kNotOpen);
  }
  if (Status attached = open_->attachments.set(interfaces, open_->maps); !attached) {
    return tl::unexpected(attached.error());
  }
  return open_->attachments.list();
}

std::vector<AttachedInterface> KernelDataplane::attached() const {
  return open_ == nullptr ? std::vector<AttachedInterface>{} : open_->attachments.list();
}

std::vector<std::string> KernelDataplane::without_egress() const {
  return open_ == nullptr ? std::vector<std::string>{} : open_->attachments.without_egress();
}

OwnedOutcome KernelDataplane::set_owned(const std::vector<OwnedAddress>& owned, std::chrono::nanoseconds valid_for) {
  if (open_ == nullptr) {
    return {{}, fail(ErrorKind::unavailable, kAnswer, "", kNotOpen).value()};
  }
  if (Status found = open_->find_owned(); !found) {
    return {{}, found.error()};
  }
  return open_->set_owned({owned.begin(), owned.end()}, valid_for);
}

Result<std::vector<OwnedAddress>> KernelDataplane::owned() const {
  if (open_ == nullptr) {
    return fail(ErrorKind::unavailable, "read owned addresses", "", kNotOpen);
  }
  std::vector<OwnedAddress> found;
  const int fd = open_->maps.fd("owned_addresses");
  const uint64_t now = monotonic_now();
  sluice_owned_key key{};
  sluice_owned value{};
  const void* before = nullptr;
  while (bpf_map_get_next_key(fd, before, &key) == 0) {
    before = &key;
    if (bpf_map_lookup_elem(fd, &key, &value) == 0 && value.deadline > now) {
      found.push_back({net::IpAddress::from_ipv4(key.address), key.ifindex});
    }
  }
  if (errno != ENOENT) {
    return fail_errno(errno, "read map", "owned_addresses");
  }
  return found;
}

std::optional<std::array<uint64_t, 2>> KernelDataplane::flow_hash_key() const {
  if (open_ == nullptr || open_->maps.fresh_tables()) {
    return std::nullopt;
  }
  const auto& stored = open_->maps.view().config->flow_hash_key;
  const std::array<uint64_t, 2> key = {stored[0], stored[1]};
  return key == std::array<uint64_t, 2>{} ? std::nullopt : std::optional(key);
}

Result<SweepOutcome> KernelDataplane::sweep(const IdleTimes& idle) {
  if (open_ == nullptr) {
    return fail(ErrorKind::unavailable, "sweep flows", "", kNotOpen);
  }
  return sweep_flows(open_->maps, open_->programmer, idle, monotonic_now());
}

Result<Counters> KernelDataplane::counters() const {
  if (open_ == nullptr) {
    return fail(ErrorKind::unavailable, "read counters", "", kNotOpen);
  }
  return read_counters(open_->maps, open_->programmer);
}

Status KernelDataplane::purge() {
  if (open_ == nullptr) {
    return {};
  }
  const std::string directory = open_->options.directory;
  if (Status purged = purge_all(directory); !purged) {
    return purged;
  }
  open_.reset();
  return {};
}

Status KernelDataplane::purge(const std::string& directory) {
  route_libbpf_log();
  const auto lock = lock_directory(directory);
  if (!lock && lock.error().kind != ErrorKind::not_found) {
    return tl::unexpected(lock.error());
  }
  return purge_all(directory);
}

}  // namespace sluice::agent::dataplane
