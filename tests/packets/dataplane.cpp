#include "tests/packets/dataplane.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <stdexcept>

#include "bpf/sluice.skel.h"
#include "tests/packets/checksum_oracle.h"

namespace sluice::packets {
namespace {

std::string& libbpf_messages() {
  static std::string messages;
  return messages;
}

int keep_message(libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  std::array<char, 4096> line{};
  const int size = std::vsnprintf(line.data(), line.size(), format, arguments);
  libbpf_messages() += line.data();
  return size;
}

void must(int result, const std::string& what) {
  if (result < 0) throw std::runtime_error(fmt::format("{}: {}\n{}", what, std::strerror(-result), libbpf_messages()));
}

template <typename Key, typename Value>
void write_map(const bpf_map* map, const Key& key, const Value& value) {
  must(bpf_map__update_elem(map, &key, sizeof(key), &value, sizeof(value), BPF_ANY),
       fmt::format("write to map {}", bpf_map__name(map)));
}

// Sums a per-CPU element of counters that are all 64 bits.
template <typename Value, typename Key>
Value sum_over_cpus(const bpf_map* map, const Key& key) {
  constexpr size_t kWords = sizeof(Value) / sizeof(uint64_t);
  const auto cpus = static_cast<size_t>(libbpf_num_possible_cpus());
  std::vector<std::array<uint64_t, kWords>> parts(cpus);
  std::array<uint64_t, kWords> sum{};
  if (bpf_map__lookup_elem(map, &key, sizeof(key), parts.data(), cpus * sizeof(Value), 0) == 0)
    for (const auto& part : parts)
      for (size_t i = 0; i < kWords; i++) sum[i] += part[i];
  Value value{};
  std::memcpy(&value, sum.data(), sizeof(value));
  return value;
}

void set_sizes(sluice_bpf& skeleton, const Options& options) {
  const std::array<std::pair<bpf_map*, uint32_t>, 7> sizes{{{skeleton.maps.service_keys, 256},
                                                            {skeleton.maps.services, 64},
                                                            {skeleton.maps.slots, 4096},
                                                            {skeleton.maps.backends, 256},
                                                            {skeleton.maps.service_counters, 64},
                                                            {skeleton.maps.backend_counters, 256},
                                                            {skeleton.maps.flows, options.flow_entries}}};
  for (const auto& [map, entries] : sizes) must(bpf_map__set_max_entries(map, entries), "size of a map");
  if (options.plain_flow_table) must(bpf_map__set_type(skeleton.maps.flows, BPF_MAP_TYPE_HASH), "type of map flows");
}

void share_maps(const sluice_bpf& to, const sluice_bpf& from) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, to.obj) {
    if (bpf_map__is_internal(map)) continue;
    const bpf_map* const shared = bpf_object__find_map_by_name(from.obj, bpf_map__name(map));
    must(bpf_map__reuse_fd(map, bpf_map__fd(shared)), "share a map");
  }
}

}  // namespace

Dataplane::Dataplane(const Options& options) {
  libbpf_messages().clear();
  libbpf_set_print(keep_message);
  skeleton_ = sluice_bpf__open();
  if (skeleton_ == nullptr) throw std::runtime_error("cannot open the BPF object: " + libbpf_messages());
  skeleton_->rodata->interface_index = options.interface != 0 ? options.interface : interfaces().lan;
  std::copy(options.mac.begin(), options.mac.end(), skeleton_->rodata->interface_mac);
  set_sizes(*skeleton_, options);
  if (options.maps_of != nullptr) share_maps(*skeleton_, *options.maps_of->skeleton_);
  if (const int error = sluice_bpf__load(skeleton_); error != 0) {
    sluice_bpf__destroy(skeleton_);
    throw std::runtime_error(
        fmt::format("the kernel does not load the programs: {} (needs CAP_BPF, CAP_NET_ADMIN and "
                    "CAP_PERFMON)\n{}",
                    std::strerror(-error), libbpf_messages()));
  }
  if (options.maps_of == nullptr) write_defaults();
}

