// Every packet is counted with one verdict, whichever stages it goes through. Dataplane::receive() looks at that for
// each packet of each test; here are many more, whole, cut off at each length and with each byte of their headers
// changed.
#include <arpa/inet.h>
#include <linux/bpf.h>

#include <algorithm>
#include <fstream>

#include "tests/packets/tunnel.h"

namespace sluice::packets {
namespace {

class Verdict : public TunnelTest {
 protected:
  Verdict() {
    uint16_t port = 80;
    for (const Backend& backend :
         {local_backend(local_end_), nat_backend(), behind(1, far_),
          Backend{.end = real_, .forwarding = SLUICE_FORWARD_DIRECT, .egress = kLanEgress, .mac = kNeighbourMac},
          Backend{.end = real_, .forwarding = SLUICE_FORWARD_IPIP, .egress = kLanEgress, .mac = kNeighbourMac}}) {
      for (const uint8_t protocol : {kTcp, kUdp})
        services_.push_back(plane_.add_service(end(port), protocol, {backend}));
      port++;
    }
    plane_.name_backend(services_[0], 0);
    plane_.name_backend(services_[1], 0);
    plane_.add_service(end(kNoBackends), kTcp, {});
    plane_.add_service(end(kNoBackends), kUdp, {});
    const Service limited = plane_.add_service(end(kLimited), kTcp, {local_backend(local_end_)});
    plane_.allow_sources(limited, {{address("198.51.100.128"), ipv6() ? 121U : 25U}});
    Service moved =
        plane_.add_service(end(kMoved), kTcp, {behind(1, far_), behind(2, farther_), local_backend(local_end_)});
    plane_.set_planes(moved, {std::vector<uint16_t>(8, 1), std::vector<uint16_t>(8, 2), std::vector<uint16_t>(8, 0)});
    plane_.name_backend(moved, 2);
    plane_.own(service_end_.address, interfaces().lan, 60);
    plane_.egress(kCoreEgress).mtu = 1400;
  }
  [[nodiscard]] Endpoint end(uint16_t port) const { return {service_end_.address, port}; }
  [[nodiscard]] Packet tcp(uint16_t port, uint8_t flags = kAck) const {
    return to_service(flags).to(end(port)).payload_size(20);
  }
  [[nodiscard]] Packet udp(uint16_t port) const { return udp_to_service().to(end(port)); }
  [[nodiscard]] Packet quoting(const Packet& packet, const Address& to, uint8_t type4, uint8_t type6) const {
    return Packet::icmp(here(Address::of("198.18.77.1")), to, ipv6() ? type6 : type4, ipv6() ? 0 : 4,
                        Writer().u32(1300).bytes(packet.ip_packet()))
        .macs(kRouterMac, kLanMac);
  }

