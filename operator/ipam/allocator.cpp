#include "operator/ipam/allocator.h"

#include <algorithm>
#include <optional>
#include <tuple>

namespace sluice::ipam {
namespace {

using net::IpAddress;
using resources::AddressClaim;
using resources::ClaimOwner;
using resources::Owner;

struct Refusal {
  std::string reason;
  std::string message;
};

// One request on its way through the passes.
struct Case {
  const Request* request = nullptr;
  std::vector<const AddressClaim*> kept;        // its claims that answer what it asks for
  std::vector<const AddressClaim*> superseded;  // its other claims
  std::vector<Allocation> taken;                // in this round
  std::optional<Refusal> refusal;

  [[nodiscard]] bool has(const IpAddress& address) const {
    return std::ranges::any_of(kept, [&](const AddressClaim* claim) { return claim->address == address; }) ||
           std::ranges::any_of(taken, [&](const Allocation& a) { return a.address == address; });
  }
  [[nodiscard]] bool has(net::Family family) const {
    return std::ranges::any_of(kept, [&](const AddressClaim* claim) { return claim->address.family() == family; }) ||
           std::ranges::any_of(taken, [&](const Allocation& a) { return a.address.family() == family; });
  }
  // Whether any address of the family will do.
  [[nodiscard]] bool automatic(net::Family family) const {
    const auto is_of = [family](const IpAddress& address) { return address.family() == family; };
    return std::ranges::find(request->families, family) != request->families.end() &&
           std::ranges::none_of(request->wanted, is_of);
  }
  // Whether it lacks this address, or one of its family.
  [[nodiscard]] bool lacks(const IpAddress& address) const {
    if (automatic(address.family())) return !has(address.family());
    return std::ranges::find(request->wanted, address) != request->wanted.end() && !has(address);
  }
};

template <typename T>
bool listed(const std::vector<T>& list, const T& value) {
  return std::ranges::find(list, value) != list.end();
}

// Old equipment takes these for network and broadcast addresses of a /24.
bool confuses_old_equipment(const IpAddress& address) {
  const uint8_t last = address.bytes().at(3);
  return address.is_ipv4() && (last == 0 || last == 255);
}

// The address of a /64's routers (RFC 4291, 2.6.1).
bool is_router_anycast(const IpAddress& address) {
  return !address.is_ipv4() &&
         std::all_of(address.bytes().begin() + 8, address.bytes().end(), [](uint8_t byte) { return byte == 0; });
}

const char* name_of(net::Family family) {
  return family == net::Family::ipv4 ? "IPv4" : "IPv6";
}

bool has_family(const Pool& pool, net::Family family) {
  return std::ranges::any_of(pool.ranges,
                             [family](const net::AddressRange& range) { return range.first.family() == family; });
}

std::string holders(const AddressClaim& claim) {
  std::string out;
  for (const ClaimOwner& owner : claim.owners) out += (out.empty() ? "" : ", ") + owner.owner.text();
  return out.empty() ? "nobody any more; it is being released" : out;
}

class Allocator {
 public:
  explicit Allocator(const Input& input) : input_(input) {
    for (const auto& [name, claim] : input.claims) by_address_.emplace(claim->address, claim.get());
    for (const Request& request : input.requests) cases_.push_back({&request, {}, {}, {}, {}});
    std::ranges::sort(cases_, {}, [](const Case& c) {
      return std::tuple(c.request->meta.creation_timestamp, c.request->owner.key, c.request->owner.kind);
    });
    for (Case& c : cases_) by_owner_.emplace(c.request->owner, &c);
  }

  Outcome run() {
    sort_claims();
    // Incumbents without a claim first, each of the ways to be one in turn; then those who name an address.
    for (Case& c : cases_) adopt(c, c.request->programmed, false);
    for (Case& c : cases_) adopt(c, c.request->in_status, true);
    for (Case& c : cases_) take_wanted(c);
    for (Case& c : cases_) take_any(c);
    Outcome out;
    for (const Case& c : cases_) out.decisions.emplace(c.request->owner, decide(c));
    for (const Case& c : cases_) write_new(c, out.writes);
    write_existing(out.writes);
    return out;
  }

