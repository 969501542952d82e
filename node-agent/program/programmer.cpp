#include "node-agent/program/programmer.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "node-agent/program/work.h"

namespace sluice::agent::program {
namespace {

using dataplane::ServiceFailure;

uint64_t ports_word(NatPorts ports, uint16_t tunnel_port) {
  sluice_config config{};
  config.nat_port_first = ports.first;
  config.nat_port_last = ports.last;
  config.tunnel_port = htons(tunnel_port);
  uint64_t word = 0;
  std::memcpy(&word, &config.nat_port_first, sizeof word);
  return word;
}

bool same_names(const std::set<std::string>& names, const std::map<std::string, state::Node>& nodes) {
  return std::equal(names.begin(), names.end(), nodes.begin(), nodes.end(),
                    [](const std::string& name, const auto& node) { return name == node.first; });
}

}  // namespace

Programmer::Programmer(const Sizes& sizes, NatPorts ports)
    : sizes_(sizes), ports_(ports), keys_(sizes.keys), whole_keys_(sizes.keys6), arenas_(sizes), ids_(sizes.services) {}

Plan Programmer::plan(const ImageView& image, const state::DesiredState& desired, const std::string& node,
                      const Ways& ways, const Changes* changes) {
  Work work{.image = image};
  const bool tunnels = !desired.tunnel.keys.empty();
  everything_ = everything_ || node != node_ || tunnels != tunnels_;
  node_ = node;
  tunnels_ = tunnels;
  tunnel_port_ = tunnels ? desired.tunnel.port : 0;
  take_underlay(desired);
  flow_hash_key_ = desired.flow_hash_key;
  if (!same_names(nodes_, desired.nodes)) {
    everything_ = true;
    nodes_.clear();
    for (const auto& [name, value] : desired.nodes) {
      nodes_.insert(nodes_.end(), name);
    }
  }
  work.dirty = roster_.take(desired.services, changes != nullptr ? &changes->services : nullptr);
  work.way_change = ways_.take(ways, changes != nullptr ? &changes->next_hops : nullptr);
  return run(work);
}

// The first of each family, as node-agent/tunnel has it.
void Programmer::take_underlay(const state::DesiredState& desired) {
  underlay4_ = {};
  underlay6_ = {};
  const auto self = desired.nodes.find(node_);
  if (!tunnels_ || self == desired.nodes.end()) {
    return;
  }
  for (const net::IpAddress& address : self->second.addresses) {
    net::IpAddress& first = address.is_ipv4() ? underlay4_ : underlay6_;
    if (first == net::IpAddress{}) {
      first = address;
    }
  }
}

Plan Programmer::plan_ways(const ImageView& image, const Ways& ways, const Changes* changes) {
  Work work{.image = image};
  work.way_change = ways_.take(ways, changes != nullptr ? &changes->next_hops : nullptr);
  return run(work);
}

void Programmer::remember(const Programmer& before) {
  roster_ = before.roster_;
  flow_hash_key_ = before.flow_hash_key_;
  node_ = before.node_;
  nodes_ = before.nodes_;
  tunnels_ = before.tunnels_;
  tunnel_port_ = before.tunnel_port_;
  underlay4_ = before.underlay4_;
  underlay6_ = before.underlay6_;
  everything_ = true;
}

Plan Programmer::run(Work& work) {
  work.way_change.all = work.way_change.all || ways_incomplete_;
  egress_.start(ways_.rest(), work.plan.writes);
  if (work.way_change.rest || everything_ || peers_.ran_out()) {
    peers_.start(ways_.rest(), egress_, work.plan.writes, work.touched_peers);
  } else {
    peers_.start_unchanged();
  }
  store_settings(work);
  take_out_damaged(work);
  find_dirty(work);
  claim(work);
  plan_changes(work);
  admit_keys(work);
  make_changes(work);
  refresh_ways(work);
  change_keys(work);
  remove_unwanted(work);
  peers_.retain(egress_);
  egress_.retain(work.plan.writes);
  stand_addresses(work);
  ways_incomplete_ = egress_.ran_out();
  everything_ = !work.key_change;
  report_refused(work);
  report_ways(work);
  SourceSets::Changes sources = sources_.take_changes();
  work.plan.source_sets_to_add = std::move(sources.added);
  work.plan.source_sets_to_remove = std::move(sources.removed);
  work.plan.touched.services.assign(work.touched.begin(), work.touched.end());
  work.plan.touched.peers.assign(work.touched_peers.begin(), work.touched_peers.end());
  const bool short_of_ways = egress_.ran_out() || peers_.ran_out();
  const bool ways_await = egress_.awaits_grace() || peers_.awaits_grace();
  work.plan.retry_after_grace =
      (work.short_of_room && awaits_grace()) || (short_of_ways && ways_await) || egress_.unfinished();
  return std::move(work.plan);
}

void Programmer::store_settings(Work& work) const {
  const sluice_config& config = *work.image.config;
  for (uint32_t i = 0; i < flow_hash_key_.size(); ++i) {
    if (config.flow_hash_key[i] != flow_hash_key_.at(i)) {
      work.plan.writes.store(MapId::config, offsetof(sluice_config, flow_hash_key) / 8 + i, flow_hash_key_.at(i));
    }
  }
  const uint64_t wanted = ports_word(ports_, tunnel_port_);
  uint64_t there = 0;
  std::memcpy(&there, &config.nat_port_first, sizeof there);
  if (there != wanted) {
    work.plan.writes.store(MapId::config, offsetof(sluice_config, nat_port_first) / 8, wanted);
  }
  sluice_config underlay{};
  underlay.underlay4 = underlay4_.is_ipv4() ? underlay4_.ipv4() : 0;
  if (!underlay6_.is_ipv4()) {
    underlay.underlay6 = to_element(underlay6_);
  }
  constexpr uint32_t kFirst = offsetof(sluice_config, underlay4) / 8;
  constexpr uint32_t kEnd = (offsetof(sluice_config, underlay6) + sizeof underlay.underlay6) / 8;
  uint64_t words[sizeof underlay / 8];
  uint64_t words_there[sizeof underlay / 8];
  std::memcpy(words, &underlay, sizeof underlay);
  std::memcpy(words_there, &config, sizeof config);
  for (uint32_t word = kFirst; word < kEnd; ++word) {
    if (words[word] != words_there[word]) {
      work.plan.writes.store(MapId::config, word, words[word]);
    }
  }
}

// What a damaged table word leads to is not reserved, so it must lead there no longer before others are put there.
void Programmer::take_out_damaged(Work& work) {
  if (!everything_) {
    return;
  }
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

// Which services may stand otherwise than they should, and which are to go.
void Programmer::find_dirty(Work& work) {
  std::set<std::string> dirty(work.dirty.begin(), work.dirty.end());
  dirty.insert(unsettled_.begin(), unsettled_.end());
  const auto insert = [&dirty](const std::string& id) { dirty.insert(id); };
  if (everything_) {
    roster_.for_each([&](const std::string& id, const state::Service&) { insert(id); });
    for (const auto& [id, service] : programmed_) {
      insert(id);
    }
  } else {
    for (const net::IpAddress& address : work.way_change.moved) {
      roster_.for_each_at(address, insert);
    }
    const auto& nodes = peers_.changed_nodes();
    const auto concerns = [&nodes](const state::Backend& backend) { return nodes.contains(backend.node); };
    if (!nodes.empty()) {
      roster_.for_each([&](const std::string& id, const state::Service& service) {
        if (std::any_of(service.backends.begin(), service.backends.end(), concerns)) {
          insert(id);
        }
      });
    }
  }
  work.dirty.assign(dirty.begin(), dirty.end());
  for (const std::string& id : work.dirty) {
    if (roster_.find(id) == nullptr) {
      unsettled_.erase(id);
      if (programmed_.contains(id)) {
        work.removed.push_back(id);
      }
    }
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
  for (const std::string& id : work.dirty) {
    const state::Service* service = roster_.find(id);
    if (service == nullptr || programmed_.contains(id)) {
      continue;
    }
    for (const WholeKey& key : keys_of(*service)) {
      const auto there = keys_.find(key.word());
      const auto found = there && !whole_keys_.collides(key) ? by_index.find(there->value) : by_index.end();
      if (found != by_index.end() && !claimed[found->second]) {
        claimed[found->second] = true;
        ids_[there->value] = id;
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

void Programmer::plan_changes(Work& work) {
  const Standpoint standpoint = here();
  const NextHopWord next_hop = [&](const ProjectedBackend& backend, uint64_t current) {
    return next_hop_word(backend.identity, backend.way, current, work.plan.writes);
  };
  for (const std::string& id : work.dirty) {
    const state::Service* service = roster_.find(id);
    if (service == nullptr) {
      continue;
    }
    const auto projection = project(*service, standpoint);
    if (!projection) {
      reject(work, id, kNotSupported, projection.error().reason);
      continue;
    }
    const auto allowed = allowed_sources(*service);
    const uint32_t sources = allowed ? sources_.id_for(service->addresses.front().family(), *allowed) : 0;
    const auto before = programmed_.find(id);
    ServiceChange change =
        plan_service(*projection, sources, tunnels_, before == programmed_.end() ? nullptr : &before->second,
                     work.image, arenas_, next_hop);
    if (change.exhausted != nullptr) {
      reject_for_room(work, id, change.exhausted);
    } else {
      work.changes.emplace_hint(work.changes.end(), id, std::move(change));
    }
  }
}

void Programmer::make_changes(Work& work) {
  size_t words = 0;
  for (const auto& [id, change] : work.changes) {
    words += change.slots.size() + change.new_records.size() * element_words(MapId::backends) + 4;
  }
  work.plan.writes.reserve(words);
  for (auto& [id, change] : work.changes) {
    const size_t writes_before = work.plan.writes.writes().size();
    note_counters(change, work.plan);
    make(change, arenas_, work.plan.writes);
    if (change.before) {
      count_records(*change.before, -1);
      sources_.let_go(SLUICE_SETTINGS_SOURCES(change.before->settings));
    }
    count_records(change.next, 1);
    sources_.use(SLUICE_SETTINGS_SOURCES(change.next.settings));
    if (work.plan.writes.writes().size() != writes_before || !change.before ||
        change.before->keys != change.next.keys || change.before->backend_keys != change.next.backend_keys) {
      work.touched.insert(id);
    }
    if (std::any_of(change.next.records.begin(), change.next.records.end(),
                    [](const Record& record) { return record.state == Record::State::retired; })) {
      left_records_.insert(id);
    }
    ids_[change.next.index] = id;
    unsettled_.erase(id);
    programmed_[id] = std::move(change.next);
  }
}

void Programmer::count_records(const Programmed& service, int by) {
  for (const Record& record : service.records) {
    if (record.state == Record::State::used) {
      egress_.count(record.next_hop, by);
      peers_.count(record.flags.peer, by);
    }
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
  const auto take_out = [this](const Programmed& service) {
    count_records(service, -1);
    sources_.let_go(SLUICE_SETTINGS_SOURCES(service.settings));
    remove(service, arenas_);
  };
  for (const std::string& id : work.removed) {
    const auto service = programmed_.find(id);
    ids_[service->second.index].clear();
    left_records_.erase(id);
    take_out(service->second);
    programmed_.erase(service);
  }
  std::for_each(unclaimed_.begin(), unclaimed_.end(), take_out);
  unclaimed_.clear();
}

void Programmer::report_refused(Work& work) const {
  for (const auto& [id, reason] : roster_.refused()) {
    work.plan.failures.push_back(ServiceFailure{id, kNotSupported, reason});
  }
}

WriteList Programmer::grace_over() {
  WriteList writes;
  keys_.grace_over();
  whole_keys_.grace_over();
  arenas_.grace_over();
  egress_.grace_over(writes);
  peers_.grace_over(writes);
  sources_.grace_over();
  for (const std::string& id : left_records_) {
    for (Record& record : programmed_.at(id).records) {
      if (record.state == Record::State::retired) {
        record = Record{};
      }
    }
  }
  left_records_.clear();
  return writes;
}

bool Programmer::awaits_grace() const {
  return keys_.awaits_grace() || whole_keys_.awaits_grace() || arenas_.awaits_grace() || egress_.awaits_grace() ||
         peers_.awaits_grace() || sources_.awaits_grace() || !left_records_.empty();
}

const Programmed* Programmer::service_of(const WholeKey& key) const {
  const auto found = keys_.find(key.word());
  if (!found || key.is_address() || whole_keys_.collides(key)) {
    return nullptr;
  }
  const std::string* id = id_at(found->value);
  return id != nullptr ? &programmed_.at(*id) : nullptr;
}

const std::string* Programmer::id_at(uint32_t index) const {
  return index < ids_.size() && !ids_[index].empty() ? &ids_[index] : nullptr;
}

std::vector<uint32_t> Programmer::source_sets() const {
  return sources_.in_use();
}

}  // namespace sluice::agent::program
