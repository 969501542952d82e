#include "node-agent/program/egress_table.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "node-agent/program/keys.h"

namespace sluice::agent::program {
namespace {

constexpr uint32_t kDeviceWord = 0;   // ifindex, MTU, VLAN
constexpr uint32_t kMacWord = 1;      // MAC, flags
constexpr uint32_t kSource4Word = 2;  // nat's IPv4 source, the device as routes name it
constexpr uint32_t kSource6Word = 3;  // and the next
static_assert(offsetof(sluice_egress, source4) == 8 * kSource4Word &&
              offsetof(sluice_egress, source6) == 8 * kSource6Word && offsetof(sluice_egress, flags) == 14 &&
              offsetof(sluice_egress, device) == 20);

// First byte in the lowest bits.
uint64_t mac48(const dataplane::Mac& mac) {
  uint64_t value = 0;
  for (size_t i = 0; i < mac.size(); ++i) {
    value |= uint64_t{mac.at(i)} << (8 * i);
  }
  return value;
}

uint64_t word_of(const sluice_egress& element, uint32_t word) {
  uint64_t value = 0;
  std::memcpy(&value, reinterpret_cast<const char*>(&element) + size_t{word} * 8, sizeof value);
  return value;
}

// An interface as an element, with the sources that are its own.
sluice_egress to_element(uint32_t ifindex, const Interface& interface) {
  sluice_egress element{};
  element.ifindex = interface.parent != 0 ? interface.parent : ifindex;
  element.device = ifindex;
  element.mtu = interface.mtu;
  element.vlan = htons(interface.vlan);
  std::copy(interface.mac.begin(), interface.mac.end(), std::begin(element.mac));
  element.flags =
      (interface.by_kernel ? SLUICE_EGRESS_BY_KERNEL : 0) | (interface.node_link ? SLUICE_EGRESS_NODE_LINK : 0);
  if (interface.by_kernel || interface.vlan != 0) element.ifindex |= SLUICE_EGRESS_NOT_PLAIN;
  for (const net::IpAddress& source : interface.sources) {
    if (source.is_ipv4()) {
      element.source4 = source.ipv4();
    } else {
      std::copy(source.bytes().begin(), source.bytes().end(), std::begin(element.source6.bytes));
    }
  }
  return element;
}

bool has_source(const sluice_egress& element, net::Family family) {
  return family == net::Family::ipv4 ? element.source4 != 0 : element.source6.words[0] != 0;
}

bool is_source(const sluice_egress& element, const net::IpAddress& source) {
  if (source.is_ipv4()) {
    return element.source4 == source.ipv4();
  }
  return std::memcmp(element.source6.bytes, source.bytes().data(), sizeof element.source6) == 0;
}

net::IpAddress address6(const sluice_egress& element) {
  return *from_element(element.source6, net::Family::ipv6);
}

// nat's source on a way, where it has one of the family.
const net::IpAddress* source_of(const dataplane::NextHop& way, net::Family family) {
  return way.source.family() == family && way.source != net::IpAddress{} ? &way.source : nullptr;
}

}  // namespace

bool EgressTable::usable(const dataplane::NextHop& way, const Ways& ways) {
  return !way.local && way.ifindex != 0 && ways.interfaces.contains(way.ifindex);
}

EgressTable EgressTable::decode(const ImageView& image) {
  EgressTable table;
  for (uint32_t index = 1; index < SLUICE_MAX_EGRESS; ++index) {
    if (image.egress[index].ifindex != 0) {
      table.entries_.at(index).element = image.egress[index];
      table.entries_.at(index).state = State::used;
    }
  }
  return table;
}

EgressTable::Device EgressTable::device_of(const sluice_egress& element) {
  return {element.device, element.ifindex, element.vlan};
}

void EgressTable::start(const Ways& ways, WriteList& writes) {
  interfaces_ = ways.interfaces;
  found_.clear();
  ran_out_ = false;
  std::set<uint32_t> there;
  for (uint32_t index = 1; index < SLUICE_MAX_EGRESS; ++index) {
    const Entry& entry = entries_.at(index);
    const auto interface = ways.interfaces.find(entry.element.device);
    if (entry.state == State::used && interface != ways.interfaces.end() &&
        device_of(entry.element) == device_of(to_element(interface->first, interface->second))) {
      follow(index, interface->second, writes);
      there.insert(interface->first);
    }
  }
  for (const auto& [ifindex, interface] : ways.interfaces) {
    if (!there.contains(ifindex)) {
      element_for(ifindex, interface, nullptr, writes);
    }
  }
}

// MAC, MTU and who transmits: one store each.
void EgressTable::follow(uint32_t index, const Interface& interface, WriteList& writes) {
  sluice_egress& element = entries_.at(index).element;
  sluice_egress now = to_element(element.device, interface);
  now.source4 = element.source4;
  now.source6 = element.source6;
  for (const uint32_t word : {kDeviceWord, kMacWord}) {
    if (word_of(now, word) != word_of(element, word)) {
      writes.store(MapId::egress, index * element_words(MapId::egress) + word, word_of(now, word));
    }
  }
  element = now;
}

// Gives an element that readers may use already the source that it lacks. Of IPv6 the first word says that it is there.
void EgressTable::complete(uint32_t index, const net::IpAddress& source, WriteList& writes) {
  sluice_egress& element = entries_.at(index).element;
  const uint32_t first = index * element_words(MapId::egress);
  if (source.is_ipv4()) {
    element.source4 = source.ipv4();
    writes.store(MapId::egress, first + kSource4Word, word_of(element, kSource4Word));
    return;
  }
  std::copy(source.bytes().begin(), source.bytes().end(), std::begin(element.source6.bytes));
  writes.store(MapId::egress, first + kSource6Word + 1, word_of(element, kSource6Word + 1));
  writes.store(MapId::egress, first + kSource6Word, word_of(element, kSource6Word), true);
}

// What names the device last: who searches for an interface finds the whole element.
void EgressTable::store_new(uint32_t index, const sluice_egress& element, WriteList& writes) {
  const uint32_t first = index * element_words(MapId::egress);
  for (uint32_t word = kMacWord; word < element_words(MapId::egress); ++word) {
    if (word != kSource4Word) {
      writes.store(MapId::egress, first + word, word_of(element, word));
    }
  }
  writes.store(MapId::egress, first + kDeviceWord, word_of(element, kDeviceWord), true);
  writes.store(MapId::egress, first + kSource4Word, word_of(element, kSource4Word), true);
  entries_.at(index).element = element;
}

// Not the one that was given back last: records of flows may name it for a while.
uint32_t EgressTable::free_element() {
  for (uint32_t i = 0; i < SLUICE_MAX_EGRESS; ++i) {
    const uint32_t index = (last_taken_ + 1 + i) % SLUICE_MAX_EGRESS;
    if (index != 0 && entries_.at(index).state == State::free) {
      last_taken_ = index;
      return index;
    }
  }
  return 0;
}

// The element for a device and nat's source there (nullptr: whichever); 0: none is left.
uint32_t EgressTable::element_for(uint32_t ifindex, const Interface& interface, const net::IpAddress* source,
                                  WriteList& writes) {
  const auto asked = std::pair(ifindex, source != nullptr ? *source : net::IpAddress{});
  if (const auto known = found_.find(asked); known != found_.end()) {
    return known->second;
  }
  const sluice_egress wanted = to_element(ifindex, interface);
  uint32_t chosen = 0;
  uint32_t incomplete = 0;
  for (uint32_t index = 1; index < SLUICE_MAX_EGRESS && chosen == 0; ++index) {
    const Entry& entry = entries_.at(index);
    if (entry.state == State::free || device_of(entry.element) != device_of(wanted)) {
      continue;
    }
    if (source == nullptr || is_source(entry.element, *source)) {
      chosen = index;
    } else if (incomplete == 0 && !has_source(entry.element, source->family()) &&
               (source->is_ipv4() || !entry.source6_left)) {
      incomplete = index;
    }
  }
  if (chosen == 0 && incomplete != 0) {
    chosen = incomplete;
    complete(chosen, *source, writes);
  } else if (chosen == 0) {
    chosen = free_element();
    if (chosen == 0) {
      ran_out_ = true;
      return 0;
    }
    sluice_egress element = wanted;
    if (source != nullptr && source->is_ipv4()) {
      element.source4 = source->ipv4();
    } else if (source != nullptr) {
      std::copy(source->bytes().begin(), source->bytes().end(), std::begin(element.source6.bytes));
    }
    store_new(chosen, element, writes);
  }
  if (entries_.at(chosen).state == State::retired) {
    follow(chosen, interface, writes);
  }
  entries_.at(chosen).state = State::used;
  found_[asked] = chosen;
  return chosen;
}

bool EgressTable::will_do(uint32_t index, const sluice_egress& wanted, const net::IpAddress* source) const {
  if (index == 0 || index >= SLUICE_MAX_EGRESS) {
    return false;
  }
  const Entry& entry = entries_.at(index);
  return entry.state == State::used && device_of(entry.element) == device_of(wanted) &&
         (source == nullptr || is_source(entry.element, *source));
}

uint64_t EgressTable::word_for(const dataplane::NextHop& way, net::Family family, bool source, uint64_t current,
                               WriteList& writes) {
  const auto found = interfaces_.find(way.ifindex);
  if (way.local || way.ifindex == 0 || found == interfaces_.end()) {
    return 0;
  }
  const Interface& interface = found->second;
  const net::IpAddress* wanted_source = source ? source_of(way, family) : nullptr;
  uint32_t index = SLUICE_NEXT_HOP_EGRESS(current);
  if (!will_do(index, to_element(way.ifindex, interface), wanted_source)) {
    index = element_for(way.ifindex, interface, wanted_source, writes);
  }
  return index == 0 ? 0 : SLUICE_NEXT_HOP_WORD(index, mac48(way.mac));
}

void EgressTable::count(uint64_t word, int by) {
  const uint32_t index = SLUICE_NEXT_HOP_EGRESS(word);
  if (index != 0 && index < SLUICE_MAX_EGRESS) {
    entries_.at(index).words += static_cast<uint32_t>(by);
  }
}

void EgressTable::retain(WriteList& writes) {
  for (uint32_t index = 1; index < SLUICE_MAX_EGRESS; ++index) {
    Entry& entry = entries_.at(index);
    if (entry.state == State::used && entry.words == 0 && interface_element(entry.element.device) != index) {
      entry.state = State::retired;
    }
  }
  for (const auto& [ifindex, interface] : interfaces_) {
    const uint32_t index = interface_element(ifindex);
    if (index == 0) {
      continue;
    }
    if (!interface.sources.empty()) {
      take_sources(index, to_element(ifindex, interface), writes);
    } else if (entries_.at(index).words == 0) {
      follow_sources(index, writes);
    }
  }
}

uint32_t EgressTable::interface_element(uint32_t ifindex) const {
  const auto interface = interfaces_.find(ifindex);
  if (interface == interfaces_.end()) {
    return 0;
  }
  const Device device = device_of(to_element(ifindex, interface->second));
  for (uint32_t index = 1; index < SLUICE_MAX_EGRESS; ++index) {
    if (entries_.at(index).state == State::used && device_of(entries_.at(index).element) == device) {
      return index;
    }
  }
  return 0;
}

// The element that is an interface's whatever happens takes over the sources of another that is in use, where it is not
// itself: ways that the kernel is asked for lead by it.
void EgressTable::follow_sources(uint32_t index, WriteList& writes) {
  const Entry& entry = entries_.at(index);
  const auto other = std::find_if(entries_.begin(), entries_.end(), [&entry](const Entry& candidate) {
    return candidate.state == State::used && candidate.words != 0 &&
           device_of(candidate.element) == device_of(entry.element);
  });
  if (other != entries_.end()) {
    take_sources(index, other->element, writes);
  }
}

// Of IPv6 what it had goes first, and a grace period later the other comes: an address is two words.
void EgressTable::take_sources(uint32_t index, const sluice_egress& wanted, WriteList& writes) {
  Entry& entry = entries_.at(index);
  if (has_source(wanted, net::Family::ipv4) && entry.element.source4 != wanted.source4) {
    complete(index, net::IpAddress::from_ipv4(wanted.source4), writes);
  }
  if (!has_source(wanted, net::Family::ipv6) || is_source(entry.element, address6(wanted))) {
    return;
  }
  if (!has_source(entry.element, net::Family::ipv6)) {
    if (!entry.source6_left) {
      complete(index, address6(wanted), writes);
    }
    return;
  }
  entry.element.source6.words[0] = 0;
  entry.source6_left = true;
  writes.store(MapId::egress, index * element_words(MapId::egress) + kSource6Word, 0, true);
}

// Nobody finds a cleared element by its device, nor an interface by its index.
void EgressTable::grace_over(WriteList& writes) {
  for (uint32_t index = 1; index < SLUICE_MAX_EGRESS; ++index) {
    Entry& entry = entries_.at(index);
    entry.source6_left = false;
    if (entry.state == State::retired) {
      entry = Entry{};
      writes.store(MapId::egress, index * element_words(MapId::egress) + kSource4Word, 0);
      writes.store(MapId::egress, index * element_words(MapId::egress) + kDeviceWord, 0);
    }
  }
}

bool EgressTable::awaits_grace() const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [](const Entry& e) { return e.state == State::retired || e.source6_left; });
}

