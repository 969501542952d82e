// Whose the addresses in a Service's status are: another controller may have written some of them. Pure.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "operator/resources/cluster_state.h"

namespace sluice::status {

using Json = nlohmann::json;

// Whether this address is the owner's by its claim.
bool claimed_by(const resources::ClusterState& cluster, const resources::Owner& owner, const std::string& ip);

// The Service's status.loadBalancer.ingress without the addresses that are `ours`, the others with all of their fields;
// null: nobody else's is left. nullopt: none is ours.
std::optional<Json> others_ingress(const Json& service, const std::function<bool(const std::string& ip)>& ours);

}  // namespace sluice::status
