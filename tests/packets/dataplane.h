// The real programs, loaded for one test over maps of its own, with helpers that write the maps in sluice.h's terms.
// What the agent does for a living is done here by hand and without it; flow tables alone are read and written by its
// code, which follows the same protocol as the programs.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "bpf/sluice.h"
#include "tests/packets/network.h"
#include "tests/packets/packet_builder.h"

struct sluice_bpf;
struct sluice_stack_bpf;

namespace sluice::packets {

class Dataplane;
class Loaded;

struct Options {
  uint32_t interface = 0;  // 0: `lan`
  uint32_t egress = 1;     // its element of `egress`
  Mac mac = kLanMac;
  const Dataplane* maps_of = nullptr;  // use these maps, which are set up already
  uint32_t flow_entries = 4096;        // of each flow table; a power of two
  bool several_threads = false;        // give it packets: which verdict is whose cannot be told
  bool node_link = false;              // the interface is the node link's far end
};

enum class Family : uint8_t { ipv4, ipv6 };

struct Backend {
  Endpoint end;
  uint8_t forwarding = SLUICE_FORWARD_NAT;
  uint32_t egress = 0;  // index; 0: not resolved
  Mac mac{};
  uint32_t peer = 0;
  uint32_t flags = 0;  // SLUICE_BACKEND_...
};
inline Backend local_backend(Endpoint end) {
  return {.end = end, .forwarding = SLUICE_FORWARD_LOCAL};
}

struct Service {
  uint32_t index = 0, first_slot = 0, first_backend = 0;
  Endpoint end;
  uint8_t protocol = kTcp;
  uint64_t word = 0;
  uint32_t flags = SLUICE_SERVICE_VALID;
};

struct Outcome {
  int action = 0;
  Frame frame;
  uint32_t handover = 0;  // the kernel is to send it: by this element of `egress`
  [[nodiscard]] Endpoint source() const { return source_of(frame); }
  [[nodiscard]] Endpoint destination() const { return destination_of(frame); }
};

// A record of either family.
struct Flow {
  Endpoint backend, source;  // the return tuple
  uint8_t protocol = kTcp;
  uint8_t kind = SLUICE_FLOW_LOCAL;
  Endpoint client, service;
  uint32_t state = 0;  // SLUICE_FLOW_REPLIED ...
  uint32_t acknowledgement = 0;
  uint64_t next_hop = 0;
  uint32_t service_index = 0, backend_index = 0;
  uint32_t seen = 0, way_checked = 0;  // jiffies; way_checked is the program's alone
  bool half_open = true;
};

inline constexpr uint16_t kNatFirst = 20000, kNatLast = 29999;
inline constexpr uint32_t kLanEgress = 1, kCoreEgress = 2;
inline constexpr uint64_t kHashKey0 = 0x0123456789abcdefULL, kHashKey1 = 0xfedcba9876543210ULL;

class Dataplane {
 public:
  // Loads the programs for `lan`; throws std::runtime_error that names what is missing. The settings: hash key, nat's
  // ports, `lan` and `core` in `egress` with their addresses of both families as nat's sources.
  explicit Dataplane(const Options& options = {});
  ~Dataplane();
  Dataplane(const Dataplane&) = delete;
  Dataplane& operator=(const Dataplane&) = delete;

  // --- what the agent would write: the tables themselves
  [[nodiscard]] sluice_config& settings();
  [[nodiscard]] sluice_key_entry& key(uint32_t position);
  [[nodiscard]] sluice_service& service(uint32_t index);
  [[nodiscard]] sluice_backend& backend(uint32_t index);
  [[nodiscard]] sluice_egress& egress(uint32_t index);
  [[nodiscard]] sluice_peer& peer(uint32_t index);
  [[nodiscard]] sluice_proof proof(uint32_t index) const;
  [[nodiscard]] sluice_shares& shares(uint32_t index);  // 0: all; else a service's + 1

