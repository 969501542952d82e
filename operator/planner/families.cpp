#include "operator/planner/families.h"

#include <algorithm>

namespace sluice::planner {
namespace {

constexpr const char* kSix = "/IPv6";

void add(std::vector<net::Family>& list, net::Family family) {
  if (std::ranges::find(list, family) == list.end()) list.push_back(family);
}

net::Family of_cluster(const resources::ClusterState& cluster) {
  const auto api = cluster.services.find({"default", "kubernetes"});
  return api == cluster.services.end() ? net::Family::ipv4 : parse_families(api->second->ip_families).front();
}

std::vector<net::Family> named(const std::vector<std::string>& names) {
  std::vector<net::Family> out;
  for (const std::string& name : names) {
    if (name == "IPv4") add(out, net::Family::ipv4);
    if (name == "IPv6") add(out, net::Family::ipv6);
  }
  return out;
}

}  // namespace

bool Families::has(net::Family family) const {
  return std::ranges::find(wanted, family) != wanted.end();
}

std::vector<net::Family> parse_families(const std::vector<std::string>& names) {
  std::vector<net::Family> out = named(names);
  if (out.empty()) out.push_back(net::Family::ipv4);
  return out;
}

const char* name_of(net::Family family) {
  return family == net::Family::ipv4 ? "IPv4" : "IPv6";
}

Families families_of(const resources::Service& service) {
  return {parse_families(service.ip_families), service.ip_family_policy == "PreferDualStack"};
}

Families families_of(const resources::LoadBalancer& lb, const resources::ClusterState& cluster) {
  Families out{named(lb.ip_families), lb.ip_family_policy == "PreferDualStack"};
  if (out.wanted.empty()) {
    for (const std::string& text : lb.addresses) {
      if (const auto address = net::IpAddress::parse(text)) add(out.wanted, address->family());
    }
  }
  if (out.wanted.empty()) out.wanted.push_back(of_cluster(cluster));
  if (lb.ip_family_policy == "SingleStack") {
    out.wanted.resize(1);
  } else {
    add(out.wanted, net::Family::ipv4);
    add(out.wanted, net::Family::ipv6);
  }
  return out;
}

std::string service_id(const Owner& owner, const std::string& port, net::Family family) {
  return std::string(to_string(owner.kind)) + "/" + owner.key.ns + "/" + owner.key.name + "/" + port +
         (family == net::Family::ipv6 ? kSix : "");
}

net::Family family_of(const std::string& service_id) {
  return service_id.ends_with(kSix) ? net::Family::ipv6 : net::Family::ipv4;
}

std::string port_of(const std::string& service_id) {
  const size_t end = service_id.size() - (family_of(service_id) == net::Family::ipv6 ? std::string(kSix).size() : 0);
  const size_t begin = service_id.rfind('/', end - 1) + 1;
  return service_id.substr(begin, end - begin);
}

}  // namespace sluice::planner
