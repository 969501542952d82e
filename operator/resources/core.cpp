#include "operator/resources/core.h"

#include <algorithm>

#include "operator/resources/json_read.h"

namespace sluice::resources {
namespace {

using json_read::boolean;
using json_read::items;
using json_read::Json;
using json_read::member;
using json_read::port;
using json_read::text;
using json_read::texts;

constexpr std::string_view kServiceNameLabel = "kubernetes.io/service-name";
constexpr std::string_view kManagedByLabel = "endpointslice.kubernetes.io/managed-by";
constexpr std::string_view kSliceController = "endpointslice-controller.k8s.io";
constexpr const char* kSourceRanges = "service.beta.kubernetes.io/load-balancer-source-ranges";
constexpr int64_t kMaxAffinitySeconds = 86400;

std::string text_or(const Json& object, std::string_view name, const char* otherwise) {
  std::string value = text(object, name);
  return value.empty() ? std::string(otherwise) : value;
}

std::vector<net::Prefix> prefixes(const std::vector<std::string>& values) {
  std::vector<net::Prefix> out;
  for (const std::string& value : values) {
    if (auto prefix = net::Prefix::parse(value)) out.push_back(*prefix);
  }
  return out;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> out;
  for (size_t from = 0; from <= text.size();) {
    const size_t comma = std::min(text.find(',', from), text.size());
    std::string part = text.substr(from, comma - from);
    if (part.find_first_not_of(" \t") != std::string::npos) out.push_back(std::move(part));
    from = comma + 1;
  }
  return out;
}

// What the API server fills in where nothing is said.
uint32_t affinity_seconds(const Json& spec) {
  const int64_t given = json_read::integer(member(member(spec, "sessionAffinityConfig"), "clientIP"), "timeoutSeconds");
  return given == 0 ? Service{}.affinity_seconds
                    : static_cast<uint32_t>(std::clamp<int64_t>(given, 1, kMaxAffinitySeconds));
}

void read_ports(const Json& spec, Service& service) {
  for (const Json& value : items(spec, "ports")) {
    service.ports.push_back(
        {text(value, "name"), text_or(value, "protocol", "TCP"), port(value, "port"), port(value, "nodePort")});
  }
}

SliceEndpoint read_endpoint(const Json& value) {
  SliceEndpoint out;
  out.addresses = texts(value, "addresses");
  const Json& conditions = member(value, "conditions");
  out.ready = boolean(conditions, "ready");
  out.serving = boolean(conditions, "serving");
  out.terminating = boolean(conditions, "terminating");
  out.node = text(value, "nodeName");
  out.zone = text(value, "zone");
  return out;
}

// One subset of an Endpoints object, in the slice of each family that it has addresses of.
void add_subset(const Json& subset, const std::string& name, const EndpointSlice& prototype,
                std::vector<EndpointSlice>& out) {
  EndpointSlice v4 = prototype;
  EndpointSlice v6 = prototype;
  v4.address_type = "IPv4";
  v6.address_type = "IPv6";
  v4.meta.key.name = name + "-ipv4";
  v6.meta.key.name = name + "-ipv6";
  for (const Json& value : items(subset, "ports")) {
    const SlicePort slice_port{text(value, "name"), text_or(value, "protocol", "TCP"), port(value, "port")};
    v4.ports.push_back(slice_port);
    v6.ports.push_back(slice_port);
  }
  const auto add = [&](const char* field, bool ready) {
    for (const Json& value : items(subset, field)) {
      SliceEndpoint endpoint;
      endpoint.addresses = {text(value, "ip")};
      endpoint.ready = ready;
      endpoint.node = text(value, "nodeName");
      EndpointSlice& slice = endpoint.addresses.front().find(':') == std::string::npos ? v4 : v6;
      slice.endpoints.push_back(std::move(endpoint));
    }
  };
  add("addresses", true);
  add("notReadyAddresses", false);
  for (EndpointSlice* slice : {&v4, &v6}) {
    if (!slice->endpoints.empty()) out.push_back(std::move(*slice));
  }
}

}  // namespace

Result<Service> parse_service(const kube::Object& object) {
  auto meta = json_read::meta(*object, "Service", true);
  if (!meta) return tl::unexpected(meta.error());
  const Json& spec = member(*object, "spec");
  Service out;
  out.meta = std::move(*meta);
  out.type = text_or(spec, "type", "ClusterIP");
  out.cluster_ips = texts(spec, "clusterIPs");
  if (out.cluster_ips.empty() && !text(spec, "clusterIP").empty()) out.cluster_ips.push_back(text(spec, "clusterIP"));
  out.ip_families = texts(spec, "ipFamilies");
  out.ip_family_policy = text(spec, "ipFamilyPolicy");
  if (member(spec, "loadBalancerClass").is_string()) out.load_balancer_class = text(spec, "loadBalancerClass");
  out.load_balancer_ip = text(spec, "loadBalancerIP");
  out.source_ranges = texts(spec, "loadBalancerSourceRanges");
  if (out.source_ranges.empty()) out.source_ranges = split(out.meta.annotation(kSourceRanges));
  out.external_traffic_policy = text_or(spec, "externalTrafficPolicy", "Cluster");
  out.session_affinity = text_or(spec, "sessionAffinity", "None");
  out.affinity_seconds = affinity_seconds(spec);
  out.traffic_distribution = text(spec, "trafficDistribution");
  out.has_selector = member(spec, "selector").is_object() && !member(spec, "selector").empty();
  read_ports(spec, out);
  const Json& status = member(*object, "status");
  for (const Json& value : items(member(status, "loadBalancer"), "ingress")) {
    out.ingress.push_back({text(value, "ip"), text(value, "hostname"), text(value, "ipMode")});
  }
  out.conditions = json_read::conditions(status, "conditions");
  std::string spoken = spec.dump(-1, ' ', false, Json::error_handler_t::replace);
  for (const auto& [name, value] : out.meta.annotations) {
    if (name.starts_with("sluice.io/") || name == kSourceRanges)
      spoken.append(name).append("=").append(value).append(",");
  }
  out.fingerprint = static_cast<int64_t>(std::hash<std::string>{}(spoken));
  out.raw = object;
  return out;
}

Result<EndpointSlice> parse_endpoint_slice(const Json& object) {
  auto meta = json_read::meta(object, "EndpointSlice", true);
  if (!meta) return tl::unexpected(meta.error());
  EndpointSlice out;
  out.meta = std::move(*meta);
  const auto label = [&](std::string_view name) {
    const auto found = out.meta.labels.find(name);
    return found == out.meta.labels.end() ? std::string() : found->second;
  };
  out.service = label(kServiceNameLabel);
  out.by_controller = label(kManagedByLabel) == kSliceController;
  out.address_type = text(object, "addressType");
  for (const Json& value : items(object, "ports")) {
    out.ports.push_back({text(value, "name"), text_or(value, "protocol", "TCP"), port(value, "port")});
  }
  for (const Json& value : items(object, "endpoints")) out.endpoints.push_back(read_endpoint(value));
  return out;
}

Result<Node> parse_node(const Json& object) {
  auto meta = json_read::meta(object, "Node", false);
  if (!meta) return tl::unexpected(meta.error());
  Node out;
  out.meta = std::move(*meta);
  const Json& spec = member(object, "spec");
  out.pod_ranges = prefixes(texts(spec, "podCIDRs"));
  if (out.pod_ranges.empty()) out.pod_ranges = prefixes({text(spec, "podCIDR")});
  for (const Json& value : items(spec, "taints")) out.taints.push_back({text(value, "key"), text(value, "effect")});
  const Json& status = member(object, "status");
  for (const Json& value : items(status, "addresses")) {
    const std::string type = text(value, "type");
    if (type != "InternalIP" && type != "ExternalIP") continue;
    if (auto address = net::IpAddress::parse(text(value, "address"))) out.addresses.push_back({type, *address});
  }
  for (const Condition& condition : json_read::conditions(status, "conditions")) {
    if (condition.type == "Ready") out.ready = condition.status == "True";
    if (condition.type == "NetworkUnavailable") out.network_unavailable = condition.status == "True";
  }
  return out;
}

Result<Namespace> parse_namespace(const Json& object) {
  auto meta = json_read::meta(object, "Namespace", false);
  if (!meta) return tl::unexpected(meta.error());
  return Namespace{std::move(*meta)};
}

Result<ServiceCidr> parse_service_cidr(const Json& object) {
  auto meta = json_read::meta(object, "ServiceCIDR", false);
  if (!meta) return tl::unexpected(meta.error());
  return ServiceCidr{std::move(*meta), prefixes(texts(member(object, "spec"), "cidrs"))};
}

Result<std::vector<EndpointSlice>> parse_endpoints(const Json& object) {
  auto meta = json_read::meta(object, "Endpoints", true);
  if (!meta) return tl::unexpected(meta.error());
  EndpointSlice prototype;
  prototype.service = meta->key.name;
  prototype.meta = std::move(*meta);
  // The endpoints controller marks what it makes only from v1.33 on, but a Service with a selector has its Endpoints
  // from nobody else for long: it writes them back.
  prototype.by_controller = true;
  std::vector<EndpointSlice> out;
  size_t index = 0;
  for (const Json& subset : items(object, "subsets")) {
    add_subset(subset, prototype.service + "-" + std::to_string(index++), prototype, out);
  }
  return out;
}

}  // namespace sluice::resources