void Dataplane::write_defaults() {
  settings_.service_table = SLUICE_SERVICE_TABLE_WORD(0, 6, 0x51ce);
  settings_.flow_hash_key[0] = kHashKey0;
  settings_.flow_hash_key[1] = kHashKey1;
  settings_.nat_sources[0] = htonl(ip("192.0.2.1"));
  settings_.nat_sources[1] = htonl(ip("10.9.0.1"));
  settings_.nat_port_first = kNatFirst;
  settings_.nat_port_last = kNatLast;
  write_settings();
  sluice_egress lan{.ifindex = interfaces().lan, .source = htonl(ip("192.0.2.1")), .mac = {}, .mtu = 0};
  sluice_egress core{.ifindex = interfaces().core, .source = htonl(ip("10.9.0.1")), .mac = {}, .mtu = 0};
  std::copy(kLanMac.begin(), kLanMac.end(), lan.mac);
  std::copy(kCoreMac.begin(), kCoreMac.end(), core.mac);
  set_egress(kLanEgress, lan);
  set_egress(kCoreEgress, core);
}

Dataplane::~Dataplane() {
  sluice_bpf__destroy(skeleton_);
}

void Dataplane::write_settings() {
  write_map(skeleton_->maps.config, uint32_t{0}, settings_);
}

void Dataplane::set_egress(uint32_t index, const sluice_egress& value) {
  write_map(skeleton_->maps.egress, index, value);
}

void Dataplane::set_service(uint32_t index, const sluice_service& value) {
  write_map(skeleton_->maps.services, index, value);
}

void Dataplane::set_key(uint32_t position, const sluice_service_key_entry& entry) {
  write_map(skeleton_->maps.service_keys, position, entry);
}

void Dataplane::set_backend_record(uint32_t index, const sluice_backend& record) {
  write_map(skeleton_->maps.backends, index, record);
}

void Dataplane::set_backend(const Service& service, uint32_t position, const Backend& backend) {
  uint64_t mac = 0;
  for (size_t i = 0; i < backend.mac.size(); i++) mac |= uint64_t{backend.mac[i]} << (8 * i);
  sluice_backend record{};
  record.next_hop = backend.egress != 0 ? SLUICE_NEXT_HOP_WORD(backend.egress, mac) : 0;
  record.address = htonl(backend.end.address);
  record.port = htons(backend.end.port);
  record.forwarding = backend.forwarding;
  record.service = service.index;
  set_backend_record(service.first_backend + position, record);
}

Service Dataplane::add_service(Endpoint end, uint8_t protocol, const std::vector<Backend>& backends, uint32_t flags) {
  Service service{.index = next_service_++, .first_backend = next_backend_, .end = end, .protocol = protocol};
  next_backend_ += static_cast<uint32_t>(backends.size());
  set_service(service.index, {.table = 0, .flags = SLUICE_SERVICE_VALID | flags, .reserved = 0});
  for (uint32_t i = 0; i < backends.size(); i++) set_backend(service, i, backends[i]);
  if (!backends.empty()) {
    std::vector<uint16_t> slots(16);
    for (size_t i = 0; i < slots.size(); i++) slots[i] = static_cast<uint16_t>(i % backends.size());
    set_planes(service, {slots});
  }

  const uint64_t key = sluice_key_ipv4(htonl(end.address), htons(end.port), protocol);
  const uint64_t table = settings_.service_table;
  const uint32_t mask = (1U << SLUICE_SERVICE_TABLE_LOG2(table)) - 1;
  uint32_t position = sluice_service_hash(key, SLUICE_SERVICE_TABLE_SEED(table)) & mask;
  for (int probe = 0; probe < SLUICE_MAX_PROBES; probe++, position = (position + 1) & mask) {
    const uint32_t index = SLUICE_SERVICE_TABLE_OFFSET(table) + position;
    sluice_service_key_entry entry{};
    bpf_map__lookup_elem(skeleton_->maps.service_keys, &index, sizeof(index), &entry, sizeof(entry), 0);
    if (entry.key != SLUICE_KEY_EMPTY) continue;
    set_key(index, {.key = key, .service = service.index, .reserved = 0});
    return service;
  }
  throw std::runtime_error("no place in the service table");
}

