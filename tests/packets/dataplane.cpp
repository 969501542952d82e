#include "tests/packets/dataplane.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <stdexcept>

#include "tests/packets/checksum_oracle.h"
#include "tests/packets/loaded.h"

namespace sluice::packets {

namespace {

constexpr uint32_t kKeyTableLog2 = 8, kKeyTableSeed = 0x51ce;

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

// A frame without its VLAN tags.
Frame untagged(Frame frame) {
  while (frame.size() >= 18 && (word_at(frame, 12) == 0x8100 || word_at(frame, 12) == 0x88a8))
    frame.erase(frame.begin() + 12, frame.begin() + 16);
  return frame;
}

}  // namespace

Dataplane::Dataplane(const Options& options)
    : loaded_(Loaded::get(options)), several_threads_(options.several_threads) {
  if (options.maps_of == nullptr) write_defaults();
}

Dataplane::~Dataplane() = default;

void Dataplane::write_defaults() {
  sluice_config& config = settings();
  config.key_table = SLUICE_KEY_TABLE_WORD(0, kKeyTableLog2, kKeyTableSeed);
  config.flow_hash_key[0] = kHashKey0;
  config.flow_hash_key[1] = kHashKey1;
  config.nat_port_first = kNatFirst;
  config.nat_port_last = kNatLast;
  const auto way_out = [&](uint32_t index, uint32_t ifindex, const Mac& mac, const std::string& source) {
    const Address own = Address::of(source);
    sluice_egress out{};
    out.ifindex = out.device = ifindex;
    std::copy(mac.begin(), mac.end(), out.mac);
    out.source4 = htonl(own.last());
    out.source6 = element(own.in_ipv6());
    egress(index) = out;
    for (const Address& address : {own, own.in_ipv6()})
      set_key(address, 0, 0, SLUICE_ADDRESS_NODE | SLUICE_ADDRESS_NAT);
  };
  way_out(kLanEgress, interfaces().lan, kLanMac, "192.0.2.1");
  way_out(kCoreEgress, interfaces().core, kCoreMac, "10.9.0.1");
}

sluice_config& Dataplane::settings() {
  return loaded_->table<sluice_config>("config").front();
}
sluice_key_entry& Dataplane::key(uint32_t position) {
  return loaded_->table<sluice_key_entry>("keys")[position];
}
sluice_service& Dataplane::service(uint32_t index) {
  return loaded_->table<sluice_service>("services")[index];
}
sluice_backend& Dataplane::backend(uint32_t index) {
  return loaded_->table<sluice_backend>("backends")[index];
}
sluice_egress& Dataplane::egress(uint32_t index) {
  return loaded_->table<sluice_egress>("egress")[index];
}
sluice_peer& Dataplane::peer(uint32_t index) {
  return loaded_->table<sluice_peer>("peers")[index];
}
sluice_proof Dataplane::proof(uint32_t index) const {
  return loaded_->table<sluice_proof>("proofs")[index];
}
sluice_shares& Dataplane::shares(uint32_t index) {
  return loaded_->table<sluice_shares>("shares")[index];
}

void Dataplane::set_backend(const Service& service, uint32_t position, const Backend& from) {
  sluice_backend record{};
  record.next_hop = from.egress != 0 ? SLUICE_NEXT_HOP_WORD(from.egress, mac_word(from.mac)) : 0;
  record.address = element(from.end.address);
  record.what =
      SLUICE_BACKEND_WORD(htons(from.end.port), from.peer, service.index, from.forwarding, uint64_t{from.flags});
  backend(service.first_backend + position) = record;
}

Service Dataplane::add_service(Endpoint end, uint8_t protocol, const std::vector<Backend>& backends, uint32_t flags) {
  Service made{.index = next_service_++, .first_backend = next_backend_, .end = end, .protocol = protocol};
  made.flags |= flags | (end.address.ipv6() ? SLUICE_SERVICE_IPV6 : 0);
  next_backend_ += static_cast<uint32_t>(backends.size());
  if (made.index >= kServices || next_backend_ > kBackends) throw std::runtime_error("too many services or backends");
  service(made.index) = {.table = 0, .settings = SLUICE_SETTINGS_WORD(made.flags, 0, 0)};
  for (uint32_t i = 0; i < backends.size(); i++) set_backend(made, i, backends[i]);
  if (!backends.empty()) {
    std::vector<uint16_t> slots(16);
    for (size_t i = 0; i < slots.size(); i++) slots[i] = static_cast<uint16_t>(i % backends.size());
    set_planes(made, {slots});
  }
  set_key(end.address, end.port, protocol, made.index);
  set_key(end.address, 0, 0, SLUICE_ADDRESS_SERVICE);
  return made;
}

// Where a key stands, or could stand; of IPv6 `whole` is what its print stands for.
uint32_t Dataplane::place_key(uint64_t word, const sluice_key6* whole) {
  const uint64_t table = settings().key_table;
  const uint32_t mask = (1U << SLUICE_KEY_TABLE_LOG2(table)) - 1;
  uint32_t position = sluice_key_hash(word, SLUICE_KEY_TABLE_SEED(table)) & mask;
  for (int probe = 0; probe < SLUICE_MAX_PROBES; probe++, position = (position + 1) & mask) {
    const uint32_t index = SLUICE_KEY_TABLE_OFFSET(table) + position;
    const sluice_key_entry& entry = key(index);
    if (entry.key == SLUICE_KEY_EMPTY || entry.key == SLUICE_KEY_DELETED) return index;
    if (entry.key != word) continue;
    if (whole == nullptr || std::memcmp(whole, &loaded_->table<sluice_key6>("keys6")[entry.extra], sizeof(*whole)) == 0)
      return index;
  }
  throw std::runtime_error("no place in the key table");
}

void Dataplane::set_key(const Address& address, uint16_t port, uint8_t protocol, uint32_t value) {
  const sluice_address bytes = element(address);
  if (!address.ipv6()) {
    const uint64_t word = sluice_key_ipv4(bytes.ipv4, htons(port), protocol);
    key(place_key(word, nullptr)) = {.key = word, .value = value, .extra = 0};
    return;
  }
  sluice_key6 whole{};
  whole.address[0] = bytes.words[0];
  whole.address[1] = bytes.words[1];
  whole.port = htons(port);
  whole.protocol = protocol;
  const uint64_t word = sluice_key_ipv6(bytes.words[0], bytes.words[1], whole.port, protocol);
  const auto wholes = loaded_->table<sluice_key6>("keys6");
  const auto same = [&whole](const sluice_key6& one) { return std::memcmp(&one, &whole, sizeof(one)) == 0; };
  const auto unused = [](const sluice_key6& one) { return one.address[0] == 0 && one.address[1] == 0; };
  const uint32_t position = place_key(word, &whole);
  auto extra = std::find_if(wholes.begin() + 1, wholes.end(), same);
  if (extra == wholes.end()) extra = std::find_if(wholes.begin() + 1, wholes.end(), unused);
  if (extra == wholes.end()) throw std::runtime_error("no room for an IPv6 key");
  *extra = whole;
  key(position) = {.key = word, .value = value, .extra = static_cast<uint32_t>(extra - wholes.begin())};
}

void Dataplane::forget_key(const Address& address, uint16_t port, uint8_t protocol) {
  set_key(address, port, protocol, 0);
  const sluice_address bytes = element(address);
  const uint64_t word = address.ipv6() ? sluice_key_ipv6(bytes.words[0], bytes.words[1], htons(port), protocol)
                                       : sluice_key_ipv4(bytes.ipv4, htons(port), protocol);
  for (sluice_key_entry& entry : loaded_->table<sluice_key_entry>("keys")) {
    if (entry.key != word) continue;
    entry.key = SLUICE_KEY_DELETED;
    loaded_->table<sluice_key6>("keys6")[entry.extra] = {};
  }
}

uint64_t Dataplane::backend_key(const Service& service, uint32_t position) {
  const sluice_backend& record = backend(service.first_backend + position);
  return sluice_key_backend(service.index, record.address.words[0], record.address.words[1],
                            SLUICE_BACKEND_PORT(record.what));
}

void Dataplane::name_backend(const Service& service, uint32_t position) {
  const uint64_t word = backend_key(service, position);
  key(place_key(word, nullptr)) = {.key = word, .value = service.first_backend + position, .extra = 0};
}

void Dataplane::forget_backend(const Service& service, uint32_t position) {
  key(place_key(backend_key(service, position), nullptr)).key = SLUICE_KEY_DELETED;
}

void Dataplane::set_planes(Service& changed, const std::vector<std::vector<uint16_t>>& planes) {
  const auto size = static_cast<uint32_t>(planes.front().size());
  const auto slots = loaded_->table<uint16_t>("slots");
  const auto log2 = static_cast<uint32_t>(__builtin_ctz(size));
  if (next_slot_ + planes.size() * size > slots.size()) next_slot_ = 0;  // where nobody is any more
  changed.first_slot = next_slot_;
  for (const auto& plane : planes)
    for (const uint16_t slot : plane) slots[next_slot_++] = slot;
  next_slot_ = (next_slot_ + SLUICE_SLOT_UNIT - 1) / SLUICE_SLOT_UNIT * SLUICE_SLOT_UNIT;
  changed.word = SLUICE_TABLE_WORD(changed.first_slot, log2, planes.size() - 1,
                                   SLUICE_TABLE_GENERATION(changed.word) + 1, changed.first_backend);
  service(changed.index).table = changed.word;
}

void Dataplane::set_flags(const Service& changed, uint32_t flags) {
  uint64_t& settings = reinterpret_cast<uint64_t&>(service(changed.index).settings);
  settings = SLUICE_SETTINGS_WORD(flags, SLUICE_SETTINGS_AFFINITY(settings), SLUICE_SETTINGS_SOURCES(settings));
}

void Dataplane::allow_sources(const Service& changed, const std::vector<std::pair<Address, uint32_t>>& prefixes) {
  const uint32_t set = next_set_++, yes = 1;
  for (const auto& [address, length] : prefixes) {
    if (address.ipv6()) {
      sluice_sources6_key key{.prefix_length = 32 + length, .set = set, .address = {}};
      std::copy(address.bytes().begin(), address.bytes().end(), key.address);
      write_map(skeleton()->maps.sources6, key, yes);
    } else {
      write_map(skeleton()->maps.sources4,
                sluice_sources4_key{.prefix_length = 32 + length, .set = set, .address = htonl(address.last())}, yes);
    }
  }
  const uint64_t settings = service(changed.index).settings;
  service(changed.index).settings =
      SLUICE_SETTINGS_WORD(SLUICE_SETTINGS_FLAGS(settings), SLUICE_SETTINGS_AFFINITY(settings), uint64_t{set});
}

void Dataplane::own(const Address& address, uint32_t ifindex, int64_t seconds_from_now, uint16_t vlan) {
  const auto deadline = static_cast<int64_t>(monotonic_now()) + seconds_from_now * 1'000'000'000;
  own_until(address, ifindex, static_cast<uint64_t>(deadline), vlan);
}

void Dataplane::own_until(const Address& address, uint32_t ifindex, uint64_t deadline, uint16_t vlan) {
  sluice_owned_key key{};
  key.address = element(address);
  key.ifindex = ifindex;
  key.vlan = vlan;
  key.family = address.ipv6() ? 6 : 4;
  write_map(skeleton()->maps.owned_addresses, key, sluice_owned{.deadline = deadline});
}

uint64_t Dataplane::hash(const Packet& packet) {
  const sluice_address client = element(packet.source().address), service = element(packet.destination().address);
  const uint16_t client_port = htons(packet.source().port), port = htons(packet.destination().port);
  if (packet.ipv6())
    return sluice_flow_hash6(client.words[0], client.words[1],
                             sluice_key_ipv6(service.words[0], service.words[1], port, packet.protocol_number()),
                             client_port, kHashKey0, kHashKey1);
  return sluice_flow_hash(client.ipv4, service.ipv4, client_port, port, packet.protocol_number(), kHashKey0, kHashKey1);
}

uint64_t Dataplane::affinity_hash(const Packet& packet) {
  const sluice_address client = element(packet.source().address), service = element(packet.destination().address);
  if (packet.ipv6())
    return sluice_flow_hash6(client.words[0], client.words[1],
                             sluice_key_ipv6(service.words[0], service.words[1], 0, 0), 0, kHashKey0, kHashKey1);
  return sluice_flow_hash(client.ipv4, service.ipv4, 0, 0, 0, kHashKey0, kHashKey1);
}

Outcome Dataplane::receive(const Frame& frame) {
  Outcome outcome;
  outcome.frame.resize(frame.size() + 256);
  const Verdicts before = verdicts();
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame.data(), .data_out = outcome.frame.data(),
              .data_size_in = static_cast<uint32_t>(frame.size()),
              .data_size_out = static_cast<uint32_t>(outcome.frame.size()), .repeat = 1);
  must(bpf_prog_test_run_opts(bpf_program__fd(skeleton()->progs.sluice_xdp), &run), "run sluice_xdp");
  outcome.frame.resize(run.data_size_out);
  outcome.action = static_cast<int>(run.retval);
  const Verdicts after = verdicts();
  if (!several_threads_) expect_one_verdict(before, after, outcome.action);
  sluice_handover handover{};
  if (outcome.frame.size() > sizeof(handover)) std::memcpy(&handover, outcome.frame.data(), sizeof(handover));
  if (handover.magic == SLUICE_HANDOVER_MAGIC) {
    outcome.handover = handover.egress;
    outcome.frame.erase(outcome.frame.begin(), outcome.frame.begin() + sizeof(handover));
  } else if (outcome.action == XDP_PASS && after.rewritten == before.rewritten) {
    EXPECT_TRUE(same_frame(outcome.frame, frame)) << "a packet that is passed was changed";
  } else if (outcome.action != XDP_DROP && checksum_error(untagged(frame)).empty()) {
    EXPECT_EQ(checksum_error(untagged(outcome.frame)), "") << describe(frame) << "\nbecame\n"
                                                           << describe(outcome.frame);
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
  must(bpf_prog_test_run_opts(bpf_program__fd(stack()->progs.sluice_egress), &run), "run sluice_egress");
  outcome.frame.resize(run.data_size_out);
  outcome.action = static_cast<int>(run.retval);
  if (checksum_error(frame).empty()) {
    EXPECT_EQ(checksum_error(outcome.frame), "") << describe(frame) << "\nbecame\n" << describe(outcome.frame);
  }
  return outcome;
}

sluice_count Dataplane::count(sluice_reason reason) const {
  sluice_count sum = sum_over_cpus<sluice_count>(skeleton()->maps.reasons, static_cast<uint32_t>(reason));
  const auto backends = loaded_->table<sluice_backend>("backends");
  for (uint32_t i = 0; i < kBackends; i++) {
    const uint32_t forwarding = SLUICE_BACKEND_FORWARDING(backends[i].what);
    if (forwarding == 0) continue;
    const sluice_counters counters = backend_counters(i);
    const auto add = [&](sluice_reason of, const sluice_count& more) {
      if (of != reason) return;
      sum.packets += more.packets;
      sum.bytes += more.bytes;
    };
    constexpr std::array kForwarded{SLUICE_REASON_FORWARDED_LOCAL, SLUICE_REASON_FORWARDED_NAT,
                                    SLUICE_REASON_FORWARDED_TUNNEL, SLUICE_REASON_FORWARDED_DIRECT,
                                    SLUICE_REASON_FORWARDED_IPIP};
    const bool local = forwarding == SLUICE_FORWARD_LOCAL;
    if (forwarding <= kForwarded.size()) add(kForwarded.at(forwarding - 1), counters.forwarded);
    add(local ? SLUICE_REASON_DECAPSULATED : SLUICE_REASON_FORWARDED_NAT, counters.otherwise);
    add(local ? SLUICE_REASON_RETURNED_LOCAL : SLUICE_REASON_RETURNED_NAT, counters.returned);
  }
  return sum;
}

uint64_t Dataplane::counted(uint32_t service, uint32_t backend, sluice_reason reason) const {
  const sluice_service_reason_key key{
      .service = service, .reason = static_cast<uint32_t>(reason), .backend = backend, .pad = 0};
  return sum_over_cpus<sluice_count>(skeleton()->maps.service_reasons, key).packets;
}

uint64_t Dataplane::counted(const Service& service, sluice_reason reason) const {
  uint64_t sum = counted(service.index, SLUICE_NO_BACKEND_INDEX, reason);
  for (uint32_t i = 0; i < kBackends; i++) sum += counted(service.index, i, reason);
  return sum;
}

sluice_counters Dataplane::backend_counters(uint32_t index) const {
  return sum_over_cpus<sluice_counters>(skeleton()->maps.backend_counters, index);
}

sluice_counters Dataplane::service_counters(const Service& service) const {
  sluice_counters sum{};
  const auto backends = loaded_->table<sluice_backend>("backends");
  for (uint32_t i = 0; i < kBackends; i++) {
    if (SLUICE_BACKEND_SERVICE(backends[i].what) != service.index) continue;
    const sluice_counters one = backend_counters(i);
    for (const auto member : {&sluice_counters::forwarded, &sluice_counters::otherwise, &sluice_counters::returned}) {
      (sum.*member).packets += (one.*member).packets;
      (sum.*member).bytes += (one.*member).bytes;
    }
    sum.flows += one.flows;
  }
  return sum;
}

uint32_t Dataplane::jiffies() const {
  sluice_clock clock{};
  LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &clock, .ctx_size_in = sizeof(clock));
  must(bpf_prog_test_run_opts(bpf_program__fd(skeleton()->progs.sluice_clock), &run), "run sluice_clock");
  return clock.jiffies;
}

