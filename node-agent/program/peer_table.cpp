#include "node-agent/program/peer_table.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace sluice::agent::program {
namespace {

constexpr uint8_t kUdp = 17;
constexpr uint8_t kHops = 64;  // TTL, hop limit
constexpr size_t kIpv4Bytes = 20;
constexpr size_t kIpv6Bytes = 40;

constexpr uint32_t kNextHopWord = offsetof(sluice_peer, next_hop) / 8;
constexpr uint32_t kStateWord = offsetof(sluice_peer, state) / 8;
constexpr uint32_t kTokenWord = offsetof(sluice_peer, token) / 8;
constexpr uint32_t kTemplateWord = offsetof(sluice_peer, outer) / 8;
constexpr uint32_t kAcceptedWord = offsetof(sluice_peer, accepted) / 8;

void put16(uint8_t* to, uint16_t value) {
  const uint16_t wire = htons(value);
  std::memcpy(to, &wire, sizeof wire);
}

// RFC 1071, over 16-bit words as they lie in memory, folded and not complemented.
uint16_t ones_complement_sum(const uint8_t* bytes, size_t count) {
  uint32_t sum = 0;
  for (size_t i = 0; i < count; i += 2) {
    uint16_t word = 0;
    std::memcpy(&word, bytes + i, sizeof word);
    sum += word;
  }
  while (sum >> 16 != 0) {
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(sum);
}

// A tunnel that has two ends.
bool possible(const Peer& peer) {
  return peer.port != 0 && peer.address != net::IpAddress{} && peer.address.family() == peer.source.family();
}

OuterTemplate template_in(const sluice_peer& element) {
  OuterTemplate outer;
  std::copy(std::begin(element.outer), std::end(element.outer), outer.bytes.begin());
  outer.ipv6 = (SLUICE_PEER_FLAGS(element.state) & SLUICE_PEER_OUTER_IPV6) != 0;
  return outer;
}

uint64_t state_word(const Peer& peer) {
  const uint32_t flags = (peer.usable ? SLUICE_PEER_USABLE : 0U) | (peer.has_nat ? SLUICE_PEER_HAS_NAT : 0U) |
                         (peer.address.is_ipv4() ? 0U : SLUICE_PEER_OUTER_IPV6);
  return SLUICE_PEER_WORD(flags, peer.fits4, peer.fits6);
}

// Both accepted tokens, each where it is already: one that stays accepted is so at every moment.
std::array<uint64_t, 2> accepted_words(const Peer& peer, const __u64 (&there)[2]) {
  auto words = peer.accepted;
  if ((words[0] != 0 && words[0] == there[1]) || (words[1] != 0 && words[1] == there[0])) {
    std::swap(words[0], words[1]);
  }
  return words;
}

}  // namespace

OuterTemplate outer_template(const Peer& peer) {
  OuterTemplate outer;
  uint8_t* const bytes = outer.bytes.data();
  outer.ipv6 = !peer.address.is_ipv4();
  if (outer.ipv6) {
    bytes[0] = 6 << 4;  // version; traffic class and flow label 0
    bytes[6] = kUdp;
    bytes[7] = kHops;
    std::copy_n(peer.source.bytes().data(), 16, bytes + 8);
    std::copy_n(peer.address.bytes().data(), 16, bytes + 24);
    put16(bytes + kIpv6Bytes + 2, peer.port);
    return outer;
  }
  bytes[0] = 4 << 4 | kIpv4Bytes / 4;
  put16(bytes + 6, 0x4000);  // do not fragment
  bytes[8] = kHops;
  bytes[9] = kUdp;
  std::copy_n(peer.source.bytes().data(), 4, bytes + 12);
  std::copy_n(peer.address.bytes().data(), 4, bytes + 16);
  const uint16_t sum = ones_complement_sum(bytes, kIpv4Bytes);
  std::memcpy(bytes + 10, &sum, sizeof sum);
  put16(bytes + kIpv4Bytes + 2, peer.port);
  return outer;
}

std::vector<Peer> peers_in(const ImageView& image) {
  std::vector<Peer> peers;
  for (uint16_t index = 1; index < SLUICE_MAX_PEERS; ++index) {
    const sluice_peer& element = image.peers[index];
    const uint8_t* const outer = element.outer;
    if (outer[0] == 0) {
      continue;
    }
    const uint32_t flags = SLUICE_PEER_FLAGS(element.state);
    const bool ipv6 = (flags & SLUICE_PEER_OUTER_IPV6) != 0;
    const auto address = [ipv6](const uint8_t* from) {
      if (!ipv6) {
        uint32_t ipv4 = 0;
        std::memcpy(&ipv4, from, sizeof ipv4);
        return net::IpAddress::from_ipv4(ipv4);
      }
      std::array<uint8_t, 16> bytes{};
      std::copy_n(from, bytes.size(), bytes.begin());
      return net::IpAddress::from_ipv6(bytes);
    };
    Peer& peer = peers.emplace_back();
    peer.source = address(outer + (ipv6 ? 8 : 12));
    peer.address = address(outer + (ipv6 ? 24 : 16));
    const uint8_t* const port = outer + (ipv6 ? kIpv6Bytes : kIpv4Bytes) + 2;
    peer.port = static_cast<uint16_t>(port[0] << 8 | port[1]);
    peer.usable = (flags & SLUICE_PEER_USABLE) != 0;
    peer.has_nat = (flags & SLUICE_PEER_HAS_NAT) != 0;
    peer.fits4 = static_cast<uint16_t>(SLUICE_PEER_FITS4(element.state));
    peer.fits6 = static_cast<uint16_t>(SLUICE_PEER_FITS6(element.state));
  }
  return peers;
}

PeerTable PeerTable::decode(const ImageView& image, const std::set<uint32_t>& named, EgressTable& egress) {
  PeerTable table;
  std::vector<uint16_t> others;
  const auto adopt = [&](uint16_t index) {
    table.entries_[index].element = image.peers[index];
    table.entries_[index].state = State::used;
    table.unclaimed_.try_emplace(template_in(image.peers[index]), index);
    table.left_.insert(index);
    egress.count(image.peers[index].next_hop, 1);
  };
  for (uint16_t index = 1; index < SLUICE_MAX_PEERS; ++index) {
    if (image.peers[index].outer[0] == 0) {
      continue;
    }
    table.entries_.resize(index + 1U);
    if (named.contains(index)) {
      adopt(index);
    } else {
      others.push_back(index);
    }
  }
  std::for_each(others.begin(), others.end(), adopt);
  return table;
}

void PeerTable::start(const Ways& ways, EgressTable& egress, WriteList& writes, std::set<uint32_t>& touched) {
  moved_.clear();
  changed_nodes_.clear();
  ran_out_ = false;
  for (auto entry = by_node_.begin(); entry != by_node_.end();) {
    const auto peer = ways.peers.find(entry->first);
    if (peer != ways.peers.end() && possible(peer->second)) {
      ++entry;
      continue;
    }
    Entry& gone = entries_[entry->second];
    gone.has_node = false;
    left_.insert(entry->second);
    if ((SLUICE_PEER_FLAGS(gone.element.state) & SLUICE_PEER_USABLE) != 0) {
      gone.element.state &= ~uint64_t{SLUICE_PEER_USABLE};
      writes.store(MapId::peers, entry->second * element_words(MapId::peers) + kStateWord, gone.element.state, true);
    }
    changed_nodes_.insert(entry->first);
    entry = by_node_.erase(entry);
  }
  for (const auto& [node, peer] : ways.peers) {
    if (!possible(peer)) {
      continue;
    }
    const auto known = by_node_.find(node);
    const uint16_t before = known == by_node_.end() ? 0 : known->second;
    uint16_t index = before;
    if (before == 0 || template_in(entries_[before].element) != outer_template(peer)) {
      index = claim(peer);
      if (index == 0) {
        ran_out_ = true;
        continue;  // where it was reached before, it goes on being so
      }
      if (before != 0) {
        entries_[before].has_node = false;
        left_.insert(before);
        moved_[before] = index;
      } else {
        changed_nodes_.insert(node);
      }
      by_node_[node] = index;
    }
    settle(index, peer, egress, writes, touched);
  }
  unclaimed_.clear();
}

void PeerTable::start_unchanged() {
  moved_.clear();
  changed_nodes_.clear();
}

// An element for a peer that has none: the one that decode() has found for it, or a free one.
uint16_t PeerTable::claim(const Peer& peer) {
  const auto found = unclaimed_.find(outer_template(peer));
  if (found == unclaimed_.end()) {
    return take();
  }
  const uint16_t index = found->second;
  unclaimed_.erase(found);
  left_.erase(index);
  entries_[index].has_node = true;
  return index;
}

uint16_t PeerTable::take() {
  for (uint32_t i = 0; i < SLUICE_MAX_PEERS; ++i) {
    const auto index = static_cast<uint16_t>((last_taken_ + 1U + i) % SLUICE_MAX_PEERS);
    if (index >= entries_.size()) {
      entries_.resize(index + 1U);
    }
    if (index != 0 && entries_[index].state == State::free) {
      last_taken_ = index;
      entries_[index].has_node = true;
      return index;
    }
  }
  return 0;
}

void PeerTable::settle(uint16_t index, const Peer& peer, EgressTable& egress, WriteList& writes,
                       std::set<uint32_t>& touched) {
  Entry& entry = entries_[index];
  sluice_peer now = entry.element;
  now.next_hop = egress.word_for(peer.way, peer.address.family(), false, entry.element.next_hop, writes);
  now.state = state_word(peer);
  now.token = peer.token;
  const auto accepted = accepted_words(peer, entry.element.accepted);
  std::copy(accepted.begin(), accepted.end(), std::begin(now.accepted));
  if (entry.state != State::used) {
    const OuterTemplate outer = outer_template(peer);
    std::copy(outer.bytes.begin(), outer.bytes.end(), std::begin(now.outer));
    writes.store_element(MapId::peers, index, now);
    egress.count(now.next_hop, 1);
    entry.element = now;
    entry.state = State::used;
    touched.insert(index);
    return;
  }
  uint64_t before_words[sizeof now / 8];
  uint64_t now_words[sizeof now / 8];
  std::memcpy(before_words, &entry.element, sizeof now);
  std::memcpy(now_words, &now, sizeof now);
  // What it accepts before what is said of it; a token before it is used.
  for (const uint32_t word : {kAcceptedWord, kAcceptedWord + 1, kTokenWord, kNextHopWord, kStateWord}) {
    if (before_words[word] != now_words[word]) {
      writes.store(MapId::peers, index * element_words(MapId::peers) + word, now_words[word], true);
      touched.insert(index);
    }
  }
  egress.count(entry.element.next_hop, -1);
  egress.count(now.next_hop, 1);
  entry.element = now;
}

uint16_t PeerTable::index_of(const std::string& node) const {
  const auto found = by_node_.find(node);
  return found == by_node_.end() ? uint16_t{0} : found->second;
}

void PeerTable::count(uint16_t index, int by) {
  if (index != 0 && index < entries_.size()) {
    entries_[index].records += static_cast<uint32_t>(by);
  }
}

void PeerTable::retain(EgressTable& egress) {
  std::erase_if(left_, [&](uint16_t index) {
    Entry& entry = entries_[index];
    if (entry.records != 0) {
      return false;
    }
    egress.count(entry.element.next_hop, -1);
    entry.state = State::retired;
    retired_.push_back(index);
    return true;
  });
}

// The template goes: a later process would take it for that of a node.
void PeerTable::grace_over(WriteList& writes) {
  for (const uint16_t index : retired_) {
    entries_[index] = Entry{};
    writes.store(MapId::peers, index * element_words(MapId::peers) + kTemplateWord, 0);
  }
  retired_.clear();
}

std::vector<uint32_t> PeerTable::in_use() const {
  std::vector<uint32_t> indices;
  for (const auto& [node, index] : by_node_) {
    indices.push_back(index);
  }
  std::sort(indices.begin(), indices.end());
  return indices;
}

bool PeerTable::stands(const ImageView& image, const std::string& node, const Ways& ways) const {
  const auto peer = ways.peers.find(node);
  const uint16_t index = index_of(node);
  if (peer == ways.peers.end() || index == 0) {
    return true;
  }
  const sluice_peer& there = image.peers[index];
  const auto accepted = accepted_words(peer->second, there.accepted);
  return template_in(there) == outer_template(peer->second) && there.state == state_word(peer->second) &&
         there.token == peer->second.token && std::equal(accepted.begin(), accepted.end(), there.accepted) &&
         EgressTable::leads(image, there.next_hop, peer->second.way, peer->second.address.family(), false, ways);
}

}  // namespace sluice::agent::program
