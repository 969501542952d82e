// Pings of services' addresses, and questions for their MACs.
#include <linux/bpf.h>

#include <functional>

#include "tests/packets/checksum_oracle.h"
#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

class EchoTest : public DataplaneTest, public ::testing::WithParamInterface<Family> {
 protected:
  EchoTest() : DataplaneTest(GetParam()) {
    service_ = plane_.add_service(service_end_, kTcp, {local_backend(local_end_)});
  }
  [[nodiscard]] Packet ping(size_t size = 56) const { return echo(client_.address, service_end_.address, true, size); }
  [[nodiscard]] Packet echo(const Address& from, const Address& to, bool request, size_t size) const {
    Bytes rest = Writer().u16(0x1234).u16(7);
    for (size_t i = 0; i < size; i++) rest.push_back(static_cast<uint8_t>(i * 3));
    const int type = ipv6() ? (request ? 128 : 129) : (request ? 8 : 0);
    return Packet::icmp(from, to, static_cast<uint8_t>(type), 0, rest).macs(kRouterMac, kLanMac);
  }
  Service service_;
};
INSTANTIATE_TEST_SUITE_P(Families, EchoTest, kFamilies, family_name);

TEST_P(EchoTest, APingIsAnsweredWithWhatItCarries) {
  for (const size_t size : {0U, 1U, 56U, 1400U}) {
    const Outcome outcome = plane_.receive(ping(size));
    EXPECT_EQ(outcome.action, XDP_TX);
    const Packet answer = echo(service_end_.address, client_.address, false, size).macs(kLanMac, kRouterMac).ttl(64);
    EXPECT_TRUE(same_frame(outcome.frame, answer.frame()));
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_ECHO_REPLY), 4U);
}

TEST_P(EchoTest, APingThatCameDamagedIsAnsweredDamaged) {
  Frame frame = ping().frame();
  frame[80] ^= 0x20;
  const Outcome outcome = plane_.receive(frame);
  EXPECT_NE(checksum_error(outcome.frame), "");
}

TEST_P(EchoTest, TheTtlStartsAnew) {
  const Outcome outcome = plane_.receive(ping().ttl(1));
  EXPECT_EQ(outcome.frame[ipv6() ? 21 : 22], 64);
}

TEST_P(EchoTest, PingsOfOthersAreTheNodes) {
  for (const char* to : {"192.0.2.1", "203.0.113.99"})
    EXPECT_EQ(plane_.receive(echo(client_.address, address(to), true, 8)).action, XDP_PASS) << to;
  EXPECT_EQ(plane_.counted(SLUICE_REASON_ECHO_REPLY), 0U);
}

TEST_P(EchoTest, AnAnswerIsNotAnswered) {
  EXPECT_NE(plane_.receive(echo(client_.address, service_end_.address, false, 8)).action, XDP_TX);
}

TEST_P(EchoTest, PingsOfAServicesAddressThatIsTheNodesTooAreTheNodes) {
  plane_.set_key(service_end_.address, 0, 0, SLUICE_ADDRESS_SERVICE | SLUICE_ADDRESS_NODE);
  EXPECT_EQ(plane_.receive(ping()).action, XDP_PASS);
}

TEST_P(EchoTest, NobodyIsAnsweredInTheNameOfAGroup) {
  const Address group = Address::of(ipv6() ? "ff02::1" : "224.0.0.1");
  EXPECT_NE(plane_.receive(echo(group, service_end_.address, true, 8)).action, XDP_TX);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_ECHO_REPLY), 0U);
}

TEST_P(EchoTest, AnswersAreLimited) {
  int answered = 0;
  for (int i = 0; i < 400; i++) answered += plane_.receive(ping(8)).action == XDP_TX ? 1 : 0;
  EXPECT_GE(answered, 50);
  EXPECT_LT(answered, 300);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_ANSWERS_LIMITED), 400U - static_cast<uint64_t>(answered));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_ECHO_REPLY), static_cast<uint64_t>(answered));
}

TEST_P(EchoTest, FragmentsOfAPingAreNotAnswered) {
  const Packet whole = ping(1800);
  for (const size_t first : {0U, 1200U}) EXPECT_NE(plane_.receive(whole.part(first, 1200)).action, XDP_TX);
}

// --- RFC 4861

constexpr Mac kAsker{0x02, 0x5c, 0, 0, 0, 0x70};
const Address kOwned = Address::of("2001:db8:113::10"), kAskerAddress = Address::of("fe80::70");

