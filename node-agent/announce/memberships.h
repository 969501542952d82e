// Being in multicast groups: the sockets that hold it.
//
// Joined as a listener of IPv6 would (IPV6_JOIN_GROUP), and not only in the interface's filter (PACKET_ADD_MEMBERSHIP),
// as the kernel then also sends MLD reports, without which a switch that snoops does not forward solicitations to this
// port. The filter alone is what is left where an interface has no IPv6 of its own (net.ipv6 off, an MTU below 1280).
//
// Rejected: the groups as addresses of the interface (ip address add ... autojoin), which would outlive this process
// but show up in everybody's lists of addresses. Without it the groups are left while no agent runs. Neighbours that
// know the address ask it alone, by unicast, so that only those that have never heard of it or have forgotten it have
// to wait.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/result.h"
#include "node-agent/announce/groups.h"

namespace sluice::agent::announce {

class Memberships {
 public:
  Memberships() = default;
  Memberships(const Memberships&) = delete;
  Memberships& operator=(const Memberships&) = delete;
  ~Memberships();  // leaves all

  // Is in these and only these groups from now on. Goes on past what fails, which the next call tries again, and joins
  // anew what the interface has lost since. The first failure.
  Status set(const std::set<Group>& wanted);

 private:
  struct Socket {
    int fd = -1;
    size_t groups = 0;
    bool full = false;  // it has refused one more
  };
  struct Held {
    size_t socket = 0;  // index into sockets_
    bool filter_only = false;
  };
  Status join(const Group& group);
  Status join_as_listener(const Group& group);
  Status join_filter(const Group& group);
  void leave(const Group& group, const Held& held);
  [[nodiscard]] std::set<Group> lost() const;

  std::vector<Socket> sockets_;  // of IPv6; a closed one keeps its place
  int filter_ = -1;              // packet socket
  std::map<Group, Held> held_;
};

}  // namespace sluice::agent::announce
