#include "common/maglev/service_table.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <tuple>
#include <utility>

#include "common/maglev/maglev.h"

namespace sluice::maglev {

namespace {

using state::Backend;
using state::Revision;
using state::Service;

constexpr Revision kNow = std::numeric_limits<Revision>::max();

// A group's weight is spread over its members in fixed point: integers divide alike on every machine.
constexpr unsigned kFractionBits = 32;

// One {address, port} of a service.
struct Endpoint {
  uint64_t identity = 0;
  uint16_t newest_stay = 0;     // index into Service::backends: what the tables name it by
  std::vector<uint16_t> stays;  // all of them
};

std::vector<Endpoint> endpoints(const Service& service) {
  const auto& backends = service.backends;
  std::vector<uint16_t> order(backends.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<uint16_t>(i);
  const auto name = [&](uint16_t i) { return std::tie(backends[i].address, backends[i].port); };
  // A stay that is yet to come names no table: only where there is no other it is the newest.
  const auto since = [&](uint16_t i) { return backends[i].joined == state::kNotYet ? 0 : backends[i].joined + 1; };
  std::sort(order.begin(), order.end(), [&](uint16_t a, uint16_t b) {
    if (name(a) != name(b)) return name(a) < name(b);
    return since(a) != since(b) ? since(a) > since(b) : a < b;
  });
  std::vector<Endpoint> result;
  for (const uint16_t i : order) {
    if (result.empty() || name(result.back().newest_stay) != name(i)) {
      result.push_back({identity(backends[i].address, backends[i].port), i, {}});
    }
    result.back().stays.push_back(i);
  }
  return result;
}

uint8_t log2_at(const Service& service, Revision revision) {
  uint8_t log2 = 0;
  for (const state::TableSize& size : service.sizes) {
    if (size.from <= revision) log2 = size.log2;
  }
  return log2;
}

std::vector<uint16_t> table_at(const Service& service, const std::vector<Endpoint>& all, Revision revision) {
  std::vector<uint64_t> members(service.groups.size());
  for (const Backend& backend : service.backends) {
    if (backend.in_choice_at(revision)) ++members[backend.group];
  }
  std::vector<Candidate> candidates(all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    candidates[i].identity = all[i].identity;
    for (const uint16_t stay : all[i].stays) {
      const Backend& backend = service.backends[stay];
      if (!backend.in_choice_at(revision)) continue;
      const uint64_t whole = uint64_t{service.groups[backend.group].weight} << kFractionBits;
      candidates[i].weight += whole / members[backend.group];
    }
  }
  std::vector<uint16_t> table = build(candidates, log2_at(service, revision));
  for (uint16_t& slot : table) {
    if (slot != kNoBackend) slot = all[slot].newest_stay;
  }
  return table;
}

// Writes `candidate` to the first free earlier plane of `slot`, unless a plane names it already.
void remember(std::vector<std::vector<uint16_t>>& planes, size_t slot, uint16_t candidate) {
  for (auto& plane : planes) {
    if (plane[slot] == candidate) return;
    // Plane 0 is what is in force, also where it is nobody.
    if (plane[slot] == kNoBackend && &plane != &planes.front()) {
      plane[slot] = candidate;
      return;
    }
  }
}

}  // namespace

uint64_t identity(const net::IpAddress& address, uint16_t port) {
  uint64_t hash = mix(static_cast<uint64_t>(address.family()) << 16 | port);
  const auto& bytes = address.bytes();
  for (size_t word = 0; word < bytes.size(); word += 8) {
    uint64_t value = 0;
    for (size_t i = 0; i < 8; ++i) value = value << 8 | bytes[word + i];
    hash = mix(hash ^ value);
  }
  return hash;
}

ServiceTable build_service_table(const Service& service) {
  const std::vector<Endpoint> all = endpoints(service);
  std::vector<Revision> changes = boundaries(service);
  if (changes.size() > state::kMaxBoundaries) changes.resize(state::kMaxBoundaries);

  ServiceTable result;
  result.log2 = log2_at(service, kNow);
  for (const Revision change : changes) result.log2 = std::max(result.log2, log2_at(service, change - 1));
  const size_t slots = size_t{1} << result.log2;

  const std::vector<uint16_t> now = table_at(service, all, kNow);
  result.planes.assign(changes.empty() ? 1 : kMaxPlanes, std::vector<uint16_t>(slots, kNoBackend));
  for (size_t slot = 0; slot < slots; ++slot) result.planes[0][slot] = now[slot & (now.size() - 1)];
  for (const Revision change : changes) {
    const std::vector<uint16_t> before = table_at(service, all, change - 1);
    for (size_t slot = 0; slot < slots; ++slot) {
      const uint16_t candidate = before[slot & (before.size() - 1)];
      if (candidate != kNoBackend) remember(result.planes, slot, candidate);
    }
  }
  const auto is_free = [](uint16_t slot) { return slot == kNoBackend; };
  while (result.planes.size() > 1 && std::ranges::all_of(result.planes.back(), is_free)) result.planes.pop_back();
  return result;
}

std::vector<uint16_t> table_at(const Service& service, Revision revision) {
  return table_at(service, endpoints(service), revision);
}

std::vector<Revision> boundaries(const Service& service) {
  std::vector<Revision> revisions;
  for (const Backend& backend : service.backends) {
    if (backend.joined == state::kNotYet) continue;
    revisions.push_back(backend.joined);
    revisions.push_back(backend.left);
  }
  for (const state::TableSize& size : service.sizes) revisions.push_back(size.from);
  std::erase(revisions, Revision{0});
  std::sort(revisions.begin(), revisions.end(), std::greater<>());
  revisions.erase(std::unique(revisions.begin(), revisions.end()), revisions.end());
  return revisions;
}

Service forget_history(Service service, Revision keep_from) {
  std::erase_if(service.backends, [&](const Backend& stay) { return stay.left != 0 && stay.left <= keep_from; });
  for (Backend& stay : service.backends) {
    if (stay.joined != state::kNotYet && stay.joined <= keep_from) stay.joined = 0;
  }
  const uint8_t log2 = log2_at(service, keep_from);
  std::erase_if(service.sizes, [&](const state::TableSize& size) { return size.from <= keep_from; });
  service.sizes.insert(service.sizes.begin(), {0, log2});
  return service;
}

}  // namespace sluice::maglev
