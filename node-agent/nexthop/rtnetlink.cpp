#include "node-agent/nexthop/rtnetlink.h"

#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "node-agent/nexthop/parse.h"

namespace sluice::agent::nexthop {
namespace {

constexpr int kEventBuffer = 4 << 20;  // bytes; a burst beyond it is noticed and everything read again
constexpr int kDumpAttempts = 4;       // what changes while it is listed is listed again

struct Release {
  void operator()(nl_msg* message) const { nlmsg_free(message); }
};
using Message = std::unique_ptr<nl_msg, Release>;
using OnMessage = std::function<void(nlmsghdr*)>;

tl::unexpected<Error> fail_netlink(int code, std::string operation, std::string object = {}) {
  return fail(ErrorKind::unavailable, std::move(operation), std::move(object), nl_geterror(code));
}

int family_of(const net::IpAddress& address) {
  return address.is_ipv4() ? AF_INET : AF_INET6;
}

int forward_message(nl_msg* message, void* argument) {
  (*static_cast<OnMessage*>(argument))(nlmsg_hdr(message));
  return NL_OK;
}

int keep_error(sockaddr_nl* /*from*/, nlmsgerr* error, void* argument) {
  *static_cast<int*>(argument) = -error->error;
  return NL_STOP;
}

// For the time of one question: who gets what is answered, and the kernel's errno, of which libnl's own codes keep
// less.
class Asking {
 public:
  Asking(nl_sock& socket, OnMessage on_message) : socket_(socket), on_message_(std::move(on_message)) {
    nl_socket_modify_cb(&socket_, NL_CB_VALID, NL_CB_CUSTOM, forward_message, &on_message_);
    nl_socket_modify_err_cb(&socket_, NL_CB_CUSTOM, keep_error, &error_);
  }
  Asking(const Asking&) = delete;
  Asking& operator=(const Asking&) = delete;
  ~Asking() {
    nl_socket_modify_cb(&socket_, NL_CB_VALID, NL_CB_DEFAULT, nullptr, nullptr);
    nl_socket_modify_err_cb(&socket_, NL_CB_DEFAULT, nullptr, nullptr);
  }
  // An errno; 0: none, or none that the kernel has sent.
  [[nodiscard]] int error() const { return error_; }

