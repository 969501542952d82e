// A service of the desired state as one node has it in its maps: keys, slots, backend records. Pure.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/state/desired_state.h"
#include "node-agent/dataplane/dataplane.h"

namespace sluice::agent::program {

// An interface that packets leave by.
struct Interface {
  dataplane::Mac mac{};
  uint16_t mtu = 0;  // bytes of IP packet; 0: not checked
  friend bool operator==(const Interface&, const Interface&) = default;
};

// Which ways packets take from this node.
struct Ways {
  dataplane::NextHops next_hops;             // by backend address
  std::map<uint32_t, Interface> interfaces;  // by ifindex
  friend bool operator==(const Ways&, const Ways&) = default;
};

// What does not change in a backend's record while a slot leads to it.
struct RecordIdentity {
  uint32_t address = 0;    // network order
  uint16_t port = 0;       // network order
  uint8_t forwarding = 0;  // SLUICE_FORWARD_...
  [[nodiscard]] bool same_backend(const RecordIdentity& other) const {
    return address == other.address && port == other.port;
  }
  friend auto operator<=>(const RecordIdentity&, const RecordIdentity&) = default;
};

struct Projection {
  std::vector<uint64_t> keys;  // ascending
  uint32_t flags = 0;          // SLUICE_SERVICE_...
  uint8_t log2 = 0;            // slots of one plane
  // Of 2^log2 slots each, indices into `backends` or SLUICE_NO_BACKEND; planes[0] is in force. Empty where no slot of
  // any plane has a backend.
  std::vector<std::vector<uint16_t>> planes;
  std::vector<RecordIdentity> backends;  // those that slots lead to, in the order of their first slot
};

// The reason why this node cannot do what the service asks for; nullopt where it can. Before anything of it is in the
// maps.
std::optional<std::string> not_supported(const state::Service& service);

// The service's keys, ascending. For supported services.
std::vector<uint64_t> keys_of(const state::Service& service);

// "192.0.2.10:80/TCP"
std::string key_text(uint64_t key);

// Where a backend's packets go: passed up on the machine that it runs on, translated elsewhere.
uint8_t forwarding_of(const state::Backend& backend, const std::string& node, const Ways& ways);

// For supported services. Fails (not_supported) where the service has more backends than slots can name.
Result<Projection> project(const state::Service& service, const std::string& node, const Ways& ways);

}  // namespace sluice::agent::program
