// rtnetlink messages as values: written as the kernel writes them, of devices that not every kernel has.
#include "node-agent/nexthop/parse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <cstring>
#include <memory>

namespace sluice::agent::nexthop {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

net::IpAddress ip(const char* text) {
  return net::IpAddress::parse(text).value();
}
constexpr dataplane::Mac kMac = {2, 0, 0, 0, 0, 9};

class Message {
 public:
  template <typename Head>
  Message(int type, Head head) : message_(nlmsg_alloc_simple(type, 0)) {
    EXPECT_EQ(nlmsg_append(message_.get(), &head, sizeof head, NLMSG_ALIGNTO), 0);
  }
  Message& put(int type, const net::IpAddress& address) { return put(type, address.bytes().data(), address.size()); }
  Message& put(int type, const dataplane::Mac& mac) { return put(type, mac.data(), mac.size()); }
  Message& put(int type, const char* text) { return put(type, text, std::strlen(text) + 1); }
  template <std::unsigned_integral T>
  Message& put(int type, T value) {
    return put(type, &value, sizeof value);
  }
  Message& put(int type, const void* bytes, size_t size) {
    EXPECT_EQ(nla_put(message_.get(), type, static_cast<int>(size), bytes), 0);
    return *this;
  }
  // Attributes from here to `end` are in a nest.
  Message& begin(int type) {
    nests_.push_back(nla_nest_start(message_.get(), type));
    return *this;
  }
  Message& end() {
    nla_nest_end(message_.get(), nests_.back());
    nests_.pop_back();
    return *this;
  }
  [[nodiscard]] const nlmsghdr* get() const { return nlmsg_hdr(message_.get()); }

