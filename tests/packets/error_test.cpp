// ICMP errors about flows: to the end that sent what they quote, and rewritten as that end knows it.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "tests/packets/checksum_oracle.h"
#include "tests/packets/tunnel.h"

namespace sluice::packets {
namespace {

const Address kRouter = Address::of("198.18.77.1");

struct ErrorKind {
  const char* name;
  uint8_t type4, code4, type6, code6;
  uint32_t rest;
};
constexpr ErrorKind kErrors[] = {{"unreachable", 3, 1, 1, 0, 0},
                                 {"too big", 3, 4, 2, 0, 1300},
                                 {"time exceeded", 11, 0, 3, 0, 0},
                                 {"parameter problem", 12, 0, 4, 0, 0}};

// An error about a packet: quotes `bytes` of it.
Packet error_about(const ErrorKind& kind, const Address& from, const Address& to, const Packet& about,
                   size_t bytes = 65535) {
  Bytes quoted = about.ip_packet();
  quoted.resize(std::min(bytes, quoted.size()));
  const bool ipv6 = to.ipv6();
  return Packet::icmp(from, to, ipv6 ? kind.type6 : kind.type4, ipv6 ? kind.code6 : kind.code4,
                      Writer().u32(kind.rest).bytes(quoted));
}
// What an error quotes, where that is whole.
Bytes quoted_in(const Frame& frame) {
  return {frame.begin() + static_cast<ptrdiff_t>(transport_at(frame)) + 8, frame.end()};
}

// --- nat: both directions come by here

class NatErrors : public DataplaneTest, public ::testing::WithParamInterface<Family> {
 protected:
  NatErrors() : DataplaneTest(GetParam()) {
    tcp_ = plane_.add_service(service_end_, kTcp, {nat_backend()});
    udp_ = plane_.add_service(service_end_, kUdp, {nat_backend()});
    plane_.receive(to_service(kSyn));
    plane_.receive(udp_to_service());
  }
  // What the backend was sent, and what the client was.
  [[nodiscard]] Packet sent_to_backend(const Packet& packet) const {
    return Packet(packet).from(nat_source(packet)).to(nat_end_).ttl(60);
  }
  [[nodiscard]] Packet as_client_sent(const Packet& packet) const { return Packet(packet).ttl(60); }
  [[nodiscard]] Packet sent_to_client(const Packet& packet) const {
    return Packet(packet).from(service_end_).to(client_).ttl(50);
  }
  [[nodiscard]] Packet as_backend_sent(const Packet& packet) const {
    return Packet(packet).from(nat_end_).to(nat_source(packet)).ttl(50);
  }
  Service tcp_, udp_;
};
INSTANTIATE_TEST_SUITE_P(Families, NatErrors, kFamilies, family_name);

TEST_P(NatErrors, OfTheBackendsSideReachTheClientAboutWhatItSent) {
  const Address router = here(kRouter);
  uint64_t forwarded = 0;
  for (const ErrorKind& kind : kErrors) {
    SCOPED_TRACE(kind.name);
    for (const Packet& packet : {to_service().payload_size(30), udp_to_service()}) {
      // From a router on the way, and from the backend itself.
      for (const Address& from : {router, nat_end_.address}) {
        const Packet error = error_about(kind, from, address("10.9.0.1"), sent_to_backend(packet));
        const Outcome outcome = plane_.receive(Packet(error).macs(kBackendMac, kLanMac));
        EXPECT_EQ(outcome.action, XDP_TX);
        const Address seen_from = from == router ? router : service_end_.address;
        const Packet expected = error_about(kind, seen_from, client_.address, as_client_sent(packet));
        EXPECT_TRUE(same_frame(outcome.frame, Packet(expected).macs(kLanMac, kRouterMac).ttl(63).frame()));
        EXPECT_EQ(packet_error(quoted_in(outcome.frame)), "");
        EXPECT_EQ(plane_.counted(SLUICE_REASON_ERROR_FORWARDED), ++forwarded);
      }
    }
  }
}

TEST_P(NatErrors, OfTheClientsSideReachTheBackendAboutWhatItSent) {
  const Address router = here(kRouter);
  for (const ErrorKind& kind : kErrors) {
    SCOPED_TRACE(kind.name);
    for (const Packet& packet : {to_service().payload_size(30), udp_to_service()}) {
      const Packet error = error_about(kind, router, service_end_.address, sent_to_client(packet));
      const Outcome outcome = plane_.receive(Packet(error).macs(kRouterMac, kLanMac));
      EXPECT_EQ(outcome.action, XDP_REDIRECT);
      const Packet expected = error_about(kind, address("10.9.0.1"), nat_end_.address,
                                          Packet(packet).from(nat_end_).to(nat_source(packet)).ttl(50));
      EXPECT_TRUE(same_frame(outcome.frame, Packet(expected).macs(kCoreMac, kBackendMac).ttl(63).frame()));
      EXPECT_EQ(packet_error(quoted_in(outcome.frame)), "");
    }
  }
}

TEST_P(NatErrors, EightBytesOfTheQuotedPacketWillDo) {
  const size_t least = (ipv6() ? 40 : 20) + 8;
  for (const size_t bytes : {least, least + 4, least + 12}) {
    SCOPED_TRACE(bytes);
    const Packet error = error_about(kErrors[0], here(kRouter), address("10.9.0.1"),
                                     sent_to_backend(to_service().payload_size(200)), bytes);
    const Outcome outcome = plane_.receive(Packet(error).macs(kBackendMac, kLanMac));
    const Packet expected =
        error_about(kErrors[0], here(kRouter), client_.address, as_client_sent(to_service().payload_size(200)), bytes);
    EXPECT_TRUE(same_frame(outcome.frame, Packet(expected).macs(kLanMac, kRouterMac).ttl(63).frame()));
  }
}

// What lies behind the IP packet in the frame is no part of what it quotes.
TEST_P(NatErrors, QuoteWhatTheirLengthSaysAndNotWhatFollowsIt) {
  const size_t least = (ipv6() ? 40 : 20) + 8;
  for (const size_t bytes : {least, least + 8}) {
    SCOPED_TRACE(bytes);
    const Packet about = to_service().payload_size(200);
    const Packet from_router =
        error_about(kErrors[0], here(kRouter), address("10.9.0.1"), sent_to_backend(about), bytes);
    const Packet to_client = error_about(kErrors[0], here(kRouter), client_.address, as_client_sent(about), bytes);
    EXPECT_TRUE(same_frame(plane_.receive(Packet(from_router).macs(kBackendMac, kLanMac).padding(30)).frame,
                           Packet(to_client).macs(kLanMac, kRouterMac).ttl(63).padding(30).frame()));
    const Packet of_client = error_about(kErrors[0], here(kRouter), service_end_.address, sent_to_client(about), bytes);
    const Packet to_backend = error_about(kErrors[0], here(kRouter), nat_end_.address, as_backend_sent(about), bytes);
    EXPECT_TRUE(same_frame(
        plane_.receive(Packet(of_client).macs(kRouterMac, kLanMac).padding(30)).frame,
        Packet(to_backend).from({address("10.9.0.1"), 0}).macs(kCoreMac, kBackendMac).ttl(63).padding(30).frame()));
  }
}

TEST_P(NatErrors, WhoseQuotationEndsBeforeThePortsAreAboutNoFlow) {
  const auto shorter = [&](const Packet& error, size_t by) {
    return Packet(error).total_length(static_cast<uint16_t>(error.ip_packet().size() - by));
  };
  const size_t bytes = (ipv6() ? 40 : 20) + 4;
  const Packet of_backend =
      error_about(kErrors[0], here(kRouter), address("10.9.0.1"), sent_to_backend(to_service()), bytes);
  EXPECT_EQ(plane_.receive(shorter(of_backend, 1).macs(kBackendMac, kLanMac)).action, XDP_PASS);
  const Packet of_client =
      error_about(kErrors[0], here(kRouter), service_end_.address, sent_to_client(to_service()), bytes);
  EXPECT_EQ(plane_.receive(shorter(of_client, 1).macs(kRouterMac, kLanMac)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NO_FLOW), 1U);
  EXPECT_EQ(plane_.receive(shorter(of_client, 0).macs(kRouterMac, kLanMac)).action, XDP_REDIRECT);
}

TEST_P(NatErrors, AboutNoFlowOfOursAreTheNodesOwn) {
  Packet other = sent_to_backend(to_service());
  other.from({other.source().address, static_cast<uint16_t>(other.source().port ^ 1)});
  const Packet error = error_about(kErrors[0], here(kRouter), address("10.9.0.1"), other);
  EXPECT_EQ(plane_.receive(Packet(error).macs(kBackendMac, kLanMac)).action, XDP_PASS);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_OWN_TRAFFIC), 1U);
}

