// What a node remembers of flows: plain records in a map, without limits of room or time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>

#include "common/net/address.h"
#include "tests/model/scene.h"

namespace sluice::model {

// What keeps a flow. `pinned`: it is sent on untranslated, and stays where it was sent first.
enum class Keeps : uint8_t { local, nat, pinned };

// What a reply carries: from {backend, backend_port} to {source, source_port}. Pinned: the service's end in the
// backend's place.
struct Tuple {
  net::IpAddress backend;
  uint16_t backend_port = 0;
  net::IpAddress source;
  uint16_t source_port = 0;
  uint8_t protocol = 0;
  Keeps keeps = Keeps::local;
  friend auto operator<=>(const Tuple&, const Tuple&) = default;
};

struct Flow {
  // As the client sees it. Pinned: {client, client_port} is whom it is pinned to.
  net::IpAddress client, address;
  uint16_t client_port = 0, port = 0;
  std::string service;
  net::IpAddress backend;  // that it was last seen at
  uint16_t backend_port = 0;
  std::optional<Way> back;  // nat: to the client
  // Of its state.
  bool half_open = true;
  bool replied = false, client_fin = false, backend_fin = false, reset = false, syn_unanswered = false;
  uint32_t awaited = 0;  // half open, TCP: the acknowledgement that shows that the client has seen the last answer

  [[nodiscard]] bool closed() const { return reset || (client_fin && backend_fin); }
  [[nodiscard]] bool belongs_to(const net::IpAddress& from, uint16_t from_port, const net::IpAddress& to,
                                uint16_t to_port) const {
    return client == from && client_port == from_port && address == to && port == to_port;
  }
  // A packet of the client's, by its TCP flags (0: none). A reset that another packet follows was none.
  void client_spoke(uint8_t flags);
  void backend_spoke(uint8_t flags, uint32_t sequence);
  // Whether a packet of the client's shows that it has seen an answer: who only makes up addresses has not.
  [[nodiscard]] bool proved_by(uint8_t protocol, uint8_t flags, uint32_t acknowledged) const;
};

using Flows = std::map<Tuple, Flow>;

}  // namespace sluice::model
