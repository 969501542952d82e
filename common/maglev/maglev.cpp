#include "common/maglev/maglev.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <queue>
#include <tuple>

namespace sluice::maglev {

namespace {

// Weights are scaled to at most 2^kWeightBits, so that a count of turns times a weight fits in 64 bits.
constexpr unsigned kWeightBits = 40;
static_assert(kWeightBits + kMaxLog2 + 2 < 64);

constexpr uint64_t kStepSalt = 0x6a09e667f3bcc909ULL;
constexpr uint64_t kPhaseSalt = 0xbb67ae8584caa73bULL;

// The table being filled. Which slots are taken is kept apart as bits: the walks jump, and 8 KiB of bits for 2^16 slots
// stay in the first-level cache where 128 KiB of slots would not.
class Filling {
 public:
  explicit Filling(uint8_t log2)
      : mask_((1U << log2) - 1), slots_(size_t{1} << log2, kNoBackend), taken_((slots_.size() + 63) / 64) {}

  [[nodiscard]] bool full() const { return filled_ == slots_.size(); }
  // Gives the first free slot of the walk, from where it stands on, to `index`.
  void give(Walk& walk, uint16_t index) {
    uint32_t slot = walk.offset & mask_;
    while (((taken_[slot / 64] >> (slot % 64)) & 1) != 0) slot = (slot + walk.step) & mask_;
    taken_[slot / 64] |= uint64_t{1} << (slot % 64);
    slots_[slot] = index;
    walk.offset = slot + walk.step;
    ++filled_;
  }
  std::vector<uint16_t> take() { return std::move(slots_); }

 private:
  uint32_t mask_;
  size_t filled_ = 0;
  std::vector<uint16_t> slots_;
  std::vector<uint64_t> taken_;
};

struct Player {
  uint16_t index = 0;  // into the caller's candidates
  Walk walk;
  uint64_t weight = 0;
  uint64_t phase = 0;  // in [0, the greatest weight)
  uint64_t turns = 0;  // taken so far
};

// The round of a player's next turn. By round r a player has had max(1, floor((phase + r * weight) / greatest)) turns.
// The phase, drawn from the identity, makes the rounding fair over many players of one small weight: without it they
// would all be rounded the same way, and a group of fifty light members would get a tenth more than its share. At least
// one turn, in the first round: whoever has a weight is in the choice.
uint64_t next_round(const Player& player, uint64_t greatest) {
  if (player.turns == 0) return 1;
  return ((player.turns + 1) * greatest - player.phase + player.weight - 1) / player.weight;
}

// Sorted by identity, because turns within a round are taken in this order: every node must build the same table,
// whatever order its list came in.
std::vector<Player> seat(std::span<const Candidate> candidates, uint8_t log2) {
  std::vector<Player> players;
  players.reserve(candidates.size());
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].weight == 0) continue;
    players.push_back({static_cast<uint16_t>(i), walk(candidates[i].identity, log2), candidates[i].weight, 0, 0});
  }
  std::sort(players.begin(), players.end(), [&](const Player& a, const Player& b) {
    return std::tie(candidates[a.index].identity, a.weight, a.index) <
           std::tie(candidates[b.index].identity, b.weight, b.index);
  });
  uint64_t greatest = 0;
  for (const Player& player : players) greatest = std::max(greatest, player.weight);
  const auto width = static_cast<unsigned>(std::bit_width(greatest));
  const unsigned shift = width > kWeightBits ? width - kWeightBits : 0;
  for (Player& player : players) {
    player.weight = std::max<uint64_t>(player.weight >> shift, 1);
    const uint64_t fraction = mix(candidates[player.index].identity ^ kPhaseSalt) >> kWeightBits;  // 24 bits
    player.phase = ((greatest >> shift) * fraction) >> (64 - kWeightBits);
  }
  return players;
}

}  // namespace

Walk walk(uint64_t identity, uint8_t log2) {
  const uint64_t mask = (uint64_t{1} << log2) - 1;
  return {static_cast<uint32_t>(mix(identity) & mask), static_cast<uint32_t>((mix(identity ^ kStepSalt) & mask) | 1)};
}

std::vector<uint16_t> build(std::span<const Candidate> candidates, uint8_t log2) {
  if (candidates.size() > state::kMaxBackends || log2 > kMaxLog2) std::abort();
  Filling table(log2);
  std::vector<Player> players = seat(candidates, log2);
  if (players.empty()) return table.take();

  // Those of the greatest weight have a turn in every round and go first; the others wait in a queue for theirs: with
  // one heavy candidate among thousands of light ones, asking everyone in every round would take seconds.
  const uint64_t greatest = std::max_element(players.begin(), players.end(), [](const Player& a, const Player& b) {
                              return a.weight < b.weight;
                            })->weight;
  const auto light = std::stable_partition(players.begin(), players.end(),
                                           [&](const Player& player) { return player.weight == greatest; });
  using Turn = std::pair<uint64_t, size_t>;  // round, position
  std::priority_queue<Turn, std::vector<Turn>, std::greater<>> waiting;
  const auto heavy_count = static_cast<size_t>(light - players.begin());
  for (size_t i = heavy_count; i < players.size(); ++i) waiting.emplace(1, i);

  for (uint64_t round = 1; !table.full(); ++round) {
    for (size_t i = 0; i < heavy_count && !table.full(); ++i) table.give(players[i].walk, players[i].index);
    while (!waiting.empty() && waiting.top().first == round && !table.full()) {
      Player& player = players[waiting.top().second];
      const size_t position = waiting.top().second;
      waiting.pop();
      table.give(player.walk, player.index);
      ++player.turns;
      waiting.emplace(next_round(player, greatest), position);
    }
  }
  return table.take();
}

uint8_t wanted_log2(size_t candidates) {
  if (candidates <= 1) return 0;
  constexpr size_t kSlotsPerCandidate = 64;
  constexpr size_t kLeast = 1024;
  const size_t bounded = std::min(candidates, size_t{1} << kMaxLog2);
  const size_t slots = std::bit_ceil(std::max(bounded * kSlotsPerCandidate, kLeast));
  return static_cast<uint8_t>(std::min<int>(std::countr_zero(slots), kMaxLog2));
}

}  // namespace sluice::maglev
