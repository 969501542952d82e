// What the model tells those whose packets go nowhere: a TCP reset (RFC 9293, 3.10.7.1), or an ICMP error (RFC 792,
// 1122, 1191, 4443) that quotes the packet.
#include <algorithm>
#include <array>

#include "tests/model/outcomes.h"

namespace sluice::model {
namespace {

constexpr size_t kMostQuoted = 128;
constexpr uint8_t kHops = 64;
constexpr size_t kLeastMtu4 = 576, kLeastMtu6 = 1280;

struct Error {
  uint8_t type = 0, code = 0;
  uint32_t rest = 0;
};

std::optional<Error> error_for(const std::string& reason, const Packet& packet, size_t mtu) {
  if (reason == "no_backend" || reason == "no_service") return packet.v6 ? Error{1, 4} : Error{3, 3};
  if (reason == "ttl_exceeded") return packet.v6 ? Error{3, 0} : Error{11, 0};
  if (reason != "too_big") return std::nullopt;
  if (packet.v6) return Error{2, 0, static_cast<uint32_t>(std::max(mtu, kLeastMtu6))};
  // Without DF a router would fragment; we hold nothing, and do not.
  if (!packet.dont_fragment) return std::nullopt;
  return Error{3, 4, static_cast<uint32_t>(std::max(mtu, kLeastMtu4))};
}

// An IP packet from the one address to the other, behind an Ethernet header that is still to be written.
Bytes packet_between(const net::IpAddress& from, const net::IpAddress& to, uint8_t protocol, View payload) {
  const bool v6 = !from.is_ipv4();
  Bytes frame(kEthernet + (v6 ? 40 : 20));
  if (v6) {
    frame[kEthernet] = 0x60;
    put16(frame, kEthernet + 4, static_cast<uint16_t>(payload.size()));
    frame[kEthernet + 6] = protocol;
    frame[kEthernet + 7] = kHops;
  } else {
    frame[kEthernet] = 0x45;
    put16(frame, kEthernet + 2, static_cast<uint16_t>(20 + payload.size()));
    put16(frame, kEthernet + 6, 0x4000);
    frame[kEthernet + 8] = kHops;
    frame[kEthernet + 9] = protocol;
  }
  put_address(frame, kEthernet + (v6 ? 8 : 12), from);
  put_address(frame, kEthernet + (v6 ? 24 : 16), to);
  if (!v6) set_header_checksum(frame, kEthernet);
  append(frame, payload);
  return frame;
}

// nullopt: a reset is not answered.
std::optional<Bytes> reset_for(View frame, const Packet& packet) {
  if ((packet.flags & kRst) != 0) return std::nullopt;
  Bytes tcp(20);
  put16(tcp, 0, packet.destination_port);
  put16(tcp, 2, packet.source_port);
  tcp[12] = 5 << 4;
  tcp[13] = kRst;
  if ((packet.flags & kAck) != 0) {
    put32(tcp, 4, packet.acknowledged);
  } else {
    const size_t header = get16(frame, packet.at + 12) >> 12;  // words
    const size_t data = packet.length - (packet.at - kEthernet) - header * 4;
    const uint32_t takes = static_cast<uint32_t>(data) + ((packet.flags & kSyn) != 0) + ((packet.flags & kFin) != 0);
    put32(tcp, 8, packet.sequence + takes);
    tcp[13] |= kAck;
  }
  put16(tcp, 16, static_cast<uint16_t>(~sum_of(tcp, pseudo_sum(packet.destination, packet.source, kTcp, tcp.size()))));
  return packet_between(packet.destination, packet.source, kTcp, tcp);
}

Bytes error_about(View frame, const Packet& packet, const Error& error) {
  Bytes icmp(8);
  icmp[0] = error.type;
  icmp[1] = error.code;
  put32(icmp, 4, error.rest);
  append(icmp, frame.subspan(kEthernet, std::min(packet.length, kMostQuoted) / 4 * 4));
  const uint8_t protocol = packet.v6 ? kIcmpv6 : kIcmp;
  const uint16_t start = packet.v6 ? pseudo_sum(packet.destination, packet.source, protocol, icmp.size()) : uint16_t{0};
  put16(icmp, 2, static_cast<uint16_t>(~sum_of(icmp, start)));
  return packet_between(packet.destination, packet.source, protocol, icmp);
}

}  // namespace

bool is_one_host(const net::IpAddress& address) {
  const uint8_t first = address.bytes()[0];
  if (address.is_ipv4()) return first != 0 && first != 127 && first < 224;
  std::array<uint8_t, 16> loopback{};
  loopback.back() = 1;
  return first != 0xff && address != net::IpAddress::from_ipv6({}) && address != net::IpAddress::from_ipv6(loopback);
}

Outcome Model::refuse(const Bytes& frame, const Packet& packet, const Refused& reason, size_t mtu) const {
  auto answer = refusal(frame, reason, mtu, packet.v6);
  if (!answer) return dropped(reason.c_str());
  set_ethernet(*answer, get_mac(frame, 6), prospect_.ingress().mac, packet.v6 ? kTypeIpv6 : kTypeIpv4);
  return {.verdict = Verdict::transmit,
          .interface = prospect_.scene().ingress,
          .frame = std::move(*answer),
          .reasons = {reason, "refusal_told"},
          .back = true,
          .answers = packet.source,
          .if_silent = {reason}};
}

std::optional<Bytes> Model::refusal(const Bytes& frame, const Refused& reason, size_t mtu, bool v6) const {
  const auto packet = read_plain(frame, v6);  // never a fragment
  if (!packet || !lengths_right(frame, *packet) || !is_one_host(packet->source) || !is_one_host(packet->destination))
    return std::nullopt;
  const auto error = error_for(reason, *packet, mtu);
  if (!error) return std::nullopt;
  if (packet->protocol == kTcp && (reason == "no_backend" || reason == "no_service")) return reset_for(frame, *packet);
  return error_about(frame, *packet, *error);
}

}  // namespace sluice::model
