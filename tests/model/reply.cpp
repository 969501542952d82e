// The model's packets from backends.
#include "tests/model/outcomes.h"

namespace sluice::model {

// To one of nat's source addresses and ports, from a backend. nullopt: no flow's.
std::optional<Outcome> Model::reply(const Bytes& frame, const Packet& packet) {
  const Scene& scene = prospect_.scene();
  if (packet.destination_port < scene.nat_first || packet.destination_port > scene.nat_last) return std::nullopt;
  const auto found = flows_.find({.backend = packet.source,
                                  .backend_port = packet.source_port,
                                  .source = packet.destination,
                                  .source_port = packet.destination_port,
                                  .protocol = packet.protocol,
                                  .keeps = Keeps::nat});
  if (found == flows_.end()) return std::nullopt;
  Flow& flow = found->second;
  expect_fragments(packet);
  if (!lengths_right(frame, packet)) return dropped("malformed");
  if (packet.hops <= 1) return dropped("ttl_exceeded");
  flow.backend_spoke(packet.flags, packet.sequence);
  if (!flow.back || prospect_.interface(flow.back->interface) == nullptr) return dropped("no_next_hop");
  if (!fits(*flow.back, packet.length)) return dropped("too_big");
  Bytes changed = frame;
  give_ends(changed, packet,
            {.source = flow.address,
             .destination = flow.client,
             .source_port = flow.port,
             .destination_port = flow.client_port});
  take_hop(changed, packet.v6);
  Outcome outcome = send(std::move(changed), *flow.back, packet.v6);
  outcome.forwarded = Forwarded{.service = flow.service,
                                .backend = flow.backend,
                                .port = flow.backend_port,
                                .how = Forwarded::How::returned,
                                .bytes = packet.length + kEthernet};
  return outcome;
}

// A local backend's reply gets its service's address and its client's port; everything else leaves as it is.
Outcome Model::leave(const Bytes& frame) {
  Outcome outcome{.verdict = Verdict::pass, .frame = frame};
  const uint16_t type = frame.size() < kEthernet ? 0 : get16(frame, 12);
  if (type != kTypeIpv4 && type != kTypeIpv6) return outcome;
  auto packet = read_any(frame, type == kTypeIpv6);
  if (!packet || !complete_fragment(*packet) || (packet->protocol != kTcp && packet->protocol != kUdp)) return outcome;
  const bool later = packet->part == Part::later;
  if (!later && packet->at + (packet->protocol == kTcp ? 20 : 8) > frame.size()) return outcome;
  const auto found = flows_.find({.backend = packet->source,
                                  .backend_port = packet->source_port,
                                  .source = packet->destination,
                                  .source_port = packet->destination_port,
                                  .protocol = packet->protocol,
                                  .keeps = Keeps::local});
  if (found == flows_.end()) return outcome;
  expect_fragments(*packet);
  Flow& flow = found->second;
  if (!later) flow.backend_spoke(packet->flags, packet->sequence);
  give_ends(outcome.frame, *packet,
            {.source = flow.address,
             .destination = packet->destination,
             .source_port = flow.port,
             .destination_port = flow.client_port});
  outcome.forwarded = Forwarded{.service = flow.service,
                                .backend = flow.backend,
                                .port = flow.backend_port,
                                .how = Forwarded::How::returned,
                                .bytes = frame.size()};
  return outcome;
}

}  // namespace sluice::model