  // --- and in larger pieces
  // A service with one plane of 16 slots, over which the backends take turns. Its address is one that nobody here has.
  Service add_service(Endpoint end, uint8_t protocol, const std::vector<Backend>& backends, uint32_t flags = 0);
  // Planes of equal size, a power of two and at least 8; planes[p][s] is a position among the service's backends.
  // Switches.
  void set_planes(Service& service, const std::vector<std::vector<uint16_t>>& planes);
  void set_flags(const Service& service, uint32_t flags);
  // Lets nobody but these prefixes in; a prefix of the service's family.
  void allow_sources(const Service& service, const std::vector<std::pair<Address, uint32_t>>& prefixes);
  void set_backend(const Service& service, uint32_t position, const Backend& backend);
  // Where tunnelled packets find a backend on this node.
  void name_backend(const Service& service, uint32_t position);
  // It is none any more; its record stays as it is until another needs the place.
  void forget_backend(const Service& service, uint32_t position);
  void set_key(const Address& address, uint16_t port, uint8_t protocol, uint32_t value);
  void forget_key(const Address& address, uint16_t port, uint8_t protocol);
  void own(const Address& address, uint32_t ifindex, int64_t seconds_from_now, uint16_t vlan = 0);
  void own_until(const Address& address, uint32_t ifindex, uint64_t deadline, uint16_t vlan = 0);
  // The flow's hash, and its slot in a plane of this many slots.
  [[nodiscard]] static uint64_t hash(const Packet& packet);
  [[nodiscard]] static uint64_t affinity_hash(const Packet& packet);
  [[nodiscard]] static uint32_t slot(const Packet& packet, uint32_t slots) {
    return static_cast<uint32_t>(hash(packet)) & (slots - 1);
  }

  // --- what the kernel would do
  // XDP, once. Fails the test when right checksums went in and wrong ones came out, when a packet that is passed and
  // was not forwarded came out changed, or when it was not counted with one verdict, and one that fits what became of
  // it.
  Outcome receive(const Frame& frame);
  Outcome receive(const Packet& packet) { return receive(packet.frame()); }
  // tc egress. gso_segments > 1: as a packet that the device cuts.
  Outcome send(const Frame& frame, uint32_t gso_segments = 0);
  Outcome send(const Packet& packet) { return send(packet.frame()); }

  // --- what came of it
  // Packets; of what is forwarded the sum over backends, as the agent makes it.
  [[nodiscard]] uint64_t counted(sluice_reason reason) const { return count(reason).packets; }
  [[nodiscard]] uint64_t counted_bytes(sluice_reason reason) const { return count(reason).bytes; }
  // For a service, whatever the backend; and for one of its backends, SLUICE_NO_BACKEND_INDEX: before one was chosen.
  [[nodiscard]] uint64_t counted(const Service& service, sluice_reason reason) const;
  [[nodiscard]] uint64_t counted(uint32_t service, uint32_t backend, sluice_reason reason) const;
  [[nodiscard]] sluice_counters backend_counters(uint32_t index) const;
  [[nodiscard]] sluice_counters service_counters(const Service& service) const;  // the sum over its backends
  [[nodiscard]] std::vector<Flow> flows() const;
  [[nodiscard]] std::optional<Flow> flow(Endpoint backend, Endpoint source, uint8_t protocol, uint8_t kind) const;
  // Makes a record, in the place of one with the same tuple.
  void put_flow(const Flow& flow);
  void forget_flows();
  // Makes a record look as if its last packet had been that long ago.
  void age(Flow flow, uint64_t seconds);
  [[nodiscard]] uint32_t jiffies() const;
  [[nodiscard]] static uint32_t jiffies_per_second();
  [[nodiscard]] const sluice_bpf* skeleton() const;
  [[nodiscard]] const sluice_stack_bpf* stack() const;
  // Instructions that the verifier went through, all functions together, by program.
  [[nodiscard]] std::vector<std::pair<std::string, uint64_t>> verified_instructions() const;

 private:
  friend class Loaded;
  void write_defaults();
  uint64_t backend_key(const Service& service, uint32_t position);
  uint32_t place_key(uint64_t word, const sluice_key6* whole);
  [[nodiscard]] sluice_count count(sluice_reason reason) const;
  struct Verdicts {
    std::array<uint64_t, SLUICE_REASON_COUNT> reasons{};
    uint64_t by_backend = 0;  // forwarded or returned
    uint64_t rewritten = 0;   // changed and passed up
  };
  [[nodiscard]] Verdicts verdicts() const;
  static void expect_one_verdict(const Verdicts& before, const Verdicts& after, int action);

