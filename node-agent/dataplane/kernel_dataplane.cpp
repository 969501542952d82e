#include "node-agent/dataplane/kernel_dataplane.h"

#include <bpf/bpf.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <optional>
#include <set>

#include "common/log/spdlog.h"
#include "node-agent/dataplane/attachments.h"
#include "node-agent/dataplane/bpffs.h"
#include "node-agent/dataplane/clock.h"
#include "node-agent/dataplane/counter_maps.h"
#include "node-agent/dataplane/flow_sweep.h"
#include "node-agent/dataplane/grace.h"
#include "node-agent/dataplane/libbpf_log.h"
#include "node-agent/dataplane/owned_keeper.h"
#include "node-agent/dataplane/probe.h"
#include "node-agent/dataplane/purge.h"
#include "node-agent/dataplane/read_back.h"
#include "node-agent/dataplane/records.h"
#include "node-agent/dataplane/source_maps.h"
#include "node-agent/program/keys.h"

namespace sluice::agent::dataplane {
namespace {

constexpr const char* kNotOpen = "the dataplane has been purged";
constexpr const char* kUpdate = "update ways";
// From generic mode any device will do, whatever its driver and mode.
const InterfaceRequest kNodeLinkRequest = {kNodeLinkFar, AttachMode::generic};
constexpr int kMostRounds = 64;  // of waiting for freed room, in one program()

Status check(const Options& options) {
  const auto invalid = [](const char* what) { return fail(ErrorKind::invalid, "open the dataplane", "", what); };
  if (options.directory.empty() || options.directory[0] != '/') {
    return invalid("the directory for pins must be an absolute path");
  }
  if (options.nat_ports.first == 0 || options.nat_ports.first > options.nat_ports.last) {
    return invalid("the ports for nat must be a range from 1 on");
  }
  return check(options.sizes);
}

void add_failures(std::vector<ServiceFailure>& failures, const std::vector<ServiceFailure>& more) {
  failures.insert(failures.end(), more.begin(), more.end());
}

void merge(program::Touched& all, const program::Touched& more) {
  all.services.insert(all.services.end(), more.services.begin(), more.services.end());
  all.keys.insert(all.keys.end(), more.keys.begin(), more.keys.end());
  all.removed_keys.insert(all.removed_keys.end(), more.removed_keys.begin(), more.removed_keys.end());
  all.peers.insert(all.peers.end(), more.peers.begin(), more.peers.end());
}

}  // namespace

struct KernelDataplane::Open {
  Open(Options chosen, Fd locked, Maps opened, ReadBack read, Clock ticking)
      : options(std::move(chosen)),
        lock(std::move(locked)),
        maps(std::move(opened)),
        kernels_view(std::move(read)),
        clock(std::move(ticking)),
        programmer(options.sizes.tables, options.nat_ports),
        counters(maps, maps.fresh_tables()),
        attachments(options.directory) {}

  static Result<std::unique_ptr<Open>> take_over(const Options& options);

  using MakePlan = std::function<program::Plan()>;
  void decode();
  ProgramOutcome run(const MakePlan& make_plan);
  void prepare(const program::Plan& plan);
  void store(const program::WriteList& writes) const;
  bool grace();
  Status attach(const std::vector<InterfaceRequest>& requests, const std::string& left_alone) {
    return attachments.set(
        requests, maps, [this](uint32_t ifindex) { return egress_of(ifindex); }, left_alone);
  }
  [[nodiscard]] uint32_t egress_of(uint32_t ifindex) const;
  std::vector<ServiceFailure> read_back(const program::Touched* touched);
  std::vector<ServiceFailure> check_sources(const std::vector<ServiceFailure>& known);

