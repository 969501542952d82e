// What a status says once Sluice has been taken off the cluster: nothing that nobody keeps true. Pure.
#pragma once

#include <chrono>
#include <nlohmann/json_fwd.hpp>

namespace sluice::status {

// A merge patch for the object's status, conditional on its version; null: it was never judged, or says so already.
// Conditions of others stay. Addresses are not listed any more: their AddressClaims keep them for another install.
nlohmann::json uninstalled_load_balancer(const nlohmann::json& object, std::chrono::system_clock::time_point wall);
nlohmann::json uninstalled_pool(const nlohmann::json& object, std::chrono::system_clock::time_point wall);

}  // namespace sluice::status