  std::shared_ptr<Loaded> loaded_;
  bool several_threads_;
  uint32_t next_service_ = 1, next_slot_ = 0, next_backend_ = 1, next_set_ = 1;
};

sluice_address element(const Address& address);
uint64_t mac_word(const Mac& mac);
uint64_t monotonic_now();  // ns

// Equal, byte by byte; a failure shows both in words and bytes.
::testing::AssertionResult same_frame(const Frame& actual, const Frame& expected);

// Most tests: a fresh dataplane each, one client, one service's address, in one family. Addresses are written as those
// of IPv4.
class DataplaneTest : public ::testing::Test {
 protected:
  explicit DataplaneTest(Family family = Family::ipv4, const Options& options = {})
      : family_(family), plane_(options) {}

  [[nodiscard]] bool ipv6() const { return family_ == Family::ipv6; }
  [[nodiscard]] Address here(const Address& address) const { return ipv6() ? address.in_ipv6() : address; }
  [[nodiscard]] Address address(const std::string& text) const { return here(Address::of(text)); }
  [[nodiscard]] Endpoint at(const std::string& text, uint16_t port) const { return {address(text), port}; }

  [[nodiscard]] Endpoint here(const Endpoint& end) const { return {here(end.address), end.port}; }
  [[nodiscard]] Packet here(const Packet& packet) const { return ipv6() ? packet.in_ipv6() : packet; }

  [[nodiscard]] Packet to_service(uint8_t flags = kAck) const {
    return Packet::tcp(client_, service_end_, flags).macs(kRouterMac, kLanMac);
  }
  [[nodiscard]] Packet udp_to_service() const { return Packet::udp(client_, service_end_).macs(kRouterMac, kLanMac); }
  [[nodiscard]] Backend nat_backend() const {
    return {.end = nat_end_, .forwarding = SLUICE_FORWARD_NAT, .egress = kCoreEgress, .mac = kBackendMac};
  }
  // Nat's i-th source for a flow that leaves by `core`.
  [[nodiscard]] Endpoint nat_source(const Packet& packet, uint32_t i = 0) const {
    return {address("10.9.0.1"), sluice_source_port(Dataplane::hash(packet), i, kNatFirst, kNatLast - kNatFirst + 1)};
  }
  // The only record there is; a failure if there are none or several.
  [[nodiscard]] Flow only_flow() const;

  const Family family_;
  Dataplane plane_;
  Endpoint client_ = at("198.51.100.7", 40001);
  Endpoint service_end_ = at("203.0.113.10", 80);
  Endpoint local_end_ = at("10.244.0.5", 8080);
  Endpoint nat_end_ = at("10.9.0.20", 8080);
};

inline std::string name_of(Family family) {
  return family == Family::ipv4 ? "Ipv4" : "Ipv6";
}
// Most rules hold for both forwardings that keep records, in both families.
struct Variant {
  uint8_t forwarding;
  Family family;
};
inline std::ostream& operator<<(std::ostream& out, const Variant& variant) {
  return out << (variant.forwarding == SLUICE_FORWARD_LOCAL ? "Local" : "Nat") << name_of(variant.family);
}
inline const auto kVariants =
    ::testing::Values(Variant{SLUICE_FORWARD_LOCAL, Family::ipv4}, Variant{SLUICE_FORWARD_NAT, Family::ipv4},
                      Variant{SLUICE_FORWARD_LOCAL, Family::ipv6}, Variant{SLUICE_FORWARD_NAT, Family::ipv6});
inline std::string variant_name(const ::testing::TestParamInfo<Variant>& info) {
  return ::testing::PrintToString(info.param);
}
inline const auto kFamilies = ::testing::Values(Family::ipv4, Family::ipv6);
inline std::string family_name(const ::testing::TestParamInfo<Family>& info) {
  return name_of(info.param);
}

}  // namespace sluice::packets