 private:
  // Gives each claim to the cases of its owners, as kept or superseded.
  void sort_claims() {
    for (const auto& [address, claim] : by_address_) {
      for (const ClaimOwner& owner : claim->owners) {
        const auto found = by_owner_.find(owner.owner);
        if (found == by_owner_.end()) continue;
        Case& c = *found->second;
        (answers(c, *claim) ? c.kept : c.superseded).push_back(claim);
      }
    }
    for (Case& c : cases_) {
      if (c.request->keep_only) continue;
      for (const net::Family family : c.request->families) {
        if (c.automatic(family)) keep_one(c, family);
      }
    }
  }

  // One that names no address of a family may have claims of more than one: of a time when it named them, or on their
  // way out. It keeps what its users know, also where that lost its claim, else the lowest.
  void keep_one(Case& c, net::Family family) const {
    const Request& request = *c.request;
    const auto others = std::ranges::stable_partition(
        c.kept, [family](const AddressClaim* claim) { return claim->address.family() != family; });
    if (others.empty()) return;
    const auto known = std::ranges::find_if(
        others, [&](const AddressClaim* claim) { return listed(request.programmed, claim->address); });
    const bool lost =
        known == others.end() && std::ranges::any_of(request.programmed, [&](const IpAddress& address) {
          return address.family() == family && !by_address_.contains(address) && from_pools_asked_for(request, address);
        });
    if (known != others.end()) std::iter_swap(others.begin(), known);
    const auto first = others.begin() + (lost ? 0 : 1);
    c.superseded.insert(c.superseded.end(), first, c.kept.end());
    c.kept.erase(first, c.kept.end());
  }

  [[nodiscard]] bool from_pools_asked_for(const Request& request, const IpAddress& address) const {
    if (request.pools.empty()) return true;
    const Pool* pool = input_.pools.pool_of(address);
    return pool != nullptr && listed(request.pools, pool->name);
  }

  [[nodiscard]] bool answers(const Case& c, const AddressClaim& claim) const {
    const Request& request = *c.request;
    if (request.keep_only) return true;
    if (!c.automatic(claim.address.family())) return listed(request.wanted, claim.address);
    return listed(request.pools, claim.pool) || from_pools_asked_for(request, claim.address);
  }

  [[nodiscard]] bool free(const IpAddress& address) const {
    return !by_address_.contains(address) && !taken_.contains(address) && !input_.busy.contains(address);
  }

  void take(Case& c, const IpAddress& address, const std::string& pool) {
    c.taken.push_back({address, pool});
    taken_.emplace(address, c.request->owner);
  }

  // Takes what the request has already without a claim. `from_pool_only`: what its status says is not proof enough to
  // take an address that no pool has.
  void adopt(Case& c, const std::vector<IpAddress>& incumbent, bool from_pool_only) {
    const Request& request = *c.request;
    for (const IpAddress& address : incumbent) {
      if ((request.keep_only && !request.standing) || !c.lacks(address)) continue;
      const auto released = input_.busy.contains(address) && listed(request.programmed, address);
      if (by_address_.contains(address) || taken_.contains(address) || (input_.busy.contains(address) && !released))
        continue;
      const Pool* pool = input_.pools.pool_of(address);
      if (pool == nullptr && from_pool_only) continue;
      if (!from_pools_asked_for(request, address)) continue;
      if (pool != nullptr && from_pool_only && !pool->refusal(request.meta, namespace_labels(request)).empty())
        continue;
      take(c, address, pool == nullptr ? std::string() : pool->name);
    }
  }

