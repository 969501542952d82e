#include "operator/status/ingress.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "operator/resources/json_read.h"
#include "operator/status/conditions.h"

namespace sluice::status {

std::optional<Json> others_ingress(const Json& service, const std::function<bool(const std::string& ip)>& ours) {
  const Json::array_t& listed =
      resources::json_read::items(member(member(service, "status"), "loadBalancer"), "ingress");
  Json others = Json::array();
  for (const Json& point : listed) {
    if (!ours(resources::json_read::text(point, "ip"))) others.push_back(point);
  }
  if (others.size() == listed.size()) return std::nullopt;
  return others.empty() ? Json(nullptr) : others;
}

bool claimed_by(const resources::ClusterState& cluster, const resources::Owner& owner, const std::string& ip) {
  const auto address = net::IpAddress::parse(ip);
  if (!address) return false;
  const auto claim = cluster.claims.find(resources::claim_name(*address));
  return claim != cluster.claims.end() &&
         std::ranges::find(claim->second->owners, owner, &resources::ClaimOwner::owner) != claim->second->owners.end();
}

}  // namespace sluice::status