  [[nodiscard]] std::vector<Frame> to_services() const {
    std::vector<Frame> all;
    for (const uint16_t port : std::initializer_list<uint16_t>{80, 81, 82, 83, 84, kNoBackends, kLimited, kMoved, 99}) {
      for (const uint8_t flags : {kSyn, kAck}) all.push_back(tcp(port, flags).frame());
      all.push_back(udp(port).frame());
      all.push_back(tcp(port).ttl(1).frame());
      all.push_back(tcp(port).payload_size(1450).frame());
      all.push_back(tcp(port, kSyn).tag(7).frame());
      all.push_back(udp(port).tag(7).tag(100, 0x88a8).frame());
      for (const size_t first : {0U, 800U}) all.push_back(udp(port).payload_size(1000).fragment(0).part(first, 800));
      if (ipv6()) all.push_back(tcp(port).extension(60, Writer().u8(0).u8(1).u8(4).u32(0)).frame());
    }
    return all;
  }
  [[nodiscard]] std::vector<Frame> from_backends() const {
    const Packet sent = tcp(81).payload_size(0), got = Packet::udp(nat_end_, nat_source(udp(81)));
    const Packet reply = Packet::tcp(nat_end_, nat_source(tcp(81)), kSyn | kAck);
    const Packet to_backend = Packet(sent).from(nat_source(sent)).to(nat_end_);
    std::vector<Frame> all{
        Packet(reply).macs(kBackendMac, kLanMac).frame(),
        Packet(reply).macs(kBackendMac, kLanMac).ttl(1).frame(),
        Packet(reply).to({reply.destination().address, kNatLast}).macs(kBackendMac, kLanMac).frame(),
        quoting(to_backend, address("10.9.0.1"), 3, 2).frame(),
        quoting(Packet(sent).from(end(81)).to(client_), service_end_.address, 3, 2).frame(),
        quoting(Packet(sent).from(end(80)).to(client_), service_end_.address, 11, 3).frame(),
        quoting(Packet(sent).from(end(82)).to(client_), service_end_.address, 3, 2).frame(),
        quoting(Packet(sent).from(end(84)).to(client_), service_end_.address, 3, 2).frame(),
    };
    for (const size_t first : {0U, 800U})
      all.push_back(Packet(got).payload_size(1000).fragment(0).macs(kBackendMac, kLanMac).part(first, 800));
    return all;
  }
  [[nodiscard]] std::vector<Frame> out_of_tunnels() const {
    std::vector<Frame> all;
    for (const uint8_t flags : {kSyn, kAck}) {
      all.push_back(from_peer(1, tcp(80, flags), {local_end_}).frame());
      all.push_back(from_peer(1, tcp(kMoved, flags), {local_end_, far_}, {node2_}).frame());
      all.push_back(from_peer(1, tcp(kMoved, flags), {far_, local_end_}, {own_}).frame());
    }
    all.push_back(from_peer(1, udp(80), {local_end_}).frame());
    all.push_back(from_peer(1, udp(99), {local_end_}).frame());
    Tunnelled error = from_peer(1, tcp(80), {local_end_});
    error.inner = quoting(tcp(80).from(end(80)).to(client_), service_end_.address, 3, 2).ip_packet();
    all.push_back(error.frame());
    for (const size_t first : {0U, 800U}) {
      const Frame part = udp(80).payload_size(1000).fragment(0).part(first, 800);
      Tunnelled sent = from_peer(1, udp(80), {local_end_});
      sent.inner.assign(part.begin() + 14, part.end());
      all.push_back(sent.frame());
    }
    Tunnelled probe = from_peer(1, tcp(80), {});
    probe.inner.assign(64, 0);
    for (const int flags : {SLUICE_TUNNEL_PROBE, SLUICE_TUNNEL_PROBE | SLUICE_TUNNEL_ANSWER}) {
      probe.flags = static_cast<uint8_t>(flags);
      all.push_back(probe.frame());
    }
    return all;
  }
  [[nodiscard]] std::vector<Frame> others() {
    Packet ping = Packet::icmp(client_.address, service_end_.address, ipv6() ? 128 : 8, 0, Writer().u32(7));
    const Packet to_node = Packet::tcp(client_, at("192.0.2.1", 22)),
                 beyond = Packet::tcp(client_, at("192.0.2.99", 22));
    std::vector<Frame> all{
        ping.macs(kRouterMac, kLanMac).frame(),
        Packet(ping).tag(7).frame(),
        Packet(to_node).macs(kRouterMac, kLanMac).frame(),
        Packet(beyond).macs(kRouterMac, kLanMac).frame(),
        Packet(to_node).macs(kRouterMac, kOtherMac).frame(),
        Packet::other(client_.address, service_end_.address, 132, Bytes(20, 1)).macs(kRouterMac, kLanMac).frame()};
    // The kernel reads what fits the way of a tunnel packet of ours.
    const Frame own = to_peer(1, tcp(82), {far_}).frame();
    const bool outer6 = own_.ipv6();
    const Packet told = Packet::icmp(outer("192.0.2.254"), own_, outer6 ? 2 : 3, outer6 ? 0 : 4,
                                     Writer().u32(1300).range(own.data() + 14, own.size() - 14));
    all.push_back(Packet(told).macs(kRouterMac, kLanMac).frame());
    const Frame in_ip = plane_.receive(tcp(84)).frame;
    const Packet in_ip_too_big =
        Packet::icmp(address("198.18.77.1"), address("192.0.2.1"), ipv6() ? 2 : 3, ipv6() ? 0 : 4,
                     Writer().u32(1400).range(in_ip.data() + 14, in_ip.size() - 14));
    all.push_back(Packet(in_ip_too_big).macs(kRouterMac, kLanMac).frame());
    all.push_back(Arp{.source_mac = kRouterMac,
                      .destination_mac = kBroadcast,
                      .sender_mac = kRouterMac,
                      .sender = ip("192.0.2.254"),
                      .target_mac = {},
                      .target = ip("203.0.113.10")}
                      .frame());
    return all;
  }
  void receive_all(const std::vector<Frame>& frames) {
    for (const Frame& frame : frames) {
      SCOPED_TRACE(describe(frame));
      plane_.receive(frame);
      if (HasFailure()) return;
    }
  }
  // In each of its lengths, and with each byte of its headers changed. Each third of them: time is bounded.
  void receive_damaged(const std::vector<Frame>& frames) {
    for (size_t i = 0; i < frames.size(); i += 3) {
      const Frame& frame = frames[i];
      for (size_t size = 14; size < std::min<size_t>(frame.size(), 200) && !HasFailure(); size++) {
        SCOPED_TRACE(describe(frame) + " cut to " + std::to_string(size));
        plane_.receive(Frame(frame.begin(), frame.begin() + static_cast<ptrdiff_t>(size)));
      }
      for (size_t at = 12; at < std::min<size_t>(frame.size(), 150) && !HasFailure(); at++) {
        Frame changed = frame;
        changed[at] = static_cast<uint8_t>(changed[at] ^ (at % 2 == 0 ? 0x41 : 0xff));
        SCOPED_TRACE(describe(changed));
        plane_.receive(changed);
      }
    }
  }
  static constexpr uint16_t kNoBackends = 90, kLimited = 91, kMoved = 92;
  Endpoint far_ = at("10.244.1.5", 8080), farther_ = at("10.244.2.5", 8080), real_ = at("192.0.2.21", 80);
  std::vector<Service> services_;
};
INSTANTIATE_TEST_SUITE_P(Families, Verdict, kTunnelFamilies, tunnel_name);

TEST_P(Verdict, IsOneForPacketsToServices) {
  receive_all(to_services());
  receive_all(to_services());
}

TEST_P(Verdict, IsOneForRepliesAndErrors) {
  receive_all(to_services());
  receive_all(from_backends());
}

TEST_P(Verdict, IsOneForWhatComesOutOfTunnels) {
  receive_all(out_of_tunnels());
  receive_all(out_of_tunnels());
}

TEST_P(Verdict, IsOneForWhatIsNoServices) {
  receive_all(others());
}

TEST_P(Verdict, IsOneForDamagedPackets) {
  for (const auto& frames : {to_services(), from_backends(), out_of_tunnels(), others()}) {
    receive_all(frames);
    receive_damaged(frames);
  }
}

// Where the way out cannot be taken, the packet is dropped, and was not forwarded.
TEST_P(Verdict, IsOneWhereTheWayOutIsGone) {
  receive_all(to_services());
  for (const uint32_t egress : {kLanEgress, kCoreEgress}) plane_.egress(egress).ifindex = 0;
  plane_.peer(1).next_hop = plane_.peer(2).next_hop = 0;
  for (const auto& frames : {to_services(), from_backends(), out_of_tunnels(), others()}) receive_all(frames);
}

TEST_P(Verdict, IsOneWhereThereIsNoRoomForFlows) {
  plane_.shares(0).flows4 = plane_.shares(0).flows6 = plane_.shares(0).half_open4 = plane_.shares(0).half_open6 = 4096;
  for (const auto& frames : {to_services(), from_backends(), out_of_tunnels()}) receive_all(frames);
}

// --- what people are told of it

TEST(Reasons, AreAllInTheManualWithTheirKind) {
  std::ifstream file(SLUICE_MANUAL);
  ASSERT_TRUE(file) << SLUICE_MANUAL;
  const std::vector<std::pair<std::string, std::string>> all{
#define SLUICE_TEST_REASON(name, text, kind) {text, #kind},
      SLUICE_REASONS(SLUICE_TEST_REASON)
#undef SLUICE_TEST_REASON
  };
  std::vector<std::string> rows;
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("| `")) rows.push_back(line);
  for (const auto& [text, kind] : all) {
    const bool told = std::ranges::any_of(rows, [&](const std::string& row) {
      // | `reason`, `reason` | kind | ...
      const size_t end = row.find(" | ");
      return row.find("`" + text + "`") < end && row.substr(end).starts_with(" | " + kind + " | ");
    });
    EXPECT_TRUE(told) << text << ", " << kind;
  }
}

}  // namespace
}  // namespace sluice::packets
