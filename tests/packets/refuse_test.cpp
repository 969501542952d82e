// What a client is told whose packet goes nowhere, and what nobody is told.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "bpf/sluice.skel.h"
#include "tests/packets/checksum_oracle.h"
#include "tests/packets/icmp.h"

namespace sluice::packets {
namespace {

class RefuseTestOf : public DataplaneTest {
 protected:
  explicit RefuseTestOf(Family family) : DataplaneTest(family) {
    tcp_ = plane_.add_service(service_end_, kTcp, {});
    udp_ = plane_.add_service(service_end_, kUdp, {});
  }
  Service tcp_, udp_;
};
class Refuse : public RefuseTestOf, public ::testing::WithParamInterface<Family> {
 protected:
  Refuse() : RefuseTestOf(GetParam()) {}
  // The reset that RFC 9293, section 3.10.7.1, wants.
  [[nodiscard]] Frame reset(uint8_t flags, uint32_t sequence, uint32_t acknowledges) const {
    Packet answer = Packet::tcp(service_end_, client_, flags).macs(kLanMac, kRouterMac).ttl(64).id(0);
    Frame frame = answer.sequence(sequence).acknowledges(acknowledges).frame();
    return frame;
  }
};
INSTANTIATE_TEST_SUITE_P(Families, Refuse, kFamilies, family_name);

// The fields of a TCP header that matter.
struct Segment {
  uint32_t sequence, acknowledges;
  uint8_t flags;
  friend bool operator==(const Segment&, const Segment&) = default;
};
std::ostream& operator<<(std::ostream& out, const Segment& s) {
  return out << "seq " << s.sequence << " ack " << s.acknowledges << " flags " << int{s.flags};
}
Segment segment_of(const Frame& frame) {
  const size_t at = transport_at(frame);
  const auto word = [&](size_t offset) {
    return static_cast<uint32_t>(word_at(frame, at + offset)) << 16 | word_at(frame, at + offset + 2);
  };
  return {.sequence = word(4), .acknowledges = word(8), .flags = frame[at + 13]};
}

TEST_P(Refuse, ASegmentIsAnsweredWithTheResetThatItsSenderExpects) {
  const struct {
    uint8_t flags;
    size_t payload;
    Segment reset;
  } cases[] = {{kSyn, 0, {0, kSequence + 1, kRst | kAck}},
               {kSyn, 7, {0, kSequence + 8, kRst | kAck}},
               {kFin, 5, {0, kSequence + 6, kRst | kAck}},
               {0, 9, {0, kSequence + 9, kRst | kAck}},
               {kAck, 0, {0x77, 0, kRst}},
               {kAck | kPsh, 400, {0x77, 0, kRst}},
               {kSyn | kAck, 0, {0x77, 0, kRst}},
               {kFin | kAck, 0, {0x77, 0, kRst}}};
  uint64_t refused = 0;
  for (const auto& c : cases) {
    SCOPED_TRACE(int{c.flags});
    const Packet packet = to_service(c.flags).acknowledges(0x77).payload_size(c.payload).tcp_options(2);
    const Outcome outcome = plane_.receive(packet);
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_EQ(outcome.source(), service_end_);
    EXPECT_EQ(outcome.destination(), client_);
    EXPECT_EQ(segment_of(outcome.frame), c.reset);
    EXPECT_EQ(outcome.frame.size(), (ipv6() ? 54U : 34U) + 20);
    EXPECT_EQ(checksum_error(outcome.frame), "");
    EXPECT_TRUE(std::equal(kRouterMac.begin(), kRouterMac.end(), outcome.frame.begin()));
    EXPECT_TRUE(std::equal(kLanMac.begin(), kLanMac.end(), outcome.frame.begin() + 6));
    EXPECT_EQ(plane_.counted(SLUICE_REASON_REFUSAL_TOLD), ++refused);
  }
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_NO_BACKEND), refused);
}

TEST_P(Refuse, AResetIsNotAnswered) {
  for (const int flags : {int{kRst}, kRst | kAck, kRst | kSyn})
    EXPECT_EQ(plane_.receive(to_service(static_cast<uint8_t>(flags))).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_NO_BACKEND), 3U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_REFUSAL_TOLD), 0U);
}

