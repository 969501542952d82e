// Objects as the API server would hand them out, shortest form first; `more` is merged over what is built (RFC 7386).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "operator/resources/cluster_state.h"

namespace sluice::test {

using Json = nlohmann::json;

net::IpAddress ip(const std::string& text);
kube::Object shared(Json object);

// Created at 2026-01-01T00:00:SSZ.
std::string created(int seconds);

// A LoadBalancer Service of our class with port 80 named "http", already with its finalizer.
Json service(const std::string& ns, const std::string& name, const Json& more = Json::object());
// A slice of it by the controller: IPv4, port "http" 8080, one endpoint on `node` for each address.
Json slice(const std::string& ns, const std::string& service, const std::vector<std::string>& addresses,
           const std::string& node = "node1", const Json& more = Json::object());
Json load_balancer(const std::string& ns, const std::string& name, const Json& spec, const Json& more = Json::object());
Json pool(const std::string& name, const std::vector<std::string>& addresses, const Json& spec = Json::object());
Json node(const std::string& name, const std::string& address, const Json& more = Json::object());
Json name_space(const std::string& name, Json labels = Json::object());
Json claim(const std::string& address, const std::string& pool, const std::vector<resources::Owner>& owners);

resources::Owner service_owner(const std::string& ns, const std::string& name);
resources::Owner lb_owner(const std::string& ns, const std::string& name);

}  // namespace sluice::test
