#include "node-agent/dataplane/counter_maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "bpf/sluice.h"

namespace sluice::agent::dataplane {
namespace {

constexpr const char* kOperation = "read counters";
constexpr const char* kBackends = "backend_counters";
constexpr uint32_t kBatch = 4096;

struct Reason {
  const char* text;
  const char* kind;
};
constexpr std::array<Reason, SLUICE_REASON_COUNT> kReasons = {{
#define SLUICE_REASON_TEXT(name, text, kind) {text, #kind},
    SLUICE_REASONS(SLUICE_REASON_TEXT)
#undef SLUICE_REASON_TEXT
}};

size_t cpus() {
  static const auto count = static_cast<size_t>(std::max(libbpf_num_possible_cpus(), 1));
  return count;
}

void add(sluice_count& total, const sluice_count& more) {
  total.packets += more.packets;
  total.bytes += more.bytes;
}
void take(sluice_count& total, const sluice_count& less) {
  total.packets -= less.packets;
  total.bytes -= less.bytes;
}

void add(sluice_counters& total, const sluice_counters& more) {
  add(total.forwarded, more.forwarded);
  add(total.otherwise, more.otherwise);
  add(total.returned, more.returned);
  total.flows += more.flows;
}
void take(sluice_counters& total, const sluice_counters& less) {
  take(total.forwarded, less.forwarded);
  take(total.otherwise, less.otherwise);
  take(total.returned, less.returned);
  total.flows -= less.flows;
}

sluice_counters sum(const sluice_counters* per_cpu) {
  sluice_counters total{};
  for (size_t cpu = 0; cpu < cpus(); ++cpu) {
    add(total, per_cpu[cpu]);
  }
  return total;
}

sluice_count sum(const std::vector<sluice_count>& per_cpu) {
  sluice_count total{};
  for (const auto& count : per_cpu) {
    add(total, count);
  }
  return total;
}

// Under which reasons a record's counts are told (bpf/layout/counters.h).
struct ReasonsOf {
  sluice_reason forwarded, otherwise, returned;
};
ReasonsOf reasons_of(uint8_t forwarding) {
  switch (forwarding) {
    case SLUICE_FORWARD_LOCAL:
      return {SLUICE_REASON_FORWARDED_LOCAL, SLUICE_REASON_DECAPSULATED, SLUICE_REASON_RETURNED_LOCAL};
    case SLUICE_FORWARD_TUNNEL:
      return {SLUICE_REASON_FORWARDED_TUNNEL, SLUICE_REASON_FORWARDED_NAT, SLUICE_REASON_RETURNED_NAT};
    case SLUICE_FORWARD_DIRECT:
      return {SLUICE_REASON_FORWARDED_DIRECT, SLUICE_REASON_FORWARDED_DIRECT, SLUICE_REASON_RETURNED_NAT};
    case SLUICE_FORWARD_IPIP:
      return {SLUICE_REASON_FORWARDED_IPIP, SLUICE_REASON_FORWARDED_IPIP, SLUICE_REASON_RETURNED_NAT};
    default:
      return {SLUICE_REASON_FORWARDED_NAT, SLUICE_REASON_FORWARDED_NAT, SLUICE_REASON_RETURNED_NAT};
  }
}

void add_to_reasons(std::span<sluice_count> reasons, uint8_t forwarding, const sluice_counters& counters) {
  const ReasonsOf of = reasons_of(forwarding);
  add(reasons[of.forwarded], counters.forwarded);
  add(reasons[of.otherwise], counters.otherwise);
  add(reasons[of.returned], counters.returned);
}
void take_from_reasons(std::span<sluice_count> reasons, uint8_t forwarding, const sluice_counters& counters) {
  const ReasonsOf of = reasons_of(forwarding);
  take(reasons[of.forwarded], counters.forwarded);
  take(reasons[of.otherwise], counters.otherwise);
  take(reasons[of.returned], counters.returned);
}

// The sums of indices 0..count-1.
Result<std::vector<sluice_counters>> read_array(int fd, const char* name, uint32_t count) {
  std::vector<sluice_counters> totals;
  totals.reserve(count);
  std::vector<uint32_t> keys(kBatch);
  std::vector<sluice_counters> values(kBatch * cpus());
  while (totals.size() < count) {
    uint32_t before = static_cast<uint32_t>(totals.size()) - 1;
    uint32_t after = 0;
    uint32_t batch = std::min(kBatch, count - static_cast<uint32_t>(totals.size()));
    if (bpf_map_lookup_batch(fd, totals.empty() ? nullptr : &before, &after, keys.data(), values.data(), &batch,
                             nullptr) != 0 &&
        errno != ENOENT) {
      return fail_errno(errno, kOperation, name);
    }
    if (batch == 0) {
      return fail(ErrorKind::internal, kOperation, name, "the map ends too early");
    }
    for (uint32_t i = 0; i < batch; ++i) {
      totals.push_back(sum(&values[i * cpus()]));
    }
  }
  return totals;
}

template <typename Out>
void set_out(Out& out, const sluice_counters& total) {
  out.packets = total.forwarded.packets + total.otherwise.packets;
  out.bytes = total.forwarded.bytes + total.otherwise.bytes;
  out.flows = total.flows;
  out.return_packets = total.returned.packets;
  out.return_bytes = total.returned.bytes;
}

// `reasons`: what records count.
Status read_reasons(const Maps& maps, const program::Programmer& programmer, std::span<const sluice_count> reasons,
                    Counters& counters) {
  std::vector<sluice_count> values(cpus());
  for (uint32_t reason = 0; reason < SLUICE_REASON_COUNT; ++reason) {
    if (bpf_map_lookup_elem(maps.fd("reasons"), &reason, values.data()) != 0) {
      return fail_errno(errno, kOperation, "reasons");
    }
    auto total = sum(values);
    add(total, reasons[reason]);
    counters.reasons.push_back({kReasons.at(reason).text, kReasons.at(reason).kind, "", total.packets, total.bytes});
  }
  const int fd = maps.fd("service_reasons");
  std::map<std::pair<uint32_t, uint32_t>, sluice_count> by_service;
  sluice_service_reason_key key{};
  const void* before = nullptr;
  while (bpf_map_get_next_key(fd, before, &key) == 0) {
    before = &key;
    if (key.reason < SLUICE_REASON_COUNT && bpf_map_lookup_elem(fd, &key, values.data()) == 0) {
      add(by_service[{key.service, key.reason}], sum(values));
    }
  }
  for (const auto& [of, total] : by_service) {
    if (const std::string* id = programmer.id_at(of.first); id != nullptr) {
      counters.reasons.push_back(
          {kReasons.at(of.second).text, kReasons.at(of.second).kind, *id, total.packets, total.bytes});
    }
  }
  return {};
}

Status set_counters(const Maps& maps, uint32_t record, const std::vector<sluice_counters>& per_cpu) {
  if (bpf_map_update_elem(maps.fd(kBackends), &record, per_cpu.data(), BPF_ANY) != 0) {
    return fail_errno(errno, "set counters", kBackends);
  }
  return {};
}

Status get_counters(const Maps& maps, uint32_t record, std::vector<sluice_counters>& per_cpu) {
  if (bpf_map_lookup_elem(maps.fd(kBackends), &record, per_cpu.data()) != 0) {
    return fail_errno(errno, kOperation, kBackends);
  }
  return {};
}

}  // namespace

Result<Counters> read_counters(const Maps& maps, const program::Programmer& programmer) {
  uint32_t records = 0;
  for (const auto& [id, service] : programmer.programmed()) {
    records = service.backends ? std::max(records, service.backends->first + service.backends->size()) : records;
  }
  const auto by_record = read_array(maps.fd(kBackends), kBackends, records);
  if (!by_record) {
    return tl::unexpected(by_record.error());
  }
  const CounterBase base = maps.counter_base();
  std::vector<sluice_count> reasons(base.reasons.begin(), base.reasons.end());
  Counters counters;
  for (const auto& [id, service] : programmer.programmed()) {
    sluice_counters total = base.services[service.index];
    for (uint32_t i = 0; i < service.records.size(); ++i) {
      const program::Record& record = service.records[i];
      if (record.state != program::Record::State::used) {
        continue;
      }
      const sluice_counters& counted = (*by_record)[service.backends->first + i];
      add(total, counted);
      add_to_reasons(reasons, record.identity.forwarding, counted);
      BackendCounters backend;
      backend.service = id;
      backend.address = record.identity.address;
      backend.port = __builtin_bswap16(record.identity.port);
      set_out(backend, counted);
      counters.backends.push_back(std::move(backend));
    }
    ServiceCounters of_service;
    of_service.service = id;
    set_out(of_service, total);
    counters.services.push_back(std::move(of_service));
  }
  if (Status read = read_reasons(maps, programmer, reasons, counters); !read) {
    return tl::unexpected(read.error());
  }
  return counters;
}

CounterKeeper::CounterKeeper(const Maps& maps, bool fresh)
    : services_(maps.sizes().tables.services, !fresh),
      backends_(maps.sizes().tables.backends, !fresh),
      owners_(maps.sizes().tables.backends) {
  if (fresh) {
    return;
  }
  // Whose counts are whose follows from the records that tables lead to. One of them that is free is taken for its
  // former owner's, and found gone when all is compared.
  const program::ImageView image = maps.view();
  for (uint32_t record = 0; record < image.backends.size(); ++record) {
    const uint64_t what = image.backends[record].what;
    const uint32_t service = SLUICE_BACKEND_SERVICE(what);
    if (what == 0 || service >= image.services.size()) {
      continue;
    }
    const uint64_t table = image.services[service].table;
    if (table != 0 && record >= SLUICE_TABLE_BACKENDS(table) &&
        record - SLUICE_TABLE_BACKENDS(table) < SLUICE_NO_BACKEND) {
      owners_[record] = {service, static_cast<uint8_t>(SLUICE_BACKEND_FORWARDING(what))};
      records_[service].push_back(record);
    }
  }
}

Status CounterKeeper::prepare(const Maps& maps, const program::Programmer& programmer, const program::Plan& plan) {
  pending_.insert(plan.touched.services.begin(), plan.touched.services.end());
  Status outcome = begin_services(maps, plan.new_services);
  for (const program::CounterMove& one : plan.backend_counters) {
    if (Status moved = move(maps, programmer, one); !moved && outcome) {
      outcome = moved;
    }
  }
  return outcome;
}

Status CounterKeeper::begin_services(const Maps& maps, const std::vector<uint32_t>& indices) {
  std::set<uint32_t> used;
  for (const uint32_t index : indices) {
    if (services_[index]) {
      used.insert(index);
      maps.counter_base().services[index] = {};
    }
    services_[index] = true;
  }
  if (used.empty()) {
    return {};
  }
  const int fd = maps.fd("service_reasons");
  std::vector<sluice_service_reason_key> keys;
  sluice_service_reason_key key{};
  const void* before = nullptr;
  while (bpf_map_get_next_key(fd, before, &key) == 0) {
    before = &key;
    if (used.contains(key.service)) {
      keys.push_back(key);
    }
  }
  for (const auto& one : keys) {
    if (bpf_map_delete_elem(fd, &one) != 0 && errno != ENOENT) {
      return fail_errno(errno, "set counters", "service_reasons");
    }
  }
  return {};
}

Status CounterKeeper::move(const Maps& maps, const program::Programmer& programmer, const program::CounterMove& move) {
  std::vector<sluice_counters> values(cpus());
  if (move.from) {
    if (Status read = get_counters(maps, *move.from, values); !read) {
      return read;
    }
    const sluice_counters gone = sum(values.data());
    moved_[*move.from] = gone;
    // What the record counted in its way of forwarding stays with that reason.
    const Owner& owner = owners_[*move.from];
    const std::string* id = owner.service < services_.size() ? programmer.id_at(owner.service) : nullptr;
    const auto service = id == nullptr ? programmer.programmed().end() : programmer.programmed().find(*id);
    if (service != programmer.programmed().end() && service->second.backends &&
        move.to - service->second.backends->first < service->second.records.size()) {
      const auto& record = service->second.records[move.to - service->second.backends->first];
      const auto reasons = maps.counter_base().reasons;
      add_to_reasons(reasons, owner.forwarding, gone);
      take_from_reasons(reasons, record.identity.forwarding, gone);
    }
  }
  if (move.from || backends_[move.to]) {
    moved_.erase(move.to);
    if (Status set = set_counters(maps, move.to, values); !set) {
      return set;
    }
  }
  backends_[move.to] = true;
  return {};
}

// What a record has counted that is gone.
Status CounterKeeper::fold(const Maps& maps, uint32_t record) {
  std::vector<sluice_counters> values(cpus());
  if (Status read = get_counters(maps, record, values); !read) {
    return read;
  }
  sluice_counters counted = sum(values.data());
  if (const auto moved = moved_.find(record); moved != moved_.end()) {
    take(counted, moved->second);
  }
  const CounterBase base = maps.counter_base();
  const Owner owner = owners_[record];
  add(base.services[owner.service], counted);
  add_to_reasons(base.reasons, owner.forwarding, counted);
  std::fill(values.begin(), values.end(), sluice_counters{});
  return set_counters(maps, record, values);
}

Status CounterKeeper::settle_service(const Maps& maps, uint32_t index, const program::Programmed* now) {
  std::vector<uint32_t> used;
  if (now != nullptr) {
    for (uint32_t i = 0; i < now->records.size(); ++i) {
      if (now->records[i].state == program::Record::State::used) {
        used.push_back(now->backends->first + i);
      }
    }
  }
  for (const uint32_t record : records_[index]) {
    if (!std::binary_search(used.begin(), used.end(), record) && owners_[record].service == index) {
      if (Status folded = fold(maps, record); !folded) {
        return folded;
      }
      owners_[record] = {};
    }
  }
  for (const uint32_t record : used) {
    owners_[record] = {index, now->records[record - now->backends->first].identity.forwarding};
  }
  if (used.empty()) {
    records_.erase(index);
  } else {
    records_[index] = std::move(used);
  }
  return {};
}

Status CounterKeeper::settle(const Maps& maps, const program::Programmer& programmer) {
  const auto& programmed = programmer.programmed();
  if (everything_) {
    std::set<uint32_t> gone;
    for (const auto& [index, records] : records_) {
      gone.insert(index);
    }
    for (const auto& [id, service] : programmed) {
      pending_.insert(id);
      gone.erase(service.index);
    }
    for (const uint32_t index : gone) {
      if (Status settled = settle_service(maps, index, nullptr); !settled) {
        return settled;
      }
    }
    everything_ = false;
  }
  for (auto id = pending_.begin(); id != pending_.end(); id = pending_.erase(id)) {
    const auto now = programmed.find(*id);
    const auto before = indices_.find(*id);
    if (before != indices_.end() && (now == programmed.end() || now->second.index != before->second)) {
      if (Status settled = settle_service(maps, before->second, nullptr); !settled) {
        return settled;
      }
      indices_.erase(before);
    }
    if (now != programmed.end()) {
      if (Status settled = settle_service(maps, now->second.index, &now->second); !settled) {
        return settled;
      }
      indices_[*id] = now->second.index;
    }
  }
  moved_.clear();
  return {};
}

}  // namespace sluice::agent::dataplane
