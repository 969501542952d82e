#include "common/state/history.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/maglev/maglev.h"
#include "common/maglev/service_table.h"

namespace sluice::state {
namespace {

constexpr Revision kNow = std::numeric_limits<Revision>::max();

// Who is in the choice, independent of indices: {address, port, group's name, group's weight}.
using Membership = std::tuple<net::IpAddress, uint16_t, std::string, uint32_t>;

Membership membership(const Service& service, const Backend& backend) {
  const Group& group = service.groups.at(backend.group);
  return {backend.address, backend.port, group.name, group.weight};
}

uint32_t group_index(std::vector<Group>& groups, const Group& group) {
  const auto found = std::ranges::find(groups, group);
  if (found != groups.end()) return static_cast<uint32_t>(found - groups.begin());
  groups.push_back(group);
  return static_cast<uint32_t>(groups.size() - 1);
}

void drop_unused_groups(Service& service) {
  std::vector<std::optional<uint32_t>> moved_to(service.groups.size());
  for (const Backend& backend : service.backends) moved_to.at(backend.group) = 0;
  std::vector<Group> kept;
  for (size_t i = 0; i < service.groups.size(); ++i) {
    if (!moved_to[i]) continue;
    moved_to[i] = static_cast<uint32_t>(kept.size());
    kept.push_back(std::move(service.groups[i]));
  }
  service.groups = std::move(kept);
  for (Backend& backend : service.backends) backend.group = *moved_to[backend.group];
}

uint8_t next_log2(uint8_t current, size_t members) {
  const uint8_t wanted = maglev::wanted_log2(members);
  if (wanted > current) return wanted;
  // Shrinking moves most flows' slots: only when there is room for the members to double again.
  if (members > 0 && maglev::wanted_log2(2 * members) < current) return wanted;
  return current;
}

// One stay of before that had not ended, and what is wanted of it now (nullptr: nothing). nullopt: it need not be
// listed any more.
std::optional<Backend> move_on(Backend stay, const Backend* wanted, Revision revision) {
  if (wanted == nullptr) {
    if (stay.joined == kNotYet) return std::nullopt;
    stay.left = revision;
    return stay;
  }
  if (stay.joined == kNotYet && wanted->joined != kNotYet) stay.joined = revision;
  stay.node = wanted->node;
  stay.zone = wanted->zone;
  return stay;
}

// Where nobody that takes flows is in the choice, waiting would refuse them for nothing.
void join_an_empty_choice(Service& service, Revision revision) {
  const bool empty = std::ranges::none_of(service.backends, [&](const Backend& backend) {
    return backend.in_choice_at(kNow) && service.groups.at(backend.group).weight > 0;
  });
  if (!empty) return;
  for (Backend& backend : service.backends) {
    if (backend.joined == kNotYet) backend.joined = revision;
  }
}

size_t endpoints_in_choice(const Service& service) {
  std::set<std::pair<net::IpAddress, uint16_t>> endpoints;
  for (const Backend& backend : service.backends) {
    if (backend.in_choice_at(kNow)) endpoints.emplace(backend.address, backend.port);
  }
  return endpoints.size();
}

}  // namespace

Service evolve(const Service* previous, Service wanted, Revision revision) {
  const Revision joins = previous != nullptr ? revision : 0;
  std::map<Membership, Backend> joining;
  std::vector<Membership> order;  // as wanted, so that the outcome follows the input's order
  for (const Backend& backend : wanted.backends) {
    Membership key = membership(wanted, backend);
    if (joining.emplace(key, backend).second) order.push_back(std::move(key));
  }

  Service next = std::move(wanted);
  std::vector<Group> wanted_groups = std::exchange(next.groups, {});
  next.backends.clear();
  next.sizes.clear();
  if (previous != nullptr) {
    next.groups = previous->groups;
    next.sizes = previous->sizes;
    for (const Backend& stay : previous->backends) {
      if (stay.left != 0) {
        next.backends.push_back(stay);
        continue;
      }
      const auto kept = joining.extract(membership(*previous, stay));
      if (auto moved = move_on(stay, kept.empty() ? nullptr : &kept.mapped(), revision)) {
        next.backends.push_back(std::move(*moved));
      }
    }
  }
  for (const Membership& key : order) {
    auto added = joining.extract(key);
    if (added.empty()) continue;
    Backend& backend = added.mapped();
    backend.group = group_index(next.groups, wanted_groups.at(backend.group));
    backend.joined = backend.joined == kNotYet ? kNotYet : joins;
    backend.left = 0;
    next.backends.push_back(std::move(backend));
  }
  join_an_empty_choice(next, joins);

  const size_t endpoints = endpoints_in_choice(next);
  if (next.sizes.empty()) next.sizes.push_back({0, maglev::wanted_log2(endpoints)});
  const uint8_t log2 = next_log2(next.sizes.back().log2, endpoints);
  if (log2 != next.sizes.back().log2) next.sizes.push_back({revision, log2});

  drop_unused_groups(next);
  const std::vector<Revision> changes = maglev::boundaries(next);
  if (changes.size() > kMaxBoundaries) next = forget(std::move(next), changes[kMaxBoundaries]);
  for (size_t kept = kMaxBoundaries; next.backends.size() > kMaxBackends && kept > 0; --kept) {
    if (kept - 1 < changes.size()) next = forget(std::move(next), changes[kept - 1]);
  }
  return next;
}

Service forget(Service service, Revision keep_from) {
  Service kept = maglev::forget_history(std::move(service), keep_from);
  drop_unused_groups(kept);
  return kept;
}

}  // namespace sluice::state
