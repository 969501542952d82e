// The packets that a scenario sends, as packet.bpf.c makes them.
#pragma once

#include <cstdint>

#include "common/state/desired_state.h"
#include "node-agent/dataplane/dataplane.h"
#include "tests/bench/packet_harness.h"

namespace sluice::bench {

// In a handshake of which both sides begin at sequence number 0: SYN, SYN and ACK, ACK.
inline constexpr uint8_t kSyn = 0x02, kAck = 0x10;

struct PacketSpec {
  agent::dataplane::Mac source_mac{}, destination_mac{};
  // One family; the last four bytes of both vary.
  net::IpAddress source, destination;
  state::Protocol protocol = state::Protocol::tcp;
  uint8_t tcp_flags = kAck;
};

// With as much payload as fills the shortest frame.
Stencil make_stencil(const PacketSpec& spec);

// The packets that are what this frame is in length, from rows.
Stencil rows_like(const Frame& frame);

// The n-th packet, with right checksums.
Frame make_frame(const Stencil& stencil, const bench_flows& flows, uint32_t number);

// What whoever received a frame, without VLAN tags or IP options, answers: its ends the other way around, and these
// flags.
Frame reply_to(Frame frame, uint8_t tcp_flags);

}  // namespace sluice::bench