  Options options;
  Fd lock;
  Maps maps;
  ReadBack kernels_view;
  Clock clock;
  program::Programmer programmer;
  CounterKeeper counters;
  Attachments attachments;
  FlowSweeper sweeper;
  SourceKeeper sources;
  OwnedKeeper owned;
  std::vector<ServiceFailure> plan_failures;  // of the last plan
  bool decode_again = false;                  // the maps are not what was taken for granted
  std::optional<NodeLink> node_link;          // as it was kept last
  std::optional<NodeLink> former_link;        // as it last was there
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
  auto read = ReadBack::of(*maps);
  auto clock = Clock::open();
  if (!read || !clock) {
    return tl::unexpected(read ? clock.error() : read.error());
  }
  auto open = std::make_unique<Open>(options, std::move(*lock), std::move(*maps), std::move(*read), std::move(*clock));
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
  // An interrupted process has left the others, and their ids may be given again.
  if (Status kept = sources.keep_only(maps, programmer.source_sets()); !kept) {
    spdlog::warn("{}", kept.error().message());
  }
}

void KernelDataplane::Open::store(const program::WriteList& writes) const {
  for (const program::Write& write : writes.writes()) {
    program::apply(write, writes.values(write), maps.memory(write.map));
  }
}

// The interface's element of `egress`; 0: it has none.
uint32_t KernelDataplane::Open::egress_of(uint32_t ifindex) const {
  if (const uint32_t index = programmer.interface_element(ifindex); index != 0) {
    return index;
  }
  // Before the first plan: as it stood.
  const auto egress = maps.view().egress;
  const auto found =
      std::find_if(egress.begin(), egress.end(), [ifindex](const sluice_egress& one) { return one.device == ifindex; });
  return found == egress.end() ? 0 : static_cast<uint32_t>(found - egress.begin());
}

// What has to be there before the plan's stores are made.
void KernelDataplane::Open::prepare(const program::Plan& plan) {
  if (Status kept = counters.prepare(maps, programmer, plan); !kept) {
    spdlog::warn("{}; counts of services that are new may begin elsewhere than at 0", kept.error().message());
  }
  sources.prepare(maps, plan);
}

// Lets go of what was left. False: it is kept until a wait succeeds.
bool KernelDataplane::Open::grace() {
  if (programmer.awaits_grace() || sources.awaits_grace()) {
    if (Status waited = wait_for_grace_period(); !waited) {
      spdlog::warn("{}; what is left in the maps is not used again meanwhile", waited.error().message());
      return false;
    }
    if (Status removed = sources.grace_over(maps); !removed) {
      spdlog::warn("{}", removed.error().message());
    }
    store(programmer.grace_over());
  }
  if (Status settled = counters.settle(maps, programmer); !settled) {
    spdlog::warn("{}; sums of services may lack what former backends have counted", settled.error().message());
  }
  return true;
}

ProgramOutcome KernelDataplane::Open::run(const MakePlan& make_plan) {
  if (decode_again) {
    decode();
  }
  ProgramOutcome outcome;
  program::Touched touched;
  program::Plan plan;
  for (int round = 0; round < kMostRounds; ++round) {
    plan = make_plan();
    prepare(plan);
    store(plan.writes);
    outcome.writes += plan.writes.elements();
    merge(touched, plan.touched);
    if (!grace() || !plan.retry_after_grace) {
      break;
    }
  }
  plan_failures = plan.failures;
  outcome.failures = plan_failures;
  add_failures(outcome.failures, sources.failures(programmer));
  add_failures(outcome.failures, read_back(&touched));
  if (Status followed = attachments.follow_egress(maps, [this](uint32_t ifindex) { return egress_of(ifindex); });
      !followed) {
    spdlog::error("{}", followed.error().message());
  }
  return outcome;
}

std::vector<ServiceFailure> KernelDataplane::Open::read_back(const program::Touched* touched) {
  auto failures = programmer.check(kernels_view.view(), touched);
  decode_again = decode_again || !failures.empty();
  return failures;
}

std::vector<ServiceFailure> KernelDataplane::Open::check_sources(const std::vector<ServiceFailure>& known) {
  auto failures = SourceKeeper::check(maps, programmer, known);
  if (!failures) {
    spdlog::warn("{}", failures.error().message());
    return {};
  }
  decode_again = decode_again || !failures->empty();
  return std::move(*failures);
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
                                        const Network& network) {
  if (open_ == nullptr) {
    ProgramOutcome outcome;
    for (const auto& [id, service] : desired.services) {
      outcome.failures.push_back({id, "NotSupported", kNotOpen});
    }
    return outcome;
  }
  auto outcome = open_->run([&] { return open_->programmer.plan(open_->maps.view(), desired, node, network); });
  open_->attachments.follow_devices(network.devices);
  return outcome;
}

Status KernelDataplane::update_ways(const Network& network) {
  if (open_ == nullptr) {
    return fail(ErrorKind::unavailable, kUpdate, "", kNotOpen);
  }
  const auto outcome = open_->run([&] { return open_->programmer.plan_ways(open_->maps.view(), network); });
  open_->attachments.follow_devices(network.devices);
  for (const ServiceFailure& failure : outcome.failures) {
    if (failure.reason == "ReadBackDiffers") {
      return fail(ErrorKind::internal, kUpdate, failure.service, failure.message);
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
  open_->sources.fill(open_->maps);
  add_failures(outcome.failures, open_->sources.failures(open_->programmer));
  add_failures(outcome.failures, open_->check_sources(outcome.failures));
  add_failures(outcome.failures, open_->read_back(nullptr));
  return outcome;
}

Result<std::vector<AttachedInterface>> KernelDataplane::attach(const std::vector<InterfaceRequest>& interfaces) {
  if (open_ == nullptr) {
    return fail(ErrorKind::unavailable, "attach", "", kNotOpen);
  }
  auto requests = interfaces;
  // Where maps are replaced all programs go over to the new ones at once.
  if (open_->maps.replacing() && node_link_programs() != NodeLinkPrograms::none) {
    requests.push_back(kNodeLinkRequest);
  }
  if (Status attached = open_->attach(requests, kNodeLinkFar); !attached) {
    return tl::unexpected(attached.error());
  }
  return attached();
}

std::vector<AttachedInterface> KernelDataplane::attached() const {
  auto interfaces = open_ == nullptr ? std::vector<AttachedInterface>{} : open_->attachments.list();
  std::erase_if(interfaces, [](const AttachedInterface& one) { return is_node_link(one.name); });
  return interfaces;
}

Result<NodeLink> KernelDataplane::keep_node_link(uint16_t mtu) {
  if (open_ == nullptr) {
    return fail(ErrorKind::unavailable, "make the node link", "", kNotOpen);
  }
  auto kept = dataplane::keep_node_link(mtu, open_->former_link ? &*open_->former_link : nullptr);
  open_->node_link = kept ? std::optional(*kept) : std::nullopt;
  open_->former_link = kept ? *kept : open_->former_link;
  return kept;
}

Status KernelDataplane::attach_node_link() {
  if (open_ == nullptr || !open_->node_link) {
    return fail(ErrorKind::unavailable, "attach to the node link", "", open_ == nullptr ? kNotOpen : "there is none");
  }
  std::vector<InterfaceRequest> requests;
  for (const AttachedInterface& interface : attached()) {
    requests.push_back({interface.name, interface.mode});
  }
  requests.push_back(kNodeLinkRequest);
  return open_->attach(requests, {});
}

NodeLinkPrograms KernelDataplane::node_link_programs() const {
  return open_ == nullptr || !open_->node_link ? NodeLinkPrograms::none
                                               : open_->attachments.programs_on(open_->node_link->far);
}

Status KernelDataplane::lead_into_node_link(const NodeLink& link, const LedAddresses& addresses) {
  return dataplane::lead_into_node_link(link, addresses);
}

Result<net::IpAddress> KernelDataplane::own_address_towards(const net::IpAddress& to) const {
  std::vector<uint32_t> devices;
  for (const AttachedInterface& interface : attached()) {
    devices.push_back(interface.ifindex);
  }
  return dataplane::own_address_towards(to, devices);
}

std::vector<std::string> KernelDataplane::without_egress() const {
  return open_ == nullptr ? std::vector<std::string>{} : open_->attachments.without_egress();
}

OwnedOutcome KernelDataplane::set_owned(const std::vector<OwnedAddress>& owned, std::chrono::nanoseconds valid_for) {
  if (open_ == nullptr) {
    return {{}, fail(ErrorKind::unavailable, "answer for", "", kNotOpen).value()};
  }
  return open_->owned.set(open_->maps, {owned.begin(), owned.end()}, valid_for);
}

Result<std::vector<OwnedAddress>> KernelDataplane::owned() const {
  if (open_ == nullptr) {
    return fail(ErrorKind::unavailable, "read owned addresses", "", kNotOpen);
  }
  return OwnedKeeper::answered(open_->maps);
}

std::optional<std::array<uint64_t, 2>> KernelDataplane::flow_hash_key() const {
  if (open_ == nullptr || open_->maps.fresh_tables()) {
    return std::nullopt;
  }
  const auto& stored = open_->maps.view().config->flow_hash_key;
  const std::array<uint64_t, 2> key = {stored[0], stored[1]};
  return key == std::array<uint64_t, 2>{} ? std::nullopt : std::optional(key);
}

std::vector<Peer> KernelDataplane::peers() const {
  return open_ == nullptr ? std::vector<Peer>{} : program::peers_in(open_->maps.view());
}

std::map<std::string, Proof> KernelDataplane::proofs() const {
  std::map<std::string, Proof> out;
  if (open_ == nullptr) {
    return out;
  }
  const auto proofs = open_->maps.proofs();
  for (const auto& [node, index] : open_->programmer.peers()) {
    const sluice_proof& proof = proofs[index];
    const auto load = [](const auto& word) { return __atomic_load_n(&word, __ATOMIC_RELAXED); };
    out.emplace_hint(out.end(), node,
                     Proof{load(proof.nonce), load(proof.bytes), load(proof.told_mtu), load(proof.told_seen)});
  }
  return out;
}

Result<SweepOutcome> KernelDataplane::sweep(const IdleTimes& idle) {
  if (open_ == nullptr) {
    return fail(ErrorKind::unavailable, "sweep flows", "", kNotOpen);
  }
  const auto now = open_->clock.now();
  if (!now) {
    return tl::unexpected(now.error());
  }
  return open_->sweeper.sweep(open_->maps, open_->programmer, open_->options.nat_ports, idle, *now);
}

std::vector<TableUse> KernelDataplane::tables() const {
  if (open_ == nullptr) {
    return {};
  }
  const program::Arenas& arenas = open_->programmer.arenas();
  const auto use = [](const char* table, const program::BuddyAllocator& arena, uint64_t unit) {
    return TableUse{table, (arena.capacity() - arena.free_units()) * unit, arena.capacity() * unit};
  };
  return {use("services", arenas.services, 1), use("backends", arenas.backends, 1),
          use("slots", arenas.slots, SLUICE_SLOT_UNIT)};
}

std::vector<BackendRecord> KernelDataplane::backends() const {
  return open_ == nullptr ? std::vector<BackendRecord>{} : records_of(open_->programmer);
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