  void take_wanted(Case& c) {
    const Request& request = *c.request;
    if (request.keep_only) return;
    for (const IpAddress& address : request.wanted) {
      if (c.has(address)) continue;
      if (auto why = why_not(request, address)) {
        if (!c.refusal) c.refusal = std::move(why);
        continue;
      }
      take(c, address, input_.pools.pool_of(address)->name);
    }
  }

  std::optional<Refusal> why_not(const Request& request, const IpAddress& address) {
    const std::string text = address.to_string();
    if (const auto claim = by_address_.find(address); claim != by_address_.end()) {
      contested_[address].push_back(request.owner);
      return Refusal{"AddressInUse", text + " is held by " + holders(*claim->second)};
    }
    if (const auto taken = taken_.find(address); taken != taken_.end()) {
      contested_[address].push_back(request.owner);
      return Refusal{"AddressInUse", text + " goes to " + taken->second.text() + ", which is older or had it before"};
    }
    if (input_.busy.contains(address)) return Refusal{"AddressInUse", text + " is being taken down on the nodes"};
    const Pool* pool = input_.pools.pool_of(address);
    if (pool == nullptr) {
      if (const Pool* unready = input_.pools.unready_pool_of(address)) {
        return Refusal{"PoolNotReady",
                       text + " is in AddressPool " + unready->name + ", which is not ready: " + unready->message};
      }
      return Refusal{"AddressNotInPool", text + " is in no AddressPool; add it to one"};
    }
    if (!request.pools.empty() && !listed(request.pools, pool->name)) {
      return Refusal{"AddressNotInPool",
                     text + " is in AddressPool " + pool->name + ", which is not among the pools asked for"};
    }
    if (const std::string refusal = pool->refusal(request.meta, namespace_labels(request)); !refusal.empty()) {
      return Refusal{"NotAdmitted", text + " is in AddressPool " + pool->name + ": " + refusal};
    }
    if (pool->spec->avoid_buggy_ips && confuses_old_equipment(address)) {
      return Refusal{"NotAdmitted", text + " is in AddressPool " + pool->name + ", whose avoidBuggyIPs leaves it out"};
    }
    return std::nullopt;
  }

  // Of all families that are needed, or of none.
  void take_any(Case& c) {
    const Request& request = *c.request;
    if (request.keep_only) return;
    std::optional<Refusal> refusal;
    const size_t before = c.taken.size();
    for (const net::Family family : request.families) {
      if (!c.automatic(family) || c.has(family)) continue;
      if (auto why = take_one(c, family); why && !refusal) refusal = std::move(why);
    }
    if (!refusal) return;
    const bool any = std::ranges::any_of(request.families, [&](net::Family family) { return c.has(family); });
    if (request.any_family && any) return;
    for (size_t i = before; i < c.taken.size(); ++i) taken_.erase(c.taken[i].address);
    c.taken.resize(before);
    if (!c.refusal) c.refusal = std::move(refusal);
  }

  // Takes an address of the family from the first pool that has one; why not, where none has.
  std::optional<Refusal> take_one(Case& c, net::Family family) {
    const Request& request = *c.request;
    std::string refusals;
    std::string reason = "NoPool";
    const auto refuse = [&](const char* why, const std::string& text) {
      if (reason == "NoPool") reason = why;
      refusals += (refusals.empty() ? "" : "; ") + text;
    };
    for (const Pool* pool : pools_for(request, refuse)) {
      if (!has_family(*pool, family)) {
        refusals += (refusals.empty() ? "" : "; ") + ("AddressPool " + pool->name + " has no ") + name_of(family) +
                    " addresses";
        continue;
      }
      if (const std::string why = pool->refusal(request.meta, namespace_labels(request)); !why.empty()) {
        refuse("NotAdmitted", "AddressPool " + pool->name + ": " + why);
        continue;
      }
      if (auto address = first_free(*pool, family)) {
        take(c, *address, pool->name);
        return std::nullopt;
      }
      reason = "PoolExhausted";
      refusals += (refusals.empty() ? "" : "; ") + exhausted(*pool, family);
    }
    if (refusals.empty()) refusals = no_pool();
    return Refusal{reason, refusals};
  }

