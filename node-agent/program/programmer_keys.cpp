// The Programmer's part that decides which keys lead where, and who goes without for want of room.
#include <algorithm>
#include <unordered_set>

#include "node-agent/program/work.h"

namespace sluice::agent::program {
namespace {

WholeKey address_key(const net::IpAddress& address) {
  return WholeKey{address, 0, 0};
}

}  // namespace

void Programmer::reject(Work& work, const std::string& id, const std::string& reason, const std::string& message) {
  const auto change = work.changes.find(id);
  if (change != work.changes.end()) {
    give_up(change->second, arenas_);
    work.changes.erase(change);
  }
  const auto before = programmed_.find(id);
  if (before != programmed_.end()) {
    before->second.settled = false;
  }
  work.rejected.insert(id);
  unsettled_.insert(id);
  work.plan.failures.push_back(dataplane::ServiceFailure{
      id, reason, message + (before == programmed_.end() ? "; not programmed" : "; left as it was")});
}

void Programmer::reject_for_room(Work& work, const std::string& id, const std::string& map) {
  work.short_of_room = true;
  reject(work, id, kTableFull, "the map " + map + " is full");
}

// Rejects those that would exceed what the maps of keys hold in all, and those whose keys cannot be told from others.
void Programmer::reject_beyond_room(Work& work) {
  size_t count = keys_.positions().size();
  size_t free_whole = whole_keys_.free_elements();
  const auto going = [](const Programmed& service) { return service.keys.size() + service.backend_keys.size(); };
  for (const std::string& id : work.removed) {
    count -= std::min(count, going(programmed_.at(id)));
  }
  for (const Programmed& service : unclaimed_) {
    count -= std::min(count, going(service));
  }
  std::vector<std::pair<std::string, const char*>> without;
  std::vector<std::pair<std::string, std::string>> collided;
  std::unordered_set<net::IpAddress> counted;
  for (const auto& [id, change] : work.changes) {
    size_t added = 0;
    size_t added_whole = 0;
    const WholeKey* collides = nullptr;
    std::vector<net::IpAddress> new_addresses;
    const auto look_at = [&](const WholeKey& key) {
      collides = whole_keys_.collides(key) ? &key : collides;
      if (keys_.find(key.word())) {
        return false;
      }
      ++added;
      added_whole += key.address.is_ipv4() ? 0 : 1;
      return true;
    };
    for (const WholeKey& key : change.next.keys) {
      look_at(key);
      if (!counted.contains(key.address) && look_at(address_key(key.address))) {
        new_addresses.push_back(key.address);
      }
    }
    for (const auto& [key, record] : change.next.backend_keys) {
      added += keys_.find(key) ? 0 : 1;
    }
    if (collides != nullptr) {
      collided.emplace_back(id, collides->to_string() + " has the same print as another key");
    } else if (added != 0 && count + added > keys_.max_keys()) {
      without.emplace_back(id, map_name(MapId::keys));
    } else if (added_whole > free_whole) {
      without.emplace_back(id, map_name(MapId::keys6));
    } else {
      count += added;
      free_whole -= added_whole;
      counted.insert(new_addresses.begin(), new_addresses.end());
    }
  }
  for (const auto& [id, map] : without) {
    reject_for_room(work, id, map);
  }
  for (const auto& [id, message] : collided) {
    reject(work, id, kNotSupported, message);
  }
}

void Programmer::reject_new_keys(Work& work) {
  std::vector<std::string> ids;
  for (const auto& [id, change] : work.changes) {
    const auto& [keys, backends] = std::tie(change.next.keys, change.next.backend_keys);
    if (std::any_of(keys.begin(), keys.end(), [this](const WholeKey& key) { return !keys_.find(key.word()); }) ||
        std::any_of(backends.begin(), backends.end(), [this](const auto& key) { return !keys_.find(key.first); })) {
      ids.push_back(id);
    }
  }
  for (const auto& id : ids) {
    reject_for_room(work, id, map_name(MapId::keys));
  }
}

// What a key leads to, with the element of `keys6` where it has one; nullopt: there is none for it.
std::optional<KeyValue> Programmer::value_of(const WholeKey& key, uint32_t value) {
  if (key.address.is_ipv4()) {
    return KeyValue{value, 0};
  }
  const auto index = whole_keys_.take(key);
  return index ? std::optional(KeyValue{value, *index}) : std::nullopt;
}

// The keys of a service shall go, as far as they lead to it.
void Programmer::wish_away(const Programmed& service, Work& work) const {
  for (const WholeKey& key : service.keys) {
    const uint64_t word = key.word();
    const auto there = keys_.find(word);
    if (there && there->value == service.index) {
      work.wishes[word] = {std::nullopt, &key};
    }
  }
  for (const auto& [word, record] : service.backend_keys) {
    const auto there = keys_.find(word);
    if (there && there->value == record) {
      work.wishes[word] = {};
    }
  }
}

void Programmer::wish_for_address(const net::IpAddress& address, int more, Work& work) {
  const WholeKey key = address_key(address);
  const uint32_t value = addresses_.value(address, more);
  const auto wanted = value == 0 ? std::nullopt : value_of(key, value);
  if (value != 0 && !wanted) {
    return;  // it goes without
  }
  work.wishes[key.word()] = {wanted, nullptr};
}

// Collects how the keys of services, of their addresses and of their backends shall be.
void Programmer::wish_for_keys(Work& work) {
  work.wishes.clear();
  work.address_counts.clear();
  for (const std::string& id : work.removed) {
    wish_away(programmed_.at(id), work);
  }
  for (const Programmed& service : unclaimed_) {
    wish_away(service, work);
  }
  for (const auto& [id, change] : work.changes) {
    if (change.before) {
      wish_away(*change.before, work);
    }
  }
  for (const auto& [id, change] : work.changes) {
    for (const WholeKey& key : change.next.keys) {
      if (const auto value = value_of(key, change.next.index)) {
        work.wishes[key.word()] = {value, &key};
      }
    }
    for (const auto& [word, record] : change.next.backend_keys) {
      work.wishes[word] = {KeyValue{record, 0}, nullptr};
    }
  }
  for (const auto& [word, wish] : work.wishes) {
    if (wish.whole != nullptr) {
      work.address_counts[wish.whole->address] += (wish.value ? 1 : 0) - (keys_.find(word) ? 1 : 0);
    }
  }
  for (const auto& [address, more] : work.address_counts) {
    if (more != 0) {
      wish_for_address(address, more, work);
    }
  }
}

KeyTable::Delta Programmer::delta_of(const Work& work) const {
  KeyTable::Delta delta;
  for (const auto& [word, wish] : work.wishes) {
    const auto there = keys_.find(word);
    if (wish.value && there != wish.value) {
      delta.set.emplace_back(word, *wish.value);
    } else if (!wish.value && there) {
      delta.removed.push_back(word);
    }
  }
  std::sort(delta.set.begin(), delta.set.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::sort(delta.removed.begin(), delta.removed.end());
  return delta;
}

// Settles which keys there will be. Services whose new keys find no room are rejected before anything of them is
// written.
void Programmer::admit_keys(Work& work) {
  reject_beyond_room(work);
  for (const bool last : {false, true}) {
    wish_for_keys(work);
    work.delta = delta_of(work);
    KeyTable::Change change = keys_.prepare(*work.delta);
    if (change.room == KeyTable::Room::fits) {
      work.key_change = std::move(change);
      return;
    }
    whole_keys_.rollback();
    if (!last) {
      reject_new_keys(work);
    }
  }
}

void Programmer::commit_keys(const KeyTable::Delta& delta, KeyTable::Change change, Work& work) {
  whole_keys_.commit(work.plan.writes);
  for (const auto& [word, value] : delta.set) {
    const auto wish = work.wishes.find(word);
    if (wish == work.wishes.end() || wish->second.whole == nullptr) {
      work.plan.touched.keys.push_back(word);
    }
  }
  work.plan.touched.removed_keys.insert(work.plan.touched.removed_keys.end(), delta.removed.begin(),
                                        delta.removed.end());
  keys_.commit(delta, std::move(change), work.plan.writes);
  for (const uint64_t word : delta.removed) {
    whole_keys_.drop(word);
  }
}

void Programmer::change_keys(Work& work) {
  if (!work.key_change) {
    return;
  }
  commit_keys(*work.delta, std::move(*work.key_change), work);
  for (const auto& [address, more] : work.address_counts) {
    addresses_.count_services(address, more);
  }
  // Those without room keep what they had, where no other has it now.
  for (const auto& id : work.rejected) {
    const auto service = programmed_.find(id);
    if (service != programmed_.end()) {
      std::erase_if(service->second.keys, [&](const WholeKey& key) {
        const auto there = keys_.find(key.word());
        return !there || there->value != service->second.index;
      });
    }
  }
}

// Keys that decode() has found and nobody has asked for.
void Programmer::wish_away_strangers(Work& work) const {
  std::unordered_set<uint64_t> wanted;
  for (const auto& [id, service] : programmed_) {
    for (const WholeKey& key : service.keys) {
      wanted.insert(key.word());
    }
    for (const auto& [word, record] : service.backend_keys) {
      wanted.insert(word);
    }
  }
  for (const auto& [address, count] : addresses_.services()) {
    wanted.insert(address_key(address).word());
  }
  for (const auto& [address, flags] : addresses_.standing()) {
    wanted.insert(address_key(address).word());
  }
  for (const auto& [word, position] : keys_.positions()) {
    if (!wanted.contains(word)) {
      work.wishes[word] = {};
    }
  }
}

// What addresses are, now that it has come out which sources nat uses. Keys without room are tried again.
void Programmer::stand_addresses(Work& work) {
  if (!work.key_change) {
    return;
  }
  const auto sources = egress_.sources();
  if (work.way_change.rest || strangers_ || sources != nat_sources_ || !peers_.changed_nodes().empty() ||
      !peers_.moved().empty()) {
    nat_sources_ = sources;
    const auto changed = addresses_.stand(standing_addresses(sources));
    pending_addresses_.insert(changed.begin(), changed.end());
  }
  if (pending_addresses_.empty() && !strangers_) {
    return;
  }
  work.wishes.clear();
  if (strangers_) {
    wish_away_strangers(work);
    for (const auto& [address, count] : addresses_.services()) {
      pending_addresses_.insert(address);
    }
  }
  for (const net::IpAddress& address : pending_addresses_) {
    wish_for_address(address, 0, work);
  }
  const KeyTable::Delta delta = delta_of(work);
  KeyTable::Change change = keys_.prepare(delta);
  if (change.room != KeyTable::Room::fits) {
    whole_keys_.rollback();
    work.short_of_room = true;
    return;
  }
  commit_keys(delta, std::move(change), work);
  pending_addresses_.clear();
  strangers_ = false;
}

}  // namespace sluice::agent::program
