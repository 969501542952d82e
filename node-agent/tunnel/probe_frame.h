// A probe as it goes over the wire (bpf/layout/tunnel.h). Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "node-agent/dataplane/network.h"
#include "node-agent/tunnel/prover.h"

namespace sluice::agent::tunnel {

struct Frame {
  uint32_t ifindex = 0;  // to send it by
  std::vector<uint8_t> bytes;
};

// The Ethernet frame of a probe to a peer whose way is known, from an interface with the MAC `own`; of the size that
// the probe says, at least small_bytes().
Frame probe_frame(const dataplane::Peer& peer, const dataplane::Mac& own, const Probe& probe);

}  // namespace sluice::agent::tunnel
