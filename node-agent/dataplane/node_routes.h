// Rules and routes that lead services' addresses into the node link. Internal to dataplane/.
//
// A table of our own, which a rule asks before the main one, has a route for each address. A second rule, asked before
// it, ends what the programs let pass on the far end: it would be led in again.
#pragma once

#include "node-agent/dataplane/node_link.h"
#include "node-agent/dataplane/route_socket.h"

namespace sluice::agent::dataplane {

inline constexpr uint32_t kNodeLinkTable = 6082;
// Of rules and routes: who has made them (rtnetlink's protocol number).
inline constexpr uint8_t kNodeLinkProtocol = 82;
inline constexpr uint32_t kEndRule = 6081, kLeadRule = 6082;  // priorities

Status remove_node_routes(RouteSocket& socket);

}  // namespace sluice::agent::dataplane
