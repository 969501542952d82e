// A service of the desired state as one node has it in its maps: keys, slots, backend records. Pure.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/state/desired_state.h"
#include "node-agent/program/keys.h"
#include "node-agent/program/peer_table.h"
#include "node-agent/program/way_book.h"

namespace sluice::agent::program {

// What does not change in a backend's record while anything leads to it.
struct RecordIdentity {
  net::IpAddress address;
  uint16_t port = 0;       // network order
  uint8_t forwarding = 0;  // SLUICE_FORWARD_...
  [[nodiscard]] bool same_backend(const RecordIdentity& other) const {
    return address == other.address && port == other.port;
  }
  friend auto operator<=>(const RecordIdentity&, const RecordIdentity&) = default;
  friend bool operator==(const RecordIdentity&, const RecordIdentity&) = default;
};

// And what does.
struct RecordFlags {
  uint16_t peer = 0;  // index; with SLUICE_FORWARD_TUNNEL
  uint8_t flags = 0;  // SLUICE_BACKEND_...
  friend bool operator==(const RecordFlags&, const RecordFlags&) = default;
};

struct ProjectedBackend {
  RecordIdentity identity;
  RecordFlags flags;
  const dataplane::NextHop* way = nullptr;  // to its own address, where it is not on this node and the way is known
};

struct Projection {
  std::vector<WholeKey> keys;  // ascending by word
  uint32_t flags = 0;          // SLUICE_SERVICE_...
  uint32_t affinity = 0;       // seconds
  uint8_t log2 = 0;            // slots of one plane
  // Of 2^log2 slots each, indices into `backends` or SLUICE_NO_BACKEND; planes[0] is in force. Empty where there are no
  // backends.
  std::vector<std::vector<uint16_t>> planes;
  // Those that slots lead to, in the order of their first slot; then those on this node that have not joined yet and
  // that tunnels may lead to.
  std::vector<ProjectedBackend> backends;
};

// Where a service is seen from. Refers to what its owner keeps.
struct Standpoint {
  const std::string& node;
  bool tunnels = false;  // there are keys for them
  const WayBook& ways;
  const PeerTable& peers;
  const std::set<std::string>& nodes;  // all of the desired state
};

// The reason why no node can do what the service asks for; nullopt where it can. Before anything of it is in the maps.
std::optional<std::string> not_supported(const state::Service& service);

// The service's keys, ascending by word.
std::vector<WholeKey> keys_of(const state::Service& service);

// For supported services. Fails (not_supported) where the service has more backends than slots can name.
Result<Projection> project(const state::Service& service, const Standpoint& here);

// Whose clients the service is for, of its own family; nullopt: everybody's.
std::optional<std::vector<net::Prefix>> allowed_sources(const state::Service& service);

}  // namespace sluice::agent::program
