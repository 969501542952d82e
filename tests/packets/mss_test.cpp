// The maximum segment size that a local backend offers a client whose packets come through a tunnel: no more than the
// tunnel carries (RFC 9293, section 3.7.1).
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "tests/packets/tunnel.h"

namespace sluice::packets {
namespace {

constexpr uint16_t kFits4 = 1400, kFits6 = 1390;
constexpr uint8_t kEnd = 0, kNone = 1;

Bytes mss(unsigned value) {
  return Writer().u8(2).u8(4).u16(value);
}
Bytes operator+(const Bytes& a, const Bytes& b) {
  return Writer().bytes(a).bytes(b);
}

class Mss : public TunnelTest {
 protected:
  Mss() {
    service_ = plane_.add_service(service_end_, kTcp, {local_backend(local_end_)});
    plane_.name_backend(service_, 0);
    set_peer(1, SLUICE_PEER_USABLE, kFits4, kFits6);
  }
  void begin_by_tunnel() { plane_.receive(from_peer(1, to_service(kSyn).ttl(63), {local_end_}).frame()); }
  // What fits the tunnel, without headers.
  [[nodiscard]] unsigned most() const { return ipv6() ? kFits6 - 60U : kFits4 - 40U; }
  [[nodiscard]] Packet answer(const Bytes& options, uint8_t flags = kSyn | kAck) const {
    return Packet::tcp(local_end_, client_, flags).macs(kLanMac, kRouterMac).tcp_options(options);
  }
  // An answer with these options leaves with those. Dataplane::send() looks at its checksums.
  void expect_becomes(const Bytes& options, const Bytes& expected) {
    const Outcome outcome = plane_.send(answer(options));
    EXPECT_EQ(outcome.action, TC_ACT_UNSPEC);
    EXPECT_TRUE(same_frame(outcome.frame, answer(expected).from(service_end_).frame()));
  }
  void expect_kept(const Bytes& options) { expect_becomes(options, options); }
  Service service_;
};
INSTANTIATE_TEST_SUITE_P(Families, Mss, kTunnelFamilies, tunnel_name);

TEST_P(Mss, OfASynAckThroughATunnelIsWhatTheTunnelCarries) {
  begin_by_tunnel();
  expect_becomes(mss(1460), mss(most()));
  expect_becomes(mss(65535), mss(most()));
  expect_becomes(mss(most() + 1), mss(most()));
}

TEST_P(Mss, ThatIsSmallerIsKept) {
  begin_by_tunnel();
  for (const unsigned value : {most(), most() - 1, 536U, 0U}) expect_kept(mss(value));
}

TEST_P(Mss, OfASynAckThatTheClientsSynIsRetransmittedForIsLoweredAgain) {
  for (int i = 0; i < 2; i++) {
    begin_by_tunnel();
    expect_becomes(mss(1460), mss(most()));
  }
}

TEST_P(Mss, OfAClientThatCameByNoTunnelIsKept) {
  plane_.receive(to_service(kSyn));
  expect_kept(mss(1460));
}

TEST_P(Mss, StandsAnywhereAmongTheOptions) {
  begin_by_tunnel();
  const Bytes sack{4, 2}, scale{3, 3, 7}, stamps = Writer().u8(8).u8(10).u64(0x1122334455667788), none{kNone};
  for (const auto& [before, after] : std::vector<std::pair<Bytes, Bytes>>{
           {{}, sack + none + scale + none + none},
           {sack + stamps, {}},
           {none + none + none + none, none + none + scale + none + none + none},
           {scale + none, stamps + none + none},  // as Linux orders them: even
           {Bytes(36, kNone), {}},                // the last of forty bytes
       }) {
    const Bytes padding((4 - (before.size() + 4 + after.size()) % 4) % 4, kNone);
    expect_becomes(before + mss(1460) + after + padding, before + mss(most()) + after + padding);
  }
}

TEST_P(Mss, AtAnOddPlaceIsLoweredWithItsChecksum) {
  begin_by_tunnel();
  const Bytes scale{3, 3, 7};
  for (const Bytes& before : {Bytes{kNone}, scale, Bytes{kNone, kNone, kNone}, scale + Bytes{4, 2}})
    for (const unsigned value : {1460U, 0xffffU, most() + 0x100U, most() + 1}) {
      const Bytes padding((8 - (before.size() + 4)) % 4, kNone);
      expect_becomes(before + mss(value) + padding, before + mss(most()) + padding);
    }
}

TEST_P(Mss, ThatIsNotThereIsNotAdded) {
  begin_by_tunnel();
  expect_kept({});
  expect_kept({4, 2, kNone, kNone});
  expect_kept(Bytes(40, kNone));
}

TEST_P(Mss, BehindTheEndOfOptionsIsNone) {
  begin_by_tunnel();
  expect_kept(Bytes{kEnd} + mss(1460) + Bytes{0, 0, 0});
}

TEST_P(Mss, OptionsThatAreTruncatedOrWrongStayAsTheyAre) {
  begin_by_tunnel();
  for (const Bytes& options : {
           Bytes{kNone, kNone, 2, 4},                        // its value is the payload's
           Bytes{kNone, kNone, kNone, 2},                    // and its length, too
           Bytes{kNone, 2, 4, 0x05},                         // half of it
           Bytes{2, 3, 0x05, 0xb4},                          // a length of three
           Bytes{2, 5, 0x05, 0xb4, 0, kNone, kNone, kNone},  // of five
           Bytes{3, 0, 0, 0} + mss(1460),                    // an option of no length
           Bytes{3, 1, 0, 0} + mss(1460),                    // of one
           Bytes{8, 60, 0, 0} + mss(1460),                   // that ends behind them all
       }) {
    const Packet packet = answer(options).payload(Bytes{0xff, 0xff, 0xff, 0xff});
    EXPECT_TRUE(same_frame(plane_.send(packet).frame, Packet(packet).from(service_end_).frame()));
  }
}

TEST_P(Mss, InOtherSegmentsIsNobodys) {
  begin_by_tunnel();
  for (const int flags : {int{kAck}, int{kSyn}, kFin | kAck, int{kRst}}) {
    const Packet packet = answer(mss(1460), static_cast<uint8_t>(flags));
    EXPECT_TRUE(same_frame(plane_.send(packet).frame, Packet(packet).from(service_end_).frame())) << flags;
  }
}

TEST_P(Mss, OfAnAnswerWithIpOptionsOrExtensionHeadersIsLoweredToo) {
  begin_by_tunnel();
  const auto longer = [this](Packet packet) {
    return ipv6() ? packet.extension(60, Writer().u8(0).u8(1).u8(4).u32(0)) : packet.ip_options(3);
  };
  EXPECT_TRUE(
      same_frame(plane_.send(longer(answer(mss(1460)))).frame, longer(answer(mss(most())).from(service_end_)).frame()));
}

TEST_P(Mss, FollowsWhatTheTunnelCarriesWhenTheFlowBegins) {
  set_peer(1, SLUICE_PEER_USABLE, 1300, 1290);
  begin_by_tunnel();
  expect_becomes(mss(1460), mss(ipv6() ? 1230 : 1260));
}

TEST_P(Mss, OfATunnelThatCarriesNoMoreThanHeadersIsKept) {
  set_peer(1, SLUICE_PEER_USABLE, 40, 60);
  begin_by_tunnel();
  expect_kept(mss(1460));
}

}  // namespace
}  // namespace sluice::packets
