// Announcements as the far end of a link receives them, and the groups as the kernel holds them.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "node-agent/announce/frames.h"
#include "node-agent/announce/memberships.h"
#include "node-agent/announce/sender.h"
#include "tests/network/sandbox.h"

namespace sluice::agent::announce {
namespace {

using agent::testing::far_side;
using agent::testing::ip;
using agent::testing::must;
using agent::testing::must_far;
using agent::testing::within;
using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr dataplane::Mac kMac = {2, 0, 0, 0, 0, 1};

// Frames of one kind that arrive at the far end from construction on.
class Listener {
 public:
  explicit Listener(uint16_t protocol)
      : fd_(far_side([protocol] {
          const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
          sockaddr_ll here{};
          here.sll_family = AF_PACKET;
          here.sll_protocol = htons(protocol);
          here.sll_ifindex = static_cast<int>(if_nametoindex("far"));
          EXPECT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&here), sizeof here), 0);
          return fd;
        })) {}
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener() { close(fd_); }

  // Whether such a frame arrives in time; others are passed over.
  bool hears(const Frame& frame) {
    return hears([&frame](const Frame& heard) { return heard == frame; });
  }
  bool hears(const std::function<bool(const Frame&)>& wanted) {
    return within(milliseconds(2'000), [&] {
      Frame next(2'048);
      pollfd waiting = {fd_, POLLIN, 0};
      if (poll(&waiting, 1, 50) <= 0) return false;
      const ssize_t length = recv(fd_, next.data(), next.size(), 0);
      next.resize(length > 0 ? static_cast<size_t>(length) : 0);
      return wanted(next);
    });
  }

 private:
  int fd_;
};

class AnnounceTest : public agent::testing::SandboxTest {
 protected:
  static std::string groups() { return must("cat /proc/thread-self/net/igmp6"); }
  static bool joined(const std::string& digits) { return groups().find(digits) != std::string::npos; }
  // The interface's filter: what its driver is told to let in.
  static std::string filter() { return must("ip maddr show dev near"); }
};

TEST_F(AnnounceTest, GratuitousArpArrivesInBothForms) {
  Listener listener(ETHERTYPE_ARP);
  ASSERT_TRUE(send_announcement(near_, kMac, ip("192.0.2.1")));
  EXPECT_TRUE(listener.hears(gratuitous_arp(kMac, ip("192.0.2.1"), ArpForm::request)));
  EXPECT_TRUE(listener.hears(gratuitous_arp(kMac, ip("192.0.2.1"), ArpForm::reply)));
}

TEST_F(AnnounceTest, UnsolicitedAdvertisementArrives) {
  Listener listener(ETHERTYPE_IPV6);
  ASSERT_TRUE(send_announcement(near_, kMac, ip("2001:db8::10")));
  EXPECT_TRUE(listener.hears(unsolicited_advertisement(kMac, ip("2001:db8::10"))));
}

// The kernel checks hop limit, checksum and lengths, as any other neighbour would.
TEST_F(AnnounceTest, NeighbourThatKnowsAnotherMacTakesTheNewOne) {
  must_far("ip -6 neigh replace fd00:1::99 lladdr 02:00:00:00:00:99 dev far nud stale");
  ASSERT_TRUE(send_announcement(near_, kMac, ip("fd00:1::99")));
  EXPECT_TRUE(within(milliseconds(2'000), [] {
    return must_far("ip -6 neigh show fd00:1::99").find("lladdr 02:00:00:00:00:01") != std::string::npos;
  })) << must_far("ip -6 neigh show fd00:1::99");
}

TEST_F(AnnounceTest, WithoutItsInterfaceAnAnnouncementFails) {
  const auto sent = send_announcement(9'999, kMac, ip("2001:db8::10"));
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().object, "2001:db8::10");
}

TEST_F(AnnounceTest, GroupsAreJoinedInTheFilterTooAndLeft) {
  Memberships memberships;
  EXPECT_FALSE(joined("ff0200000000000000000001ff123456"));
  ASSERT_TRUE(memberships.set({{near_, ip("ff02::1:ff12:3456")}, {near_, ip("ff02::1:ff00:77")}}));
  EXPECT_TRUE(joined("ff0200000000000000000001ff123456"));
  EXPECT_TRUE(joined("ff0200000000000000000001ff000077"));
  EXPECT_THAT(filter(), HasSubstr("33:33:ff:12:34:56"));
  ASSERT_TRUE(memberships.set({{near_, ip("ff02::1:ff00:77")}}));
  EXPECT_FALSE(joined("ff0200000000000000000001ff123456"));
  EXPECT_TRUE(joined("ff0200000000000000000001ff000077"));
  EXPECT_THAT(filter(), Not(HasSubstr("33:33:ff:12:34:56")));
}

