// Everything of the cluster that is decided from, as one value. Objects are shared and never change once they are in
// here, so that a copy of the whole is cheap and "the same pointer" means "nothing new about it".
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "operator/resources/core.h"
#include "operator/resources/sluice.h"

namespace sluice::resources {

template <typename T>
using Ptr = std::shared_ptr<const T>;

using SlicesByName = std::map<std::string, Ptr<EndpointSlice>>;

class ClusterState {
 public:
  std::map<ObjectKey, Ptr<Service>> services;
  std::map<ObjectKey, Ptr<SlicesByName>> slices;  // by the Service they belong to
  std::map<std::string, Ptr<Node>> nodes;
  std::map<std::string, Ptr<Namespace>> namespaces;
  std::map<std::string, Ptr<ServiceCidr>> service_cidrs;
  std::map<ObjectKey, Ptr<LoadBalancer>> load_balancers;
  std::map<std::string, Ptr<AddressPool>> pools;
  std::map<std::string, Ptr<AddressClaim>> claims;
  std::map<std::string, Ptr<LoadBalancerNode>> load_balancer_nodes;

  // Takes an object in by its `kind` (Service, EndpointSlice, Endpoints, Node, Namespace, ServiceCIDR, LoadBalancer,
  // AddressPool, AddressClaim, LoadBalancerNode), in place of an older one. Fails (invalid) for another kind or an
  // object that cannot be named; the state is unchanged then.
  Status upsert(const kube::Object& object);
  // Forgets it. That it is not there is fine.
  void erase(std::string_view kind, const ObjectKey& key);

 private:
  void put_slice(EndpointSlice slice);
  void drop_slice(const ObjectKey& slice);
  void edit_slices(const ObjectKey& service, const std::string& slice, Ptr<EndpointSlice> value);

  std::map<ObjectKey, ObjectKey> service_of_slice_;
  std::map<ObjectKey, std::vector<std::string>> slices_of_endpoints_;
};

}  // namespace sluice::resources
