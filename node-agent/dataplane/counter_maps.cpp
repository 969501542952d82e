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

sluice_counters sum(const sluice_counters* per_cpu) {
  sluice_counters total{};
  for (size_t cpu = 0; cpu < cpus(); ++cpu) {
    total.packets += per_cpu[cpu].packets;
    total.bytes += per_cpu[cpu].bytes;
    total.flows += per_cpu[cpu].flows;
    total.return_packets += per_cpu[cpu].return_packets;
    total.return_bytes += per_cpu[cpu].return_bytes;
  }
  return total;
}

sluice_reason_counters sum(const std::vector<sluice_reason_counters>& per_cpu) {
  sluice_reason_counters total{};
  for (const auto& counters : per_cpu) {
    total.packets += counters.packets;
    total.bytes += counters.bytes;
  }
  return total;
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
Out to_out(const sluice_counters& total) {
  Out out;
  out.packets = total.packets;
  out.bytes = total.bytes;
  out.flows = total.flows;
  out.return_packets = total.return_packets;
  out.return_bytes = total.return_bytes;
  return out;
}

Status read_reasons(const Maps& maps, const program::Programmer& programmer, Counters& counters) {
  std::vector<sluice_reason_counters> values(cpus());
  for (uint32_t reason = 0; reason < SLUICE_REASON_COUNT; ++reason) {
    if (bpf_map_lookup_elem(maps.fd("reasons"), &reason, values.data()) != 0) {
      return fail_errno(errno, kOperation, "reasons");
    }
    const auto total = sum(values);
    counters.reasons.push_back({kReasons.at(reason).text, kReasons.at(reason).kind, "", total.packets, total.bytes});
  }
  const int fd = maps.fd("service_reasons");
  sluice_service_reason_key key{};
  const void* before = nullptr;
  while (bpf_map_get_next_key(fd, before, &key) == 0) {
    before = &key;
    const std::string* id = programmer.id_at(key.service);
    if (id == nullptr || key.reason >= SLUICE_REASON_COUNT || bpf_map_lookup_elem(fd, &key, values.data()) != 0) {
      continue;
    }
    const auto total = sum(values);
    counters.reasons.push_back(
        {kReasons.at(key.reason).text, kReasons.at(key.reason).kind, *id, total.packets, total.bytes});
  }
  return {};
}

}  // namespace

Result<Counters> read_counters(const Maps& maps, const program::Programmer& programmer) {
  uint32_t services = 0;
  uint32_t backends = 0;
  for (const auto& [id, service] : programmer.programmed()) {
    services = std::max(services, service.index + 1);
    backends = service.backends ? std::max(backends, service.backends->first + service.backends->size()) : backends;
  }
  const auto by_service = read_array(maps.fd("service_counters"), "service_counters", services);
  const auto by_backend = read_array(maps.fd("backend_counters"), "backend_counters", backends);
  if (!by_service || !by_backend) {
    return tl::unexpected(by_service ? by_backend.error() : by_service.error());
  }
  Counters counters;
  for (const auto& [id, service] : programmer.programmed()) {
    auto total = to_out<ServiceCounters>((*by_service)[service.index]);
    total.service = id;
    counters.services.push_back(total);
    for (uint32_t i = 0; i < service.records.size(); ++i) {
      const program::Record& record = service.records[i];
      if (record.state != program::Record::State::used) {
        continue;
      }
      auto backend = to_out<BackendCounters>((*by_backend)[service.backends->first + i]);
      backend.service = id;
      backend.address = net::IpAddress::from_ipv4(record.identity.address);
      backend.port = __builtin_bswap16(record.identity.port);
      counters.backends.push_back(std::move(backend));
    }
  }
  if (Status read = read_reasons(maps, programmer, counters); !read) {
    return tl::unexpected(read.error());
  }
  return counters;
}

Status CounterKeeper::prepare(const Maps& maps, const program::Plan& plan) {
  std::vector<sluice_counters> values(cpus());
  const auto set = [&](const char* map, uint32_t index) -> Status {
    if (bpf_map_update_elem(maps.fd(map), &index, values.data(), BPF_ANY) != 0) {
      return fail_errno(errno, "set counters", map);
    }
    return {};
  };
  for (const uint32_t index : plan.new_services) {
    if (services_[index]) {
      std::fill(values.begin(), values.end(), sluice_counters{});
      if (Status done = set("service_counters", index); !done) {
        return done;
      }
      for (uint32_t reason = 0; reason < SLUICE_REASON_COUNT; ++reason) {
        const sluice_service_reason_key key{index, reason};
        bpf_map_delete_elem(maps.fd("service_reasons"), &key);
      }
    }
    services_[index] = true;
  }
  for (const program::CounterMove& move : plan.backend_counters) {
    std::fill(values.begin(), values.end(), sluice_counters{});
    if (move.from && bpf_map_lookup_elem(maps.fd("backend_counters"), &*move.from, values.data()) != 0) {
      return fail_errno(errno, kOperation, "backend_counters");
    }
    if (move.from || backends_[move.to]) {
      if (Status done = set("backend_counters", move.to); !done) {
        return done;
      }
    }
    backends_[move.to] = true;
  }
  return {};
}

}  // namespace sluice::agent::dataplane
