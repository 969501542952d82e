// The kinds of Kubernetes itself, as far as Sluice reads them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/net/address.h"
#include "operator/resources/meta.h"

namespace sluice::resources {

struct ServicePort {
  std::string name;      // may be empty where it is the only one
  std::string protocol;  // TCP, UDP, SCTP
  uint16_t port = 0;
  uint16_t node_port = 0;  // 0: none
  friend bool operator==(const ServicePort&, const ServicePort&) = default;
};

struct IngressPoint {
  std::string ip;        // may be empty
  std::string hostname;  // may be empty
  std::string ip_mode;   // VIP, Proxy; may be empty
  friend bool operator==(const IngressPoint&, const IngressPoint&) = default;
};

struct Service {
  ObjectMeta meta;
  std::string type;                      // ClusterIP, NodePort, LoadBalancer, ExternalName
  std::vector<std::string> cluster_ips;  // "None" for headless ones
  std::vector<std::string> ip_families;  // IPv4, IPv6
  std::string ip_family_policy;
  std::optional<std::string> load_balancer_class;
  std::string load_balancer_ip;
  // spec.loadBalancerSourceRanges, and where that is empty those of its annotation.
  std::vector<std::string> source_ranges;
  std::string external_traffic_policy;  // Cluster, Local
  std::string session_affinity;         // None, ClientIP
  uint32_t affinity_seconds = 10'800;   // of sessionAffinityConfig.clientIP
  std::string traffic_distribution;     // PreferClose, PreferSameZone, PreferSameNode; may be empty
  bool has_selector = false;
  std::vector<ServicePort> ports;
  std::vector<IngressPoint> ingress;  // status
  std::vector<Condition> conditions;  // status
  // Changes with the spec and with the annotations that Sluice reads: API servers give Services no metadata.generation.
  int64_t fingerprint = 0;
  kube::Object raw;
};

struct SlicePort {
  std::string name;
  std::string protocol;  // default TCP
  uint16_t port = 0;     // 0: not given
};

struct SliceEndpoint {
  std::vector<std::string> addresses;  // fungible; consumers take the first
  std::optional<bool> ready, serving, terminating;
  std::string node;
  std::string zone;
};

struct EndpointSlice {
  ObjectMeta meta;
  std::string service;         // name of the Service in the same namespace; empty: of none
  std::string address_type;    // IPv4, IPv6, FQDN
  bool by_controller = false;  // says that the endpoint slice controller manages it
  std::vector<SlicePort> ports;
  std::vector<SliceEndpoint> endpoints;
};

struct Taint {
  std::string key;
  std::string effect;
};

struct NodeAddress {
  std::string type;  // InternalIP, ExternalIP
  net::IpAddress address;
};

struct Node {
  ObjectMeta meta;
  std::vector<NodeAddress> addresses;  // those that are IP addresses
  std::vector<net::Prefix> pod_ranges;
  std::vector<Taint> taints;
  bool ready = false;                // condition Ready is True
  bool network_unavailable = false;  // condition NetworkUnavailable is True
};

struct Namespace {
  ObjectMeta meta;
};

struct ServiceCidr {
  ObjectMeta meta;
  std::vector<net::Prefix> ranges;
};

// Fail (invalid) only for what has no name, or no namespace where the kind has one.
Result<Service> parse_service(const kube::Object& object);
Result<EndpointSlice> parse_endpoint_slice(const nlohmann::json& object);
Result<Node> parse_node(const nlohmann::json& object);
Result<Namespace> parse_namespace(const nlohmann::json& object);
Result<ServiceCidr> parse_service_cidr(const nlohmann::json& object);

// An Endpoints object as the EndpointSlices that the mirroring controller would make of it: one for each subset and
// address family, named "NAME-SUBSET-FAMILY". `notReadyAddresses` are neither ready nor serving.
Result<std::vector<EndpointSlice>> parse_endpoints(const nlohmann::json& object);

}  // namespace sluice::resources
