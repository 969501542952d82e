// The real programs, loaded for one test over maps of its own, with helpers that write the maps in sluice.h's terms.
// What the agent does for a living is done here by hand and without it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bpf/sluice.h"
#include "tests/packets/network.h"
#include "tests/packets/packet_builder.h"

struct sluice_bpf;
struct bpf_map;

namespace sluice::packets {

class Dataplane;

struct Options {
  uint32_t interface = 0;  // 0: `lan`
  Mac mac = kLanMac;
  const Dataplane* maps_of = nullptr;  // use these maps, which are set up already
  uint32_t flow_entries = 4096;
  bool plain_flow_table = false;  // a hash that refuses instead of evicting: it can be full
};

struct Backend {
  Endpoint end;
  uint8_t forwarding = SLUICE_FORWARD_NAT;
  uint32_t egress = 0;  // index; 0: not resolved
  Mac mac{};
};
inline Backend local_backend(Endpoint end) {
  return {.end = end, .forwarding = SLUICE_FORWARD_LOCAL};
}

struct Service {
  uint32_t index = 0, first_slot = 0, first_backend = 0;
  Endpoint end;
  uint8_t protocol = kTcp;
  uint64_t word = 0;
};

struct Outcome {
  int action = 0;
  Frame frame;
};

using FlowEntry = std::pair<sluice_flow_key, sluice_flow>;

inline constexpr uint16_t kNatFirst = 20000, kNatLast = 29999;
inline constexpr uint32_t kLanEgress = 1, kCoreEgress = 2;
inline constexpr uint64_t kHashKey0 = 0x0123456789abcdefULL, kHashKey1 = 0xfedcba9876543210ULL;

class Dataplane {
 public:
  // Loads the programs for `lan`; throws std::runtime_error that names what is missing. The settings: hash key, nat's
  // ports, `lan` and `core` in `egress` with their addresses as nat sources.
  explicit Dataplane(const Options& options = {});
  ~Dataplane();
  Dataplane(const Dataplane&) = delete;
  Dataplane& operator=(const Dataplane&) = delete;

  // --- what the agent would write
  sluice_config& settings() { return settings_; }
  void write_settings();
  void set_egress(uint32_t index, const sluice_egress& value);
  // A service with one plane of 16 slots, over which the backends take turns.
  Service add_service(Endpoint end, uint8_t protocol, const std::vector<Backend>& backends, uint32_t flags = 0);
  // Planes of equal size, a power of two and at least 8; planes[p][s] is a position among the service's backends.
  // Switches.
  void set_planes(Service& service, const std::vector<std::vector<uint16_t>>& planes);
  void set_service(uint32_t index, const sluice_service& value);
  void set_backend(const Service& service, uint32_t position, const Backend& backend);
  void set_backend_record(uint32_t index, const sluice_backend& record);
  void set_key(uint32_t position, const sluice_service_key_entry& entry);
  void own(uint32_t address, uint32_t ifindex, int64_t seconds_from_now);
  void own_until(uint32_t address, uint32_t ifindex, const sluice_owned& value);
  // The flow's hash, and its slot in a plane of this many slots.
  [[nodiscard]] static uint64_t hash(const Packet& packet);
  [[nodiscard]] static uint32_t slot(const Packet& packet, uint32_t slots) {
    return static_cast<uint32_t>(hash(packet)) & (slots - 1);
  }

  // --- what the kernel would do
  // XDP, once. Fails the test when right checksums went in and wrong ones came out, or when a packet that is dropped or
  // counted as not ours came out changed.
  Outcome receive(const Frame& frame);
  Outcome receive(const Packet& packet) { return receive(packet.frame()); }
  // tc egress. gso_segments > 1: as a packet that the device cuts.
  Outcome send(const Frame& frame, uint32_t gso_segments = 0);
  Outcome send(const Packet& packet) { return send(packet.frame()); }

  // --- what came of it
  [[nodiscard]] uint64_t counted(sluice_reason reason) const;
  [[nodiscard]] uint64_t counted_bytes(sluice_reason reason) const;
  [[nodiscard]] uint64_t counted(const Service& service, sluice_reason reason) const;
  [[nodiscard]] sluice_counters service_counters(uint32_t index) const;
  [[nodiscard]] sluice_counters backend_counters(uint32_t index) const;
  [[nodiscard]] std::vector<FlowEntry> flows() const;
  [[nodiscard]] std::optional<sluice_flow> flow(Endpoint backend, Endpoint source, uint8_t protocol) const;
  void put_flow(const sluice_flow_key& key, const sluice_flow& value);
  void forget_flows();
  // Makes a record look as if its last packet had been that long ago.
  void age(const sluice_flow_key& key, uint64_t seconds);
  [[nodiscard]] sluice_bpf* skeleton() const { return skeleton_; }
  // Instructions that the verifier went through, all functions together.
  [[nodiscard]] uint64_t verified_instructions() const;

 private:
  void write_defaults();

  sluice_bpf* skeleton_ = nullptr;
  sluice_config settings_{};
  uint32_t next_service_ = 1, next_slot_ = 0, next_backend_ = 0;
};

sluice_flow_key flow_key(Endpoint backend, Endpoint source, uint8_t protocol);
uint64_t monotonic_now();  // ns

// Equal, byte by byte; a failure shows both in words and bytes.
::testing::AssertionResult same_frame(const Frame& actual, const Frame& expected);

// Most tests: a fresh dataplane each, one client, one service's address.
class DataplaneTest : public ::testing::Test {
 protected:
  explicit DataplaneTest(const Options& options = {}) : plane_(options) {}

  [[nodiscard]] Packet to_service(uint8_t flags = kAck) const {
    return Packet::tcp(client_, service_end_, flags).macs(kRouterMac, kLanMac);
  }
  [[nodiscard]] Packet udp_to_service() const { return Packet::udp(client_, service_end_).macs(kRouterMac, kLanMac); }
  [[nodiscard]] Backend nat_backend() const {
    return {.end = nat_end_, .forwarding = SLUICE_FORWARD_NAT, .egress = kCoreEgress, .mac = kBackendMac};
  }
  // The only record there is; a failure if there are none or several.
  [[nodiscard]] FlowEntry only_flow() const;

  Dataplane plane_;
  Endpoint client_ = at("198.51.100.7", 40001);
  Endpoint service_end_ = at("203.0.113.10", 80);
  Endpoint local_end_ = at("10.244.0.5", 8080);
  Endpoint nat_end_ = at("10.9.0.20", 8080);
};

}  // namespace sluice::packets
