// The interfaces that packets leave by, and the next-hop words that name them. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "node-agent/program/image.h"
#include "node-agent/program/ways.h"

namespace sluice::agent::program {

// An element stands for a device and, of each family, the one source address that nat has there: a device with more of
// them has more elements. Each interface of the ways has one, so that ways back to clients find it.
class EgressTable {
 public:
  EgressTable() = default;
  // Elements that hold an interface; such as nothing turns out to need are cleared.
  static EgressTable decode(const ImageView& image);

  // Follows what has changed of interfaces in use, and takes elements for those that have none.
  void start(const Ways& ways, WriteList& writes);
  // The next-hop word for a way to an address of that family by the ways given to start(); 0 where the way is not known
  // or is no way, or no element is left for it. Takes an element where a new one is needed and appends its stores.
  // `source`: nat's source address matters. `current`: the word so far, whose element is kept where it will do.
  uint64_t word_for(const dataplane::NextHop& way, net::Family family, bool source, uint64_t current,
                    WriteList& writes);
  // `by` words more, or fewer, lead to the element that this one names.
  void count(uint64_t word, int by);
  // Elements that no word names and no interface needs are free after the grace period; then they are cleared, as the
  // XDP program also searches all of them for an interface. Of each interface the first stays.
  void retain(WriteList& writes);
  void grace_over(WriteList& writes);
  [[nodiscard]] bool awaits_grace() const;

  // The first element of an interface, which stays as long as it is among the ways; 0: there is none.
  [[nodiscard]] uint32_t interface_element(uint32_t ifindex) const;
  // Addresses that nat uses in elements in use.
  [[nodiscard]] std::set<net::IpAddress> sources() const;
  // Since start(): a known way has found no element.
  [[nodiscard]] bool ran_out() const { return ran_out_; }
  // An element waits for the grace period to have its source again.
  [[nodiscard]] bool unfinished() const;
  // Whether a way leads off this machine by an interface that is known.
  static bool usable(const dataplane::NextHop& way, const Ways& ways);
  // Whether a word leads where the way says, in this image.
  static bool leads(const ImageView& image, uint64_t word, const dataplane::NextHop& way, net::Family family,
                    bool source, const Ways& ways);

 private:
  enum class State : uint8_t { free, used, retired };
  struct Entry {
    sluice_egress element{};  // as it stands in the map
    State state = State::free;
    bool source6_left = false;  // a reader may be on its way from the IPv6 source that it had
    uint32_t words = 0;
  };

  using Device = std::tuple<uint32_t, uint32_t, uint16_t>;  // device, ifindex, VLAN

  [[nodiscard]] bool will_do(uint32_t index, const sluice_egress& wanted, const net::IpAddress* source) const;
  [[nodiscard]] static Device device_of(const sluice_egress& element);
  uint32_t element_for(uint32_t ifindex, const Interface& interface, const net::IpAddress* source, WriteList& writes);
  [[nodiscard]] uint32_t free_element();
  void follow(uint32_t index, const Interface& interface, WriteList& writes);
  void store_new(uint32_t index, const sluice_egress& element, WriteList& writes);
  void follow_sources(uint32_t index, WriteList& writes);
  void take_sources(uint32_t index, const sluice_egress& wanted, WriteList& writes);
  void complete(uint32_t index, const net::IpAddress& source, WriteList& writes);

  std::map<uint32_t, Interface> interfaces_;
  std::array<Entry, SLUICE_MAX_EGRESS> entries_{};
  uint32_t last_taken_ = 0;
  bool ran_out_ = false;
  std::map<std::pair<uint32_t, net::IpAddress>, uint32_t> found_;  // {ifindex, source} -> element, since start()
};

}  // namespace sluice::agent::program
