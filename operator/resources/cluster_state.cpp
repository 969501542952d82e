#include "operator/resources/cluster_state.h"

#include "operator/resources/json_read.h"

namespace sluice::resources {
namespace {

// The parsed object into its map, by `key`.
template <typename Map, typename T, typename Key>
Status put(Map& map, Result<T> parsed, Key key) {
  if (!parsed) return tl::unexpected(parsed.error());
  auto value = std::make_shared<const T>(std::move(*parsed));
  map.insert_or_assign(key(value->meta.key), std::move(value));
  return {};
}

const auto kByKey = [](const ObjectKey& key) { return key; };
const auto kByName = [](const ObjectKey& key) { return key.name; };

}  // namespace

Status ClusterState::upsert(const kube::Object& object) {
  const std::string kind = json_read::text(*object, "kind");
  if (kind == "Service") return put(services, parse_service(object), kByKey);
  if (kind == "Node") return put(nodes, parse_node(*object), kByName);
  if (kind == "Namespace") return put(namespaces, parse_namespace(*object), kByName);
  if (kind == "ServiceCIDR") return put(service_cidrs, parse_service_cidr(*object), kByName);
  if (kind == "LoadBalancer") return put(load_balancers, parse_load_balancer(object), kByKey);
  if (kind == "AddressPool") return put(pools, parse_address_pool(object), kByName);
  if (kind == "AddressClaim") return put(claims, parse_address_claim(*object), kByName);
  if (kind == "LoadBalancerNode") return put(load_balancer_nodes, parse_load_balancer_node(object), kByName);
  if (kind == "EndpointSlice") {
    auto slice = parse_endpoint_slice(*object);
    if (!slice) return tl::unexpected(slice.error());
    put_slice(std::move(*slice));
    return {};
  }
  if (kind == "Endpoints") {
    auto made = parse_endpoints(*object);
    if (!made) return tl::unexpected(made.error());
    const ObjectKey key = json_read::meta(*object, "Endpoints", true)->key;
    erase(kind, key);
    for (EndpointSlice& slice : *made) {
      slices_of_endpoints_[key].push_back(slice.meta.key.name);
      put_slice(std::move(slice));
    }
    return {};
  }
  return fail(ErrorKind::invalid, "take in", kind, "not a kind that is decided from");
}

void ClusterState::erase(std::string_view kind, const ObjectKey& key) {
  if (kind == "Service") services.erase(key);
  if (kind == "Node") nodes.erase(key.name);
  if (kind == "Namespace") namespaces.erase(key.name);
  if (kind == "ServiceCIDR") service_cidrs.erase(key.name);
  if (kind == "LoadBalancer") load_balancers.erase(key);
  if (kind == "AddressPool") pools.erase(key.name);
  if (kind == "AddressClaim") claims.erase(key.name);
  if (kind == "LoadBalancerNode") load_balancer_nodes.erase(key.name);
  if (kind == "EndpointSlice") drop_slice(key);
  if (kind == "Endpoints") {
    const auto made = slices_of_endpoints_.extract(key);
    if (made.empty()) return;
    for (const std::string& name : made.mapped()) drop_slice({key.ns, name});
  }
}

void ClusterState::put_slice(EndpointSlice slice) {
  const ObjectKey key = slice.meta.key;
  const ObjectKey service{key.ns, slice.service};
  const auto before = service_of_slice_.find(key);
  // The label that names the Service may have been edited.
  if (before != service_of_slice_.end() && before->second != service) drop_slice(key);
  if (service.name.empty()) return;
  service_of_slice_.insert_or_assign(key, service);
  edit_slices(service, key.name, std::make_shared<const EndpointSlice>(std::move(slice)));
}

void ClusterState::drop_slice(const ObjectKey& slice) {
  const auto service = service_of_slice_.extract(slice);
  if (!service.empty()) edit_slices(service.mapped(), slice.name, nullptr);
}

void ClusterState::edit_slices(const ObjectKey& service, const std::string& slice, Ptr<EndpointSlice> value) {
  auto& entry = slices[service];
  auto edited = entry == nullptr ? std::make_shared<SlicesByName>() : std::make_shared<SlicesByName>(*entry);
  if (value == nullptr)
    edited->erase(slice);
  else
    edited->insert_or_assign(slice, std::move(value));
  if (edited->empty())
    slices.erase(service);
  else
    entry = std::move(edited);
}

}  // namespace sluice::resources