TEST_P(NatErrors, AboutNoFlowOfTheServicesAreDropped) {
  const Packet other = Packet::tcp(service_end_, at("198.51.100.9", 9));
  const Packet error = error_about(kErrors[0], here(kRouter), service_end_.address, other);
  EXPECT_EQ(plane_.receive(Packet(error).macs(kRouterMac, kLanMac)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NO_FLOW), 1U);
  EXPECT_EQ(plane_.flows().size(), 2U) << "nor is a flow made";
}

TEST_P(NatErrors, DoNotTouchTheRecord) {
  const Flow before = *plane_.flow(nat_end_, nat_source(to_service()), kTcp, SLUICE_FLOW_NAT);
  plane_.age(before, 30);
  const Packet error = error_about(kErrors[0], here(kRouter), service_end_.address, sent_to_client(to_service(kRst)));
  plane_.receive(Packet(error).macs(kRouterMac, kLanMac));
  const Flow after = *plane_.flow(nat_end_, nat_source(to_service()), kTcp, SLUICE_FLOW_NAT);
  EXPECT_EQ(after.state, before.state);
  EXPECT_GE(plane_.jiffies() - after.seen, 29 * Dataplane::jiffies_per_second());
}

TEST_P(NatErrors, WhoseTtlEndsHereAreDropped) {
  const Packet error = error_about(kErrors[0], here(kRouter), service_end_.address, sent_to_client(to_service()));
  EXPECT_EQ(plane_.receive(Packet(error).macs(kRouterMac, kLanMac).ttl(1)).action, XDP_DROP);
  const Packet back = error_about(kErrors[0], here(kRouter), address("10.9.0.1"), sent_to_backend(to_service()));
  EXPECT_EQ(plane_.receive(Packet(back).macs(kBackendMac, kLanMac).ttl(1)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_TTL_EXCEEDED), 2U);
}

