#include "tests/unit/operator/builders.h"

#include <stdexcept>

namespace sluice::test {

net::IpAddress ip(const std::string& text) {
  auto address = net::IpAddress::parse(text);
  if (!address) throw std::invalid_argument(address.error().message());
  return *address;
}

kube::Object shared(Json object) {
  return std::make_shared<const Json>(std::move(object));
}

std::string created(int seconds) {
  std::string text = std::to_string(seconds);
  return "2026-01-01T00:00:" + std::string(2 - std::min<size_t>(2, text.size()), '0') + text + "Z";
}

Json service(const std::string& ns, const std::string& name, const Json& more) {
  Json out = {{"apiVersion", "v1"},
              {"kind", "Service"},
              {"metadata",
               {{"namespace", ns},
                {"name", name},
                {"uid", "uid-" + ns + "-" + name},
                {"resourceVersion", "1"},
                {"creationTimestamp", created(0)},
                {"finalizers", {"sluice.io/cleanup"}}}},
              {"spec",
               {{"type", "LoadBalancer"},
                {"loadBalancerClass", "sluice.io/xdp"},
                {"clusterIPs", {"10.96.0.10"}},
                {"ipFamilies", {"IPv4"}},
                {"selector", {{"app", name}}},
                {"ports", {{{"name", "http"}, {"protocol", "TCP"}, {"port", 80}}}}}}};
  out.merge_patch(more);
  return out;
}

Json slice(const std::string& ns, const std::string& service, const std::vector<std::string>& addresses,
           const std::string& node, const Json& more) {
  Json endpoints = Json::array();
  for (const std::string& address : addresses) {
    endpoints.push_back({{"addresses", {address}}, {"conditions", {{"ready", true}}}, {"nodeName", node}});
  }
  Json out = {{"apiVersion", "discovery.k8s.io/v1"},
              {"kind", "EndpointSlice"},
              {"metadata",
               {{"namespace", ns},
                {"name", service + "-abcde"},
                {"labels",
                 {{"kubernetes.io/service-name", service},
                  {"endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"}}}}},
              {"addressType", "IPv4"},
              {"ports", {{{"name", "http"}, {"protocol", "TCP"}, {"port", 8080}}}},
              {"endpoints", std::move(endpoints)}};
  out.merge_patch(more);
  return out;
}

Json load_balancer(const std::string& ns, const std::string& name, const Json& spec, const Json& more) {
  Json out = {{"apiVersion", "sluice.io/v1alpha1"},
              {"kind", "LoadBalancer"},
              {"metadata",
               {{"namespace", ns},
                {"name", name},
                {"uid", "uid-lb-" + ns + "-" + name},
                {"resourceVersion", "1"},
                {"generation", 1},
                {"creationTimestamp", created(0)}}},
              {"spec",
               {{"ports", {{{"name", "http"}, {"port", 80}, {"protocol", "TCP"}}}},
                {"backends", {{{"name", "v1"}, {"service", {{"name", "web"}}}, {"weight", 1}}}}}}};
  out["spec"].merge_patch(spec);
  out.merge_patch(more);
  return out;
}

Json pool(const std::string& name, const std::vector<std::string>& addresses, const Json& spec) {
  Json out = {
      {"apiVersion", "sluice.io/v1alpha1"},
      {"kind", "AddressPool"},
      {"metadata", {{"name", name}, {"resourceVersion", "1"}, {"generation", 1}, {"creationTimestamp", created(0)}}},
      {"spec", {{"addresses", addresses}}}};
  out["spec"].merge_patch(spec);
  return out;
}

Json node(const std::string& name, const std::string& address, const Json& more) {
  Json out = {{"apiVersion", "v1"},
              {"kind", "Node"},
              {"metadata", {{"name", name}, {"labels", {{"kubernetes.io/hostname", name}}}}},
              {"status",
               {{"addresses", {{{"type", "InternalIP"}, {"address", address}}}},
                {"conditions", {{{"type", "Ready"}, {"status", "True"}}}}}}};
  out.merge_patch(more);
  return out;
}

Json name_space(const std::string& name, Json labels) {
  labels["kubernetes.io/metadata.name"] = name;
  return {{"apiVersion", "v1"}, {"kind", "Namespace"}, {"metadata", {{"name", name}, {"labels", std::move(labels)}}}};
}

Json claim(const std::string& address, const std::string& pool, const std::vector<resources::Owner>& owners) {
  resources::AddressClaim out;
  out.address = ip(address);
  out.meta.key.name = resources::claim_name(out.address);
  out.pool = pool;
  for (const resources::Owner& owner : owners) out.owners.push_back({owner, {{80, "TCP"}}});
  Json object = resources::claim_object(out);
  object["metadata"]["uid"] = "uid-" + address;
  object["metadata"]["resourceVersion"] = "1";
  return object;
}

resources::Owner service_owner(const std::string& ns, const std::string& name) {
  return {resources::OwnerKind::service, {ns, name}};
}

resources::Owner lb_owner(const std::string& ns, const std::string& name) {
  return {resources::OwnerKind::load_balancer, {ns, name}};
}

}  // namespace sluice::test
