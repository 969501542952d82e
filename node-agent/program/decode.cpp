// Programmer::decode: from raw maps to what is programmed.
#include <algorithm>
#include <set>

#include "common/maglev/maglev.h"
#include "node-agent/program/programmer.h"

namespace sluice::agent::program {
namespace {

// Which indices the slots of a table hold, ascending. `table` lies within the arena.
std::vector<uint16_t> referenced(const ImageView& image, uint64_t table, size_t slots) {
  std::vector<bool> seen(256);
  const uint32_t first = SLUICE_TABLE_OFFSET(table);
  for (size_t slot = first; slot < first + slots; ++slot) {
    const uint64_t element = image.slots[slot / SLUICE_SLOTS_PER_WORD];
    const auto index = static_cast<uint16_t>(element >> (slot % SLUICE_SLOTS_PER_WORD * 16));
    if (index >= seen.size()) {
      seen.resize(size_t{SLUICE_NO_BACKEND} + 1);
    }
    seen[index] = true;
  }
  std::vector<uint16_t> indices;
  for (uint32_t index = 0; index < seen.size() && index < SLUICE_NO_BACKEND; ++index) {
    if (seen[index]) {
      indices.push_back(static_cast<uint16_t>(index));
    }
  }
  return indices;
}

// What a record says, where it is one of this service's; `family`: the service's.
std::optional<Record> record_in(const sluice_backend& element, uint32_t service, net::Family family) {
  const uint32_t forwarding = SLUICE_BACKEND_FORWARDING(element.what);
  const auto address = from_element(element.address, family);
  if (!address || SLUICE_BACKEND_SERVICE(element.what) != service || forwarding < SLUICE_FORWARD_LOCAL ||
      forwarding > SLUICE_FORWARD_IPIP) {
    return std::nullopt;
  }
  Record record;
  record.identity = {*address, SLUICE_BACKEND_PORT(element.what), static_cast<uint8_t>(forwarding)};
  record.flags = {static_cast<uint16_t>(SLUICE_BACKEND_PEER(element.what)),
                  static_cast<uint8_t>(SLUICE_BACKEND_FLAGS(element.what))};
  record.state = Record::State::used;
  record.next_hop = element.next_hop;
  return record;
}

// Whether a tunnel's key leads to the record that it names.
bool names(uint64_t key, const sluice_backend& element) {
  return SLUICE_BACKEND_FORWARDING(element.what) == SLUICE_FORWARD_LOCAL &&
         key == sluice_key_backend(SLUICE_BACKEND_SERVICE(element.what), element.address.words[0],
                                   element.address.words[1], SLUICE_BACKEND_PORT(element.what));
}

// What keys lead to.
struct Walk {
  std::map<uint32_t, std::vector<WholeKey>> keys;                           // by service
  std::map<uint32_t, std::vector<std::pair<uint64_t, uint32_t>>> backends;  // by service: key, record
  std::set<uint32_t> peers;
};

Walk walk(const ImageView& image, const KeyTable& table, const WholeKeys& whole_keys) {
  Walk found;
  for (const auto& [word, position] : table.positions()) {
    const KeyValue value = table.value_at(position);
    if (SLUICE_KEY_KIND(word) == SLUICE_KEY_BACKEND) {
      const uint32_t service = SLUICE_BACKEND_SERVICE(image.backends[value.value].what);
      found.backends[service].emplace_back(word, value.value);
      continue;
    }
    const WholeKey key = SLUICE_KEY_KIND(word) == SLUICE_KEY_IPV4 ? *whole_key(word) : *whole_keys.find(word);
    if (!key.is_address()) {
      found.keys[value.value].push_back(key);
    } else if ((value.value & SLUICE_ADDRESS_PEER) != 0) {
      found.peers.insert(SLUICE_ADDRESS_PEER_INDEX(value.value));
    }
  }
  for (auto& [service, keys] : found.keys) {
    std::sort(keys.begin(), keys.end(), [](const WholeKey& a, const WholeKey& b) { return a.word() < b.word(); });
  }
  for (auto& [service, keys] : found.backends) {
    std::sort(keys.begin(), keys.end());
  }
  return found;
}

}  // namespace

Programmer Programmer::decode(const Sizes& sizes, NatPorts ports, const ImageView& image) {
  Programmer programmer(sizes, ports);
  programmer.keys_ = KeyTable::decode(image, [&](const sluice_key_entry& entry) {
    switch (SLUICE_KEY_KIND(entry.key)) {
      case SLUICE_KEY_IPV4: {
        const auto key = whole_key(entry.key);
        return key && (key->is_address() || entry.value < image.services.size());
      }
      case SLUICE_KEY_IPV6:
        return programmer.whole_keys_.adopt(image, entry.key, entry.extra) &&
               (programmer.whole_keys_.find(entry.key)->is_address() || entry.value < image.services.size());
      case SLUICE_KEY_BACKEND:
        return entry.value < image.backends.size() && names(entry.key, image.backends[entry.value]) &&
               SLUICE_BACKEND_SERVICE(image.backends[entry.value].what) < image.services.size();
      default:
        return false;
    }
  });
  const Walk found = walk(image, programmer.keys_, programmer.whole_keys_);
  programmer.egress_ = EgressTable::decode(image);
  programmer.peers_ = PeerTable::decode(image, found.peers, programmer.egress_);
  std::set<uint32_t> services;
  for (const auto& [index, keys] : found.keys) {
    services.insert(index);
    for (const WholeKey& key : keys) {
      programmer.addresses_.count_services(key.address, 1);
    }
  }
  for (const auto& [index, keys] : found.backends) {
    services.insert(index);
  }
  for (const uint32_t index : services) {
    Programmed service;
    service.index = index;
    if (const auto keys = found.keys.find(index); keys != found.keys.end()) {
      service.keys = keys->second;
    }
    if (const auto keys = found.backends.find(index); keys != found.backends.end()) {
      service.backend_keys = keys->second;
    }
    programmer.arenas_.services.reserve(Range{index, 0});
    programmer.decode_service(image, service);
    programmer.count_records(service, 1);
    programmer.sources_.adopt(SLUICE_SETTINGS_SOURCES(service.settings));
    programmer.sources_.use(SLUICE_SETTINGS_SOURCES(service.settings));
    programmer.unclaimed_.push_back(std::move(service));
  }
  programmer.strangers_ = true;
  return programmer;
}

// Fills in what the service's word and its backends' keys lead to, and takes it from the arenas. Left `damaged` where
// that is not a table of this service; keys that lead elsewhere are not its.
void Programmer::decode_service(const ImageView& image, Programmed& service) {
  service.table = image.services[service.index].table;
  service.settings = image.services[service.index].settings;
  auto named = std::move(service.backend_keys);
  service.backend_keys.clear();
  if (service.table == 0) {
    return;
  }
  service.damaged = true;
  const uint32_t log2 = SLUICE_TABLE_LOG2(service.table);
  if (log2 > maglev::kMaxLog2) {
    return;
  }
  const size_t slots = size_t{SLUICE_TABLE_EARLIER(service.table) + 1} << log2;
  const size_t units = (slots + SLUICE_SLOT_UNIT - 1) / SLUICE_SLOT_UNIT;
  const uint32_t first = SLUICE_TABLE_OFFSET(service.table);
  if (first + units * SLUICE_SLOT_UNIT > image.slots.size() * SLUICE_SLOTS_PER_WORD) {
    return;
  }
  std::vector<uint16_t> indices = referenced(image, service.table, slots);
  const uint32_t base = SLUICE_TABLE_BACKENDS(service.table);
  std::erase_if(named, [base](const auto& key) { return key.second < base || key.second - base >= SLUICE_NO_BACKEND; });
  for (const auto& [key, record] : named) {
    indices.push_back(static_cast<uint16_t>(record - base));
  }
  std::sort(indices.begin(), indices.end());
  indices.erase(std::unique(indices.begin(), indices.end()), indices.end());
  if (indices.empty()) {
    return;
  }
  const Range backends{base, log2_ceil(indices.back() + 1U)};
  if (size_t{backends.first} + backends.size() > image.backends.size()) {
    return;
  }
  const bool ipv6 = (SLUICE_SETTINGS_FLAGS(service.settings) & SLUICE_SERVICE_IPV6) != 0;
  std::vector<Record> records(backends.size());
  for (const uint16_t index : indices) {
    const auto record =
        record_in(image.backends[base + index], service.index, ipv6 ? net::Family::ipv6 : net::Family::ipv4);
    if (!record) {
      return;
    }
    records[index] = *record;
  }
  const Range range{SLUICE_TABLE_OFFSET(service.table) / SLUICE_SLOT_UNIT, log2_ceil(static_cast<uint32_t>(units))};
  if (!arenas_.slots.reserve(range)) {
    return;
  }
  if (!arenas_.backends.reserve(backends)) {
    arenas_.slots.release(range);
    return;
  }
  service.slots = range;
  service.backends = backends;
  service.records = std::move(records);
  service.backend_keys = std::move(named);
  service.damaged = false;
}

}  // namespace sluice::agent::program
