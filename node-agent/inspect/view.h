// What an agent knows at one moment, and what of it people ask for, as JSON: the answers of its local socket, which
// sluicectl shows. Fields may be added; these keep name and meaning. Pure.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/state/desired_state.h"
#include "node-agent/health/facts.h"
#include "node-agent/nexthop/ways.h"

namespace sluice::agent::inspect {

using Json = nlohmann::json;

struct View {
  const std::string& node;
  const state::DesiredState* state;  // nullptr: there is none
  const health::Facts& facts;
  const nexthop::Ways& ways;
  const nexthop::NetworkView& network;
  std::vector<dataplane::BackendRecord> records;  // as they stand in the maps, ascending by service
  std::vector<tunnel::TunnelFact> tunnels;        // of this moment
  tunnel::Clock::time_point now;
};

// {node, revision, services: [{service, frontends: [ADDRESS:PORT], protocol, forwarding, trafficPolicy, failure?,
//   backends: [{address, node?, group, weight, share, state, way, reason?, nextHop?, mtu?}]}]}
// share: of the new flows that this node places, 0 to 1. state: ready, joining, draining. way: local, tunnel, nat,
// direct, ipip; none: it has no record (yet). reason: why this way and not the one before it, where that is not what
// the service asks for. nextHop: {device, gateway?, mac?}, or {why} where there is none. mtu: bytes of the client's
// packet that fit the way. Services ascending by id; backends in the state's order.
Json backends(const View& view);

// {node, tunnels: [{node, address, port, proved, sinceSeconds?, lastProofSeconds?, key, mtu, fits: {ipv4, ipv6},
// why?}]} Those that this node sends through. mtu: of outer IP packets, fits: of packets inside, in bytes; 0: none are
// known to get through. The times are ages. key: the id of the one that our packets carry a token of.
Json tunnels(const View& view);

// {node, services: [{service, backends: [{address, node?, way, flows, counted}]}]}
// Leaving backends: in the choice no more, but records lead to them. flows: live ones whose record is on this node.
// counted: "here": that is all of them that this node has placed; "there": those through the tunnel have their records
// on the backend's node, and are counted there; "idle": flows that need no translation, seen within the idle time.
Json drains(const View& view);

}  // namespace sluice::agent::inspect