bool EgressTable::unfinished() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const Entry& e) { return e.source6_left; });
}

std::set<net::IpAddress> EgressTable::sources() const {
  std::set<net::IpAddress> sources;
  for (const Entry& entry : entries_) {
    if (entry.state != State::used) {
      continue;
    }
    if (has_source(entry.element, net::Family::ipv4)) {
      sources.insert(net::IpAddress::from_ipv4(entry.element.source4));
    }
    if (has_source(entry.element, net::Family::ipv6)) {
      sources.insert(address6(entry.element));
    }
  }
  return sources;
}

bool EgressTable::leads(const ImageView& image, uint64_t word, const dataplane::NextHop& way, net::Family family,
                        bool source, const Ways& ways) {
  if (!usable(way, ways) || word == 0) {
    return !usable(way, ways) && word == 0;
  }
  const uint32_t index = SLUICE_NEXT_HOP_EGRESS(word);
  if (index == 0 || index >= SLUICE_MAX_EGRESS || word != SLUICE_NEXT_HOP_WORD(index, mac48(way.mac))) {
    return false;
  }
  const sluice_egress& there = image.egress[index];
  const sluice_egress wanted = to_element(way.ifindex, ways.interfaces.at(way.ifindex));
  const net::IpAddress* wanted_source = source ? source_of(way, family) : nullptr;
  return word_of(there, kDeviceWord) == word_of(wanted, kDeviceWord) &&
         word_of(there, kMacWord) == word_of(wanted, kMacWord) && there.device == wanted.device &&
         (wanted_source == nullptr || is_source(there, *wanted_source));
}

}  // namespace sluice::agent::program