TEST_P(Refuse, ADatagramIsAnsweredWithPortUnreachableThatQuotesIt) {
  for (const size_t size : {0U, 1U, 2U, 3U, 30U, 100U, 1200U}) {
    SCOPED_TRACE(size);
    const Packet packet = udp_to_service().payload_size(size);
    const Outcome outcome = plane_.receive(packet);
    ASSERT_EQ(told(outcome, packet), kPortUnreachable);
    EXPECT_EQ(checksum_error(outcome.frame), "");
    // At least the header and eight bytes, as they came.
    const Bytes quoted(outcome.frame.begin() + (ipv6() ? 62 : 42), outcome.frame.end());
    const Bytes whole = packet.ip_packet();
    EXPECT_GE(quoted.size(), std::min<size_t>(whole.size() & ~size_t{3}, ipv6() ? 100 : 60));
    ASSERT_LE(quoted.size(), whole.size());
    EXPECT_TRUE(std::equal(quoted.begin(), quoted.end(), whole.begin()));
    // RFC 4443: no more than fits the least MTU; RFC 1812: 576 bytes.
    EXPECT_LE(outcome.frame.size() - 14, ipv6() ? 1280U : 576U);
  }
  EXPECT_EQ(plane_.counted(udp_, SLUICE_REASON_NO_BACKEND), 7U);
}

TEST_P(Refuse, APortThatNoServiceIsAtIsRefused) {
  EXPECT_EQ(told(plane_.receive(to_service(kSyn).to(at("203.0.113.10", 81))), to_service().to(at("203.0.113.10", 81))),
            kReset);
  EXPECT_EQ(
      told(plane_.receive(udp_to_service().to(at("203.0.113.10", 81))), udp_to_service().to(at("203.0.113.10", 81))),
      kPortUnreachable);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NO_SERVICE), 2U);
  EXPECT_EQ(plane_.counted(SLUICE_NO_SERVICE, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_NO_SERVICE), 2U);
}

TEST_P(Refuse, AnAddressThatIsTheNodesTooIsLeftToTheNode) {
  plane_.set_key(address("203.0.113.10"), 0, 0, SLUICE_ADDRESS_SERVICE | SLUICE_ADDRESS_NODE);
  EXPECT_EQ(plane_.receive(to_service(kSyn).to(at("203.0.113.10", 81))).action, XDP_PASS);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_OWN_TRAFFIC), 1U);
  EXPECT_EQ(told(plane_.receive(to_service(kSyn)), to_service()), kReset) << "but for the service itself";
}

TEST_P(Refuse, AnswersAreLimitedForEachPrefixAndOthersAreStillAnswered) {
  const auto answered = [&](const std::string& client, int count) {
    int answers = 0;
    for (int i = 0; i < count; i++) {
      const Packet packet = udp_to_service().from(at(client, static_cast<uint16_t>(1000 + i)));
      answers += told(plane_.receive(packet), packet) == kPortUnreachable ? 1 : 0;
    }
    return answers;
  };
  const int first = answered("198.51.100.7", 400);
  EXPECT_GE(first, 50);  // at once; more as time goes by
  EXPECT_LT(first, 300);
  if (!ipv6()) {
    EXPECT_LT(answered("198.51.100.8", 100), 60) << "of the same prefix";
  }
  EXPECT_GE(answered("198.51.101.7", 50), 45) << "of another";
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NO_BACKEND), plane_.counted(udp_, SLUICE_REASON_NO_BACKEND)) << "all count";
}