struct Solicitation {
  Address from = kAskerAddress, to = Address::of("ff02::1:ff00:10"), target = kOwned;
  Mac source_mac = kAsker, destination_mac{0x33, 0x33, 0xff, 0, 0, 0x10};
  uint8_t hops = 255, code = 0;
  Bytes options = Writer().u8(1).u8(1).range(kAsker.data(), 6);
  [[nodiscard]] Packet packet() const {
    return Packet::icmp(from, to, 135, code, Writer().u32(0).address(target).bytes(options))
        .ttl(hops)
        .macs(source_mac, destination_mac);
  }
};

class NdpTest : public DataplaneTest {
 protected:
  NdpTest() { plane_.own(kOwned, interfaces().lan, 5); }
  // solicited: the flag; else to all nodes.
  static Frame advertisement(const Address& to, const Mac& mac, bool solicited) {
    return Packet::icmp(
               kOwned, to, 136, 0,
               Writer().u32(solicited ? 0x60000000U : 0x20000000U).address(kOwned).u8(2).u8(1).range(kLanMac.data(), 6))
        .ttl(255)
        .macs(kLanMac, mac)
        .frame();
  }
};

TEST_F(NdpTest, ASolicitationForAnOwnedAddressIsAnswered) {
  Solicitation unicast;
  unicast.to = kOwned;
  unicast.destination_mac = kLanMac;
  Solicitation bare = unicast;
  bare.options.clear();
  for (const Solicitation& asked : {Solicitation{}, unicast, bare}) {
    const Outcome outcome = plane_.receive(asked.packet());
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_TRUE(same_frame(outcome.frame, advertisement(kAskerAddress, kAsker, true)));
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NEIGHBOUR_REPLY), 3U);
}

TEST_F(NdpTest, WhoIsAboutToTakeTheAddressIsToldWithEverybody) {
  Solicitation probe;
  probe.from = Address::of("::");
  probe.options.clear();
  const Outcome outcome = plane_.receive(probe.packet());
  EXPECT_EQ(outcome.action, XDP_TX);
  EXPECT_TRUE(same_frame(outcome.frame, advertisement(Address::of("ff02::1"), {0x33, 0x33, 0, 0, 0, 1}, false)));
}

TEST_F(NdpTest, OthersPassUntouched) {
  const auto with = [](const std::function<void(Solicitation&)>& change) {
    Solicitation asked;
    change(asked);
    return asked.packet();
  };
  const std::vector<std::pair<const char*, Packet>> cases{
      {"another address", with([](auto& s) { s.target = kOwned + 1; })},
      {"from beyond the link", with([](auto& s) { s.hops = 254; })},
      {"a code", with([](auto& s) { s.code = 1; })},
      {"a group as target", with([](auto& s) { s.target = Address::of("ff02::10"); })},
      {"from a group", with([](auto& s) { s.from = Address::of("ff02::70"); })},
      {"to another host", with([](auto& s) { s.destination_mac = kOtherMac; })},
      {"an advertisement", Packet::icmp(kAskerAddress, Address::of("ff02::1"), 136, 0, Writer().u32(0).address(kOwned))
                               .ttl(255)
                               .macs(kAsker, {0x33, 0x33, 0, 0, 0, 1})},
  };
  for (const auto& [name, packet] : cases) EXPECT_EQ(plane_.receive(packet).action, XDP_PASS) << name;
  Frame damaged = Solicitation{}.packet().frame();
  damaged[70] ^= 1;
  EXPECT_EQ(plane_.receive(damaged).action, XDP_PASS);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NEIGHBOUR_REPLY), 0U);
}

TEST_F(NdpTest, ATruncatedSolicitationPassesUntouched) {
  const Frame whole = Solicitation{}.packet().frame();
  for (size_t size = 14; size < whole.size(); size++)
    EXPECT_EQ(plane_.receive(Frame(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size))).action, XDP_PASS)
        << size;
}

TEST_F(NdpTest, PastItsDeadlineAnAddressIsNotAnswered) {
  plane_.own(kOwned, interfaces().lan, -1);
  EXPECT_EQ(plane_.receive(Solicitation{}.packet()).action, XDP_PASS);
  plane_.own(kOwned, interfaces().lan, 1);
  EXPECT_EQ(plane_.receive(Solicitation{}.packet()).action, XDP_TX);
}

TEST_F(NdpTest, AnAddressOwnedOnAnotherInterfaceIsNotAnsweredHere) {
  const Address other = kOwned + 7;
  plane_.own(other, interfaces().core, 5);
  Solicitation asked;
  asked.target = other;
  EXPECT_EQ(plane_.receive(asked.packet()).action, XDP_PASS);
}

}  // namespace
}  // namespace sluice::packets
