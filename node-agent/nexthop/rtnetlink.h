// Questions to and orders for the kernel over rtnetlink, by libnl. Internal to nexthop/.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "common/result.h"
#include "node-agent/nexthop/ways.h"

struct nl_sock;
struct nlmsghdr;

namespace sluice::agent::nexthop {

struct SocketDeleter {
  void operator()(nl_sock* socket) const;
};
using Socket = std::unique_ptr<nl_sock, SocketDeleter>;

Result<Socket> connect_requests();
// Non-blocking; joined to the groups of links, neighbours, next hop objects, and both families' addresses, routes and
// rules. `on_message` gets each message.
Result<Socket> connect_events(std::function<void(nlmsghdr*)>* on_message);

Result<NetworkView> read_view(nl_sock& socket);
Result<std::map<NeighbourKey, Neighbour>> read_neighbours(nl_sock& socket);
Route look_up_route(nl_sock& socket, const net::IpAddress& address);
// Makes the kernel resolve this neighbour now; `keep`: and from now on by itself (NTF_EXT_MANAGED, Linux 5.16), else no
// more.
Status solicit(nl_sock& socket, const NeighbourKey& key, bool keep);

}  // namespace sluice::agent::nexthop