 private:
  struct Free {
    void operator()(nl_msg* message) const { nlmsg_free(message); }
  };
  std::unique_ptr<nl_msg, Free> message_;
  std::vector<nlattr*> nests_;
};

ifinfomsg link_head(int index = 7) {
  ifinfomsg head{};
  head.ifi_type = ARPHRD_ETHER;
  head.ifi_index = index;
  head.ifi_flags = IFF_UP | IFF_RUNNING;
  return head;
}

rtmsg route_head(int family, uint8_t type = RTN_UNICAST, uint8_t length = 0) {
  rtmsg head{};
  head.rtm_family = static_cast<uint8_t>(family);
  head.rtm_type = type;
  head.rtm_table = RT_TABLE_MAIN;
  head.rtm_dst_len = length;
  return head;
}

TEST(ParseLink, WhatWaysNeedOfAPlainDevice) {
  Message message(RTM_NEWLINK, link_head());
  message.put(IFLA_IFNAME, "eth0").put(IFLA_ADDRESS, kMac).put(IFLA_MTU, 9000U).put(IFLA_MASTER, 3U);
  message.put(IFLA_CARRIER_CHANGES, 5U);
  const auto link = parse_link(message.get());
  ASSERT_TRUE(link);
  Link wanted{7, "eth0", "", kMac, true, true, 5, 9000};
  wanted.master = 3;
  EXPECT_EQ(*link, wanted);
}

TEST(ParseLink, VlanDevicesSayTheirTagAndWhatTheyLieOn) {
  struct Row {
    uint16_t protocol;
    VlanTag wanted;
  };
  for (const Row& row : {Row{ETH_P_8021Q, {0x8100, 20}}, Row{ETH_P_8021AD, {0x88a8, 20}}}) {
    Message message(RTM_NEWLINK, link_head());
    message.put(IFLA_LINK, 2U).begin(IFLA_LINKINFO).put(IFLA_INFO_KIND, "vlan").begin(IFLA_INFO_DATA);
    message.put(IFLA_VLAN_PROTOCOL, htons(row.protocol)).put(IFLA_VLAN_ID, uint16_t{20}).end().end();
    const auto link = parse_link(message.get());
    ASSERT_TRUE(link);
    EXPECT_EQ(link->vlan, row.wanted);
    EXPECT_EQ(link->parent, 2U);
    EXPECT_EQ(link->kind, "vlan");
  }
}

TEST(ParseLink, DeviceBelowInAnotherNamespaceIsNone) {
  Message message(RTM_NEWLINK, link_head());
  message.put(IFLA_LINK, 2U).put(IFLA_LINK_NETNSID, 1U);
  message.begin(IFLA_LINKINFO).put(IFLA_INFO_KIND, "vlan").end();
  EXPECT_EQ(parse_link(message.get())->parent, 0U);
}

TEST(ParseLink, PeerOfAVethIsNoDeviceBelow) {
  Message message(RTM_NEWLINK, link_head());
  message.put(IFLA_LINK, 2U).begin(IFLA_LINKINFO).put(IFLA_INFO_KIND, "veth").end();
  EXPECT_EQ(parse_link(message.get())->parent, 0U);
}

TEST(ParseLink, MtuThatARouterHasLoweredForIpv6) {
  std::array<uint32_t, DEVCONF_MTU6 + 1> values{};
  values[DEVCONF_MTU6] = 1400;
  Message message(RTM_NEWLINK, link_head());
  message.put(IFLA_MTU, 1500U).begin(IFLA_AF_SPEC).begin(AF_INET6);
  message.put(IFLA_INET6_CONF, values.data(), sizeof values).end().end();
  const auto link = parse_link(message.get());
  EXPECT_EQ(link->mtu, 1500U);
  EXPECT_EQ(link->mtu_ipv6, 1400U);
}

TEST(ParseLink, AnotherFamilysViewOfADeviceIsNoDevice) {
  ifinfomsg head = link_head();
  head.ifi_family = AF_BRIDGE;
  EXPECT_FALSE(parse_link(Message(RTM_NEWLINK, head).get()));
  EXPECT_FALSE(parse_link(Message(RTM_DELLINK, link_head()).get()));
}

TEST(ParseAddress, LocalEndOfBothFamilies) {
  ifaddrmsg head{};
  head.ifa_family = AF_INET;
  Message v4(RTM_NEWADDR, head);
  v4.put(IFA_ADDRESS, ip("10.0.0.2")).put(IFA_LOCAL, ip("10.0.0.1"));
  EXPECT_EQ(parse_address(v4.get()), ip("10.0.0.1"));
  head.ifa_family = AF_INET6;
  Message v6(RTM_NEWADDR, head);
  v6.put(IFA_ADDRESS, ip("2001:db8::1"));
  EXPECT_EQ(parse_address(v6.get()), ip("2001:db8::1"));
}

TEST(ParseAddress, OneThatIsAnotherMachinesIsNotOurs) {
  ifaddrmsg head{};
  head.ifa_family = AF_INET6;
  Message message(RTM_NEWADDR, head);
  message.put(IFA_ADDRESS, ip("2001:db8::1")).put(IFA_FLAGS, uint32_t{IFA_F_PERMANENT | IFA_F_DADFAILED});
  EXPECT_FALSE(parse_address(message.get()));
}

TEST(ParseDefaultDevices, OfTheMainTableOnly) {
  for (const int family : {AF_INET, AF_INET6}) {
    Message one(RTM_NEWROUTE, route_head(family));
    one.put(RTA_OIF, 2U);
    EXPECT_THAT(parse_default_devices(one.get()), ElementsAre(2));
    Message elsewhere(RTM_NEWROUTE, route_head(family));
    elsewhere.put(RTA_OIF, 2U).put(RTA_TABLE, 1000U);
    EXPECT_THAT(parse_default_devices(elsewhere.get()), IsEmpty());
    EXPECT_THAT(parse_default_devices(Message(RTM_NEWROUTE, route_head(family, RTN_UNREACHABLE)).get()), IsEmpty());
    EXPECT_THAT(parse_default_devices(Message(RTM_NEWROUTE, route_head(family, RTN_UNICAST, 24)).get()), IsEmpty());
  }
}

// Next hops as they lie in RTA_MULTIPATH.
std::vector<char> hops(const std::vector<std::pair<int, net::IpAddress>>& of) {
  std::vector<char> out;
  for (const auto& [ifindex, gateway] : of) {
    rtnexthop hop{};
    hop.rtnh_ifindex = ifindex;
    hop.rtnh_len = static_cast<uint16_t>(sizeof hop + sizeof(nlattr) + gateway.size());
    const nlattr attribute = {static_cast<uint16_t>(sizeof(nlattr) + gateway.size()), RTA_GATEWAY};
    const auto append = [&](const void* bytes, size_t size) {
      out.insert(out.end(), static_cast<const char*>(bytes), static_cast<const char*>(bytes) + size);
    };
    append(&hop, sizeof hop);
    append(&attribute, sizeof attribute);
    append(gateway.bytes().data(), gateway.size());
  }
  return out;
}

TEST(ParseDefaultDevices, EveryNextHopOfAMultipathRoute) {
  const auto multipath = hops({{2, ip("10.0.0.1")}, {3, ip("10.1.0.1")}});
  Message message(RTM_NEWROUTE, route_head(AF_INET));
  message.put(RTA_MULTIPATH, multipath.data(), multipath.size());
  EXPECT_THAT(parse_default_devices(message.get()), ElementsAre(2, 3));
}

TEST(ParseRoute, FirstNextHopWhereTheAnswerHasSeveral) {
  const auto multipath = hops({{2, ip("fe80::1")}, {3, ip("fe80::2")}});
  Message message(RTM_NEWROUTE, route_head(AF_INET6, RTN_UNICAST, 64));
  message.put(RTA_MULTIPATH, multipath.data(), multipath.size());
  const auto route = parse_route(message.get());
  EXPECT_EQ(route->ifindex, 2U);
  EXPECT_EQ(route->gateway, ip("fe80::1"));
}

TEST(ParseRoute, GatewaysOfEitherFamily) {
  Message v6(RTM_NEWROUTE, route_head(AF_INET6, RTN_UNICAST, 128));
  v6.put(RTA_OIF, 2U).put(RTA_GATEWAY, ip("fe80::1")).put(RTA_PREFSRC, ip("2001:db8::5"));
  EXPECT_EQ(parse_route(v6.get()), (Route{Route::Kind::unicast, 2, ip("fe80::1"), ip("2001:db8::5"), ""}));

  std::array<uint8_t, 18> via{};
  const uint16_t family = AF_INET6;
  std::memcpy(via.data(), &family, sizeof family);
  std::ranges::copy(ip("fe80::1").bytes(), via.begin() + 2);
  Message v4(RTM_NEWROUTE, route_head(AF_INET, RTN_UNICAST, 32));
  v4.put(RTA_OIF, 2U).put(RTA_VIA, via.data(), via.size()).put(RTA_PREFSRC, ip("10.0.0.5"));
  EXPECT_EQ(parse_route(v4.get()), (Route{Route::Kind::unicast, 2, ip("fe80::1"), ip("10.0.0.5"), ""}));
}

TEST(ParseRoute, MetricMtuAndEncapsulation) {
  Message message(RTM_NEWROUTE, route_head(AF_INET, RTN_UNICAST, 32));
  message.put(RTA_OIF, 2U).begin(RTA_METRICS).put(RTAX_MTU, 1400U).end();
  message.put(RTA_ENCAP_TYPE, uint16_t{1}).begin(RTA_ENCAP).put(1, 1U).end();
  const auto route = parse_route(message.get());
  EXPECT_EQ(route->mtu, 1400U);
  EXPECT_TRUE(route->encapsulates);
}

TEST(ParseRoute, KindsThatLeadNowhere) {
  struct Row {
    uint8_t type;
    Route::Kind kind;
    const char* reason;
  };
  for (const Row& row : {Row{RTN_LOCAL, Route::Kind::local, ""},
                         Row{RTN_MULTICAST, Route::Kind::unreachable, "it is no address of a single host"},
                         Row{RTN_ANYCAST, Route::Kind::unreachable, "it is no address of a single host"},
                         Row{RTN_BLACKHOLE, Route::Kind::unreachable, "refused by a route"}}) {
    const auto route = parse_route(Message(RTM_NEWROUTE, route_head(AF_INET6, row.type, 128)).get());
    EXPECT_EQ(route->kind, row.kind);
    EXPECT_EQ(route->reason, row.reason);
  }
}

Message neighbour(int type, int family, uint16_t state, uint8_t flags = 0) {
  ndmsg head{};
  head.ndm_family = static_cast<uint8_t>(family);
  head.ndm_ifindex = 2;
  head.ndm_state = state;
  head.ndm_flags = flags;
  Message message(type, head);
  message.put(NDA_DST, family == AF_INET ? ip("10.0.0.2") : ip("fe80::2")).put(NDA_LLADDR, kMac);
  return message;
}

TEST(ParseNeighbour, BothFamilies) {
  const auto v4 = parse_neighbour(neighbour(RTM_NEWNEIGH, AF_INET, NUD_REACHABLE).get());
  EXPECT_EQ(v4->key, (NeighbourKey{2, ip("10.0.0.2")}));
  const auto v6 = parse_neighbour(neighbour(RTM_NEWNEIGH, AF_INET6, NUD_STALE).get());
  EXPECT_EQ(v6->key, (NeighbourKey{2, ip("fe80::2")}));
  EXPECT_EQ(v6->neighbour, (Neighbour{kMac, false}));
  EXPECT_TRUE(parse_neighbour(neighbour(RTM_DELNEIGH, AF_INET6, NUD_STALE).get())->deleted);
}

TEST(ParseNeighbour, WhoIsAskedOrDoesNotAnswerHasNoAddress) {
  EXPECT_EQ(parse_neighbour(neighbour(RTM_NEWNEIGH, AF_INET6, NUD_INCOMPLETE).get())->neighbour,
            (Neighbour{std::nullopt, false}));
  EXPECT_EQ(parse_neighbour(neighbour(RTM_NEWNEIGH, AF_INET6, NUD_FAILED).get())->neighbour,
            (Neighbour{std::nullopt, true}));
}

TEST(ParseNeighbour, ProxiesAndForwardingEntriesAreNone) {
  EXPECT_FALSE(parse_neighbour(neighbour(RTM_NEWNEIGH, AF_INET6, NUD_REACHABLE, NTF_PROXY).get()));
  EXPECT_FALSE(parse_neighbour(neighbour(RTM_NEWNEIGH, AF_BRIDGE, NUD_REACHABLE).get()));
}

// Each message again, ending early at every byte: nothing is read beyond its end (run under the address sanitizer).
TEST(Parse, NothingIsReadBeyondTheEnd) {
  const auto multipath = hops({{2, ip("fe80::1")}, {3, ip("fe80::2")}});
  Message route(RTM_NEWROUTE, route_head(AF_INET6));
  route.put(RTA_MULTIPATH, multipath.data(), multipath.size()).begin(RTA_METRICS).put(RTAX_MTU, 1400U).end();
  Message link(RTM_NEWLINK, link_head());
  link.put(IFLA_IFNAME, "eth0").begin(IFLA_LINKINFO).put(IFLA_INFO_KIND, "vlan").begin(IFLA_INFO_DATA);
  link.put(IFLA_VLAN_ID, uint16_t{20}).end().end();
  Message near = neighbour(RTM_NEWNEIGH, AF_INET6, NUD_REACHABLE);
  for (const Message* whole : {&route, &link, &near}) {
    for (uint32_t length = sizeof(nlmsghdr); length < whole->get()->nlmsg_len; ++length) {
      const auto cut = std::make_unique<uint32_t[]>((length + 3) / 4);
      std::memcpy(cut.get(), whole->get(), length);
      auto* head = reinterpret_cast<nlmsghdr*>(cut.get());
      head->nlmsg_len = length;
      std::ignore = parse_link(head);
      std::ignore = parse_address(head);
      std::ignore = parse_default_devices(head);
      std::ignore = parse_route(head);
      std::ignore = parse_neighbour(head);
    }
  }
}

}  // namespace
}  // namespace sluice::agent::nexthop
