// The model's ICMP to services' addresses: pings (RFC 792, RFC 4443), and errors about flows.
#include "tests/model/outcomes.h"

namespace sluice::model {
namespace {

// Directly behind an IP header without options, whole.
bool is_plain(const Packet& packet) {
  return packet.part == Part::whole && packet.at == kEthernet + (packet.v6 ? 40 : 20);
}

}  // namespace

Outcome Model::icmp(const Bytes& frame, const Packet& packet) {
  constexpr size_t kHeader = 8;
  const uint8_t request = packet.v6 ? 128 : 8;
  const bool readable = is_plain(packet) && packet.at + kHeader <= frame.size();
  if (readable && frame[packet.at] == request && frame[packet.at + 1] == 0) return echo(frame, packet);
  return dropped("no_flow");
}

Outcome Model::echo(const Bytes& frame, const Packet& packet) const {
  if (!is_one_host(packet.source)) return dropped("answers_limited");
  Bytes reply = frame;
  const size_t addresses = kEthernet + (packet.v6 ? 8 : 12);
  put_address(reply, addresses, packet.destination);
  put_address(reply, addresses + (packet.v6 ? 16 : 4), packet.source);
  set_hops(reply, packet.v6, 64);
  // Its checksum covers the same addresses, the other way round.
  const uint16_t before = get16(frame, packet.at);
  reply[packet.at] = packet.v6 ? 129 : 0;
  put16(reply, packet.at + 2, carried_over(get16(reply, packet.at + 2), before, get16(reply, packet.at)));
  set_ethernet(reply, get_mac(frame, 6), prospect_.ingress().mac, packet.v6 ? kTypeIpv6 : kTypeIpv4);
  return {.verdict = Verdict::transmit,
          .interface = prospect_.scene().ingress,
          .frame = std::move(reply),
          .reasons = {"echo_reply"},
          .back = true,
          .answers = packet.source,
          .if_silent = {"answers_limited"}};
}

}  // namespace sluice::model
