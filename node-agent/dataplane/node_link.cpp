#include "node-agent/dataplane/node_link.h"

#include <net/if.h>
// libc's before the kernel's, which then leaves out what libc has.
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

#include "node-agent/dataplane/fd.h"
#include "node-agent/dataplane/node_routes.h"
#include "node-agent/dataplane/route_socket.h"

namespace sluice::agent::dataplane {
namespace {

constexpr const char* kMake = "make the node link";
// Of both ends: a frame into the near end is addressed to itself (a device without ARP), and so to the far end.
constexpr Mac kMac = {0x02, 0x51, 0xc3, 0xa7, 0x0d, 0x01};
constexpr std::string_view kAlias = "sluice-agent: leads this machine's own clients to the XDP programs";
constexpr uint32_t kFlags = IFF_UP | IFF_NOARP;

constexpr const char* kSources[] = {"169.254.82.2", "fd00:5182::2"};

struct End {
  uint32_t ifindex = 0, peer = 0, mtu = 0, flags = 0;
  Mac mac{};
  std::string kind, alias;
  bool makes_addresses = true;  // link-local ones, of IPv6
};

ifinfomsg head_of(uint32_t ifindex = 0) {
  ifinfomsg head{};
  head.ifi_family = AF_UNSPEC;
  head.ifi_index = static_cast<int>(ifindex);
  return head;
}

const rtattr* inside(const rtattr* attribute, uint16_t type) {
  if (attribute == nullptr) return nullptr;
  const auto* first = reinterpret_cast<const uint8_t*>(attribute) + RTA_LENGTH(0);
  return attributes(first, attribute->rta_len - RTA_LENGTH(0), type)[type];
}

End parse(const nlmsghdr* message) {
  const auto found = attributes_of<ifinfomsg>(message, IFLA_MAX);
  const auto* head = static_cast<const ifinfomsg*>(NLMSG_DATA(message));
  End end;
  end.ifindex = static_cast<uint32_t>(head->ifi_index);
  end.flags = head->ifi_flags;
  end.peer = number_in(found[IFLA_LINK]);
  end.mtu = number_in(found[IFLA_MTU]);
  end.alias = text_in(found[IFLA_IFALIAS]);
  end.kind = text_in(inside(found[IFLA_LINKINFO], IFLA_INFO_KIND));
  if (found[IFLA_ADDRESS] != nullptr && found[IFLA_ADDRESS]->rta_len >= RTA_LENGTH(end.mac.size())) {
    std::memcpy(end.mac.data(), reinterpret_cast<const uint8_t*>(found[IFLA_ADDRESS]) + RTA_LENGTH(0), end.mac.size());
  }
  const rtattr* ipv6 = inside(found[IFLA_AF_SPEC], AF_INET6);
  const rtattr* mode = inside(ipv6, IFLA_INET6_ADDR_GEN_MODE);
  end.makes_addresses =
      ipv6 != nullptr &&
      (mode == nullptr || *(reinterpret_cast<const uint8_t*>(mode) + RTA_LENGTH(0)) != IN6_ADDR_GEN_MODE_NONE);
  return end;
}

Result<std::optional<End>> look_up(RouteSocket& socket, const char* name) {
  RouteMessage question(RTM_GETLINK, 0, head_of());
  question.put(IFLA_IFNAME, std::string_view(name));
  question.put(IFLA_EXT_MASK, uint32_t{RTEXT_FILTER_SKIP_STATS});
  std::optional<End> end;
  const auto code = socket.ask(std::move(question), [&end](const nlmsghdr* message) { end = parse(message); });
  if (!code) return tl::unexpected(code.error());
  if (*code != 0 && *code != ENODEV) return fail_errno(*code, "look up interface", name);
  return end;
}

Status done(const Result<int>& code, const char* operation, const std::string& object) {
  if (!code) return tl::unexpected(code.error());
  return *code == 0 ? Status() : fail_errno(*code, operation, object);
}

void describe(RouteMessage& message, const char* name, uint16_t mtu) {
  message.put(IFLA_IFNAME, std::string_view(name));
  message.put(IFLA_ADDRESS, kMac.data(), kMac.size());
  message.put(IFLA_MTU, uint32_t{mtu});
}

RouteMessage creation(uint16_t mtu, uint32_t near, uint32_t far) {
  RouteMessage message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, head_of(near));
  describe(message, kNodeLinkNear, mtu);
  message.nest(IFLA_LINKINFO, [&] {
    message.put(IFLA_INFO_KIND, std::string_view("veth"));
    message.nest(IFLA_INFO_DATA, [&] {
      const ifinfomsg peer = head_of(far);
      message.nest(
          VETH_INFO_PEER, [&] { describe(message, kNodeLinkFar, mtu); }, &peer, sizeof peer);
    });
  });
  return message;
}

Status make(RouteSocket& socket, uint16_t mtu, const NodeLink* before) {
  if (before != nullptr && before->near != 0) {
    const auto code = socket.tell(creation(mtu, before->near, before->far));
    if (!code || *code == 0) return done(code, kMake, kNodeLinkNear);
  }
  return done(socket.tell(creation(mtu, 0, 0)), kMake, kNodeLinkNear);
}

// Puts right what differs of one end.
Status mend(RouteSocket& socket, const End& end, const char* name, uint16_t mtu) {
  if (end.makes_addresses) {
    // Before it is up. Where this kernel has no IPv6 there is nothing to keep from it.
    RouteMessage quiet(RTM_SETLINK, 0, head_of(end.ifindex));
    quiet.nest(IFLA_AF_SPEC, [&] {
      quiet.nest(AF_INET6, [&] { quiet.put(IFLA_INET6_ADDR_GEN_MODE, uint8_t{IN6_ADDR_GEN_MODE_NONE}); });
    });
    const auto code = socket.tell(std::move(quiet));
    if (!code) return tl::unexpected(code.error());
  }
  const bool same = (end.flags & kFlags) == kFlags && end.mac == kMac && end.mtu == mtu && end.alias == kAlias;
  if (same) return {};
  ifinfomsg head = head_of(end.ifindex);
  head.ifi_flags = kFlags;
  head.ifi_change = kFlags;
  RouteMessage settings(RTM_SETLINK, 0, head);
  settings.put(IFLA_ADDRESS, kMac.data(), kMac.size());
  settings.put(IFLA_MTU, uint32_t{mtu});
  settings.put(IFLA_IFALIAS, kAlias.data(), kAlias.size());
  return done(socket.tell(std::move(settings)), "set up", name);
}

// XDP sees packets as their sender leaves them, so what the near end sends has to be finished: checksums, and with them
// segments. What comes back to it by XDP from a network card is taken in only where GRO is on.
Status set_offloads(const char* name) {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno, "set the offloads of", name);
  const struct {
    uint32_t get, set, value;
  } wanted[] = {{ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM, 0}, {ETHTOOL_GGRO, ETHTOOL_SGRO, 1}};
  for (const auto& one : wanted) {
    ifreq request{};
    std::string_view(name).copy(request.ifr_name, sizeof request.ifr_name - 1);
    ethtool_value value{one.get, 0};
    request.ifr_data = reinterpret_cast<char*>(&value);
    if (ioctl(socket.get(), SIOCETHTOOL, &request) == 0 && (value.data != 0) == (one.value != 0)) continue;
    value = {one.set, one.value};
    if (ioctl(socket.get(), SIOCETHTOOL, &request) != 0) return fail_errno(errno, "set the offloads of", name);
  }
  return {};
}

