// The interfaces that packets leave by, and the next-hop words that name them. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <unordered_map>

#include "node-agent/program/image.h"
#include "node-agent/program/projection.h"

namespace sluice::agent::program {

class EgressTable {
 public:
  EgressTable() = default;
  // Entries that hold an interface: those that a word in `used` names, and others, that an interrupted plan has left,
  // to be cleared. The source addresses that the configuration has.
  static EgressTable decode(const ImageView& image, const std::set<uint32_t>& used);

  // Follows changed MACs and MTUs of interfaces in use, and forgets what word_for() has answered for other ways. `ways`
  // must live until the last word_for().
  void start(const Ways& ways, WriteList& writes);
  // The next-hop word for a backend address (network order) by the ways given to start(); 0 where the way is not known,
  // or no entry is left for it. Takes an entry where a new one is needed and appends its stores.
  uint64_t word_for(uint32_t address, WriteList& writes);
  // Entries that no word in `used` names are free after the grace period; then they are cleared, as the XDP program
  // also searches all of them for an interface.
  void retain(const std::set<uint32_t>& used);
  void grace_over(WriteList& writes);
  [[nodiscard]] bool awaits_grace() const;

  // Why word_for() gave 0 although the way is known, since start(): more than SLUICE_MAX_EGRESS - 1 interfaces and
  // sources, or more than SLUICE_MAX_NAT_SOURCES sources.
  [[nodiscard]] bool ran_out(uint32_t address) const { return refused_.contains(address); }
  [[nodiscard]] bool ran_out() const { return !refused_.empty(); }
  // Whether a word leads where the ways say, in this image.
  static bool leads(const ImageView& image, uint64_t word, uint32_t address, const Ways& ways);

 private:
  enum class State : uint8_t { free, used, retired };
  struct Entry {
    uint32_t ifindex = 0;
    uint32_t source = 0;  // network order
    uint64_t device = 0;  // MAC and MTU, as the word that stands in the map
    State state = State::free;
  };
  uint64_t make_word(const dataplane::NextHop& way, uint32_t address, WriteList& writes);
  bool have_source(uint32_t source, WriteList& writes);

  const Ways* ways_ = nullptr;
  std::array<Entry, SLUICE_MAX_EGRESS> entries_{};
  std::array<uint32_t, SLUICE_MAX_NAT_SOURCES> sources_{};
  std::unordered_map<uint32_t, uint64_t> words_;
  std::set<uint32_t> refused_;
};

}  // namespace sluice::agent::program
