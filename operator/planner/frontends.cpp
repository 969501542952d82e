#include "operator/planner/frontends.h"

#include <algorithm>

#include "operator/planner/families.h"

namespace sluice::planner {
namespace {

bool had(const state::DesiredState& previous, const Wish& wish, const state::Service& service,
         const net::IpAddress& address) {
  const auto before = previous.services.find(service.id);
  return before != previous.services.end() && before->second.port == service.port &&
         before->second.protocol == service.protocol &&
         std::ranges::find(before->second.addresses, address) != before->second.addresses.end() && wish.meta != nullptr;
}

}  // namespace

Frontends::Frontends(const state::DesiredState& previous, std::vector<Wish>& wishes,
                     std::map<Owner, ObjectPlan>& objects) {
  std::ranges::sort(wishes, {}, [](const Wish& wish) {
    return std::tie(wish.meta->creation_timestamp, wish.owner.key, wish.owner.kind);
  });
  for (const bool incumbents : {true, false}) {
    for (const Wish& wish : wishes) {
      for (const state::Service& service : wish.resolved->services) {
        for (const ipam::Allocation& allocation : wish.addresses) {
          if (allocation.address.family() != family_of(service.id)) continue;
          if (had(previous, wish, service, allocation.address) != incumbents) continue;
          if (wish.standing && !incumbents) continue;  // nothing is added to it
          give(wish, service, allocation.address, objects);
        }
      }
    }
  }
}

void Frontends::give(const Wish& wish, const state::Service& service, const net::IpAddress& address,
                     std::map<Owner, ObjectPlan>& objects) {
  const auto [entry, fresh] = taken_.try_emplace({address, service.port, service.protocol}, &service, wish.owner);
  if (fresh || entry->second.first == &service) return;
  const std::string what =
      address.to_string() + " " + to_string(service.protocol) + " port " + std::to_string(service.port);
  const Owner& winner = entry->second.second;
  Finding& loser = objects.at(wish.owner).addresses;
  loser = {false, "PortInUse", what + " is used by " + winner.text() + "; choose another port or address"};
  objects.at(winner).addresses.message += "; " + wish.owner.text() + " asks for " + what + " too and does not get it";
}

bool Frontends::has(const state::Service& service, const net::IpAddress& address) const {
  const auto owner = taken_.find({address, service.port, service.protocol});
  return owner != taken_.end() && owner->second.first == &service;
}

}  // namespace sluice::planner