// The CPU's bucket, written by hand: packets cannot be sent here as fast as it fills.
TEST_P(Refuse, ThereIsALimitForAllTogether) {
  struct Bucket {
    uint32_t tokens, filled;
  };
  const int map = bpf_map__fd(plane_.skeleton()->maps.answer_bucket);
  std::vector<Bucket> buckets(static_cast<size_t>(libbpf_num_possible_cpus()));
  const uint32_t zero = 0;
  const auto set = [&](Bucket all) {
    std::fill(buckets.begin(), buckets.end(), all);
    ASSERT_EQ(bpf_map_update_elem(map, &zero, buckets.data(), BPF_ANY), 0);
  };
  uint32_t prefix = 0;
  const auto answered = [&] {
    Endpoint from = client_;
    from.address = ipv6() ? Address::of("2001:db8:ff00:" + std::to_string(prefix++) + "::1")
                          : Address(ip("100.70.0.1") + 256 * prefix++);
    const Packet packet = to_service(kSyn).from(from);
    return told(plane_.receive(packet), packet) == kReset;
  };
  set({.tokens = 0, .filled = plane_.jiffies() - 60 * Dataplane::jiffies_per_second()});
  EXPECT_TRUE(answered());
  ASSERT_EQ(bpf_map_lookup_elem(map, &zero, buckets.data()), 0);
  const uint32_t most = 999 * Dataplane::jiffies_per_second();
  EXPECT_EQ(std::count_if(buckets.begin(), buckets.end(), [most](const Bucket& one) { return one.tokens == most; }), 1)
      << "after a minute a thousand, less one";
  // Empty, and no tick of the clock between.
  for (int attempt = 0; attempt < 100; attempt++) {
    const uint32_t now = plane_.jiffies();
    set({.tokens = 0, .filled = now});
    const bool told = answered();
    if (plane_.jiffies() != now) continue;
    EXPECT_FALSE(told);
    return;
  }
  FAIL() << "a hundred packets took a tick each";
}

struct Case {
  const char* name;
  std::function<Packet(const Packet&)> change;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

class NobodyIsTold : public RefuseTestOf, public ::testing::WithParamInterface<std::tuple<Case, Family>> {
 protected:
  NobodyIsTold() : RefuseTestOf(std::get<Family>(GetParam())) {}
};

TEST_P(NobodyIsTold, InTheNameOfWhoIsNoSingleHost) {
  for (const Packet& packet : {to_service(kSyn), udp_to_service()}) {
    const Outcome outcome = plane_.receive(std::get<Case>(GetParam()).change(packet));
    EXPECT_EQ(outcome.action, XDP_DROP);
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NO_BACKEND), 2U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_REFUSAL_TOLD), 0U);
}

std::string case_name(const ::testing::TestParamInfo<std::tuple<Case, Family>>& info) {
  return std::get<Case>(info.param).name + name_of(std::get<Family>(info.param));
}
Case from(const char* name, const char* source) {
  return {name, [source](const Packet& p) { return Packet(p).from(packets::at(source, 7)); }};
}
INSTANTIATE_TEST_SUITE_P(OfIpv4, NobodyIsTold,
                         ::testing::Combine(::testing::Values(from("Multicast", "224.0.0.5"), from("Any", "0.0.0.0"),
                                                              from("Broadcast", "255.255.255.255"),
                                                              from("Reserved", "240.0.0.1"),
                                                              from("Loopback", "127.0.0.1")),
                                            ::testing::Values(Family::ipv4)),
                         case_name);
INSTANTIATE_TEST_SUITE_P(OfIpv6, NobodyIsTold,
                         ::testing::Combine(::testing::Values(from("Multicast", "ff02::5"), from("Any", "::"),
                                                              from("Loopback", "::1")),
                                            ::testing::Values(Family::ipv6)),
                         case_name);

TEST_P(Refuse, FragmentsAreNotAnswered) {
  const Packet packet = udp_to_service().payload_size(2000);
  EXPECT_EQ(plane_.receive(packet.part(0, 1200)).action, XDP_DROP);
  EXPECT_EQ(plane_.receive(packet.part(1200, 1200)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_REFUSAL_TOLD), 0U);
  EXPECT_EQ(plane_.counted(udp_, SLUICE_REASON_NO_BACKEND), 2U);
}

TEST_P(Refuse, ErrorsAreNotAnswered) {
  // About a packet that we never sent.
  const Bytes quoted = Packet::tcp(service_end_, client_).ip_packet();
  const Packet error =
      Packet::icmp(client_.address, service_end_.address, ipv6() ? 1 : 3, ipv6() ? 4 : 3, Writer().u32(0).bytes(quoted))
          .macs(kRouterMac, kLanMac);
  EXPECT_EQ(plane_.receive(error).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_REFUSAL_TOLD), 0U);
}

TEST_P(Refuse, WhatIsMalformedOrNotAllowedIsNotAnswered) {
  EXPECT_EQ(plane_.receive(udp_to_service().udp_length(3)).action, XDP_DROP);
  plane_.allow_sources(tcp_, {{address("198.51.100.128"), ipv6() ? 121U : 25U}});
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_SOURCE_NOT_ALLOWED), 1U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_REFUSAL_TOLD), 0U);
}

}  // namespace
}  // namespace sluice::packets
