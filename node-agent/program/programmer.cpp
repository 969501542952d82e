#include "node-agent/program/work.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

namespace sluice::agent::program {
namespace {

using dataplane::ServiceFailure;

constexpr const char* kNotSupported = "NotSupported";

uint64_t nat_ports_word(NatPorts ports) {
  sluice_config config{};
  config.nat_port_first = ports.first;
  config.nat_port_last = ports.last;
  uint64_t word = 0;
  std::memcpy(&word, &config.nat_port_first, sizeof word);
  return word;
}

}  // namespace

Programmer::Programmer(const Sizes& sizes, NatPorts ports)
    : sizes_(sizes), ports_(ports), keys_(sizes.service_keys), arenas_(sizes), ids_(sizes.services) {}

Plan Programmer::plan(const ImageView& image, const state::DesiredState& desired, const std::string& node,
                      const Ways& ways) {
  if (node != node_) {
    for (auto& [id, service] : programmed_) {
      service.settled = false;
    }
    node_ = node;
  }
  flow_hash_key_ = desired.flow_hash_key;
  Plan plan = run(image, desired.services, ways);
  for (const auto& [id, service] : desired.services) {
    auto [known, added] = desired_.try_emplace(id, service);
    if (!added && known->second != service) {
      known->second = service;
    }
  }
  std::erase_if(desired_, [&desired](const auto& entry) { return !desired.services.contains(entry.first); });
  return plan;
}

void Programmer::remember(const Programmer& before) {
  desired_ = before.desired_;
  flow_hash_key_ = before.flow_hash_key_;
  node_ = before.node_;
}

Plan Programmer::plan_ways(const ImageView& image, const Ways& ways) {
  return run(image, desired_, ways);
}

Plan Programmer::run(const ImageView& image, const Services& services, const Ways& ways) {
  Work work{image, services, ways};
  work.way_change = compare(ways_, ways);
  work.way_change.all = work.way_change.all || ways_incomplete_;
  egress_.start(ways, work.plan.writes);
  store_settings(work);
  take_out_damaged(work);
  select(work);
  claim(work);
  plan_changes(work);
  admit_keys(work);
  make_changes(work);
  refresh_ways(work);
  change_keys(work);
  remove_unwanted(work);
  retain_egress();
  ways_incomplete_ = egress_.ran_out();
  if (work.way_change.any) {
    ways_ = ways;
  }
  report_ways(work);
  work.plan.touched.services.assign(work.touched.begin(), work.touched.end());
  work.plan.retry_after_grace = (work.short_of_room && awaits_grace()) || (egress_.ran_out() && egress_.awaits_grace());
  return std::move(work.plan);
}

void Programmer::store_settings(Work& work) const {
  const sluice_config& config = *work.image.config;
  for (uint32_t i = 0; i < flow_hash_key_.size(); ++i) {
    if (config.flow_hash_key[i] != flow_hash_key_.at(i)) {
      work.plan.writes.store(MapId::config, offsetof(sluice_config, flow_hash_key) / 8 + i, flow_hash_key_.at(i));
    }
  }
  uint64_t there = 0;
  std::memcpy(&there, &config.nat_port_first, sizeof there);
  if (there != nat_ports_word(ports_)) {
    work.plan.writes.store(MapId::config, offsetof(sluice_config, nat_port_first) / 8, nat_ports_word(ports_));
  }
}

// What a damaged table word leads to is not reserved, so it must lead there no longer before others are put there.
void Programmer::take_out_damaged(Work& work) {
  const auto take_out = [&work](Programmed& service) {
    if (service.damaged) {
      work.plan.writes.store(MapId::services, service.index * element_words(MapId::services), 0, true);
      service.table = 0;
      service.damaged = false;
    }
  };
  for (auto& [id, service] : programmed_) {
    take_out(service);
  }
  std::for_each(unclaimed_.begin(), unclaimed_.end(), take_out);
}

void Programmer::select(Work& work) const {
  std::unordered_map<uint64_t, const std::string*> owners;
  for (const auto& [id, service] : work.services) {
    if (const auto reason = not_supported(service)) {
      work.plan.failures.push_back(ServiceFailure{id, kNotSupported, *reason});
      continue;
    }
    const auto keys = keys_of(service);
    if (keys.empty()) {
      continue;  // nothing could lead to it
    }
    const auto taken = std::find_if(keys.begin(), keys.end(), [&](uint64_t key) { return owners.contains(key); });
    if (taken != keys.end()) {
      work.plan.failures.push_back(
          ServiceFailure{id, kNotSupported, key_text(*taken) + " belongs to " + *owners[*taken] + " already"});
      continue;
    }
    for (const uint64_t key : keys) {
      owners[key] = &id;
    }
    work.wanted[id] = &service;
  }
}

// Gives what decode() has found to the service that has one of its keys.
void Programmer::claim(Work& work) {
  if (unclaimed_.empty()) {
    return;
  }
  std::unordered_map<uint32_t, size_t> by_index;
  for (size_t i = 0; i < unclaimed_.size(); ++i) {
    by_index[unclaimed_[i].index] = i;
  }
  std::vector<bool> claimed(unclaimed_.size());
  for (const auto& [id, service] : work.wanted) {
    for (const uint64_t key : keys_of(*service)) {
      const auto index = keys_.find(key);
      const auto found = index ? by_index.find(*index) : by_index.end();
      if (found != by_index.end() && !claimed[found->second] && !programmed_.contains(id)) {
        claimed[found->second] = true;
        ids_[*index] = id;
        programmed_.emplace(id, std::move(unclaimed_[found->second]));
        break;
      }
    }
  }
  std::vector<Programmed> rest;
  for (size_t i = 0; i < unclaimed_.size(); ++i) {
    if (!claimed[i]) {
      rest.push_back(std::move(unclaimed_[i]));
    }
  }
  unclaimed_ = std::move(rest);
}

bool Programmer::unchanged(const Work& work, const state::Service& service) const {
  const auto programmed = programmed_.find(service.id);
  const auto before = desired_.find(service.id);
  if (programmed == programmed_.end() || !programmed->second.settled || before == desired_.end() ||
      (&before->second != &service && before->second != service)) {
    return false;
  }
  const auto& moved = work.way_change.moved;
  return moved.empty() || std::none_of(service.backends.begin(), service.backends.end(), [&moved](const auto& backend) {
           return moved.contains(backend.address.ipv4());
         });
}

void Programmer::plan_changes(Work& work) {
  for (const auto& [id, service] : work.wanted) {
    if (unchanged(work, *service)) {
      continue;
    }
    const auto projection = project(*service, node_, work.ways);
    const auto before = programmed_.find(id);
    if (!projection) {
      work.plan.failures.push_back(ServiceFailure{id, kNotSupported, projection.error().reason});
      if (before != programmed_.end()) {
        before->second.settled = false;
      }
      work.rejected.insert(id);
      continue;
    }
    ServiceChange change = plan_service(*projection, before == programmed_.end() ? nullptr : &before->second,
                                        work.image, arenas_, work.next_hop(egress_));
    if (change.exhausted != nullptr) {
      reject(work, id, change.exhausted);
    } else {
      work.changes.emplace(id, std::move(change));
    }
  }
}

void Programmer::make_changes(Work& work) {
  for (auto& [id, change] : work.changes) {
    const size_t before = work.plan.writes.writes().size();
    note_counters(change, work.plan);
    make(change, arenas_, work.plan.writes);
    if (work.plan.writes.writes().size() != before || !change.before || change.before->keys != change.next.keys) {
      work.touched.insert(id);
    }
    ids_[change.next.index] = id;
    programmed_[id] = std::move(change.next);
  }
}

// A backend's counts go with it to another record.
void Programmer::note_counters(const ServiceChange& change, Plan& plan) {
  if (!change.before) {
    plan.new_services.push_back(change.next.index);
  }
  for (const uint16_t index : change.new_records) {
    CounterMove move{change.next.backends->first + index, std::nullopt};
    if (change.before) {
      const auto& records = change.before->records;
      const auto same = std::find_if(records.begin(), records.end(), [&](const Record& record) {
        return record.state != Record::State::free && record.identity.same_backend(change.next.records[index].identity);
      });
      if (same != records.end()) {
        move.from = change.before->backends->first + static_cast<uint32_t>(same - records.begin());
      }
    }
    if (move.from != move.to) {
      plan.backend_counters.push_back(move);
    }
  }
}

void Programmer::remove_unwanted(Work& work) {
  if (!work.key_change) {
    return;
  }
  for (auto service = programmed_.begin(); service != programmed_.end();) {
    if (work.wanted.contains(service->first)) {
      ++service;
      continue;
    }
    ids_[service->second.index].clear();
    remove(service->second, arenas_);
    service = programmed_.erase(service);
  }
  for (const Programmed& service : unclaimed_) {
    remove(service, arenas_);
  }
  unclaimed_.clear();
}

WriteList Programmer::grace_over() {
  WriteList writes;
  keys_.grace_over();
  arenas_.grace_over();
  egress_.grace_over(writes);
  for (auto& [id, service] : programmed_) {
    for (Record& record : service.records) {
      if (record.state == Record::State::retired) {
        record = Record{};
      }
    }
  }
  return writes;
}

bool Programmer::awaits_grace() const {
  return keys_.awaits_grace() || arenas_.awaits_grace() || egress_.awaits_grace() ||
         std::any_of(programmed_.begin(), programmed_.end(), [](const auto& entry) {
           return std::any_of(entry.second.records.begin(), entry.second.records.end(),
                              [](const Record& record) { return record.state == Record::State::retired; });
         });
}

const std::string* Programmer::id_at(uint32_t index) const {
  return index < ids_.size() && !ids_[index].empty() ? &ids_[index] : nullptr;
}

}  // namespace sluice::agent::program
