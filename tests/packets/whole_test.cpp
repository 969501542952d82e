// Backends without Sluice: sent on to as it is, by their MAC, or in IP; without a record.
#include <linux/bpf.h>

#include "tests/packets/icmp.h"
#include "tests/packets/whole.h"

namespace sluice::packets {
namespace {

INSTANTIATE_TEST_SUITE_P(Forwarding, WholeTest, kWholes, whole_name);

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
  Backend backend = real(0);
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
  Backend backend = real(0);
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
