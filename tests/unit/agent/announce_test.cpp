// Which addresses a node answers for, and how it makes them known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/announce/gratuitous_arp.h"
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
  EXPECT_THAT(ownership(announcing("192.0.2.1", {"a", "b"}), "a", kAttached, {}).owned,
              ElementsAre(OwnedAddress{ip("192.0.2.1"), 2}, OwnedAddress{ip("192.0.2.1"), 3}));
  EXPECT_THAT(ownership(announcing("192.0.2.1", {"a", "b"}), "b", kAttached, {}).owned, IsEmpty());
  EXPECT_THAT(ownership(announcing("192.0.2.1", {}), "b", kAttached, {}).owned, IsEmpty());
}

TEST(Ownership, OnlyOnInterfacesThatThePatternsName) {
  EXPECT_THAT(ownership(announcing("192.0.2.1", {"a"}, {"lan*"}), "a", kAttached, {}).owned,
              ElementsAre(OwnedAddress{ip("192.0.2.1"), 3}));
  const auto none = ownership(announcing("192.0.2.1", {"a"}, {"wan0"}), "a", kAttached, {});
  EXPECT_THAT(none.owned, IsEmpty());
  EXPECT_THAT(none.announcing, IsEmpty()) << "reached on no interface, it is not announced";
}

TEST(Ownership, ForAnAddressOfTheMachineTheKernelAnswers) {
  const auto outcome = ownership(announcing("192.0.2.1", {"a"}), "a", kAttached, {ip("192.0.2.1")});
  EXPECT_THAT(outcome.owned, IsEmpty());
  EXPECT_THAT(outcome.announcing, ElementsAre(ip("192.0.2.1")));
}

TEST(Ownership, TakenIsWhatWasNotOwnedBefore) {
  const OwnedAddress one{ip("192.0.2.1"), 2};
  const OwnedAddress two{ip("192.0.2.2"), 2};
  EXPECT_THAT(taken({one}, {one, two}), ElementsAre(two));
  EXPECT_THAT(taken({one, two}, {one}), IsEmpty());
}

TEST(GratuitousArp, IsAFrameToAllWithTheAddressAsSenderAndTarget) {
  const dataplane::Mac mac = {2, 0, 0, 0, 0, 7};
  const std::array<uint8_t, kArpFrame> request = {
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
