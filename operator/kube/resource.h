// The kinds Sluice reads and writes, and their REST paths.
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace sluice::kube {

struct Resource {
  std::string_view group;  // empty: core
  std::string_view version;
  std::string_view plural;
  std::string_view kind;
  bool namespaced = true;

  [[nodiscard]] std::string api_version() const;  // "v1", "discovery.k8s.io/v1"
  // "/apis/GROUP/VERSION[/namespaces/NS]/PLURAL[/NAME]". With a namespaced resource and an empty `ns`: all namespaces.
  // The parts are percent-encoded.
  [[nodiscard]] std::string path(std::string_view ns = {}, std::string_view name = {},
                                 std::string_view subresource = {}) const;
};

inline constexpr Resource kServices{"", "v1", "services", "Service", true};
inline constexpr Resource kEndpoints{"", "v1", "endpoints", "Endpoints", true};
inline constexpr Resource kEndpointSlices{"discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true};
inline constexpr Resource kNodes{"", "v1", "nodes", "Node", false};
inline constexpr Resource kNamespaces{"", "v1", "namespaces", "Namespace", false};
inline constexpr Resource kSecrets{"", "v1", "secrets", "Secret", true};
inline constexpr Resource kConfigMaps{"", "v1", "configmaps", "ConfigMap", true};
inline constexpr Resource kPods{"", "v1", "pods", "Pod", true};
inline constexpr Resource kEvents{"", "v1", "events", "Event", true};
inline constexpr Resource kLeases{"coordination.k8s.io", "v1", "leases", "Lease", true};
inline constexpr Resource kCustomResourceDefinitions{"apiextensions.k8s.io", "v1", "customresourcedefinitions",
                                                     "CustomResourceDefinition", false};
inline constexpr Resource kServiceCidrs{"networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", false};
inline constexpr Resource kLoadBalancers{"sluice.io", "v1alpha1", "loadbalancers", "LoadBalancer", true};
inline constexpr Resource kAddressPools{"sluice.io", "v1alpha1", "addresspools", "AddressPool", false};
inline constexpr Resource kAddressClaims{"sluice.io", "v1alpha1", "addressclaims", "AddressClaim", false};
inline constexpr Resource kLoadBalancerNodes{"sluice.io", "v1alpha1", "loadbalancernodes", "LoadBalancerNode", false};

// Percent-encodes everything but RFC 3986's unreserved characters: for a path segment or a query's value.
std::string percent_encode(std::string_view text);

}  // namespace sluice::kube