 private:
  nl_sock& socket_;
  OnMessage on_message_;
  int error_ = 0;
};

template <typename Head>
Message request(int type, int flags, const Head& head) {
  Message message(nlmsg_alloc_simple(type, flags));
  if (!message || nlmsg_append(message.get(), const_cast<Head*>(&head), sizeof head, NLMSG_ALIGNTO) < 0) return nullptr;
  return message;
}

// Both before and after the interruption `each` may have seen the same; what it fills is keyed.
Status dump(nl_sock& socket, nl_msg* question, const char* what, const OnMessage& each) {
  int code = -NLE_NOMEM;
  for (int attempt = 0; attempt < kDumpAttempts && question != nullptr; ++attempt) {
    // A message that was sent once has its number, which an answer must have too.
    nlmsg_hdr(question)->nlmsg_seq = NL_AUTO_SEQ;
    const Asking asking(socket, each);
    code = nl_send_auto(&socket, question);
    if (code >= 0) code = nl_recvmsgs_default(&socket);
    if (code != -NLE_DUMP_INTR) break;
  }
  if (code < 0) return fail_netlink(code, "list", what);
  return {};
}

struct RouteAnswer {
  std::optional<Route> route;
  std::string reason;  // with nullopt
};

RouteAnswer ask_route(nl_sock& socket, const net::IpAddress& address, unsigned flags) {
  rtmsg head{};
  head.rtm_family = static_cast<uint8_t>(family_of(address));
  head.rtm_dst_len = static_cast<uint8_t>(address.size() * 8);
  head.rtm_flags = flags;
  const Message question = request(RTM_GETROUTE, 0, head);
  if (!question || nla_put(question.get(), RTA_DST, static_cast<int>(address.size()), address.bytes().data()) < 0) {
    return {std::nullopt, "out of memory"};
  }
  RouteAnswer answer;
  const Asking asking(socket, [&](nlmsghdr* message) { answer.route = parse_route(message); });
  int code = nl_send_auto(&socket, question.get());
  if (code >= 0) code = nl_recvmsgs_default(&socket);
  if (code >= 0) code = nl_wait_for_ack(&socket);
  if (asking.error() != 0) {
    answer.reason = std::strerror(asking.error());
  } else if (code < 0) {
    answer.reason = nl_geterror(code);
  } else {
    answer.reason = "the kernel's answer is not understood";
  }
  if (code < 0) answer.route.reset();
  return answer;
}

bool is_link_local(const net::IpAddress& address) {
  return !address.is_ipv4() && address.bytes()[0] == 0xfe && (address.bytes()[1] & 0xc0) == 0x80;
}

}  // namespace

void SocketDeleter::operator()(nl_sock* socket) const {
  nl_socket_free(socket);
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
  static constexpr std::array<int, 10> kGroups = {
      RTNLGRP_LINK,        RTNLGRP_NEIGH,       RTNLGRP_NEXTHOP,    RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE,
      RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE,
      RTNLGRP_IPV6_IFINFO,  // a router may lower a link's MTU
  };
  for (const int group : kGroups) {
    const int joined = nl_socket_add_membership(socket->get(), group);
    // Next hop objects are of Linux 5.3.
    if (joined < 0 && group != RTNLGRP_NEXTHOP) return fail_netlink(joined, "follow", "rtnetlink");
  }
  if (const int code = nl_socket_set_nonblocking(socket->get()); code < 0)
    return fail_netlink(code, "follow", "rtnetlink");
  return socket;
}

Result<NetworkView> read_view(nl_sock& socket) {
  NetworkView view;
  const Message links = request(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{});
  if (links) nla_put_u32(links.get(), IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  auto read = dump(socket, links.get(), "links", [&](nlmsghdr* message) {
    if (auto link = parse_link(message)) view.links.insert_or_assign(link->index, std::move(*link));
  });
  if (!read) return tl::unexpected(read.error());
  const Message addresses = request(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{});
  read = dump(socket, addresses.get(), "addresses", [&](nlmsghdr* message) {
    if (const auto address = parse_address(message)) view.addresses.insert(*address);
  });
  if (!read) return tl::unexpected(read.error());
  for (const int family : {AF_INET, AF_INET6}) {
    rtmsg head{};
    head.rtm_family = static_cast<uint8_t>(family);
    const Message routes = request(RTM_GETROUTE, NLM_F_DUMP, head);
    read = dump(socket, routes.get(), "routes", [&](nlmsghdr* message) {
      for (const uint32_t device : parse_default_devices(message)) view.default_devices.insert(device);
    });
    if (!read) return tl::unexpected(read.error());
  }
  return view;
}

Result<std::map<NeighbourKey, Neighbour>> read_neighbours(nl_sock& socket) {
  std::map<NeighbourKey, Neighbour> neighbours;
  for (const int family : {AF_INET, AF_INET6}) {
    ndmsg head{};
    head.ndm_family = static_cast<uint8_t>(family);
    const Message question = request(RTM_GETNEIGH, NLM_F_DUMP, head);
    auto read = dump(socket, question.get(), "neighbours", [&](nlmsghdr* message) {
      if (const auto change = parse_neighbour(message)) neighbours.insert_or_assign(change->key, change->neighbour);
    });
    if (!read) return tl::unexpected(read.error());
  }
  return neighbours;
}

Route look_up_route(nl_sock& socket, const net::IpAddress& address) {
  Route none;
  if (is_link_local(address)) {
    none.reason = "a link-local address says nothing of the link";
    return none;
  }
  RouteAnswer answer = ask_route(socket, address, 0);
  if (!answer.route) {
    none.reason = std::move(answer.reason);
    return none;
  }
  Route route = std::move(*answer.route);
  if (route.mtu == 0) return route;
  // It may have been learnt from an ICMP error, be it a forged one. The route itself says what somebody has set.
  const RouteAnswer set = ask_route(socket, address, RTM_F_FIB_MATCH);
  route.mtu = set.route ? set.route->mtu : 0;
  return route;
}

Status solicit(nl_sock& socket, const NeighbourKey& key, bool keep) {
  ndmsg head{};
  head.ndm_family = static_cast<uint8_t>(family_of(key.address));
  head.ndm_ifindex = static_cast<int>(key.ifindex);
  head.ndm_flags = NTF_USE;
  // One that is not there has not to be let go, and would be asked for.
  const Message message = request(RTM_NEWNEIGH, keep ? NLM_F_CREATE | NLM_F_REPLACE : NLM_F_REPLACE, head);
  const auto size = static_cast<int>(key.address.size());
  if (!message || nla_put(message.get(), NDA_DST, size, key.address.bytes().data()) < 0 ||
      nla_put_u32(message.get(), NDA_FLAGS_EXT, keep ? NTF_EXT_MANAGED : 0) < 0) {
    return fail(ErrorKind::exhausted, "resolve neighbour", key.address.to_string(), "out of memory");
  }
  int code = nl_send_auto(&socket, message.get());
  if (code >= 0) code = nl_wait_for_ack(&socket);
  if (code < 0) return fail_netlink(code, "resolve neighbour", key.address.to_string());
  return {};
}

}  // namespace sluice::agent::nexthop
