// Three backends without Sluice: sent on to as it is, or in IP.
#pragma once

#include "tests/packets/dataplane.h"

namespace sluice::packets {

inline constexpr std::array<Mac, 3> kRealMacs{
    {{0x02, 0x5c, 0, 0, 0x09, 0x15}, {0x02, 0x5c, 0, 0, 0x09, 0x16}, {0x02, 0x5c, 0, 0, 0x09, 0x17}}};

struct Whole {
  uint8_t forwarding;
  Family family;
};
inline std::ostream& operator<<(std::ostream& out, const Whole& whole) {
  return out << (whole.forwarding == SLUICE_FORWARD_DIRECT ? "Direct" : "IpInIp") << name_of(whole.family);
}

class WholeTest : public DataplaneTest, public ::testing::WithParamInterface<Whole> {
 protected:
  WholeTest() : DataplaneTest(GetParam().family) {
    const std::vector<Backend> backends{real(0), real(1), real(2)};
    tcp_ = plane_.add_service(service_end_, kTcp, backends);
    udp_ = plane_.add_service(service_end_, kUdp, backends);
    planes({0});
  }
  [[nodiscard]] static bool direct() { return GetParam().forwarding == SLUICE_FORWARD_DIRECT; }
  [[nodiscard]] Backend real(size_t i, uint32_t flags = 0) const {
    return {.end = reals_[i],
            .forwarding = GetParam().forwarding,
            .egress = kLanEgress,
            .mac = kRealMacs.at(i),
            .flags = flags};
  }
  void planes(const std::vector<uint16_t>& candidates) {
    std::vector<std::vector<uint16_t>> all;
    for (const uint16_t candidate : candidates) all.emplace_back(8, candidate);
    plane_.set_planes(tcp_, all);
    plane_.set_planes(udp_, all);
  }
  void set_real(uint32_t i, uint32_t flags) {
    for (const Service& service : {tcp_, udp_}) plane_.set_backend(service, i, real(i, flags));
  }
  // As it leaves for one of them.
  [[nodiscard]] Frame sent(const Packet& packet, size_t to = 0, const Mac& from = kLanMac) const {
    const Bytes before = packet.ip_packet();
    const auto hops = static_cast<uint8_t>(before[ipv6() ? 7 : 8] - 1);
    const Packet less = Packet(packet).ttl(hops).macs(from, kRealMacs.at(to));
    if (direct()) return less.frame();
    const auto tos = ipv6() ? static_cast<uint8_t>(before[0] << 4 | before[1] >> 4) : before[1];
    return Packet::other(address(from == kLanMac ? "192.0.2.1" : "10.9.0.1"), reals_[to].address, ipv6() ? 41 : 4,
                         less.ip_packet())
        .tos(tos)
        .id(0)
        .macs(from, kRealMacs.at(to))
        .frame();
  }
  // Which of them a packet goes to; -1: none.
  int goes_to(const Packet& packet) {
    const Outcome outcome = plane_.receive(packet);
    for (size_t i = 0; i < reals_.size(); i++)
      if (outcome.frame == sent(packet, i)) return static_cast<int>(i);
    return -1;
  }
  std::vector<Endpoint> reals_{at("192.0.2.21", 80), at("192.0.2.22", 80), at("192.0.2.23", 80)};
  Service tcp_, udp_;
};

inline const auto kWholes =
    ::testing::Values(Whole{SLUICE_FORWARD_DIRECT, Family::ipv4}, Whole{SLUICE_FORWARD_IPIP, Family::ipv4},
                      Whole{SLUICE_FORWARD_DIRECT, Family::ipv6}, Whole{SLUICE_FORWARD_IPIP, Family::ipv6});
inline std::string whole_name(const ::testing::TestParamInfo<Whole>& info) {
  return ::testing::PrintToString(info.param);
}

}  // namespace sluice::packets
