// Which objects are ours and which of those can be built. What the API has and is not built is refused here by name,
// never ignored.
#pragma once

#include "operator/planner/values.h"

namespace sluice::planner {

bool is_ours(const resources::Service& service, const Options& options);

// Accepted; or NotSupported, InvalidAddress, AddressesDiffer, InvalidAnnotation, InvalidPort, InvalidSourceRange with a
// message that names the fields.
Finding accept(const resources::Service& service);
Finding accept(const resources::LoadBalancer& load_balancer);

// What a Service asks for by spec.loadBalancerIP and annotations, as written.
std::vector<std::string> wanted_addresses(const resources::Service& service);
std::vector<std::string> wanted_pools(const resources::Service& service);

}  // namespace sluice::planner
