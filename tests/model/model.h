// What a node does with a packet, written from the design and the standards. It knows nothing of BPF, of maps, nor of
// how the product is made: it is the specification that the programs are held against.
//
// Time stands still here but for the limits on answers: whoever compares forgets the flows before anything in them
// would have aged.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "tests/model/flows.h"
#include "tests/model/hash.h"
#include "tests/model/packet.h"
#include "tests/model/scene.h"

namespace sluice::model {

enum class Verdict : uint8_t { pass, drop, transmit, redirect };
const char* to_string(Verdict verdict);

// A packet that was forwarded, and what it counts for.
struct Forwarded {
  enum class How : uint8_t { as_it_is_said, otherwise, returned };
  std::string service;
  net::IpAddress backend;
  uint16_t port = 0;
  How how = How::as_it_is_said;  // `otherwise`: not in the way that the backend's kind says
  size_t bytes = 0;              // of the Ethernet frame, as it came
};

struct Outcome {
  Verdict verdict = Verdict::drop;
  uint32_t interface = 0;            // transmit, redirect: that it leaves by
  Bytes frame;                       // not of a drop
  std::vector<std::string> reasons;  // that are counted beside forwarded packets, ascending
  std::optional<Forwarded> forwarded;
  bool made_flow = false;
  bool back = false;  // an answer: back where the packet came from, with the tags that it had
  // Answers are limited: whom this one goes to, and what is counted instead of sending it where it may not go.
  std::optional<net::IpAddress> answers;
  std::vector<std::string> if_silent;
};

class Model {
 public:
  explicit Model(Scene scene) : prospect_(std::move(scene)) {}

  // Another scene. Flows stay.
  void change(Scene scene) { prospect_ = Prospect(std::move(scene), &prospect_); }
  // What comes in by the ingress interface.
  Outcome receive(const Bytes& frame);
  // What the node's stack sends by an interface.
  Outcome leave(const Bytes& frame);

  // And fragments.
  void forget_flows() {
    flows_.clear();
    fragments_.clear();
  }
  [[nodiscard]] const Flows& flows() const { return flows_; }
  [[nodiscard]] const Prospect& prospect() const { return prospect_; }

 private:
  // A packet to a service, and what is known of it.
  struct Query {
    Packet packet;
    const Service* service = nullptr;
    uint64_t hash = 0;        // of the whole tuple
    uint64_t slot_hash = 0;   // the same or, with affinity, the client's
    uint64_t other_hash = 0;  // the one that it is not
    Mac from{};               // the station that sent it
  };
  // Where it may go.
  struct Aim {
    const Endpoint* endpoint = nullptr;
    Kind kind = Kind::local;  // by which it goes: not always the endpoint's
    std::optional<Way> way;
    net::IpAddress source;     // nat
    uint16_t source_port = 0;  // local, nat
  };
  struct Search {
    std::optional<Aim> found;
    bool proved = false;           // the record was half open, and the packet shows that the client is real
    std::optional<uint32_t> free;  // at the newest candidate: the first port that a new record could have
  };
  using Refused = std::string;

  Outcome receive_tagged(const Bytes& frame);
  Outcome receive_ip(const Bytes& frame, bool v6);
  Outcome control(const Bytes& frame, bool v6);
  Outcome icmp(const Bytes& frame, const Packet& packet);
  [[nodiscard]] Outcome echo(const Bytes& frame, const Packet& packet) const;
  Outcome not_a_service(const Bytes& frame, const Packet& packet);
  Outcome to_service(const Bytes& frame, const Packet& packet, const Service& service);
  Outcome forward(const Bytes& frame, const Query& query, const Aim& aim);
  std::optional<Outcome> reply(const Bytes& frame, const Packet& packet);

  using FragmentOf = std::tuple<net::IpAddress, net::IpAddress, uint32_t, uint8_t>;
  [[nodiscard]] static FragmentOf fragment_of(const Packet& packet);
  void expect_fragments(const Packet& packet);
  // Ports of a fragment: its own, or its first's. False: that has not been seen.
  bool complete_fragment(Packet& packet);
  [[nodiscard]] Query ask(const Bytes& frame, const Packet& packet, const Service& service) const;
  std::optional<Refused> find_or_make(const Query& query, Aim& aim, Outcome& outcome);
  std::optional<Refused> aim_at(const Query& query, size_t plane, uint64_t slot_hash, Aim& aim) const;
  Search search(const Query& query, uint64_t slot_hash, Outcome& outcome);
  bool search_at(const Query& query, Aim& aim, size_t plane, Search& search);
  std::optional<Refused> make(const Query& query, Aim& aim, std::optional<uint32_t> first_free, Outcome& outcome);
  std::optional<Refused> refused_by_way(const Query& query, const Aim& aim) const;
  [[nodiscard]] Tuple tuple_at(const Query& query, Aim& aim, uint32_t i) const;
  [[nodiscard]] bool fits(const Way& way, size_t length) const;
  Outcome send(Bytes frame, const Way& way, bool v6) const;

  [[nodiscard]] Outcome refuse(const Bytes& frame, const Packet& packet, const Refused& reason, size_t mtu = 0) const;
  [[nodiscard]] std::optional<Bytes> refusal(const Bytes& frame, const Refused& reason, size_t mtu, bool v6) const;

  Prospect prospect_;
  std::vector<uint16_t> vlans_;  // of the frame at hand
  Flows flows_;
  std::map<FragmentOf, std::tuple<uint16_t, uint16_t, uint8_t>> fragments_;  // ports and protocol
};

}  // namespace sluice::model
