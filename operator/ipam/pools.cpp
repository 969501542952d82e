#include "operator/ipam/pools.h"

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>

namespace sluice::ipam {
namespace {

using resources::AddressPool;
using resources::Ptr;

// What may overlap itself: sorted by first address, with the range that reaches furthest up to each position.
class ReservedIndex {
 public:
  explicit ReservedIndex(const std::vector<Reserved>& reserved) {
    for (const Reserved& entry : reserved) sorted_.push_back(&entry);
    std::ranges::sort(sorted_, {},
                      [](const Reserved* entry) { return std::tie(entry->range.first, entry->range.last); });
    for (const Reserved* entry : sorted_) {
      const bool further = furthest_.empty() || entry->range.last > furthest_.back()->range.last;
      furthest_.push_back(further ? entry : furthest_.back());
    }
  }

  // IPv4 sorts before IPv6, so that ranges of both families can stand in one order.
  [[nodiscard]] const Reserved* overlap(const net::AddressRange& range) const {
    const auto after =
        std::ranges::upper_bound(sorted_, range.last, {}, [](const Reserved* e) { return e->range.first; });
    if (after == sorted_.begin()) return nullptr;
    const Reserved* found = furthest_.at(static_cast<size_t>(after - sorted_.begin()) - 1);
    return found->range.last >= range.first && found->range.first.family() == range.first.family() ? found : nullptr;
  }

 private:
  std::vector<const Reserved*> sorted_;
  std::vector<const Reserved*> furthest_;
};

// RFC 6890: what no host has as its own address on a network.
std::vector<Reserved> never_unicast() {
  static constexpr std::array kRanges = {"0.0.0.0/8",   "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4",
                                         "240.0.0.0/4", "::/127",      "fe80::/10",      "ff00::/8"};
  std::vector<Reserved> out;
  for (const char* text : kRanges) {
    if (auto range = net::AddressRange::parse(text)) out.push_back({*range, std::string(text) + ", not for hosts"});
  }
  return out;
}

std::optional<std::string> unreadable(Pool& pool) {
  for (size_t i = 0; i < pool.spec->addresses.size(); ++i) {
    auto range = net::AddressRange::parse(pool.spec->addresses[i]);
    if (!range)
      return "spec.addresses[" + std::to_string(i) + "] " + pool.spec->addresses[i] + ": " + range.error().reason;
    pool.ranges.push_back(*range);
  }
  if (pool.ranges.empty()) return "spec.addresses is empty";
  return std::nullopt;
}

std::optional<std::string> overlaps_itself(const Pool& pool) {
  auto sorted = pool.ranges;
  std::ranges::sort(sorted);
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i].overlaps(sorted[i - 1]))
      return sorted[i - 1].to_string() + " and " + sorted[i].to_string() + " overlap";
  }
  return std::nullopt;
}

std::optional<std::string> not_built(const Pool& pool) {
  if (pool.spec->allow_cross_namespace_sharing) {
    return "spec.allowCrossNamespaceSharing is not supported yet; remove it";
  }
  for (const resources::PoolAnnouncement& announcement : pool.spec->announcements) {
    if (announcement.type != "Layer2") {
      return "spec.announcements[" + announcement.name + "].type " + announcement.type +
             " is not supported yet; use Layer2";
    }
  }
  return std::nullopt;
}

// a + b, both decimal.
std::string add_decimal(const std::string& a, const std::string& b) {
  std::string sum;
  int carry = 0;
  for (size_t i = 0; i < std::max(a.size(), b.size()) || carry != 0; ++i) {
    const auto digit = [i](const std::string& n) { return i < n.size() ? n[n.size() - 1 - i] - '0' : 0; };
    const int total = digit(a) + digit(b) + carry;
    sum += static_cast<char>('0' + total % 10);
    carry = total / 10;
  }
  std::ranges::reverse(sum);
  return sum.empty() ? "0" : sum;
}

net::AddressRange single(const net::IpAddress& address) {
  return {address, address};
}

}  // namespace

std::vector<Reserved> reserved_ranges(const resources::ClusterState& cluster, const KnownRanges& told) {
  std::vector<Reserved> out;
  for (const auto& [name, node] : cluster.nodes) {
    for (const resources::NodeAddress& address : node->addresses) {
      out.push_back({single(address.address), "the " + address.type + " of node " + name});
    }
    for (const net::Prefix& prefix : node->pod_ranges) {
      out.push_back({prefix.range(), "the pod range " + prefix.to_string() + " of node " + name});
    }
  }
  for (const net::Prefix& prefix : told.pods) out.push_back({prefix.range(), "the pod range " + prefix.to_string()});
  for (const net::Prefix& prefix : told.services) {
    out.push_back({prefix.range(), "the Services' range " + prefix.to_string()});
  }
  for (const auto& [name, cidr] : cluster.service_cidrs) {
    for (const net::Prefix& prefix : cidr->ranges) {
      out.push_back({prefix.range(), "the Services' range " + prefix.to_string()});
    }
  }
  // Clusters older than ServiceCIDR objects tell their range only by the addresses that are taken from it.
  if (cluster.service_cidrs.empty()) {
    for (const auto& [key, service] : cluster.services) {
      for (const std::string& text : service->cluster_ips) {
        if (auto address = net::IpAddress::parse(text)) {
          out.push_back({single(*address), "the cluster IP of Service " + key.text()});
        }
      }
    }
  }
  return out;
}