const sluice_stack_bpf* Dataplane::stack() const {
  return &loaded_->stack();
}

uint32_t Dataplane::jiffies_per_second() {
  return agent::dataplane::jiffies_per_second();
}

const sluice_bpf* Dataplane::skeleton() const {
  return &loaded_->skeleton();
}

std::vector<std::pair<std::string, uint64_t>> Dataplane::verified_instructions() const {
  std::vector<std::pair<std::string, uint64_t>> all;
  for (const bpf_object* object : {skeleton()->obj, stack()->obj}) {
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object) {
      bpf_prog_info info{};
      uint32_t size = sizeof(info);
      must(bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size), "program info");
      all.emplace_back(bpf_program__name(program), info.verified_insns);
    }
  }
  return all;
}

sluice_address element(const Address& address) {
  sluice_address element{};
  std::copy_n(address.bytes().begin(), address.size(), element.bytes);
  return element;
}

uint64_t mac_word(const Mac& mac) {
  uint64_t word = 0;
  for (size_t i = 0; i < mac.size(); i++) word |= uint64_t{mac[i]} << (8 * i);
  return word;
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

Flow DataplaneTest::only_flow() const {
  const std::vector<Flow> all = plane_.flows();
  EXPECT_EQ(all.size(), 1U);
  return all.empty() ? Flow{} : all.front();
}

}  // namespace sluice::packets