TEST_P(NatErrors, ThatAreTruncatedAnywhereDoNoHarm) {
  const Frame whole = Packet(error_about(kErrors[0], here(kRouter), service_end_.address, sent_to_client(to_service())))
                          .macs(kRouterMac, kLanMac)
                          .frame();
  for (size_t size = 14; size < whole.size(); size++) {
    const Frame cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    plane_.receive(cut);
  }
  EXPECT_EQ(plane_.flows().size(), 2U);
}

// --- local

class LocalErrors : public DataplaneTest, public ::testing::WithParamInterface<Family> {
 protected:
  LocalErrors() : DataplaneTest(GetParam()) {
    tcp_ = plane_.add_service(service_end_, kTcp, {local_backend(local_end_)});
    udp_ = plane_.add_service(service_end_, kUdp, {local_backend(local_end_)});
    plane_.receive(to_service(kSyn));
    plane_.receive(udp_to_service());
  }
  Service tcp_, udp_;
};
INSTANTIATE_TEST_SUITE_P(Families, LocalErrors, kFamilies, family_name);

TEST_P(LocalErrors, OfTheClientsSideAreDeliveredAboutWhatTheBackendSent) {
  for (const ErrorKind& kind : kErrors) {
    SCOPED_TRACE(kind.name);
    for (const Packet& packet : {to_service().payload_size(30), udp_to_service()}) {
      const Packet error =
          error_about(kind, here(kRouter), service_end_.address, Packet(packet).from(service_end_).to(client_).ttl(50));
      const Outcome outcome = plane_.receive(Packet(error).macs(kRouterMac, kLanMac));
      EXPECT_EQ(outcome.action, XDP_PASS);
      const Packet expected =
          error_about(kind, here(kRouter), local_end_.address, Packet(packet).from(local_end_).to(client_).ttl(50));
      EXPECT_TRUE(same_frame(outcome.frame, Packet(expected).macs(kRouterMac, kLanMac).frame()));
    }
  }
}

