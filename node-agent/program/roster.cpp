#include "node-agent/program/roster.h"

#include <algorithm>

#include "node-agent/program/projection.h"

namespace sluice::agent::program {
namespace {

uint32_t hash_of(const net::IpAddress& address) {
  const uint64_t hash = std::hash<net::IpAddress>{}(address);
  return static_cast<uint32_t>(hash ^ (hash >> 32));
}

}  // namespace

void BackendIndex::add(const net::IpAddress& address, uint32_t handle) {
  if (count_ >= heads_.size()) {
    grow();
  }
  ++count_;
  const uint32_t hash = hash_of(address);
  uint32_t place = free_;
  if (place != 0) {
    free_ = nodes_[place - 1].next;
  } else {
    nodes_.emplace_back();
    place = static_cast<uint32_t>(nodes_.size());
  }
  nodes_[place - 1] = Node{hash, handle, head(hash)};
  head(hash) = place;
}

void BackendIndex::grow() {
  std::vector<uint32_t> old(std::max<size_t>(1024, heads_.size() * 2));
  old.swap(heads_);
  for (uint32_t place : old) {
    while (place != 0) {
      Node& node = nodes_[place - 1];
      const uint32_t next = node.next;
      node.next = head(node.hash);
      head(node.hash) = place;
      place = next;
    }
  }
}

void BackendIndex::remove(const net::IpAddress& address, uint32_t handle) {
  if (heads_.empty()) {
    return;
  }
  const uint32_t hash = hash_of(address);
  for (uint32_t* link = &head(hash); *link != 0; link = &nodes_[*link - 1].next) {
    const uint32_t place = *link;
    Node& node = nodes_[place - 1];
    if (node.hash == hash && node.handle == handle) {
      *link = node.next;
      node.next = free_;
      free_ = place;
      --count_;
      return;
    }
  }
}

void BackendIndex::for_each(const net::IpAddress& address, const std::function<void(uint32_t)>& visit) const {
  if (heads_.empty()) {
    return;
  }
  const uint32_t hash = hash_of(address);
  for (uint32_t place = heads_[hash & (heads_.size() - 1)]; place != 0; place = nodes_[place - 1].next) {
    if (nodes_[place - 1].hash == hash) {
      visit(nodes_[place - 1].handle);
    }
  }
}

std::vector<std::string> Roster::take(const Services& desired, const std::set<std::string>* only) {
  std::set<std::string> changed;
  std::vector<std::map<std::string, Entry>::iterator> gone;
  std::vector<Services::const_iterator> come;
  const auto look_at = [&](std::map<std::string, Entry>::iterator before, Services::const_iterator now) {
    if (before != entries_.end() && now != desired.end() && before->second.service == now->second) {
      return;
    }
    changed.insert(before != entries_.end() ? before->first : now->first);
    if (before != entries_.end()) {
      gone.push_back(before);
    }
    if (now != desired.end()) {
      come.push_back(now);
    }
  };
  if (only != nullptr) {
    for (const std::string& id : *only) {
      if (entries_.contains(id) || desired.contains(id)) {
        look_at(entries_.find(id), desired.find(id));
      }
    }
  } else {
    auto before = entries_.begin();
    for (auto now = desired.begin(); before != entries_.end() || now != desired.end();) {
      if (now == desired.end() || (before != entries_.end() && before->first < now->first)) {
        look_at(before++, desired.end());
      } else if (before == entries_.end() || now->first < before->first) {
        look_at(entries_.end(), now++);
      } else {
        look_at(before++, now++);
      }
    }
  }
  std::for_each(gone.begin(), gone.end(), [this](auto entry) { remove(entry); });
  std::for_each(come.begin(), come.end(), [this](auto entry) { add(entry->first, entry->second); });
  bool collided = false;
  for (const auto& entry : come) {
    collided = !own_keys(entry->first, entries_.at(entry->first)) || collided;
  }
  // Who is let in and who is not depends on all: of two that want one key, the first by id has it.
  if (!changed.empty() && (collided || !kept_out_.empty())) {
    settle_all(changed);
  }
  return {changed.begin(), changed.end()};
}

void Roster::add(const std::string& id, const state::Service& service) {
  Entry entry{service, 0};
  if (free_handles_.empty()) {
    entry.handle = static_cast<uint32_t>(ids_.size());
    ids_.push_back(id);
  } else {
    entry.handle = free_handles_.back();
    free_handles_.pop_back();
    ids_[entry.handle] = id;
  }
  for (const state::Backend& backend : service.backends) {
    index_.add(backend.address, entry.handle);
  }
  entries_.emplace(id, std::move(entry));
}

void Roster::remove(std::map<std::string, Entry>::iterator entry) {
  const uint32_t handle = entry->second.handle;
  for (const state::Backend& backend : entry->second.service.backends) {
    index_.remove(backend.address, handle);
  }
  disown_keys(entry->second);
  refused_.erase(entry->first);
  kept_out_.erase(entry->first);
  ids_[handle].clear();
  free_handles_.push_back(handle);
  entries_.erase(entry);
}

bool Roster::own_keys(const std::string& id, const Entry& entry) {
  if (const auto reason = not_supported(entry.service)) {
    refused_[id] = *reason;
    return true;
  }
  const auto keys = keys_of(entry.service);
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto owner = owners_.find(keys[i].word());
    const bool twice = i > 0 && keys[i].word() == keys[i - 1].word();
    if (owner == owners_.end() && !twice) {
      continue;
    }
    const WholeKey& other = twice ? keys[i - 1] : owner->second.key;
    refused_[id] = keys[i].to_string() + (other == keys[i] ? " belongs to " : " has the same print as a key of ") +
                   (twice ? id : ids_[owner->second.handle]) + " already";
    kept_out_.insert(id);
    return false;
  }
  for (const WholeKey& key : keys) {
    owners_[key.word()] = Owner{key, entry.handle};
  }
  return true;
}

void Roster::disown_keys(const Entry& entry) {
  for (const WholeKey& key : keys_of(entry.service)) {
    const auto owner = owners_.find(key.word());
    if (owner != owners_.end() && owner->second.handle == entry.handle) {
      owners_.erase(owner);
    }
  }
}

void Roster::settle_all(std::set<std::string>& changed) {
  const auto refused_before = std::move(refused_);
  owners_.clear();
  refused_.clear();
  kept_out_.clear();
  for (const auto& [id, entry] : entries_) {
    own_keys(id, entry);
    if (refused_.contains(id) != refused_before.contains(id)) {
      changed.insert(id);
    }
  }
}

const state::Service* Roster::find(const std::string& id) const {
  const auto entry = entries_.find(id);
  return entry == entries_.end() || refused_.contains(id) || entry->second.service.addresses.empty()
             ? nullptr
             : &entry->second.service;
}

void Roster::for_each(const std::function<void(const std::string&, const state::Service&)>& visit) const {
  for (const auto& [id, entry] : entries_) {
    if (find(id) != nullptr) {
      visit(id, entry.service);
    }
  }
}

void Roster::for_each_at(const net::IpAddress& address, const std::function<void(const std::string&)>& visit) const {
  index_.for_each(address, [&](uint32_t handle) { visit(ids_[handle]); });
}

}  // namespace sluice::agent::program