void Dataplane::set_planes(Service& service, const std::vector<std::vector<uint16_t>>& planes) {
  const auto size = static_cast<uint32_t>(planes.front().size());
  const auto log2 = static_cast<uint32_t>(__builtin_ctz(size));
  service.first_slot = next_slot_;
  for (const auto& plane : planes) {
    for (uint32_t i = 0; i < size; i += SLUICE_SLOTS_PER_ELEMENT) {
      uint64_t element = 0;
      for (uint32_t j = 0; j < SLUICE_SLOTS_PER_ELEMENT; j++) element |= uint64_t{plane[i + j]} << (16 * j);
      write_map(skeleton_->maps.slots, next_slot_ / SLUICE_SLOTS_PER_ELEMENT, element);
      next_slot_ += SLUICE_SLOTS_PER_ELEMENT;
    }
  }
  service.word = SLUICE_TABLE_WORD(service.first_slot, log2, planes.size() - 1,
                                   SLUICE_TABLE_GENERATION(service.word) + 1, service.first_backend);
  sluice_service record{};
  bpf_map__lookup_elem(skeleton_->maps.services, &service.index, sizeof(service.index), &record, sizeof(record), 0);
  record.table = service.word;
  set_service(service.index, record);
}

void Dataplane::own(uint32_t address, uint32_t ifindex, int64_t seconds_from_now) {
  const auto deadline = static_cast<int64_t>(monotonic_now()) + seconds_from_now * 1'000'000'000;
  own_until(address, ifindex, {.deadline = static_cast<uint64_t>(deadline)});
}

void Dataplane::own_until(uint32_t address, uint32_t ifindex, const sluice_owned& value) {
  write_map(skeleton_->maps.owned_addresses, sluice_owned_key{.address = htonl(address), .ifindex = ifindex}, value);
}

uint64_t Dataplane::hash(const Packet& packet) {
  const Frame frame = packet.frame();
  return sluice_flow_hash(htonl(packet.source().address), htonl(packet.destination().address),
                          htons(packet.source().port), htons(packet.destination().port), frame[23], kHashKey0,
                          kHashKey1);
}

Outcome Dataplane::receive(const Frame& frame) {
  Outcome outcome;
  outcome.frame.resize(frame.size() + 256);
  const uint64_t forwarded_before = counted(SLUICE_REASON_FORWARDED_LOCAL);
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame.data(), .data_out = outcome.frame.data(),
              .data_size_in = static_cast<uint32_t>(frame.size()),
              .data_size_out = static_cast<uint32_t>(outcome.frame.size()), .repeat = 1);
  must(bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.sluice_xdp), &run), "run sluice_xdp");
  outcome.frame.resize(run.data_size_out);
  outcome.action = static_cast<int>(run.retval);

  const bool rewritten = outcome.action == XDP_TX || outcome.action == XDP_REDIRECT ||
                         (outcome.action == XDP_PASS && counted(SLUICE_REASON_FORWARDED_LOCAL) != forwarded_before);
  if (!rewritten) {
    EXPECT_TRUE(same_frame(outcome.frame, frame)) << "a packet that is passed or dropped was changed";
  } else if (checksum_error(frame).empty()) {
    EXPECT_EQ(checksum_error(outcome.frame), "") << describe(frame) << "\nbecame\n" << describe(outcome.frame);
  }
  return outcome;
}

Outcome Dataplane::send(const Frame& frame, uint32_t gso_segments) {
  Outcome outcome;
  outcome.frame.resize(frame.size() + 256);
  __sk_buff context{};
  context.gso_segs = gso_segments;
  context.gso_size = gso_segments != 0 ? 1448 : 0;
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame.data(), .data_out = outcome.frame.data(),
              .data_size_in = static_cast<uint32_t>(frame.size()),
              .data_size_out = static_cast<uint32_t>(outcome.frame.size()), .ctx_in = &context,
              .ctx_size_in = sizeof(context), .repeat = 1);
  must(bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.sluice_egress), &run), "run sluice_egress");
  outcome.frame.resize(run.data_size_out);
  outcome.action = static_cast<int>(run.retval);
  if (checksum_error(frame).empty()) {
    EXPECT_EQ(checksum_error(outcome.frame), "") << describe(frame) << "\nbecame\n" << describe(outcome.frame);
  }
  return outcome;
}

