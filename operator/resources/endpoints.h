// From a Service's slices to the endpoints of one of its ports, by kube-proxy's rules.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "operator/resources/cluster_state.h"

namespace sluice::resources {

struct Endpoint {
  net::IpAddress address;
  uint16_t port = 0;
  std::string node;  // empty: unknown
  std::string zone;
  friend auto operator<=>(const Endpoint&, const Endpoint&) = default;
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

// Addresses that a slice which was not made by the endpoint slice controller may not name: nodes, Service ranges, the
// API server, addresses of Sluice. Pods' addresses are allowed. Whoever may write slices must not reach through Sluice
// what it could not reach itself.
class EndpointGuard {
 public:
  void forbid(const net::IpAddress& address, std::string why) { addresses_.emplace(address, std::move(why)); }
  void forbid(const net::AddressRange& range, std::string why) { ranges_.emplace_back(range, std::move(why)); }
  // Why not, as "an address of node node1"; empty: allowed.
  [[nodiscard]] std::string refusal(const net::IpAddress& address) const;

  // Backends outside the cluster, which a LoadBalancer names by their address: pods are none of them, and only what the
  // cluster's operator allows.
  void forbid_pods(const net::Prefix& range) { pods_.push_back(range); }
  void allow_outside(std::vector<net::Prefix> ranges) { outside_ = std::move(ranges); }
  // Why not; empty: allowed.
  [[nodiscard]] std::string refusal_outside(const net::IpAddress& address) const;
  friend bool operator==(const EndpointGuard&, const EndpointGuard&) = default;

 private:
  std::map<net::IpAddress, std::string> addresses_;
  std::vector<std::pair<net::AddressRange, std::string>> ranges_;
  std::vector<net::Prefix> pods_;
  std::vector<net::Prefix> outside_;
};

EndpointGuard make_guard(const ClusterState& cluster);

struct PortEndpoints {
  std::vector<Endpoint> chosen;      // sorted, no duplicates: those that take connections
  size_t total = 0;                  // different {address, port} of any condition
  size_t ready = 0;                  // of these, those that are ready
  bool only_terminating = false;     // none is ready: those that still serve while they terminate were chosen
  std::set<std::string> ready_on;    // with Scope::node: the nodes with one that is ready
  std::vector<std::string> refused;  // by the guard, as "10.0.0.1: an address of node node1"
};

// Among which endpoints those that are ready count before those that only serve: all, or those of each node.
enum class Scope : uint8_t { cluster, node };

// All slices of the Service are merged; slices of another family than `family` and of FQDNs are skipped; a port of a
// slice belongs when name and protocol are the Service port's. Ready endpoints are chosen, and only if there are none
// those that are serving and terminating. With Scope::node each node's are chosen by that rule for themselves, and
// those whose node is not known are not chosen.
PortEndpoints resolve_endpoints(const Service& service, const ServicePort& port, const SlicesByName& slices,
                                net::Family family, Scope scope, const EndpointGuard& guard);

// The Service's port by name or number, with this protocol. nullptr: there is none.
const ServicePort* find_port(const Service& service, const PortRef& port, std::string_view protocol);

}  // namespace sluice::resources
