// What a status says once Sluice has been taken off the cluster: nothing that nobody keeps true. Pure.
#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace sluice::status {

// A merge patch for the object's status, conditional on its version; null: it was never judged, or says so already.
// Conditions of others stay. Addresses are not listed any more: their AddressClaims keep them for another install.
nlohmann::json uninstalled_load_balancer(const nlohmann::json& object, std::chrono::system_clock::time_point wall);
nlohmann::json uninstalled_pool(const nlohmann::json& object, std::chrono::system_clock::time_point wall);

// A merge patch for a Service's status, without Sluice's conditions and without the addresses that are `ours`; null:
// there are none.
nlohmann::json uninstalled_service(const nlohmann::json& service,
                                   const std::function<bool(const std::string& ip)>& ours);

}  // namespace sluice::status
