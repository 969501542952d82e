// Who has each address, port and protocol. Pure.
#pragma once

#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "operator/planner/resolve.h"
#include "operator/planner/values.h"

namespace sluice::planner {

// What an owner wants to have on the nodes.
struct Wish {
  Owner owner;
  const resources::ObjectMeta* meta = nullptr;
  ResolveCache::Value resolved;
  std::vector<ipam::Allocation> addresses;
  bool standing = false;  // not as its spec says, which is not accepted: as it is in force
};

class Frontends {
 public:
  // The one that has it in the previous state gets it, else the older object: sorts `wishes`, older first, which are
  // referred to from then on. The allocator gives an address to one owner, so that this only decides where claims were
  // written by hand or by another version. Winner and loser are told of in `objects`.
  Frontends(const state::DesiredState& previous, std::vector<Wish>& wishes, std::map<Owner, ObjectPlan>& objects);

  // Whether the resolved service of a wish has its port at the address.
  [[nodiscard]] bool has(const state::Service& service, const net::IpAddress& address) const;

 private:
  using Frontend = std::tuple<net::IpAddress, uint16_t, state::Protocol>;
  void give(const Wish& wish, const state::Service& service, const net::IpAddress& address,
            std::map<Owner, ObjectPlan>& objects);

  std::map<Frontend, std::pair<const state::Service*, Owner>> taken_;
};

}  // namespace sluice::planner