  template <typename Refuse>
  std::vector<const Pool*> pools_for(const Request& request, const Refuse& refuse) const {
    if (request.pools.empty()) return input_.pools.automatic();
    std::vector<const Pool*> out;
    for (const std::string& name : request.pools) {
      const Pool* pool = input_.pools.find(name);
      if (pool == nullptr)
        refuse("NoSuchPool", "AddressPool " + name + " does not exist");
      else if (!pool->ready)
        refuse("PoolNotReady", "AddressPool " + name + " is not ready: " + pool->message);
      else
        out.push_back(pool);
    }
    return out;
  }

  [[nodiscard]] std::string no_pool() const {
    if (input_.pools.by_name().empty())
      return "there is no AddressPool; create one with the addresses that may be used";
    std::string out;
    for (const auto& [name, pool] : input_.pools.by_name()) {
      out += (out.empty() ? "" : "; ") + ("AddressPool " + name + ": ") +
             (pool.ready ? "autoAssign is false, it must be asked for by name" : "not ready: " + pool.message);
    }
    return out;
  }

  // Free addresses are only ever taken in a round, so that each range is walked once, past what is in use.
  std::optional<IpAddress> first_free(const Pool& pool, net::Family family) {
    for (size_t i = 0; i < pool.ranges.size(); ++i) {
      const net::AddressRange& range = pool.ranges[i];
      if (range.first.family() != family) continue;
      auto [cursor, fresh] = cursors_.try_emplace({pool.name, i}, range.first);
      std::optional<IpAddress>& next = cursor->second;
      while (next) {
        const IpAddress address = *next;
        const bool usable = free(address) && !is_router_anycast(address) &&
                            !(pool.spec->avoid_buggy_ips && confuses_old_equipment(address));
        if (usable) return address;
        if (address == range.last)
          next.reset();
        else
          next = address.next();
      }
    }
    return std::nullopt;
  }

  [[nodiscard]] std::string exhausted(const Pool& pool, net::Family family) const {
    size_t in_use = 0;
    uint64_t total = 0;
    for (const net::AddressRange& range : pool.ranges) {
      if (range.first.family() != family) continue;
      const uint64_t size = range.size_clamped();
      total = size > UINT64_MAX - total ? UINT64_MAX : total + size;
      const auto count = [&](const auto& map) {
        in_use += static_cast<size_t>(std::distance(map.lower_bound(range.first), map.upper_bound(range.last)));
      };
      count(by_address_);
      count(taken_);
    }
    return "AddressPool " + pool.name + " is exhausted: " + std::to_string(in_use) + " of " + std::to_string(total) +
           " " + name_of(family) + " addresses are in use" +
           (pool.spec->avoid_buggy_ips && family == net::Family::ipv4
                ? ", and avoidBuggyIPs leaves out those that end in .0 and .255"
                : "") +
           "; add addresses to it or name another pool";
  }

  [[nodiscard]] resources::Labels namespace_labels(const Request& request) const {
    const auto found = input_.namespaces.find(request.owner.key.ns);
    return found == input_.namespaces.end() ? resources::Labels{} : found->second->meta.labels;
  }

  [[nodiscard]] Allocation allocation(const AddressClaim& claim) const {
    const Pool* pool = input_.pools.pool_of(claim.address);
    return {claim.address, pool == nullptr ? claim.pool : pool->name};
  }

