// The kinds of sluice.io/v1alpha1 as values. crds/ says what the fields mean and which values they may have.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/net/address.h"
#include "operator/resources/meta.h"
#include "operator/resources/selector.h"

namespace sluice::resources {

struct LoadBalancerPort {
  std::string name;
  uint16_t port = 0;
  std::string protocol;  // TCP, UDP
  PortRef backend_port;  // never empty: `port` where it was not given
};

struct LoadBalancerBackend {
  std::string name;
  std::string service;  // either this or
  std::string address;  // that
  uint32_t weight = 1;
  std::vector<std::pair<std::string, PortRef>> ports;  // by the name of the resource's port
};

struct LoadBalancer {
  ObjectMeta meta;
  std::vector<std::string> addresses;
  std::vector<std::string> address_pools;
  std::string ip_family_policy;
  std::vector<std::string> ip_families;
  std::string sharing_key;
  std::vector<LoadBalancerPort> ports;
  std::vector<LoadBalancerBackend> backends;
  std::string forwarding;
  std::string external_traffic_policy;
  bool client_ip_affinity = false;
  uint32_t affinity_seconds = 10'800;
  std::vector<std::string> allowed_sources;
  uint32_t drain_seconds = 300;
  bool health_check = false;
  std::vector<std::string> status_addresses;
  std::vector<Condition> conditions;
  kube::Object raw;
};

struct PoolAnnouncement {
  std::string name;
  std::string type;  // Layer2, BGP
  LabelSelector node_selector;
  std::vector<std::string> interfaces;
};

struct AddressPool {
  ObjectMeta meta;
  std::vector<std::string> addresses;  // as written; ipam reads them
  int32_t priority = 0;
  bool auto_assign = true;
  bool avoid_buggy_ips = false;
  LabelSelector service_selector;
  LabelSelector namespace_selector;
  bool allow_cross_namespace_sharing = false;
  std::vector<PoolAnnouncement> announcements;
  kube::Object raw;
};

struct ClaimPort {
  uint16_t port = 0;
  std::string protocol;
  friend auto operator<=>(const ClaimPort&, const ClaimPort&) = default;
  friend bool operator==(const ClaimPort&, const ClaimPort&) = default;
};

struct ClaimOwner {
  Owner owner;
  std::vector<ClaimPort> ports;
  friend bool operator==(const ClaimOwner&, const ClaimOwner&) = default;
};

struct AddressClaim {
  ObjectMeta meta;
  net::IpAddress address;
  std::string pool;  // may be empty, and may be gone
  std::vector<ClaimOwner> owners;
};

struct LoadBalancerNode {
  ObjectMeta meta;
  kube::Object raw;
};

// Fail (invalid) only for what has no name, or no namespace where the kind has one; a claim also for what is no
// address.
Result<LoadBalancer> parse_load_balancer(const kube::Object& object);
Result<AddressPool> parse_address_pool(const kube::Object& object);
Result<AddressClaim> parse_address_claim(const nlohmann::json& object);
Result<LoadBalancerNode> parse_load_balancer_node(const kube::Object& object);

// The name of an address's claim: the address, IPv6 in full with '-' for ':'.
std::string claim_name(const net::IpAddress& address);
// The claim as the API server takes it.
nlohmann::json claim_object(const AddressClaim& claim);

}  // namespace sluice::resources