TEST_P(LocalErrors, OfAFlowWhosePortWasChangedSayTheChangedPort) {
  const Endpoint other_end = at("203.0.113.11", 80);
  plane_.add_service(other_end, kTcp, {local_backend(local_end_)});
  const Packet packet = to_service(kSyn).to(other_end);
  const Endpoint seen_as = plane_.receive(packet).source();
  ASSERT_NE(seen_as, client_);
  const Packet error =
      error_about(kErrors[1], here(kRouter), other_end.address, Packet(packet).from(other_end).to(client_));
  const Packet expected =
      error_about(kErrors[1], here(kRouter), local_end_.address, Packet(packet).from(local_end_).to(seen_as));
  EXPECT_TRUE(same_frame(plane_.receive(Packet(error).macs(kRouterMac, kLanMac)).frame,
                         Packet(expected).macs(kRouterMac, kLanMac).frame()));
}

// --- behind a tunnel

class TunnelErrors : public TunnelTest {
 protected:
  TunnelErrors() {
    tcp_ = plane_.add_service(service_end_, kTcp, {behind(1, far_), behind(2, farther_), local_backend(local_end_)});
    plane_.name_backend(tcp_, 2);
    plane_.set_planes(tcp_, {std::vector<uint16_t>(8, 0)});
  }
  [[nodiscard]] Packet error() const {
    return error_about(kErrors[1], here(kRouter), service_end_.address, Packet::tcp(service_end_, client_).ttl(50))
        .macs(kRouterMac, kLanMac);
  }
  // As an inner packet: of the flow's hash and candidates.
  [[nodiscard]] Tunnelled tunnelled(uint32_t peer, std::vector<Endpoint> candidates, std::vector<Address> nodes) const {
    Tunnelled sent = to_peer(peer, to_service(), std::move(candidates), std::move(nodes));
    sent.inner = Packet(error()).ttl(63).ip_packet();
    return sent;
  }
  Endpoint far_ = at("10.244.1.5", 8080), farther_ = at("10.244.2.5", 8080);
  Service tcp_;
};
INSTANTIATE_TEST_SUITE_P(Families, TunnelErrors, kTunnelFamilies, tunnel_name);

TEST_P(TunnelErrors, GoToTheBackendsNodeWhereTheFlowWouldGo) {
  const Outcome outcome = plane_.receive(error());
  EXPECT_EQ(outcome.action, XDP_TX);
  EXPECT_TRUE(same_frame(outcome.frame, tunnelled(1, {far_}, {}).frame()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_ERROR_FORWARDED), 1U);
}

TEST_P(TunnelErrors, NameAllCandidatesOfTheFlowsSlot) {
  plane_.set_planes(tcp_, {std::vector<uint16_t>(8, 1), std::vector<uint16_t>(8, 0)});
  EXPECT_TRUE(same_frame(plane_.receive(error()).frame, tunnelled(2, {farther_, far_}, {node1_}).frame()));
}

TEST_P(TunnelErrors, OutOfATunnelAreDeliveredToTheFlowsBackend) {
  plane_.receive(from_peer(1, to_service(kSyn), {local_end_}).frame());
  Tunnelled sent = from_peer(1, to_service(), {local_end_});
  sent.inner = error().ip_packet();
  const Outcome outcome = plane_.receive(sent.frame());
  EXPECT_EQ(outcome.action, XDP_PASS);
  const Packet expected =
      error_about(kErrors[1], here(kRouter), local_end_.address, Packet::tcp(local_end_, client_).ttl(50));
  EXPECT_TRUE(same_frame(outcome.frame, Packet(expected).macs(sent.source_mac, kLanMac).frame()));
}

TEST_P(TunnelErrors, OutOfATunnelWithoutRecordAreHandedOnAndAtTheLastDropped) {
  Tunnelled sent = from_peer(1, to_service(), {local_end_, farther_}, {node2_});
  sent.inner = Packet(error()).ttl(63).ip_packet();
  Tunnelled expected = tunnelled(2, {farther_}, {});
  expected.hops = SLUICE_TUNNEL_HOPS - 1;
  EXPECT_TRUE(same_frame(plane_.receive(sent.frame()).frame, expected.frame()));
  sent.candidates = {local_end_};
  sent.nodes = {};
  EXPECT_EQ(plane_.receive(sent.frame()).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NO_FLOW), 1U);
  EXPECT_TRUE(plane_.flows().empty());
}

}  // namespace
}  // namespace sluice::packets
