#include "node-agent/program/source_sets.h"

#include <algorithm>

namespace sluice::agent::program {

void SourceSets::adopt(uint32_t id) {
  if (id == 0) {
    return;
  }
  sets_.try_emplace(id).first->second.known = true;
  next_ = std::max(next_, id == UINT32_MAX ? 1 : id + 1);
}

uint32_t SourceSets::id_for(net::Family family, std::vector<net::Prefix> prefixes) {
  std::sort(prefixes.begin(), prefixes.end());
  prefixes.erase(std::unique(prefixes.begin(), prefixes.end()), prefixes.end());
  Need need{family, std::move(prefixes)};
  const auto known = ids_.find(need);
  if (known != ids_.end()) {
    return known->second;
  }
  while (next_ == 0 || sets_.contains(next_) || retired_.contains(next_)) {
    ++next_;
  }
  const uint32_t id = next_++;
  sets_[id].need = need;
  ids_.emplace(std::move(need), id);
  touched_.insert(id);
  return id;
}

void SourceSets::use(uint32_t id) {
  if (id != 0) {
    ++sets_[id].uses;
    touched_.insert(id);
  }
}

void SourceSets::let_go(uint32_t id) {
  if (id != 0) {
    --sets_[id].uses;
    touched_.insert(id);
  }
}

SourceSets::Changes SourceSets::take_changes() {
  Changes changes;
  for (const uint32_t id : touched_) {
    const auto entry = sets_.find(id);
    Set& set = entry->second;
    if (set.uses != 0) {
      if (!set.known && set.need) {
        changes.added.push_back(SourceSet{id, set.need->first, set.need->second});
      }
      set.known = true;
      continue;
    }
    if (set.known) {
      changes.removed.push_back(id);
      retired_.insert(id);
    }
    if (set.need) {
      ids_.erase(*set.need);
    }
    sets_.erase(entry);
  }
  touched_.clear();
  return changes;
}

std::vector<uint32_t> SourceSets::in_use() const {
  std::vector<uint32_t> ids;
  for (const auto& [id, set] : sets_) {
    if (set.uses != 0) {
      ids.push_back(id);
    }
  }
  return ids;
}

std::vector<SourceSet> SourceSets::known_in_use() const {
  std::vector<SourceSet> sets;
  for (const auto& [id, set] : sets_) {
    if (set.uses != 0 && set.need) {
      sets.push_back(SourceSet{id, set.need->first, set.need->second});
    }
  }
  return sets;
}

}  // namespace sluice::agent::program
