#include "node-agent/program/egress_table.h"

#include <algorithm>
#include <cstring>

namespace sluice::agent::program {
namespace {

// The second word of an entry.
uint64_t device_word(const Interface& interface) {
  sluice_egress entry{};
  std::copy(interface.mac.begin(), interface.mac.end(), std::begin(entry.mac));
  entry.mtu = interface.mtu;
  uint64_t word = 0;
  std::memcpy(&word, entry.mac, sizeof word);
  return word;
}

// First byte in the lowest bits.
uint64_t mac48(const dataplane::Mac& mac) {
  uint64_t value = 0;
  for (size_t i = 0; i < mac.size(); ++i) {
    value |= uint64_t{mac.at(i)} << (8 * i);
  }
  return value;
}

uint64_t interface_word(uint32_t ifindex, uint32_t source) {
  sluice_egress entry{};
  entry.ifindex = ifindex;
  entry.source = source;
  uint64_t word = 0;
  std::memcpy(&word, &entry, sizeof word);
  return word;
}

// A way that XDP can transmit on: an interface with a MAC, a neighbour, an IPv4 source.
const dataplane::NextHop* usable_way(const Ways& ways, uint32_t address) {
  const auto found = ways.next_hops.find(net::IpAddress::from_ipv4(address));
  if (found == ways.next_hops.end()) {
    return nullptr;
  }
  const dataplane::NextHop& way = found->second;
  const bool usable = !way.local && way.ifindex != 0 && way.source.is_ipv4() && way.source.ipv4() != 0 &&
                      ways.interfaces.contains(way.ifindex);
  return usable ? &way : nullptr;
}

}  // namespace

EgressTable EgressTable::decode(const ImageView& image, const std::set<uint32_t>& used) {
  EgressTable table;
  for (uint32_t index = 1; index < SLUICE_MAX_EGRESS; ++index) {
    if (image.egress[index].ifindex == 0) {
      continue;
    }
    const sluice_egress& entry = image.egress[index];
    uint64_t device = 0;
    std::memcpy(&device, entry.mac, sizeof device);
    table.entries_.at(index) =
        Entry{entry.ifindex, entry.source, device, used.contains(index) ? State::used : State::retired};
  }
  std::copy(std::begin(image.config->nat_sources), std::end(image.config->nat_sources), table.sources_.begin());
  return table;
}

void EgressTable::start(const Ways& ways, WriteList& writes) {
  ways_ = &ways;
  words_.clear();
  refused_.clear();
  for (uint32_t index = 1; index < SLUICE_MAX_EGRESS; ++index) {
    Entry& entry = entries_.at(index);
    const auto interface = ways.interfaces.find(entry.ifindex);
    if (entry.state == State::used && interface != ways.interfaces.end() &&
        device_word(interface->second) != entry.device) {
      entry.device = device_word(interface->second);
      writes.store(MapId::egress, index * element_words(MapId::egress) + 1, entry.device);
    }
  }
}

uint64_t EgressTable::word_for(uint32_t address, WriteList& writes) {
  const auto known = words_.find(address);
  if (known != words_.end()) {
    return known->second;
  }
  const dataplane::NextHop* way = usable_way(*ways_, address);
  const uint64_t word = way != nullptr ? make_word(*way, address, writes) : 0;
  words_[address] = word;
  return word;
}

uint64_t EgressTable::make_word(const dataplane::NextHop& way, uint32_t address, WriteList& writes) {
  const uint32_t source = way.source.ipv4();
  uint32_t chosen = 0;
  uint32_t free = 0;
  for (uint32_t index = 1; index < SLUICE_MAX_EGRESS && chosen == 0; ++index) {
    const Entry& entry = entries_.at(index);
    if (entry.state != State::free && entry.ifindex == way.ifindex && entry.source == source) {
      chosen = index;
    } else if (entry.state == State::free && free == 0) {
      free = index;
    }
  }
  if ((chosen == 0 && free == 0) || !have_source(source, writes)) {
    refused_.insert(address);
    return 0;
  }
  const uint64_t device = device_word(ways_->interfaces.at(way.ifindex));
  const uint32_t index = chosen != 0 ? chosen : free;
  Entry& entry = entries_.at(index);
  if (chosen == 0 || entry.device != device) {
    writes.store(MapId::egress, index * element_words(MapId::egress) + 1, device);
  }
  if (chosen == 0) {
    writes.store(MapId::egress, index * element_words(MapId::egress), interface_word(way.ifindex, source), true);
  }
  entry = Entry{way.ifindex, source, device, State::used};
  return SLUICE_NEXT_HOP_WORD(index, mac48(way.mac));
}

// A source address stays in the configuration until another needs its place: replies that are under way still find it.
bool EgressTable::have_source(uint32_t source, WriteList& writes) {
  if (std::find(sources_.begin(), sources_.end(), source) != sources_.end()) {
    return true;
  }
  const auto in_use = [this](uint32_t candidate) {
    return candidate != 0 && std::any_of(entries_.begin(), entries_.end(), [candidate](const Entry& entry) {
             return entry.state == State::used && entry.source == candidate;
           });
  };
  auto place = std::find(sources_.begin(), sources_.end(), 0U);
  if (place == sources_.end()) {
    place = std::find_if_not(sources_.begin(), sources_.end(), in_use);
  }
  if (place == sources_.end()) {
    return false;
  }
  *place = source;
  const auto pair = static_cast<uint32_t>((place - sources_.begin()) / 2);
  uint64_t word = 0;
  std::memcpy(&word, &sources_.at(size_t{pair} * 2), sizeof word);
  writes.store(MapId::config, offsetof(sluice_config, nat_sources) / 8 + pair, word);
  return true;
}

void EgressTable::retain(const std::set<uint32_t>& used) {
  for (uint32_t index = 1; index < SLUICE_MAX_EGRESS; ++index) {
    Entry& entry = entries_.at(index);
    if (entry.state == State::used && !used.contains(index)) {
      entry.state = State::retired;
    }
  }
}

void EgressTable::grace_over(WriteList& writes) {
  for (uint32_t index = 1; index < SLUICE_MAX_EGRESS; ++index) {
    if (entries_.at(index).state == State::retired) {
      entries_.at(index) = Entry{};
      writes.store(MapId::egress, index * element_words(MapId::egress), 0);
    }
  }
}

bool EgressTable::awaits_grace() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const Entry& e) { return e.state == State::retired; });
}

bool EgressTable::leads(const ImageView& image, uint64_t word, uint32_t address, const Ways& ways) {
  const dataplane::NextHop* way = usable_way(ways, address);
  if (way == nullptr || word == 0) {
    return way == nullptr && word == 0;
  }
  const uint32_t index = SLUICE_NEXT_HOP_EGRESS(word);
  if (index == 0 || index >= SLUICE_MAX_EGRESS || word != SLUICE_NEXT_HOP_WORD(index, mac48(way->mac))) {
    return false;
  }
  const sluice_egress& entry = image.egress[index];
  const uint32_t source = way->source.ipv4();
  uint64_t device = 0;
  std::memcpy(&device, entry.mac, sizeof device);
  return entry.ifindex == way->ifindex && entry.source == source &&
         device == device_word(ways.interfaces.at(way->ifindex)) &&
         std::find(std::begin(image.config->nat_sources), std::end(image.config->nat_sources), source) !=
             std::end(image.config->nat_sources);
}

}  // namespace sluice::agent::program
