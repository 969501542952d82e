// Which addresses a node answers for, and how it makes them known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/announce/frames.h"
#include "node-agent/announce/groups.h"
#include "node-agent/announce/heralds.h"
#include "node-agent/announce/ownership.h"

namespace sluice::agent::announce {
namespace {

using dataplane::OwnedAddress;
using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;

net::IpAddress ip(const char* text) {
  return net::IpAddress::parse(text).value();
}

state::DesiredState announcing(const char* address, std::vector<std::string> nodes,
                               std::vector<std::string> interfaces = {}) {
  state::DesiredState state;
  state.announcements[ip(address)] = {ip(address), std::move(nodes), std::move(interfaces)};
  return state;
}

const std::vector<dataplane::AttachedInterface> kAttached = {{"eth0", 2, dataplane::AttachMode::native, "veth"},
                                                             {"lan1", 3, dataplane::AttachMode::native, "veth"}};

TEST(Ownership, OnlyTheFirstNodeOwns) {
  EXPECT_THAT(ownership(announcing("192.0.2.1", {"a", "b"}), "a", kAttached, {}, {}).owned,
              ElementsAre(OwnedAddress{ip("192.0.2.1"), 2}, OwnedAddress{ip("192.0.2.1"), 3}));
  EXPECT_THAT(ownership(announcing("192.0.2.1", {"a", "b"}), "b", kAttached, {}, {}).owned, IsEmpty());
  EXPECT_THAT(ownership(announcing("192.0.2.1", {}), "b", kAttached, {}, {}).owned, IsEmpty());
}

TEST(Ownership, OnlyOnInterfacesThatThePatternsName) {
  EXPECT_THAT(ownership(announcing("192.0.2.1", {"a"}, {"lan*"}), "a", kAttached, {}, {}).owned,
              ElementsAre(OwnedAddress{ip("192.0.2.1"), 3}));
  const auto none = ownership(announcing("192.0.2.1", {"a"}, {"wan0"}), "a", kAttached, {}, {});
  EXPECT_THAT(none.owned, IsEmpty());
  EXPECT_THAT(none.announcing, IsEmpty()) << "reached on no interface, it is not announced";
}

TEST(Ownership, ForAnAddressOfTheMachineTheKernelAnswers) {
  const auto outcome = ownership(announcing("192.0.2.1", {"a"}), "a", kAttached, {}, {ip("192.0.2.1")});
  EXPECT_THAT(outcome.owned, IsEmpty());
  EXPECT_THAT(outcome.announcing, ElementsAre(ip("192.0.2.1")));
}

// Frames for it come in by the device below, with a tag; announced it is by itself.
TEST(Ownership, VlansAboveAnAttachedInterfaceByTheirNameOnly) {
  const std::vector<VlanDevice> vlans = {{"eth0.10", 20, 2, 10}, {"eth9.10", 21, 9, 10}};
  EXPECT_THAT(ownership(announcing("192.0.2.1", {"a"}, {"eth*.10"}), "a", kAttached, vlans, {}).owned,
              ElementsAre(OwnedAddress{ip("192.0.2.1"), 2, 10}));
  EXPECT_THAT(ownership(announcing("192.0.2.1", {"a"}), "a", kAttached, vlans, {}).owned,
              ElementsAre(OwnedAddress{ip("192.0.2.1"), 2}, OwnedAddress{ip("192.0.2.1"), 3}));
  EXPECT_EQ(device_of({ip("192.0.2.1"), 2, 10}, vlans), 20U);
  EXPECT_EQ(device_of({ip("192.0.2.1"), 2, 11}, vlans), 0U);
  EXPECT_EQ(device_of({ip("192.0.2.1"), 2}, vlans), 2U);
  EXPECT_THAT(solicited_node_groups({{ip("2001:db8::1"), 2, 10}, {ip("2001:db8::1"), 2, 11}}, vlans),
              ElementsAre(Group{20, ip("ff02::1:ff00:1")}));
}

TEST(Ownership, TakenIsWhatWasNotOwnedBefore) {
  const OwnedAddress one{ip("192.0.2.1"), 2};
  const OwnedAddress two{ip("192.0.2.2"), 2};
  EXPECT_THAT(taken({one}, {one, two}), ElementsAre(two));
  EXPECT_THAT(taken({one, two}, {one}), IsEmpty());
}

TEST(GratuitousArp, IsAFrameToAllWithTheAddressAsSenderAndTarget) {
  const dataplane::Mac mac = {2, 0, 0, 0, 0, 7};
  const Frame request = {
      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,   0, 0, 0, 0, 7, 8, 6,  // Ethernet
      0,    1,    8,    0,    6,    4,    0,   1,                    // a request about IPv4 on Ethernet
      2,    0,    0,    0,    0,    7,    192, 0, 2, 1,              // sender
      0,    0,    0,    0,    0,    0,    192, 0, 2, 1,              // target
  };
  EXPECT_EQ(gratuitous_arp(mac, ip("192.0.2.1"), ArpForm::request), request);
  const auto reply = gratuitous_arp(mac, ip("192.0.2.1"), ArpForm::reply);
  EXPECT_EQ(reply[21], 2);
  EXPECT_TRUE(std::equal(mac.begin(), mac.end(), reply.begin() + 32));
}

TEST(UnsolicitedAdvertisement, OverridesAtAllNodes) {
  const Frame wanted = {
      0x33, 0x33, 0,    0,    0,    1,  2,  0,   0, 0, 0, 7, 0x86, 0xdd,  // Ethernet, all nodes
      0x60, 0,    0,    0,    0,    32, 58, 255,                          // IPv6: 32 bytes of ICMPv6, from here
      0x20, 0x01, 0x0d, 0xb8, 0,    0,  0,  0,   0, 0, 0, 0, 0,    0,    0, 0x10,  // source
      0xff, 0x02, 0,    0,    0,    0,  0,  0,   0, 0, 0, 0, 0,    0,    0, 1,     // all nodes
      136,  0,    0xf9, 0x06, 0x20, 0,  0,  0,                                     // advertisement, override only
      0x20, 0x01, 0x0d, 0xb8, 0,    0,  0,  0,   0, 0, 0, 0, 0,    0,    0, 0x10,  // target
      2,    1,    2,    0,    0,    0,  0,  7,                                     // its link-layer address
  };
  EXPECT_EQ(unsolicited_advertisement({2, 0, 0, 0, 0, 7}, ip("2001:db8::10")), wanted);
}

TEST(Announcement, IsBothFormsOfArpOrOneAdvertisement) {
  const dataplane::Mac mac = {2, 0, 0, 0, 0, 7};
  EXPECT_THAT(announcement(mac, ip("192.0.2.1")), ElementsAre(gratuitous_arp(mac, ip("192.0.2.1"), ArpForm::request),
                                                              gratuitous_arp(mac, ip("192.0.2.1"), ArpForm::reply)));
  EXPECT_THAT(announcement(mac, ip("2001:db8::1")), ElementsAre(unsolicited_advertisement(mac, ip("2001:db8::1"))));
}

TEST(Groups, SolicitedNodeGroupHasTheLastThreeBytes) {
  EXPECT_EQ(solicited_node(ip("2001:db8::12:3456")), ip("ff02::1:ff12:3456"));
  EXPECT_EQ(multicast_mac(ip("ff02::1:ff12:3456")), (dataplane::Mac{0x33, 0x33, 0xff, 0x12, 0x34, 0x56}));
}

TEST(Groups, OneForAllAddressesThatShareItOnEachInterface) {
  EXPECT_THAT(
      solicited_node_groups({{ip("192.0.2.1"), 2},
                             {ip("2001:db8:1::1"), 2},
                             {ip("2001:db8:1::1"), 3},
                             {ip("2001:db8:2::1"), 2},
                             {ip("2001:db8::2"), 2}},
                            {}),
      ElementsAre(Group{2, ip("ff02::1:ff00:1")}, Group{2, ip("ff02::1:ff00:2")}, Group{3, ip("ff02::1:ff00:1")}));
}

class HeraldsTest : public testing::Test {
 protected:
  int sent_after(milliseconds elapsed) {
    int sent = 0;
    heralds_.tick(owned_, start_ + elapsed, [&](const OwnedAddress&) { ++sent; });
    return sent;
  }
  const OwnedAddress address_{ip("192.0.2.1"), 2};
  std::vector<OwnedAddress> owned_ = {address_};
  Heralds heralds_;
  Heralds::Clock::time_point start_{std::chrono::seconds(100)};
};

TEST_F(HeraldsTest, ThreeTimesOverTwoSeconds) {
  heralds_.add(owned_, start_);
  EXPECT_EQ(sent_after(milliseconds(0)), 1);
  EXPECT_EQ(sent_after(milliseconds(500)), 0);
  EXPECT_EQ(sent_after(milliseconds(1000)), 1);
  EXPECT_EQ(sent_after(milliseconds(2000)), 1);
  EXPECT_TRUE(heralds_.idle());
  EXPECT_EQ(sent_after(milliseconds(9000)), 0);
}

TEST_F(HeraldsTest, StopsWhenTheAddressIsLost) {
  heralds_.add(owned_, start_);
  EXPECT_EQ(sent_after(milliseconds(0)), 1);
  owned_.clear();
  EXPECT_EQ(sent_after(milliseconds(1000)), 0);
  EXPECT_TRUE(heralds_.idle());
}

}  // namespace
}  // namespace sluice::agent::announce