tl::unexpected<Error> foreign(const char* name) {
  return fail(ErrorKind::conflict, kMake, name, "a device of that name is there and is not Sluice's: rename it");
}

// Both or none. Foreign devices of such names are a conflict.
Result<std::optional<std::pair<End, End>>> find(RouteSocket& socket) {
  const auto near = look_up(socket, kNodeLinkNear);
  if (!near) return tl::unexpected(near.error());
  const auto far = look_up(socket, kNodeLinkFar);
  if (!far) return tl::unexpected(far.error());
  if (!*near && !*far) return std::optional<std::pair<End, End>>();
  const bool ours = *near && *far && (*near)->kind == "veth" && (*far)->kind == "veth" &&
                    (*near)->peer == (*far)->ifindex && (*far)->peer == (*near)->ifindex;
  if (!ours) return foreign(*near ? kNodeLinkNear : kNodeLinkFar);
  return std::optional(std::pair(**near, **far));
}

}  // namespace

Result<NodeLink> keep_node_link(uint16_t mtu, const NodeLink* before) {
  auto socket = RouteSocket::open();
  if (!socket) return tl::unexpected(socket.error());
  auto ends = find(*socket);
  if (!ends) return tl::unexpected(ends.error());
  if (!*ends) {
    if (Status made = make(*socket, mtu, before); !made) return tl::unexpected(made.error());
    ends = find(*socket);
    if (!ends) return tl::unexpected(ends.error());
    if (!*ends) return fail(ErrorKind::unavailable, kMake, kNodeLinkNear, "it went as it came");
  }
  const auto& [near, far] = **ends;
  if (Status set = mend(*socket, near, kNodeLinkNear, mtu); !set) return tl::unexpected(set.error());
  if (Status set = mend(*socket, far, kNodeLinkFar, mtu); !set) return tl::unexpected(set.error());
  if (Status set = set_offloads(kNodeLinkNear); !set) return tl::unexpected(set.error());
  NodeLink link{near.ifindex, far.ifindex, kMac, mtu, {}};
  for (const char* source : kSources) link.sources.push_back(net::IpAddress::parse(source).value());
  return link;
}

Status remove_node_link() {
  auto socket = RouteSocket::open();
  if (!socket) return tl::unexpected(socket.error());
  if (Status gone = remove_node_routes(*socket); !gone) return gone;
  const auto ends = find(*socket);
  // What is not ours stays.
  if (!ends) return ends.error().kind == ErrorKind::conflict ? Status() : tl::unexpected(ends.error());
  if (!*ends || (*ends)->first.alias != kAlias) return {};
  const auto code = socket->tell(RouteMessage(RTM_DELLINK, 0, head_of((*ends)->first.ifindex)));
  return code && *code == ENODEV ? Status() : done(code, "remove the node link", kNodeLinkNear);
}

}  // namespace sluice::agent::dataplane
