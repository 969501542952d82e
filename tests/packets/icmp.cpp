#include "tests/packets/icmp.h"

#include <linux/bpf.h>

namespace sluice::packets {

Told told(const Outcome& outcome, const Packet& about) {
  if (outcome.action != XDP_TX) return kNothing;
  const Frame& frame = outcome.frame;
  const bool ipv6 = word_at(frame, 12) == kIpv6Type;
  if (outcome.destination().address != about.source().address ||
      outcome.source().address != about.destination().address)
    return kSomethingElse;
  const uint8_t protocol = frame[ipv6 ? 20 : 23];
  const size_t at = transport_at(frame);
  if (protocol == kTcp) return (frame[at + 13] & kRst) != 0 ? kReset : kSomethingElse;
  if (protocol != (ipv6 ? kIcmp6 : kIcmp)) return kSomethingElse;
  switch (word_at(frame, at)) {
    case 0x0303:
      return ipv6 ? kSomethingElse : kPortUnreachable;
    case 0x0104:
      return ipv6 ? kPortUnreachable : kSomethingElse;
    case 0x0b00:
      return ipv6 ? kSomethingElse : kTimeExceeded;
    case 0x0300:
      return ipv6 ? kTimeExceeded : kSomethingElse;
    case 0x0304:
      return ipv6 ? kSomethingElse : kTooBig;
    case 0x0200:
      return ipv6 ? kTooBig : kSomethingElse;
    default:
      return kSomethingElse;
  }
}

uint32_t told_mtu(const Outcome& outcome) {
  const size_t at = transport_at(outcome.frame);
  const uint32_t low = word_at(outcome.frame, at + 6);
  return word_at(outcome.frame, 12) == kIpv6Type ? static_cast<uint32_t>(word_at(outcome.frame, at + 4)) << 16 | low
                                                 : low;
}

}  // namespace sluice::packets
