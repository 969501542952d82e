// AddressPools as the allocator uses them: read, checked against each other and against what the cluster uses itself.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/net/address.h"
#include "operator/resources/cluster_state.h"

namespace sluice::ipam {

// Addresses that are somebody else's: no pool may touch them.
struct Reserved {
  net::AddressRange range;
  std::string what;  // "the InternalIP of node node1"
};

// Ranges of nodes, pods and Services that are known from the API, and those that the operator was told of.
struct KnownRanges {
  std::vector<net::Prefix> pods;
  std::vector<net::Prefix> services;
};
std::vector<Reserved> reserved_ranges(const resources::ClusterState& cluster, const KnownRanges& told);

struct Pool {
  std::string name;
  resources::Ptr<resources::AddressPool> spec;
  std::vector<net::AddressRange> ranges;  // as written; those that can be read
  bool ready = false;
  std::string reason;   // Ready, InvalidAddresses, Overlap, NotSupported
  std::string message;  // for people

  [[nodiscard]] bool contains(const net::IpAddress& address) const;
  // Empty: admitted. Else why not, as "its namespaceSelector (a=b) does not match namespace shop".
  [[nodiscard]] std::string refusal(const resources::ObjectMeta& object,
                                    const resources::Labels& namespace_labels) const;
};

class Pools {
 public:
  Pools() = default;
  // Of two pools that overlap the older keeps its addresses and the younger is refused; without that order (equal
  // creationTimestamp) the name decides.
  Pools(const std::map<std::string, resources::Ptr<resources::AddressPool>>& specs,
        const std::vector<Reserved>& reserved);

  [[nodiscard]] const std::map<std::string, Pool>& by_name() const { return pools_; }
  [[nodiscard]] const Pool* find(const std::string& name) const;
  // The ready pool that has this address; ready pools do not overlap. nullptr: none.
  [[nodiscard]] const Pool* pool_of(const net::IpAddress& address) const;
  // One that is not ready but would have it. nullptr: none.
  [[nodiscard]] const Pool* unready_pool_of(const net::IpAddress& address) const;
  // Ready and auto-assigning, by priority, then name.
  [[nodiscard]] std::vector<const Pool*> automatic() const;

 private:
  struct Span {
    net::IpAddress last;
    std::string pool;
  };
  std::map<std::string, Pool> pools_;
  std::map<net::IpAddress, Span> spans_;  // of ready pools, by first address
};

struct Usage {
  std::string ipv4_total, ipv4_assigned;  // decimal
  std::string ipv6_total, ipv6_assigned;
};
// By pool. An address counts where it lies now, whatever pool it was taken from.
std::map<std::string, Usage> usage(const Pools& pools,
                                   const std::map<std::string, resources::Ptr<resources::AddressClaim>>& claims);

}  // namespace sluice::ipam
