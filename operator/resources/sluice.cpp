#include "operator/resources/sluice.h"

#include <algorithm>
#include <array>

#include "operator/resources/json_read.h"

namespace sluice::resources {
namespace {

using json_read::boolean;
using json_read::integer;
using json_read::items;
using json_read::Json;
using json_read::member;
using json_read::port;
using json_read::text;
using json_read::texts;

constexpr const char* kApiVersion = "sluice.io/v1alpha1";
constexpr int64_t kMaxWeight = 1000;
constexpr int64_t kMaxDrainSeconds = 86400;
constexpr int64_t kMaxAffinitySeconds = 86400;

std::string text_or(const Json& object, std::string_view name, const char* otherwise) {
  std::string value = text(object, name);
  return value.empty() ? std::string(otherwise) : value;
}

uint32_t bounded(const Json& object, std::string_view name, int64_t otherwise, int64_t highest) {
  return static_cast<uint32_t>(std::clamp<int64_t>(integer(object, name, otherwise), 0, highest));
}

LabelSelector read_selector(const Json& object, std::string_view name) {
  const Json& value = member(object, name);
  LabelSelector out;
  out.match_labels = json_read::labels(value, "matchLabels");
  for (const Json& expression : items(value, "matchExpressions")) {
    out.match_expressions.push_back(
        {text(expression, "key"), text(expression, "operator"), texts(expression, "values")});
  }
  return out;
}

LoadBalancerPort read_port(const Json& value) {
  LoadBalancerPort out;
  out.name = text(value, "name");
  out.port = port(value, "port");
  out.protocol = text_or(value, "protocol", "TCP");
  out.backend_port = json_read::port_ref(value, "backendPort");
  if (!out.backend_port.given()) out.backend_port.number = out.port;
  return out;
}

LoadBalancerBackend read_backend(const Json& value) {
  LoadBalancerBackend out;
  out.name = text(value, "name");
  out.service = text(member(value, "service"), "name");
  out.address = text(value, "address");
  out.weight = bounded(value, "weight", 1, kMaxWeight);
  for (const Json& other : items(value, "ports")) {
    out.ports.emplace_back(text(other, "name"), json_read::port_ref(other, "port"));
  }
  return out;
}

}  // namespace

Result<LoadBalancer> parse_load_balancer(const kube::Object& object) {
  auto meta = json_read::meta(*object, "LoadBalancer", true);
  if (!meta) return tl::unexpected(meta.error());
  const Json& spec = member(*object, "spec");
  LoadBalancer out;
  out.meta = std::move(*meta);
  out.addresses = texts(spec, "addresses");
  out.address_pools = texts(spec, "addressPools");
  out.ip_family_policy = text_or(spec, "ipFamilyPolicy", "SingleStack");
  out.ip_families = texts(spec, "ipFamilies");
  out.sharing_key = text(spec, "sharingKey");
  for (const Json& value : items(spec, "ports")) out.ports.push_back(read_port(value));
  for (const Json& value : items(spec, "backends")) out.backends.push_back(read_backend(value));
  out.forwarding = text_or(spec, "forwarding", "Auto");
  out.external_traffic_policy = text_or(spec, "externalTrafficPolicy", "Cluster");
  const Json& client_ip = member(member(spec, "sessionAffinity"), "clientIP");
  out.client_ip_affinity = client_ip.is_object();
  out.affinity_seconds =
      std::max(bounded(client_ip, "timeoutSeconds", out.affinity_seconds, kMaxAffinitySeconds), uint32_t{1});
  out.allowed_sources = texts(spec, "allowedSources");
  out.drain_seconds = bounded(member(spec, "drain"), "timeoutSeconds", 300, kMaxDrainSeconds);
  out.health_check = member(spec, "healthCheck").is_object();
  const Json& status = member(*object, "status");
  for (const Json& value : items(status, "addresses")) out.status_addresses.push_back(text(value, "address"));
  out.conditions = json_read::conditions(status, "conditions");
  out.raw = object;
  return out;
}

Result<AddressPool> parse_address_pool(const kube::Object& object) {
  auto meta = json_read::meta(*object, "AddressPool", false);
  if (!meta) return tl::unexpected(meta.error());
  const Json& spec = member(*object, "spec");
  AddressPool out;
  out.meta = std::move(*meta);
  out.addresses = texts(spec, "addresses");
  out.priority = static_cast<int32_t>(std::clamp<int64_t>(integer(spec, "priority"), INT32_MIN, INT32_MAX));
  out.auto_assign = boolean(spec, "autoAssign").value_or(true);
  out.avoid_buggy_ips = boolean(spec, "avoidBuggyIPs").value_or(false);
  out.service_selector = read_selector(spec, "serviceSelector");
  out.namespace_selector = read_selector(spec, "namespaceSelector");
  out.allow_cross_namespace_sharing = boolean(spec, "allowCrossNamespaceSharing").value_or(false);
  if (member(spec, "announcements").is_array()) {
    for (const Json& value : items(spec, "announcements")) {
      out.announcements.push_back({text(value, "name"), text(value, "type"), read_selector(value, "nodeSelector"),
                                   texts(member(value, "layer2"), "interfaces")});
    }
  } else {
    out.announcements.push_back({"default", "Layer2", {}, {}});
  }
  out.raw = object;
  return out;
}

Result<AddressClaim> parse_address_claim(const Json& object) {
  auto meta = json_read::meta(object, "AddressClaim", false);
  if (!meta) return tl::unexpected(meta.error());
  const Json& spec = member(object, "spec");
  auto address = net::IpAddress::parse(text(spec, "address"));
  if (!address) {
    return fail(ErrorKind::invalid, "read", "AddressClaim " + meta->key.name,
                "spec.address: " + address.error().reason);
  }
  AddressClaim out;
  out.meta = std::move(*meta);
  out.address = *address;
  out.pool = text(spec, "pool");
  for (const Json& value : items(spec, "owners")) {
    ClaimOwner owner;
    owner.owner.kind = text(value, "kind") == "LoadBalancer" ? OwnerKind::load_balancer : OwnerKind::service;
    owner.owner.key = {text(value, "namespace"), text(value, "name")};
    for (const Json& used : items(value, "ports")) {
      owner.ports.push_back({port(used, "port"), text_or(used, "protocol", "TCP")});
    }
    out.owners.push_back(std::move(owner));
  }
  return out;
}

Result<LoadBalancerNode> parse_load_balancer_node(const kube::Object& object) {
  auto meta = json_read::meta(*object, "LoadBalancerNode", false);
  if (!meta) return tl::unexpected(meta.error());
  return LoadBalancerNode{std::move(*meta), object};
}

std::string claim_name(const net::IpAddress& address) {
  if (address.is_ipv4()) return address.to_string();
  static constexpr std::array<char, 17> kHex{"0123456789abcdef"};
  std::string out;
  for (size_t i = 0; i < address.size(); ++i) {
    if (i > 0 && i % 2 == 0) out += '-';
    out += kHex.at(address.bytes().at(i) >> 4U);
    out += kHex.at(address.bytes().at(i) & 0xfU);
  }
  return out;
}

Json claim_object(const AddressClaim& claim) {
  Json owners = Json::array();
  for (const ClaimOwner& owner : claim.owners) {
    Json ports = Json::array();
    for (const ClaimPort& used : owner.ports) ports.push_back({{"port", used.port}, {"protocol", used.protocol}});
    owners.push_back({{"kind", to_string(owner.owner.kind)},
                      {"namespace", owner.owner.key.ns},
                      {"name", owner.owner.key.name},
                      {"ports", std::move(ports)}});
  }
  Json metadata = {{"name", claim.meta.key.name}};
  if (!claim.meta.resource_version.empty()) metadata["resourceVersion"] = claim.meta.resource_version;
  Json spec = {{"address", claim.address.to_string()}, {"owners", std::move(owners)}};
  if (!claim.pool.empty()) spec["pool"] = claim.pool;
  return {{"apiVersion", kApiVersion},
          {"kind", "AddressClaim"},
          {"metadata", std::move(metadata)},
          {"spec", std::move(spec)}};
}

}  // namespace sluice::resources
