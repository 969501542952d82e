// Weighted Maglev hashing over tables of 2^k slots. Pure.
//
// Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4, with two
// changes: the table has 2^k slots and every step is odd (so that each backend's walk still visits every slot, and the
// slot of a flow is a mask of its hash), and weights scale the number of turns a backend gets.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice::maglev {

constexpr uint8_t kMaxLog2 = 19;         // 524,288 slots
constexpr uint16_t kNoBackend = 0xffff;  // a slot of a table without candidates

struct Candidate {
  uint64_t identity = 0;  // hash of what names the backend everywhere (address and port): the same on every node
  uint64_t weight = 0;    // relative, any unit; 0 gets no slot
};

// slot -> index into `candidates`; 2^log2 entries, all kNoBackend where no candidate has a weight. The outcome does not
// depend on the order of `candidates` (ties of identity by position). At most 65,535 candidates.
std::vector<uint16_t> build(std::span<const Candidate> candidates, uint8_t log2);

// The size a table of this many candidates wants: 1 slot for one, else at least 64 slots a candidate and 1,024.
uint8_t wanted_log2(size_t candidates);

}  // namespace sluice::maglev
