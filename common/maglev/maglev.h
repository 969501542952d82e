// Weighted Maglev hashing over tables of 2^k slots. Pure.
//
// Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4, with two
// changes: the table has 2^k slots and every step is odd (so that each backend's walk still visits every slot, and the
// slot of a flow is a mask of its hash), and weights scale the number of turns a backend gets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/state/desired_state.h"

namespace sluice::maglev {

constexpr uint8_t kMaxLog2 = state::kMaxTableLog2;
constexpr uint16_t kNoBackend = 0xffff;  // a slot of a table without candidates

struct Candidate {
  uint64_t identity = 0;  // hash of what names the backend everywhere (address and port): the same on every node
  uint64_t weight = 0;    // relative, any unit; 0 gets no slot
};

// slot -> index into `candidates`; 2^log2 entries, all kNoBackend where no candidate has a weight. The outcome does not
// depend on the order of `candidates` (ties of identity by weight, then by position). At most 65,535 candidates and
// log2 <= kMaxLog2: more is a bug of the caller, and the process ends.
//
// A candidate's share of the slots is rounded up or down; whoever has a weight gets at least one slot while there are
// as many slots as candidates.
std::vector<uint16_t> build(std::span<const Candidate> candidates, uint8_t log2);

// The size a table of this many candidates wants: 1 slot for one, else at least 64 slots a candidate and 1,024, at most
// 2^kMaxLog2.
uint8_t wanted_log2(size_t candidates);

// A bijection on 64-bit words in which every input bit reaches every output bit (the finaliser of SplitMix64).
constexpr uint64_t mix(uint64_t word) {
  word += 0x9e3779b97f4a7c15ULL;
  word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9ULL;
  word = (word ^ (word >> 27)) * 0x94d049bb133111ebULL;
  return word ^ (word >> 31);
}

// Where a candidate's walk over the slots of a table starts, and how far it goes each time: the n-th slot it asks for
// is (offset + n * step) mod 2^log2. The step is odd, hence coprime to the number of slots.
struct Walk {
  uint32_t offset = 0;
  uint32_t step = 1;
};
Walk walk(uint64_t identity, uint8_t log2);

}  // namespace sluice::maglev