uint64_t Dataplane::counted(sluice_reason reason) const {
  return sum_over_cpus<sluice_reason_counters>(skeleton_->maps.reasons, static_cast<uint32_t>(reason)).packets;
}

uint64_t Dataplane::counted_bytes(sluice_reason reason) const {
  return sum_over_cpus<sluice_reason_counters>(skeleton_->maps.reasons, static_cast<uint32_t>(reason)).bytes;
}

uint64_t Dataplane::counted(const Service& service, sluice_reason reason) const {
  const sluice_service_reason_key key{.service = service.index, .reason = static_cast<uint32_t>(reason)};
  return sum_over_cpus<sluice_reason_counters>(skeleton_->maps.service_reasons, key).packets;
}

sluice_counters Dataplane::service_counters(uint32_t index) const {
  return sum_over_cpus<sluice_counters>(skeleton_->maps.service_counters, index);
}

sluice_counters Dataplane::backend_counters(uint32_t index) const {
  return sum_over_cpus<sluice_counters>(skeleton_->maps.backend_counters, index);
}

std::vector<FlowEntry> Dataplane::flows() const {
  const bpf_map* const map = skeleton_->maps.flows;
  std::vector<FlowEntry> all;
  sluice_flow_key key{};
  const sluice_flow_key* before = nullptr;
  while (bpf_map__get_next_key(map, before, &key, sizeof(key)) == 0) {
    sluice_flow value{};
    if (bpf_map__lookup_elem(map, &key, sizeof(key), &value, sizeof(value), 0) == 0) all.emplace_back(key, value);
    before = &key;
  }
  return all;
}

std::optional<sluice_flow> Dataplane::flow(Endpoint backend, Endpoint source, uint8_t protocol) const {
  const sluice_flow_key key = flow_key(backend, source, protocol);
  sluice_flow value{};
  if (bpf_map__lookup_elem(skeleton_->maps.flows, &key, sizeof(key), &value, sizeof(value), 0) != 0)
    return std::nullopt;
  return value;
}

void Dataplane::put_flow(const sluice_flow_key& key, const sluice_flow& value) {
  write_map(skeleton_->maps.flows, key, value);
}

void Dataplane::forget_flows() {
  for (const auto& [key, value] : flows())
    must(bpf_map__delete_elem(skeleton_->maps.flows, &key, sizeof(key), 0), "delete a flow");
}

void Dataplane::age(const sluice_flow_key& key, uint64_t seconds) {
  sluice_flow value{};
  must(bpf_map__lookup_elem(skeleton_->maps.flows, &key, sizeof(key), &value, sizeof(value), 0),
       "find the flow to age");
  value.last_seen = monotonic_now() - seconds * 1'000'000'000;
  value.touched -= 100'000;
  put_flow(key, value);
}

uint64_t Dataplane::verified_instructions() const {
  bpf_prog_info info{};
  uint32_t size = sizeof(info);
  must(bpf_obj_get_info_by_fd(bpf_program__fd(skeleton_->progs.sluice_xdp), &info, &size), "program info");
  return info.verified_insns;
}

sluice_flow_key flow_key(Endpoint backend, Endpoint source, uint8_t protocol) {
  sluice_flow_key key{};
  key.backend = htonl(backend.address);
  key.source = htonl(source.address);
  key.backend_port = htons(backend.port);
  key.source_port = htons(source.port);
  key.protocol = protocol;
  return key;
}

uint64_t monotonic_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

::testing::AssertionResult same_frame(const Frame& actual, const Frame& expected) {
  if (actual == expected) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "\n  actual:   " << describe(actual)
                                       << "\n  expected: " << describe(expected);
}

FlowEntry DataplaneTest::only_flow() const {
  const std::vector<FlowEntry> all = plane_.flows();
  EXPECT_EQ(all.size(), 1U);
  return all.empty() ? FlowEntry{} : all.front();
}

}  // namespace sluice::packets