  [[nodiscard]] Decision decide(const Case& c) const {
    Decision out;
    // Until what it asks for is held, it keeps what it had.
    const bool moved = c.taken.empty() && !c.refusal && !c.kept.empty();
    for (const AddressClaim* claim : c.kept) out.held.push_back(allocation(*claim));
    if (!moved) {
      for (const AddressClaim* claim : c.superseded) out.held.push_back(allocation(*claim));
    }
    const auto position = [](const auto& list, const auto& value) {
      return std::ranges::find(list, value) - list.begin();
    };
    const auto rank = [&](const Allocation& a) {
      return std::pair(position(c.request->wanted, a.address), position(c.request->families, a.address.family()));
    };
    std::ranges::stable_sort(out.held, {}, rank);
    out.claiming = c.taken;
    if (c.refusal) {
      out.reason = c.refusal->reason;
      out.message = c.refusal->message;
      if (!out.held.empty()) out.message += "; " + addresses_text(out.held) + " stays meanwhile";
    } else if (!c.taken.empty()) {
      out.reason = "Claiming";
      out.message = c.request->may_claim ? "taking " + addresses_text(c.taken)
                                         : "waiting for the finalizer before an address is taken";
    } else if (out.held.empty()) {
      out.reason = "NotRequested";
      out.message = "no address is given out while the object is not accepted or being deleted";
    } else {
      out.reason = "Allocated";
      out.message = addresses_text(out.held);
      for (const Allocation& a : out.held) out.message += contest(a.address);
    }
    return out;
  }

  static std::string addresses_text(const std::vector<Allocation>& list) {
    std::string out;
    for (const Allocation& a : list) {
      out += (out.empty() ? "" : ", ") + a.address.to_string() + (a.pool.empty() ? "" : " from AddressPool " + a.pool);
    }
    return out;
  }

  // The winner is told as well: it may be the one that is misconfigured.
  [[nodiscard]] std::string contest(const IpAddress& address) const {
    const auto found = contested_.find(address);
    if (found == contested_.end()) return {};
    std::string out = "; " + address.to_string() + " is also asked for by ";
    for (size_t i = 0; i < found->second.size(); ++i) out += (i == 0 ? "" : ", ") + found->second[i].text();
    return out;
  }

  static void write_new(const Case& c, ClaimWrites& writes) {
    if (!c.request->may_claim) return;
    for (const Allocation& taken : c.taken) {
      AddressClaim claim;
      claim.meta.key.name = resources::claim_name(taken.address);
      claim.address = taken.address;
      claim.pool = taken.pool;
      claim.owners.push_back({c.request->owner, c.request->ports});
      writes.create.push_back(std::move(claim));
    }
  }

  // Owners that are gone or have moved on are taken off; a claim without owners is deleted.
  void write_existing(ClaimWrites& writes) const {
    for (const auto& [address, claim] : by_address_) {
      AddressClaim wanted = *claim;
      wanted.owners.clear();
      for (const ClaimOwner& owner : claim->owners) {
        const auto found = by_owner_.find(owner.owner);
        if (found == by_owner_.end()) continue;
        const Case& c = *found->second;
        const bool moved = c.taken.empty() && !c.refusal && !c.kept.empty();
        if (moved && listed(c.superseded, claim)) continue;
        // What cannot be programmed any more still has its ports on the nodes: they are left as they are.
        wanted.owners.push_back({owner.owner, c.request->keep_only ? owner.ports : c.request->ports});
      }
      wanted.pool = allocation(*claim).pool;
      if (wanted.owners.empty()) {
        if (!input_.busy.contains(address)) writes.remove.push_back(*claim);
      } else if (wanted.owners != claim->owners || wanted.pool != claim->pool) {
        writes.update.push_back(std::move(wanted));
      }
    }
  }

  const Input& input_;
  std::vector<Case> cases_;  // older first
  std::map<Owner, Case*> by_owner_;
  std::map<IpAddress, const AddressClaim*> by_address_;
  std::map<IpAddress, Owner> taken_;                                            // in this round
  std::map<IpAddress, std::vector<Owner>> contested_;                           // who asked for it in vain
  std::map<std::pair<std::string, size_t>, std::optional<IpAddress>> cursors_;  // by pool and range; none: nothing left
};

}  // namespace

Outcome allocate(const Input& input) {
  return Allocator(input).run();
}

}  // namespace sluice::ipam
