#include "node-agent/nexthop/parse.h"

#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <array>
#include <cstring>

namespace sluice::agent::nexthop {
namespace {

constexpr uint32_t kMainTable = RT_TABLE_MAIN;

// The attributes of a message or of a nest, by type; the last of a type.
template <int Highest>
using Attributes = std::array<nlattr*, Highest + 1>;

template <typename Head, int Highest>
const Head* parse(const nlmsghdr* message, Attributes<Highest>& attributes) {
  attributes.fill(nullptr);
  // The libraries' parsers write nothing into the message, but take it so.
  auto* writable = const_cast<nlmsghdr*>(message);
  if (nlmsg_parse(writable, sizeof(Head), attributes.data(), Highest, nullptr) < 0) return nullptr;
  return static_cast<const Head*>(nlmsg_data(message));
}

template <int Highest>
Attributes<Highest> nested(nlattr* nest) {
  Attributes<Highest> attributes{};
  if (nest == nullptr || nla_parse_nested(attributes.data(), Highest, nest, nullptr) < 0) attributes.fill(nullptr);
  return attributes;
}

template <typename T>
T number(const nlattr* attribute, T otherwise = 0) {
  if (attribute == nullptr || nla_len(attribute) < static_cast<int>(sizeof(T))) return otherwise;
  T value{};
  std::memcpy(&value, nla_data(attribute), sizeof value);
  return value;
}

std::string text(const nlattr* attribute) {
  if (attribute == nullptr) return {};
  const auto* bytes = static_cast<const char*>(nla_data(attribute));
  return {bytes, strnlen(bytes, static_cast<size_t>(nla_len(attribute)))};
}

std::optional<dataplane::Mac> mac_of(const nlattr* attribute) {
  dataplane::Mac mac{};
  if (attribute == nullptr || nla_len(attribute) != static_cast<int>(mac.size())) return std::nullopt;
  std::memcpy(mac.data(), nla_data(attribute), mac.size());
  return mac;
}

std::optional<net::IpAddress> ip_of(int family, const void* bytes, int length) {
  if (family == AF_INET && length == 4) {
    uint32_t word = 0;
    std::memcpy(&word, bytes, sizeof word);
    return net::IpAddress::from_ipv4(word);
  }
  std::array<uint8_t, 16> whole{};
  if (family != AF_INET6 || length != static_cast<int>(whole.size())) return std::nullopt;
  std::memcpy(whole.data(), bytes, whole.size());
  return net::IpAddress::from_ipv6(whole);
}

std::optional<net::IpAddress> ip_of(int family, const nlattr* attribute) {
  if (attribute == nullptr) return std::nullopt;
  return ip_of(family, nla_data(attribute), nla_len(attribute));
}

// RTA_VIA: a gateway of another family than the route's.
std::optional<net::IpAddress> via_of(const nlattr* attribute) {
  if (attribute == nullptr || nla_len(attribute) < static_cast<int>(sizeof(rtvia))) return std::nullopt;
  const auto* via = static_cast<const rtvia*>(nla_data(attribute));
  const int length = nla_len(attribute) - static_cast<int>(offsetof(rtvia, rtvia_addr));
  return ip_of(via->rtvia_family, &via->rtvia_addr[0], length);
}

void add_vlan(Link& link, nlattr* data) {
  const auto vlan = nested<IFLA_VLAN_MAX>(data);
  if (vlan[IFLA_VLAN_ID] == nullptr) return;
  const auto in_order = number<uint16_t>(vlan[IFLA_VLAN_PROTOCOL], htons(ETH_P_8021Q));
  link.vlan = VlanTag{ntohs(in_order), number<uint16_t>(vlan[IFLA_VLAN_ID])};
}

uint32_t mtu_ipv6(nlattr* by_family) {
  const auto families = nested<AF_INET6>(by_family);
  const auto inet6 = nested<IFLA_INET6_MAX>(families[AF_INET6]);
  const nlattr* values = inet6[IFLA_INET6_CONF];  // an array of 32-bit words, by DEVCONF_
  constexpr int kEnd = static_cast<int>(sizeof(uint32_t)) * (DEVCONF_MTU6 + 1);
  if (values == nullptr || nla_len(values) < kEnd) return 0;
  uint32_t mtu = 0;
  std::memcpy(&mtu, static_cast<const char*>(nla_data(values)) + sizeof mtu * DEVCONF_MTU6, sizeof mtu);
  return mtu;
}

bool carries_attributes(const rtnexthop& hop) {
  return hop.rtnh_len > sizeof(rtnexthop);
}

// Calls `each(hop, gateway attributes)` for every next hop of a multipath route.
template <typename Each>
void for_each_hop(const nlattr* multipath, Each each) {
  if (multipath == nullptr) return;
  const auto* at = static_cast<const char*>(nla_data(multipath));
  int left = nla_len(multipath);
  while (left >= static_cast<int>(sizeof(rtnexthop))) {
    rtnexthop hop{};
    std::memcpy(&hop, at, sizeof hop);
    if (hop.rtnh_len < sizeof hop || hop.rtnh_len > left) return;
    Attributes<RTA_MAX> attributes{};
    if (carries_attributes(hop)) {
      auto* first = reinterpret_cast<nlattr*>(const_cast<char*>(at) + sizeof hop);
      const int length = hop.rtnh_len - static_cast<int>(sizeof hop);
      if (nla_parse(attributes.data(), RTA_MAX, first, length, nullptr) < 0) return;
    }
    each(hop, attributes);
    const int step = NLMSG_ALIGN(hop.rtnh_len);
    at += step;
    left -= step;
  }
}

void add_gateway(Route& route, int family, const Attributes<RTA_MAX>& attributes) {
  route.gateway = attributes[RTA_VIA] != nullptr ? via_of(attributes[RTA_VIA]) : ip_of(family, attributes[RTA_GATEWAY]);
  route.encapsulates = attributes[RTA_ENCAP] != nullptr;
}

const char* why_not(unsigned type) {
  switch (type) {
    case RTN_BROADCAST:
    case RTN_MULTICAST:
    case RTN_ANYCAST:
      return "it is no address of a single host";
    default:
      return "refused by a route";
  }
}

}  // namespace

std::optional<Link> parse_link(const nlmsghdr* message) {
  Attributes<IFLA_MAX> attributes{};
  if (message->nlmsg_type != RTM_NEWLINK) return std::nullopt;
  const auto* head = parse<ifinfomsg, IFLA_MAX>(message, attributes);
  if (head == nullptr || head->ifi_family != AF_UNSPEC) return std::nullopt;
  Link out;
  out.index = static_cast<uint32_t>(head->ifi_index);
  out.name = text(attributes[IFLA_IFNAME]);
  out.loopback = (head->ifi_flags & IFF_LOOPBACK) != 0;
  out.up = (head->ifi_flags & IFF_UP) != 0 && (head->ifi_flags & IFF_RUNNING) != 0;
  out.ethernet = head->ifi_type == ARPHRD_ETHER;
  out.mtu = number<uint32_t>(attributes[IFLA_MTU]);
  out.mtu_ipv6 = mtu_ipv6(attributes[IFLA_AF_SPEC]);
  out.carrier_changes = number<uint32_t>(attributes[IFLA_CARRIER_CHANGES]);
  out.master = number<uint32_t>(attributes[IFLA_MASTER]);
  out.mac = mac_of(attributes[IFLA_ADDRESS]).value_or(dataplane::Mac{});
  const auto info = nested<IFLA_INFO_MAX>(attributes[IFLA_LINKINFO]);
  out.kind = text(info[IFLA_INFO_KIND]);
  // A veth's peer is no device below it, and what lies in another namespace has an index of that.
  const bool stacked = out.kind == "vlan" || out.kind == "macvlan" || out.kind == "macvtap" || out.kind == "ipvlan";
  if (stacked && attributes[IFLA_LINK_NETNSID] == nullptr) out.parent = number<uint32_t>(attributes[IFLA_LINK]);
  if (out.kind == "vlan") add_vlan(out, info[IFLA_INFO_DATA]);
  return out;
}

std::optional<net::IpAddress> parse_address(const nlmsghdr* message) {
  Attributes<IFA_MAX> attributes{};
  if (message->nlmsg_type != RTM_NEWADDR) return std::nullopt;
  const auto* head = parse<ifaddrmsg, IFA_MAX>(message, attributes);
  if (head == nullptr) return std::nullopt;
  const auto flags = number<uint32_t>(attributes[IFA_FLAGS], head->ifa_flags);
  if ((flags & IFA_F_DADFAILED) != 0) return std::nullopt;
  // Of a point-to-point device, IFA_ADDRESS is the other end's.
  const nlattr* local = attributes[IFA_LOCAL] != nullptr ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
  return ip_of(head->ifa_family, local);
}

std::vector<uint32_t> parse_default_devices(const nlmsghdr* message) {
  Attributes<RTA_MAX> attributes{};
  if (message->nlmsg_type != RTM_NEWROUTE) return {};
  const auto* head = parse<rtmsg, RTA_MAX>(message, attributes);
  if (head == nullptr || (head->rtm_family != AF_INET && head->rtm_family != AF_INET6)) return {};
  const auto table = number<uint32_t>(attributes[RTA_TABLE], head->rtm_table);
  if (table != kMainTable || head->rtm_type != RTN_UNICAST || head->rtm_dst_len != 0) return {};
  if ((head->rtm_flags & RTM_F_CLONED) != 0) return {};
  std::vector<uint32_t> devices;
  if (const auto device = number<uint32_t>(attributes[RTA_OIF]); device != 0) devices.push_back(device);
  for_each_hop(attributes[RTA_MULTIPATH],
               [&](const rtnexthop& hop, const auto&) { devices.push_back(static_cast<uint32_t>(hop.rtnh_ifindex)); });
  return devices;
}

std::optional<Route> parse_route(const nlmsghdr* message) {
  Attributes<RTA_MAX> attributes{};
  if (message->nlmsg_type != RTM_NEWROUTE) return std::nullopt;
  const auto* head = parse<rtmsg, RTA_MAX>(message, attributes);
  if (head == nullptr || (head->rtm_family != AF_INET && head->rtm_family != AF_INET6)) return std::nullopt;
  Route out;
  out.ifindex = number<uint32_t>(attributes[RTA_OIF]);
  const auto metrics = nested<RTAX_MAX>(attributes[RTA_METRICS]);
  out.mtu = number<uint32_t>(metrics[RTAX_MTU]);
  if (head->rtm_type == RTN_LOCAL) {
    out.kind = Route::Kind::local;
    return out;
  }
  if (head->rtm_type != RTN_UNICAST) {
    out.reason = why_not(head->rtm_type);
    return out;
  }
  out.kind = Route::Kind::unicast;
  add_gateway(out, head->rtm_family, attributes);
  out.source = ip_of(head->rtm_family, attributes[RTA_PREFSRC]).value_or(net::IpAddress());
  bool first = out.ifindex == 0;
  for_each_hop(attributes[RTA_MULTIPATH], [&](const rtnexthop& hop, const auto& of_hop) {
    if (!std::exchange(first, false)) return;
    out.ifindex = static_cast<uint32_t>(hop.rtnh_ifindex);
    add_gateway(out, head->rtm_family, of_hop);
  });
  return out;
}

std::optional<NeighbourChange> parse_neighbour(const nlmsghdr* message) {
  if (message->nlmsg_type != RTM_NEWNEIGH && message->nlmsg_type != RTM_DELNEIGH) return std::nullopt;
  Attributes<NDA_MAX> attributes{};
  const auto* head = parse<ndmsg, NDA_MAX>(message, attributes);
  if (head == nullptr || (head->ndm_flags & NTF_PROXY) != 0) return std::nullopt;
  const auto address = ip_of(head->ndm_family, attributes[NDA_DST]);
  if (!address) return std::nullopt;
  NeighbourChange change;
  change.key = {static_cast<uint32_t>(head->ndm_ifindex), *address};
  change.deleted = message->nlmsg_type == RTM_DELNEIGH;
  constexpr unsigned kValid = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;
  if ((head->ndm_state & kValid) != 0) change.neighbour.mac = mac_of(attributes[NDA_LLADDR]);
  change.neighbour.failed = (head->ndm_state & NUD_FAILED) != 0;
  change.neighbour.fixed = (head->ndm_state & (NUD_PERMANENT | NUD_NOARP)) != 0;
  return change;
}

}  // namespace sluice::agent::nexthop