bool Pool::contains(const net::IpAddress& address) const {
  return std::ranges::any_of(ranges, [&](const net::AddressRange& range) { return range.contains(address); });
}

std::string Pool::refusal(const resources::ObjectMeta& object, const resources::Labels& namespace_labels) const {
  if (!spec->namespace_selector.matches(namespace_labels)) {
    return "its namespaceSelector (" + spec->namespace_selector.to_string() + ") does not match namespace " +
           object.key.ns;
  }
  if (!spec->service_selector.matches(object.labels)) {
    return "its serviceSelector (" + spec->service_selector.to_string() + ") does not match the labels of " +
           object.key.text();
  }
  return {};
}

Pools::Pools(const std::map<std::string, Ptr<AddressPool>>& specs, const std::vector<Reserved>& reserved) {
  std::vector<const AddressPool*> by_age;
  for (const auto& [name, spec] : specs) {
    pools_.emplace(name, Pool{name, spec, {}, false, {}, {}});
    by_age.push_back(spec.get());
  }
  std::ranges::sort(by_age, {},
                    [](const AddressPool* p) { return std::tie(p->meta.creation_timestamp, p->meta.key.name); });
  std::vector<Reserved> foreign = never_unicast();
  foreign.insert(foreign.end(), reserved.begin(), reserved.end());
  const ReservedIndex index(foreign);
  const auto overlap = [&](const Pool& pool) -> std::optional<std::string> {
    for (const net::AddressRange& range : pool.ranges) {
      if (const Reserved* found = index.overlap(range)) return range.to_string() + " overlaps " + found->what;
      auto next = spans_.upper_bound(range.last);
      if (next == spans_.begin()) continue;
      const auto& [first, span] = *std::prev(next);
      if (span.last >= range.first && first.family() == range.first.family()) {
        return range.to_string() + " overlaps " + net::AddressRange{first, span.last}.to_string() + " of AddressPool " +
               span.pool;
      }
    }
    return std::nullopt;
  };
  for (const AddressPool* spec : by_age) {
    Pool& pool = pools_.at(spec->meta.key.name);
    const auto refuse = [&pool](const char* reason, std::string message) {
      pool.reason = reason;
      pool.message = std::move(message) + "; no new addresses are given out from this pool, those in use stay";
    };
    if (auto why = unreadable(pool)) {
      refuse("InvalidAddresses", *why);
    } else if (auto why_self = overlaps_itself(pool)) {
      refuse("Overlap", *why_self);
    } else if (auto why_overlap = overlap(pool)) {
      refuse("Overlap", *why_overlap);
    } else if (auto why_not = not_built(pool)) {
      refuse("NotSupported", *why_not);
    } else {
      pool.ready = true;
      pool.reason = "Ready";
      pool.message = "addresses are given out from this pool";
      for (const net::AddressRange& range : pool.ranges) spans_.emplace(range.first, Span{range.last, pool.name});
    }
  }
}

const Pool* Pools::find(const std::string& name) const {
  const auto found = pools_.find(name);
  return found == pools_.end() ? nullptr : &found->second;
}

const Pool* Pools::pool_of(const net::IpAddress& address) const {
  const auto next = spans_.upper_bound(address);
  if (next == spans_.begin()) return nullptr;
  const auto& [first, span] = *std::prev(next);
  return address <= span.last && first.family() == address.family() ? find(span.pool) : nullptr;
}

const Pool* Pools::unready_pool_of(const net::IpAddress& address) const {
  for (const auto& [name, pool] : pools_) {
    if (!pool.ready && pool.contains(address)) return &pool;
  }
  return nullptr;
}

std::vector<const Pool*> Pools::automatic() const {
  std::vector<const Pool*> out;
  for (const auto& [name, pool] : pools_) {
    if (pool.ready && pool.spec->auto_assign) out.push_back(&pool);
  }
  std::ranges::stable_sort(out, {}, [](const Pool* pool) { return pool->spec->priority; });
  return out;
}

std::map<std::string, Usage> usage(const Pools& pools,
                                   const std::map<std::string, Ptr<resources::AddressClaim>>& claims) {
  struct Count {
    size_t v4 = 0, v6 = 0;
  };
  std::map<std::string, Count> assigned;
  for (const auto& [name, claim] : claims) {
    const Pool* pool = pools.pool_of(claim->address);
    if (pool == nullptr) pool = pools.unready_pool_of(claim->address);
    if (pool != nullptr) ++(claim->address.is_ipv4() ? assigned[pool->name].v4 : assigned[pool->name].v6);
  }
  std::map<std::string, Usage> out;
  for (const auto& [name, pool] : pools.by_name()) {
    Usage entry{"0", std::to_string(assigned[name].v4), "0", std::to_string(assigned[name].v6)};
    for (const net::AddressRange& range : pool.ranges) {
      std::string& total = range.first.is_ipv4() ? entry.ipv4_total : entry.ipv6_total;
      total = add_decimal(total, range.size_text());
    }
    out.emplace(name, std::move(entry));
  }
  return out;
}

}  // namespace sluice::ipam
