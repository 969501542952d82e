// What refused packets are answered with.
#pragma once

#include "tests/packets/dataplane.h"

namespace sluice::packets {

// The answer that comes back for a packet. kNothing: none does.
enum Told : uint8_t { kNothing, kReset, kPortUnreachable, kTimeExceeded, kTooBig, kSomethingElse };
// By address and type; the answer's checksums have been looked at by Dataplane::receive().
Told told(const Outcome& outcome, const Packet& about);
// The MTU in an answer that says kTooBig.
uint32_t told_mtu(const Outcome& outcome);

}  // namespace sluice::packets
