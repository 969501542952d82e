// The Programmer's part that decides which keys lead where, and who goes without for want of room.
#include <algorithm>

#include "node-agent/program/work.h"

namespace sluice::agent::program {

void Programmer::reject(Work& work, const std::string& id, const std::string& what) {
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
  work.short_of_room = true;
  work.plan.failures.push_back(dataplane::ServiceFailure{
      id, kTableFull,
      "the map " + what + " is full; " + (before == programmed_.end() ? "not programmed" : "left as it was")});
}

KeyTable::Keys Programmer::wanted_keys(const Work& work) const {
  KeyTable::Keys keys;
  for (const auto& [id, service] : work.wanted) {
    const auto change = work.changes.find(id);
    const auto before = programmed_.find(id);
    if (work.rejected.contains(id)) {
      continue;
    }
    const Programmed& stands = change != work.changes.end() ? change->second.next : before->second;
    for (const uint64_t key : stands.keys) {
      keys[key] = stands.index;
    }
  }
  // Those without room keep what they had, where no other has it now.
  for (const auto& id : work.rejected) {
    const auto before = programmed_.find(id);
    if (before != programmed_.end()) {
      for (const uint64_t key : before->second.keys) {
        keys.try_emplace(key, before->second.index);
      }
    }
  }
  return keys;
}

void Programmer::reject_new_keys(Work& work) {
  std::vector<std::string> ids;
  for (const auto& [id, change] : work.changes) {
    if (std::any_of(change.next.keys.begin(), change.next.keys.end(),
                    [this](uint64_t key) { return !keys_.find(key); })) {
      ids.push_back(id);
    }
  }
  for (const auto& id : ids) {
    reject(work, id, map_name(MapId::service_keys));
  }
}

// Settles which keys there will be. Services whose new keys find no room are rejected before anything of them is
// written.
void Programmer::admit_keys(Work& work) {
  size_t count = 0;
  for (const auto& [key, index] : wanted_keys(work)) {
    count += keys_.find(key) ? 1U : 0U;
  }
  std::vector<std::string> too_many;
  for (const auto& [id, change] : work.changes) {
    const auto added = static_cast<size_t>(std::count_if(change.next.keys.begin(), change.next.keys.end(),
                                                         [this](uint64_t key) { return !keys_.find(key); }));
    if (added != 0 && count + added > keys_.max_keys()) {
      too_many.push_back(id);
    } else {
      count += added;
    }
  }
  for (const auto& id : too_many) {
    reject(work, id, map_name(MapId::service_keys));
  }
  work.keys = wanted_keys(work);
  KeyTable::Change change = keys_.prepare(work.keys);
  if (change.room != KeyTable::Room::fits) {
    reject_new_keys(work);
    work.keys = wanted_keys(work);
    change = keys_.prepare(work.keys);
  }
  if (change.room == KeyTable::Room::fits) {
    work.key_change = std::move(change);
  }
}

void Programmer::change_keys(Work& work) {
  if (!work.key_change) {
    return;
  }
  for (const auto& [key, position] : keys_.positions()) {
    if (!work.keys.contains(key)) {
      work.plan.touched.removed_keys.push_back(key);
    }
  }
  keys_.commit(work.keys, std::move(*work.key_change), work.plan.writes);
  for (const auto& id : work.rejected) {
    const auto service = programmed_.find(id);
    if (service != programmed_.end()) {
      std::erase_if(service->second.keys, [&](uint64_t key) { return keys_.find(key) != service->second.index; });
    }
  }
}

}  // namespace sluice::agent::program