TEST_F(AnnounceTest, GroupsAreLeftWithTheirHolder) {
  { ASSERT_TRUE(Memberships().set({{near_, ip("ff02::1:ff12:3456")}})); }
  EXPECT_FALSE(joined("ff0200000000000000000001ff123456"));
}

// So that a switch that snoops sends solicitations here. RFC 3810: type 143, to ff02::16.
TEST_F(AnnounceTest, JoiningIsReported) {
  Listener listener(ETHERTYPE_IPV6);
  Memberships memberships;
  ASSERT_TRUE(memberships.set({{near_, ip("ff02::1:ff12:3456")}}));
  const auto group = ip("ff02::1:ff12:3456").bytes();
  EXPECT_TRUE(listener.hears([&group](const Frame& frame) {
    constexpr size_t kMessage = 14 + 40 + 8;  // after the headers of Ethernet and IPv6, and hop-by-hop options
    return frame.size() > kMessage && frame[kMessage] == 143 &&
           std::search(frame.begin(), frame.end(), group.begin(), group.end()) != frame.end();
  }));
}

TEST_F(AnnounceTest, MoreGroupsThanOneSocketTakes) {
  const std::string limit = must("sysctl -n net.core.optmem_max");
  must("sysctl -qw net.core.optmem_max=2048");
  constexpr uint32_t kMany = 200;
  std::set<Group> wanted;
  for (uint32_t i = 0; i < kMany; ++i) {
    auto bytes = ip("ff02::1:ff77:0").bytes();
    bytes[15] = static_cast<uint8_t>(i);
    wanted.insert({near_, net::IpAddress::from_ipv6(bytes)});
  }
  const auto count = [] {
    const std::string text = groups();
    size_t found = 0;
    for (size_t at = text.find("ff0200000000000000000001ff77"); at != std::string::npos;
         at = text.find("ff0200000000000000000001ff77", at + 1)) {
      ++found;
    }
    return found;
  };
  {
    Memberships memberships;
    const auto set = memberships.set(wanted);
    EXPECT_TRUE(set) << set.error().message();
    EXPECT_EQ(count(), kMany);
    // Those of the first sockets go, and others come: room is used again.
    std::set<Group> fewer(std::next(wanted.begin(), 150), wanted.end());
    ASSERT_TRUE(memberships.set(fewer));
    EXPECT_EQ(count(), 50U);
    ASSERT_TRUE(memberships.set(wanted));
    EXPECT_EQ(count(), kMany);
  }
  EXPECT_EQ(count(), 0U);
  must("sysctl -qw net.core.optmem_max=" + limit);
}

TEST_F(AnnounceTest, DeviceWithoutIpv6HasTheFilterUntilItHasIt) {
  must("ip link set near mtu 1200");  // below what IPv6 asks for: the device has none
  Memberships memberships;
  const std::set<Group> wanted = {{near_, ip("ff02::1:ff12:3456")}};
  ASSERT_TRUE(memberships.set(wanted));
  EXPECT_FALSE(joined("ff0200000000000000000001ff123456"));
  EXPECT_THAT(filter(), HasSubstr("33:33:ff:12:34:56"));
  must("ip link set near mtu 1500");
  ASSERT_TRUE(memberships.set(wanted));
  EXPECT_TRUE(joined("ff0200000000000000000001ff123456"));
  ASSERT_TRUE(memberships.set({}));
  EXPECT_THAT(filter(), Not(HasSubstr("33:33:ff:12:34:56")));
}

TEST_F(AnnounceTest, GroupThatTheDeviceHasForgottenIsJoinedAnew) {
  Memberships memberships;
  const std::set<Group> wanted = {{near_, ip("ff02::1:ff12:3456")}};
  ASSERT_TRUE(memberships.set(wanted));
  must("ip link set near mtu 1200 && ip link set near mtu 1500");
  EXPECT_FALSE(joined("ff0200000000000000000001ff123456"));
  ASSERT_TRUE(memberships.set(wanted));
  EXPECT_TRUE(joined("ff0200000000000000000001ff123456"));
}

TEST_F(AnnounceTest, GroupOnADeviceThatIsGoneFailsAndTheOthersAreJoined) {
  Memberships memberships;
  const auto set = memberships.set({{near_, ip("ff02::1:ff12:3456")}, {9'999, ip("ff02::1:ff12:3456")}});
  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().object, "ff02::1:ff12:3456 on device 9999");
  EXPECT_TRUE(joined("ff0200000000000000000001ff123456"));
}

}  // namespace
}  // namespace sluice::agent::announce
