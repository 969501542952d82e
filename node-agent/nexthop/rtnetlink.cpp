#include "node-agent/nexthop/rtnetlink.h"

#include <linux/if_arp.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/addr.h>
#include <netlink/cache.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <netlink/socket.h>

#include <array>
#include <cstring>
#include <string>
#include <tuple>
#include <utility>

namespace sluice::agent::nexthop {
namespace {

constexpr int kEventBuffer = 4 << 20;  // bytes; a burst beyond it is noticed and everything read again
constexpr uint32_t kMainTable = 254;

struct Release {
  void operator()(nl_cache* cache) const { nl_cache_free(cache); }
  void operator()(nl_addr* address) const { nl_addr_put(address); }
  void operator()(nl_msg* message) const { nlmsg_free(message); }
  void operator()(rtnl_route* route) const { rtnl_route_put(route); }
};
template <typename T>
using Owned = std::unique_ptr<T, Release>;

tl::unexpected<Error> fail_netlink(int code, std::string operation, std::string object = {}) {
  return fail(ErrorKind::unavailable, std::move(operation), std::move(object), nl_geterror(code));
}

std::optional<net::IpAddress> ipv4_of(nl_addr* address) {
  if (address == nullptr || nl_addr_get_family(address) != AF_INET || nl_addr_get_len(address) != 4)
    return std::nullopt;
  uint32_t word = 0;
  std::memcpy(&word, nl_addr_get_binary_addr(address), sizeof word);
  return net::IpAddress::from_ipv4(word);
}

template <typename Object, typename Each>
void for_each(nl_cache* cache, Each each) {
  for (nl_object* object = nl_cache_get_first(cache); object != nullptr; object = nl_cache_get_next(object)) {
    each(reinterpret_cast<Object*>(object));
  }
}

Link to_link(rtnl_link* link) {
  Link out;
  out.index = static_cast<uint32_t>(rtnl_link_get_ifindex(link));
  out.name = rtnl_link_get_name(link);
  if (const char* kind = rtnl_link_get_type(link); kind != nullptr) out.kind = kind;
  const unsigned flags = rtnl_link_get_flags(link);
  out.up = (flags & IFF_UP) != 0 && (flags & IFF_RUNNING) != 0;
  out.ethernet = rtnl_link_get_arptype(link) == ARPHRD_ETHER;
  out.mtu = rtnl_link_get_mtu(link);
  std::ignore = rtnl_link_get_carrier_changes(link, &out.carrier_changes);
  nl_addr* mac = rtnl_link_get_addr(link);
  if (mac != nullptr && nl_addr_get_len(mac) == out.mac.size()) {
    std::memcpy(out.mac.data(), nl_addr_get_binary_addr(mac), out.mac.size());
  }
  return out;
}

int forward_message(nl_msg* message, void* argument) {
  (*static_cast<std::function<void(nlmsghdr*)>*>(argument))(nlmsg_hdr(message));
  return NL_OK;
}

}  // namespace

void SocketDeleter::operator()(nl_sock* socket) const {
  nl_socket_free(socket);
}

std::optional<NeighbourChange> parse_neighbour(nlmsghdr* message) {
  std::array<nlattr*, NDA_MAX + 1> attributes{};
  if (nlmsg_parse(message, sizeof(ndmsg), attributes.data(), NDA_MAX, nullptr) < 0) return std::nullopt;
  const auto* head = static_cast<const ndmsg*>(nlmsg_data(message));
  const nlattr* destination = attributes[NDA_DST];
  if (head->ndm_family != AF_INET || destination == nullptr || nla_len(destination) != 4) return std::nullopt;
  NeighbourChange change;
  uint32_t word = 0;
  std::memcpy(&word, nla_data(destination), sizeof word);
  change.key = {static_cast<uint32_t>(head->ndm_ifindex), net::IpAddress::from_ipv4(word)};
  change.deleted = message->nlmsg_type == RTM_DELNEIGH;
  constexpr unsigned kValid = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;
  const nlattr* mac = attributes[NDA_LLADDR];
  if ((head->ndm_state & kValid) != 0 && mac != nullptr && nla_len(mac) == sizeof(dataplane::Mac)) {
    dataplane::Mac bytes{};
    std::memcpy(bytes.data(), nla_data(mac), bytes.size());
    change.neighbour.mac = bytes;
  }
  change.neighbour.failed = (head->ndm_state & NUD_FAILED) != 0;
  return change;
}

Result<Socket> connect_requests() {
  Socket socket(nl_socket_alloc());
  if (!socket) return fail(ErrorKind::exhausted, "open", "netlink", "out of memory");
  if (const int code = nl_connect(socket.get(), NETLINK_ROUTE); code < 0)
    return fail_netlink(code, "open", "rtnetlink");
  return socket;
}

Result<Socket> connect_events(std::function<void(nlmsghdr*)>* on_message) {
  auto socket = connect_requests();
  if (!socket) return socket;
  nl_socket_disable_seq_check(socket->get());
  nl_socket_modify_cb(socket->get(), NL_CB_VALID, NL_CB_CUSTOM, forward_message, on_message);
  nl_socket_set_buffer_size(socket->get(), kEventBuffer, 0);
  const int joined = nl_socket_add_memberships(socket->get(), RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR,
                                               RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_NONE);
  if (joined < 0) return fail_netlink(joined, "follow", "rtnetlink");
  if (const int code = nl_socket_set_nonblocking(socket->get()); code < 0)
    return fail_netlink(code, "follow", "rtnetlink");
  return socket;
}

Result<NetworkView> read_view(nl_sock& socket) {
  NetworkView view;
  nl_cache* cache = nullptr;
  if (const int code = rtnl_link_alloc_cache(&socket, AF_UNSPEC, &cache); code < 0)
    return fail_netlink(code, "list", "links");
  const Owned<nl_cache> links(cache);
  for_each<rtnl_link>(cache, [&](rtnl_link* link) {
    Link one = to_link(link);
    view.links.emplace(one.index, std::move(one));
  });
  if (const int code = rtnl_addr_alloc_cache(&socket, &cache); code < 0) return fail_netlink(code, "list", "addresses");
  const Owned<nl_cache> addresses(cache);
  for_each<rtnl_addr>(cache, [&](rtnl_addr* address) {
    if (const auto local = ipv4_of(rtnl_addr_get_local(address))) view.addresses.insert(*local);
  });
  if (const int code = rtnl_route_alloc_cache(&socket, AF_INET, 0, &cache); code < 0)
    return fail_netlink(code, "list", "routes");
  const Owned<nl_cache> routes(cache);
  for_each<rtnl_route>(cache, [&](rtnl_route* route) {
    if (rtnl_route_get_table(route) != kMainTable || rtnl_route_get_type(route) != RTN_UNICAST) return;
    nl_addr* destination = rtnl_route_get_dst(route);
    if (destination != nullptr && nl_addr_get_prefixlen(destination) != 0) return;
    for (int i = 0; i < rtnl_route_get_nnexthops(route); ++i) {
      view.default_devices.insert(static_cast<uint32_t>(rtnl_route_nh_get_ifindex(rtnl_route_nexthop_n(route, i))));
    }
  });
  return view;
}

Result<std::map<NeighbourKey, Neighbour>> read_neighbours(nl_sock& socket) {
  std::map<NeighbourKey, Neighbour> neighbours;
  std::function<void(nlmsghdr*)> collect = [&](nlmsghdr* message) {
    if (const auto change = parse_neighbour(message)) neighbours.insert_or_assign(change->key, change->neighbour);
  };
  nl_socket_modify_cb(&socket, NL_CB_VALID, NL_CB_CUSTOM, forward_message, &collect);
  ndmsg head{};
  head.ndm_family = AF_INET;
  int code = nl_send_simple(&socket, RTM_GETNEIGH, NLM_F_DUMP, &head, sizeof head);
  if (code >= 0) code = nl_recvmsgs_default(&socket);
  nl_socket_modify_cb(&socket, NL_CB_VALID, NL_CB_DEFAULT, nullptr, nullptr);
  if (code < 0) return fail_netlink(code, "list", "neighbours");
  return neighbours;
}

Route look_up_route(nl_sock& socket, const net::IpAddress& address) {
  Route out;
  const uint32_t word = address.ipv4();
  const Owned<nl_addr> destination(nl_addr_build(AF_INET, &word, sizeof word));
  rtnl_route* found = nullptr;
  if (const int code = rtnl_route_lookup(&socket, destination.get(), &found); code < 0) {
    out.reason = nl_geterror(code);
    return out;
  }
  const Owned<rtnl_route> route(found);
  const int type = rtnl_route_get_type(found);
  if (type == RTN_LOCAL) {
    out.kind = Route::Kind::local;
    return out;
  }
  rtnl_nexthop* hop = rtnl_route_nexthop_n(found, 0);
  if (type != RTN_UNICAST || hop == nullptr) {
    out.reason =
        type == RTN_BROADCAST || type == RTN_MULTICAST ? "it is no address of a single host" : "refused by a route";
    return out;
  }
  if (rtnl_route_nh_get_via(hop) != nullptr) {
    out.reason = "its gateway is no IPv4 address";
    return out;
  }
  out.kind = Route::Kind::unicast;
  out.ifindex = static_cast<uint32_t>(rtnl_route_nh_get_ifindex(hop));
  out.gateway = ipv4_of(rtnl_route_nh_get_gateway(hop));
  out.source = ipv4_of(rtnl_route_get_pref_src(found)).value_or(net::IpAddress());
  return out;
}

Status solicit(nl_sock& socket, const NeighbourKey& key, bool keep) {
  const Owned<nl_msg> message(nlmsg_alloc_simple(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE));
  ndmsg head{};
  head.ndm_family = AF_INET;
  head.ndm_ifindex = static_cast<int>(key.ifindex);
  head.ndm_flags = NTF_USE;
  const uint32_t word = key.address.ipv4();
  if (nlmsg_append(message.get(), &head, sizeof head, NLMSG_ALIGNTO) < 0 ||
      nla_put(message.get(), NDA_DST, sizeof word, &word) < 0 ||
      nla_put_u32(message.get(), NDA_FLAGS_EXT, keep ? NTF_EXT_MANAGED : 0) < 0) {
    return fail(ErrorKind::exhausted, "resolve neighbour", key.address.to_string(), "out of memory");
  }
  int code = nl_send_auto(&socket, message.get());
  if (code >= 0) code = nl_wait_for_ack(&socket);
  if (code < 0) return fail_netlink(code, "resolve neighbour", key.address.to_string());
  return {};
}

}  // namespace sluice::agent::nexthop
