// Backends without Sluice: sent on as it is to their MAC, or in IP; a record only where their slot has moved.
#include <linux/bpf.h>

#include "tests/packets/icmp.h"

namespace sluice::packets {
namespace {

constexpr Mac kRealMac{0x02, 0x5c, 0, 0, 0x09, 0x15}, kOtherRealMac{0x02, 0x5c, 0, 0, 0x09, 0x16};

struct Whole {
  uint8_t forwarding;
  Family family;
};
std::ostream& operator<<(std::ostream& out, const Whole& whole) {
  return out << (whole.forwarding == SLUICE_FORWARD_DIRECT ? "Direct" : "IpInIp") << name_of(whole.family);
}

class WholeTest : public DataplaneTest, public ::testing::WithParamInterface<Whole> {
 protected:
  WholeTest() : DataplaneTest(GetParam().family) {
    const std::vector<Backend> backends{real(real_, kRealMac), real(other_, kOtherRealMac)};
    tcp_ = plane_.add_service(service_end_, kTcp, backends);
    udp_ = plane_.add_service(service_end_, kUdp, backends);
    planes({0});
  }
  [[nodiscard]] static bool direct() { return GetParam().forwarding == SLUICE_FORWARD_DIRECT; }
  [[nodiscard]] static Backend real(Endpoint end, const Mac& mac, uint32_t flags = 0) {
    return {.end = end, .forwarding = GetParam().forwarding, .egress = kLanEgress, .mac = mac, .flags = flags};
  }
  void planes(const std::vector<uint16_t>& candidates) {
    std::vector<std::vector<uint16_t>> all;
    for (const uint16_t candidate : candidates) all.emplace_back(8, candidate);
    plane_.set_planes(tcp_, all);
    plane_.set_planes(udp_, all);
  }
  // As it leaves for the first of the two, or the second.
  [[nodiscard]] Frame sent(const Packet& packet, size_t to = 0, const Mac& from = kLanMac) const {
    const Bytes before = packet.ip_packet();
    const auto hops = static_cast<uint8_t>(before[ipv6() ? 7 : 8] - 1);
    const Packet less = Packet(packet).ttl(hops).macs(from, to == 0 ? kRealMac : kOtherRealMac);
    if (direct()) return less.frame();
    const auto tos = ipv6() ? static_cast<uint8_t>(before[0] << 4 | before[1] >> 4) : before[1];
    return Packet::other(address(from == kLanMac ? "192.0.2.1" : "10.9.0.1"), to == 0 ? real_.address : other_.address,
                         ipv6() ? 41 : 4, less.ip_packet())
        .tos(tos)
        .id(0)
        .macs(from, to == 0 ? kRealMac : kOtherRealMac)
        .frame();
  }
  // Which of the two a packet goes to; -1: neither.
  int goes_to(const Packet& packet) {
    const Outcome outcome = plane_.receive(packet);
    if (outcome.frame == sent(packet, 0)) return 0;
    return outcome.frame == sent(packet, 1) ? 1 : -1;
  }
  Endpoint real_ = at("192.0.2.21", 80), other_ = at("192.0.2.22", 80);
  Service tcp_, udp_;
};
INSTANTIATE_TEST_SUITE_P(Forwarding, WholeTest,
                         ::testing::Values(Whole{SLUICE_FORWARD_DIRECT, Family::ipv4},
                                           Whole{SLUICE_FORWARD_IPIP, Family::ipv4},
                                           Whole{SLUICE_FORWARD_DIRECT, Family::ipv6},
                                           Whole{SLUICE_FORWARD_IPIP, Family::ipv6}),
                         [](const auto& test) { return ::testing::PrintToString(test.param); });

TEST_P(WholeTest, APacketIsSentOnWithOneHopLessAndLeavesNoRecord) {
  for (const Packet& packet : {to_service(kSyn).tcp_options(4), to_service().payload_size(999).tos(0xb9),
                               udp_to_service(), to_service(kRst)}) {
    const Outcome outcome = plane_.receive(packet);
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_TRUE(same_frame(outcome.frame, sent(packet)));
  }
  EXPECT_TRUE(plane_.flows().empty());
  EXPECT_EQ(plane_.counted(direct() ? SLUICE_REASON_FORWARDED_DIRECT : SLUICE_REASON_FORWARDED_IPIP), 4U);
}

TEST_P(WholeTest, ByAnotherInterfaceItIsRedirected) {
  Backend backend = real(real_, kRealMac);
  backend.egress = kCoreEgress;
  plane_.set_backend(tcp_, 0, backend);
  const Outcome outcome = plane_.receive(to_service());
  EXPECT_EQ(outcome.action, XDP_REDIRECT);
  EXPECT_TRUE(same_frame(outcome.frame, sent(to_service(), 0, kCoreMac)));
}

TEST_P(WholeTest, ATtlThatWouldReachZeroIsToldToTheClient) {
  EXPECT_EQ(told(plane_.receive(to_service().ttl(1)), to_service()), kTimeExceeded);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_TTL_EXCEEDED), 1U);
}

TEST_P(WholeTest, WhatDoesNotFitIsToldWithWhatDoes) {
  Backend backend = real(real_, kRealMac);
  backend.egress = kCoreEgress;
  plane_.set_backend(tcp_, 0, backend);
  plane_.egress(kCoreEgress).mtu = 1400;
  const size_t most = 1400 - (direct() ? 0 : ipv6() ? 40 : 20), headers = ipv6() ? 60 : 40;
  EXPECT_EQ(plane_.receive(to_service().payload_size(most - headers)).action, XDP_REDIRECT);
  const Packet larger = to_service().payload_size(most - headers + 1);
  const Outcome outcome = plane_.receive(larger);
  EXPECT_EQ(told(outcome, larger), kTooBig);
  EXPECT_EQ(told_mtu(outcome), most);
}

