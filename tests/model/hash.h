// What every node must compute alike from a flow's tuple, written down again from its definition (bpf/layout/base.h,
// flows.h): the hash that chooses a slot, and what follows from it.
#pragma once

#include <array>
#include <cstdint>

#include "common/net/address.h"

namespace sluice::model {

using HashKey = std::array<uint64_t, 2>;

struct FlowEnds {
  net::IpAddress client;
  net::IpAddress address;  // the service's
  uint16_t client_port = 0;
  uint16_t port = 0;
  uint8_t protocol = 0;
};

// Over the whole tuple.
uint64_t hash_by_flow(const FlowEnds& ends, const HashKey& key);
// Over the client and the service's address alone, for affinity.
uint64_t hash_by_client(const FlowEnds& ends, const HashKey& key);

// The i-th port that nat tries for a flow, of `count` from `first` on.
uint16_t nat_port(uint64_t hash, uint32_t i, uint16_t first, uint32_t count);
// The same for local delivery: the client's own first.
uint16_t local_port(uint64_t hash, uint32_t i, uint16_t client_port);
constexpr uint32_t kNatTries = 16;
constexpr uint32_t kLocalTries = 4;

// The outer source port of a flow's tunnel packets.
uint16_t tunnel_port(uint64_t hash);

}  // namespace sluice::model
