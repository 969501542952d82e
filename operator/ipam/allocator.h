// Who gets which address. Pure: from the pools, the claims that exist and what is asked for, to what each has, why
// others wait, and which claims to write. An address is taken by creating its claim; a decision calls it `held` only
// once the claim is there.
//
// - An address in use never moves because a pool was edited, refused or removed. Its owner keeps it until it asks for
//   another one, and then until that one is held.
// - The incumbent keeps a contested address: by claim, else by what agents have programmed, else by status. Without an
//   incumbent the older object has it, then namespace/name.
// - Explicit requests come before automatic ones. Automatic ones take the lowest free address of the first pool that
// has one, for each address family by itself.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "operator/ipam/pools.h"

namespace sluice::ipam {

// What one Service or LoadBalancer asks for.
struct Request {
  resources::Owner owner;
  resources::ObjectMeta meta;
  std::vector<resources::ClaimPort> ports;
  std::vector<net::IpAddress> wanted;  // explicitly
  // Of each of these families that `wanted` names no address of, one from a pool. The first one leads.
  std::vector<net::Family> families{net::Family::ipv4};
  bool any_family = false;                 // one of `families` is enough, where not all can be had
  std::vector<std::string> pools;          // in this order; empty: the automatic ones
  std::vector<net::IpAddress> programmed;  // what agents have for it
  std::vector<net::IpAddress> in_status;   // what its status says
  bool keep_only = false;                  // being deleted, or not accepted: keeps what it has and gets nothing new
  bool standing = false;                   // with keep_only: what is in `programmed` is served on, and claimed again
                                           // where a claim is missing
  bool may_claim = true;                   // false: its finalizer is not there yet, no claim is created
};

struct Allocation {
  net::IpAddress address;
  std::string pool;  // empty: in none (any more)
  friend bool operator==(const Allocation&, const Allocation&) = default;
};

struct Decision {
  std::vector<Allocation> held;  // claims exist: may be programmed. In the order asked for
  std::vector<Allocation> claiming;
  // Allocated, Claiming; or why something is missing: AddressInUse, AddressNotInPool, NotAdmitted, NoSuchPool,
  // PoolNotReady, NoPool, PoolExhausted, NotRequested (keep_only and nothing held).
  std::string reason;
  std::string message;
  [[nodiscard]] bool complete() const { return reason == "Allocated"; }
  friend bool operator==(const Decision&, const Decision&) = default;
};

struct ClaimWrites {
  std::vector<resources::AddressClaim> create;
  std::vector<resources::AddressClaim> update;  // with the resourceVersion they were read at
  std::vector<resources::AddressClaim> remove;  // as they were read: uid and resourceVersion are the preconditions
};

struct Input {
  const Pools& pools;
  const std::map<std::string, resources::Ptr<resources::AddressClaim>>& claims;
  const std::map<std::string, resources::Ptr<resources::Namespace>>& namespaces;
  const std::vector<Request>& requests;  // one for each owner, in any order
  // Addresses that agents have or may still have. Without a claim they go to nobody but the one that has them
  // programmed, and a claim of theirs that nobody owns any more is not deleted before they are gone.
  const std::set<net::IpAddress>& busy;
};

struct Outcome {
  std::map<resources::Owner, Decision> decisions;
  ClaimWrites writes;
};

Outcome allocate(const Input& input);

}  // namespace sluice::ipam