TEST_P(WholeTest, WithoutAWayThePacketIsDropped) {
  plane_.set_backend(tcp_, 0, {.end = at("172.31.0.1", 80), .forwarding = GetParam().forwarding});
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_NO_NEXT_HOP), 1U);
}

TEST_P(WholeTest, NewFlowsOfASlotThatHasMovedGoToTheNewestAndArePinnedThere) {
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
  EXPECT_EQ(goes_to(to_service()), 1);
  const Flow flow = only_flow();
  EXPECT_EQ(flow.kind, SLUICE_FLOW_PIN);
  EXPECT_EQ(flow.client, other_) << "whom it is pinned to";
  planes({0, 1});
  EXPECT_EQ(goes_to(to_service()), 1);
}

TEST_P(WholeTest, FlowsThatBeganBeforeTheSlotMovedStay) {
  EXPECT_EQ(goes_to(to_service(kSyn)), 0);
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service()), 0);
  EXPECT_EQ(goes_to(to_service()), 0);
  EXPECT_EQ(goes_to(to_service(kFin | kAck)), 0);
}

TEST_P(WholeTest, DatagramsLeaveABackendThatHasLeftTheChoice) {
  planes({1, 0});
  EXPECT_EQ(goes_to(udp_to_service()), 0) << "it may have begun there";
  plane_.set_backend(udp_, 0, real(real_, kRealMac, SLUICE_BACKEND_LEFT));
  EXPECT_EQ(goes_to(udp_to_service()), 1);
}

TEST_P(WholeTest, ErrorsGoToTheBackendOfTheFlowTheyAreAbout) {
  const Bytes quoted = Packet::tcp(service_end_, client_).ip_packet();
  const Packet error = Packet::icmp(address("198.18.77.1"), service_end_.address, ipv6() ? 2 : 3, ipv6() ? 0 : 4,
                                    Writer().u32(1300).bytes(quoted))
                           .macs(kRouterMac, kLanMac);
  EXPECT_EQ(goes_to(error), 0);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_ERROR_FORWARDED), 1U);
}

// --- who may, whatever the forwarding

class SourcesTest : public DataplaneTest, public ::testing::WithParamInterface<std::tuple<uint8_t, Family>> {
 protected:
  SourcesTest() : DataplaneTest(std::get<Family>(GetParam())) {
    Backend backend = nat_backend();
    backend.forwarding = std::get<uint8_t>(GetParam());
    if (backend.forwarding == SLUICE_FORWARD_LOCAL) backend = local_backend(local_end_);
    tcp_ = plane_.add_service(service_end_, kTcp, {backend});
    udp_ = plane_.add_service(service_end_, kUdp, {backend});
    other_ = plane_.add_service(at("203.0.113.11", 80), kTcp, {backend});
  }
  Service tcp_, udp_, other_;
};
std::string mode_name(const ::testing::TestParamInfo<std::tuple<uint8_t, Family>>& info) {
  const char* const names[] = {"", "Local", "Nat", "Tunnel", "Direct", "IpInIp"};
  return names[std::get<uint8_t>(info.param)] + name_of(std::get<Family>(info.param));
}
INSTANTIATE_TEST_SUITE_P(Modes, SourcesTest,
                         ::testing::Combine(::testing::Values(SLUICE_FORWARD_LOCAL, SLUICE_FORWARD_NAT,
                                                              SLUICE_FORWARD_DIRECT, SLUICE_FORWARD_IPIP),
                                            kFamilies),
                         mode_name);

TEST_P(SourcesTest, OnlyThosePrefixesMayAndOtherServicesHaveTheirOwn) {
  const uint32_t more = ipv6() ? 96 : 0;
  plane_.allow_sources(tcp_, {{address("198.51.100.64"), more + 26}, {address("198.51.100.7"), more + 32}});
  plane_.allow_sources(other_, {{address("198.51.100.128"), more + 25}});
  const std::vector<std::tuple<const char*, bool, bool>> cases{
      {"198.51.100.7", true, false},  {"198.51.100.8", false, false},  {"198.51.100.63", false, false},
      {"198.51.100.64", true, false}, {"198.51.100.127", true, false}, {"198.51.100.128", false, true},
      {"198.51.100.255", false, true}};
  uint64_t denied = 0;
  for (const auto& [client, first, second] : cases) {
    SCOPED_TRACE(client);
    EXPECT_EQ(plane_.receive(to_service(kSyn).from(at(client, 9))).action != XDP_DROP, first);
    EXPECT_EQ(plane_.receive(to_service(kSyn).from(at(client, 9)).to(other_.end)).action != XDP_DROP, second);
    EXPECT_NE(plane_.receive(udp_to_service().from(at(client, 9))).action, XDP_DROP) << "all may";
    denied += first ? 0 : 1;
    EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_SOURCE_NOT_ALLOWED), denied);
  }
}

TEST_P(SourcesTest, AKnownFlowIsCutOffToo) {
  EXPECT_NE(plane_.receive(to_service(kSyn)).action, XDP_DROP);
  plane_.allow_sources(tcp_, {{address("198.51.100.64"), ipv6() ? 122U : 26U}});
  EXPECT_EQ(plane_.receive(to_service()).action, XDP_DROP);
  EXPECT_EQ(plane_.receive(to_service().fragment(0).payload_size(900).part(0, 600)).action, XDP_DROP);
}

TEST_P(SourcesTest, AnEmptySetLetsNobodyIn) {
  plane_.allow_sources(tcp_, {});
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
}

}  // namespace
}  // namespace sluice::packets
