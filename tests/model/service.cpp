// The model's packets to services: which backend, and what is remembered.
#include <algorithm>

#include "tests/model/outcomes.h"

namespace sluice::model {
namespace {

bool allows(const Service& service, const net::IpAddress& client) {
  return !service.allowed || std::any_of(service.allowed->begin(), service.allowed->end(), [&](const net::Prefix& one) {
    return one.address.family() == client.family() && one.range().contains(client);
  });
}

bool has_records(Kind kind) {
  return kind == Kind::local || kind == Kind::nat;
}

}  // namespace

Outcome Model::to_service(const Bytes& frame, const Packet& packet, const Service& service) {
  if (!lengths_right(frame, packet)) return dropped("malformed");
  if (!allows(service, packet.source)) return dropped("source_not_allowed");
  expect_fragments(packet);
  Query query = ask(frame, packet, service);
  Outcome noted;
  Aim aim;
  if (const auto refused = find_or_make(query, aim, noted)) {
    Outcome outcome = refuse(frame, packet, *refused, aim.way ? prospect_.interface(aim.way->interface)->mtu : 0);
    for (auto* reasons : {&outcome.reasons, &outcome.if_silent})
      reasons->insert(reasons->end(), noted.reasons.begin(), noted.reasons.end());
    outcome.made_flow = noted.made_flow;
    return outcome;
  }
  Outcome outcome = forward(frame, query, aim);
  outcome.reasons.insert(outcome.reasons.end(), noted.reasons.begin(), noted.reasons.end());
  outcome.made_flow = noted.made_flow;
  return outcome;
}

Model::Query Model::ask(const Bytes& frame, const Packet& packet, const Service& service) const {
  const FlowEnds ends{packet.source, packet.destination, packet.source_port, packet.destination_port, packet.protocol};
  const HashKey& key = prospect_.scene().desired.flow_hash_key;
  Query query{.packet = packet, .service = &service, .hash = hash_by_flow(ends, key), .from = get_mac(frame, 6)};
  const uint64_t by_client = hash_by_client(ends, key);
  query.slot_hash = service.affinity ? by_client : query.hash;
  query.other_hash = !service.affinity_changed ? query.slot_hash : service.affinity ? query.hash : by_client;
  return query;
}

// The flow's record is searched for at all candidates of its slot, newest first; where there is none it begins at the
// newest. A connection that is under way may have begun before the service's affinity changed, when its slot was
// another.
std::optional<Model::Refused> Model::find_or_make(const Query& query, Aim& aim, Outcome& outcome) {
  Search search = this->search(query, query.slot_hash, outcome);
  const auto first_free = search.free;
  if (!search.found && query.packet.protocol == kTcp && query.other_hash != query.slot_hash)
    search = this->search(query, query.other_hash, outcome);
  if (search.found) {
    aim = *search.found;
    return refused_by_way(query, aim);
  }
  if (auto refused = aim_at(query, 0, query.slot_hash, aim)) return refused;
  if (auto refused = refused_by_way(query, aim)) return refused;
  return make(query, aim, first_free, outcome);
}

std::optional<Model::Refused> Model::aim_at(const Query& query, size_t plane, uint64_t slot_hash, Aim& aim) const {
  aim = {};
  const auto& planes = query.service->planes;
  const auto slot = planes.empty() ? std::nullopt : planes[plane][slot_hash & (planes[plane].size() - 1)];
  if (!slot) return "no_backend";
  aim.endpoint = &query.service->endpoints[*slot];
  aim.kind = aim.endpoint->kind;
  if (aim.kind == Kind::local) return std::nullopt;
  aim.way = prospect_.known_way(aim.endpoint->address);
  if (!aim.way) aim.way = prospect_.kernel_way(aim.endpoint->address, std::nullopt);
  if (!aim.way) return "no_next_hop";
  if (aim.kind != Kind::nat) return std::nullopt;
  const auto source = prospect_.nat_source(aim.endpoint->address, *aim.way);
  if (!source) return "no_next_hop";
  aim.source = *source;
  return std::nullopt;
}

std::optional<Model::Refused> Model::refused_by_way(const Query& query, const Aim& aim) const {
  if (aim.kind == Kind::local) return std::nullopt;
  if (query.packet.hops <= 1) return "ttl_exceeded";
  return fits(*aim.way, query.packet.length) ? std::nullopt : std::optional<Refused>("too_big");
}

Tuple Model::tuple_at(const Query& query, Aim& aim, uint32_t i) const {
  const Scene& scene = prospect_.scene();
  const bool nat = aim.kind == Kind::nat;
  aim.source_port = nat ? nat_port(query.hash, i, scene.nat_first, scene.nat_last - scene.nat_first + 1U)
                        : local_port(query.hash, i, query.packet.source_port);
  return {.backend = aim.endpoint->address,
          .backend_port = aim.endpoint->port,
          .source = nat ? aim.source : query.packet.source,
          .source_port = aim.source_port,
          .protocol = query.packet.protocol,
          .keeps = nat ? Keeps::nat : Keeps::local};
}

Model::Search Model::search(const Query& query, uint64_t slot_hash, Outcome& outcome) {
  Search search;
  for (size_t plane = 0; plane < query.service->planes.size(); ++plane) {
    Aim aim;
    if (aim_at(query, plane, slot_hash, aim) || !has_records(aim.kind)) continue;
    if (!search_at(query, aim, plane, search)) continue;
    if (plane != 0) outcome.reasons.emplace_back("from_history");
    search.found = aim;
    break;
  }
  return search;
}

// Whether the flow's record is at one candidate, under any port that the flow may have there. A connection that is over
// leaves its record to the next.
bool Model::search_at(const Query& query, Aim& aim, size_t plane, Search& search) {
  const Packet& packet = query.packet;
  const bool syn = packet.protocol == kTcp && begins(packet.flags);
  for (uint32_t i = 0; i < (aim.kind == Kind::nat ? kNatTries : kLocalTries); ++i) {
    const Tuple tuple = tuple_at(query, aim, i);
    const auto found = flows_.find(tuple);
    const auto is_free = [&] {
      if (plane == 0 && !search.free) search.free = i;
    };
    if (found == flows_.end()) {
      is_free();
      continue;
    }
    Flow& flow = found->second;
    if (!flow.belongs_to(packet.source, packet.source_port, packet.destination, packet.destination_port)) continue;
    // At an earlier candidate. Datagrams have no connection to lose: they move as soon as their backend has left. A SYN
    // moves where the connection is over, or was never answered; a live one it does not move.
    if (plane != 0 && ((packet.protocol != kTcp && aim.endpoint->left) || (syn && (flow.closed() || !flow.replied)))) {
      flows_.erase(found);
      return false;
    }
    if (plane != 0 && syn) flow.syn_unanswered = true;
    if (syn && flow.closed()) {
      flows_.erase(found);
      is_free();
      continue;
    }
    flow.client_spoke(packet.flags);
    flow.service = query.service->id;
    flow.backend = aim.endpoint->address;
    flow.backend_port = aim.endpoint->port;
    if (flow.half_open && flow.proved_by(packet.protocol, packet.flags, packet.acknowledged)) flow.half_open = false;
    return true;
  }
  return false;
}

std::optional<Model::Refused> Model::make(const Query& query, Aim& aim, std::optional<uint32_t> first_free,
                                          Outcome& outcome) {
  const Packet& packet = query.packet;
  const uint32_t tries = aim.kind == Kind::nat ? kNatTries : kLocalTries;
  for (uint32_t i = first_free.value_or(tries); i < tries; ++i) {
    const Tuple tuple = tuple_at(query, aim, i);
    if (flows_.contains(tuple)) continue;
    Flow flow{.client = packet.source,
              .address = packet.destination,
              .client_port = packet.source_port,
              .port = packet.destination_port,
              .service = query.service->id,
              .backend = aim.endpoint->address,
              .backend_port = aim.endpoint->port};
    flow.client_spoke(packet.flags);
    if (aim.kind == Kind::nat) {
      const auto here = prospect_.arrival(vlans_);
      flow.back = prospect_.kernel_way(packet.source, here ? std::optional(Way{*here, query.from}) : std::nullopt);
    }
    flows_.emplace(tuple, flow);
    outcome.made_flow = true;
    if (i != 0) outcome.reasons.emplace_back("port_changed");
    if (packet.protocol == kTcp && !begins(packet.flags)) outcome.reasons.emplace_back("taken_up");
    return std::nullopt;
  }
  return "ports_exhausted";
}

Outcome Model::forward(const Bytes& frame, const Query& query, const Aim& aim) {
  const Packet& packet = query.packet;
  Bytes changed = frame;
  Outcome outcome;
  give_ends(changed, packet,
            {.source = aim.kind == Kind::nat ? aim.source : packet.source,
             .destination = aim.endpoint->address,
             .source_port = aim.source_port,
             .destination_port = aim.endpoint->port});
  if (aim.kind == Kind::nat) {
    take_hop(changed, packet.v6);
    outcome = send(std::move(changed), *aim.way, packet.v6);
  } else {
    outcome.verdict = Verdict::pass;
    outcome.frame = std::move(changed);
  }
  outcome.forwarded =
      Forwarded{.service = query.service->id,
                .backend = aim.endpoint->address,
                .port = aim.endpoint->port,
                .how = aim.kind == aim.endpoint->kind ? Forwarded::How::as_it_is_said : Forwarded::How::otherwise,
                .bytes = packet.length + kEthernet};
  return outcome;
}

}  // namespace sluice::model
