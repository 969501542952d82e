// Address families: what objects ask for, and whose service of the state is of which. Pure.
#pragma once

#include <string>
#include <vector>

#include "operator/planner/values.h"

namespace sluice::planner {

struct Families {
  std::vector<net::Family> wanted;  // the first leads; never empty
  bool any = false;                 // PreferDualStack: one is enough, where not both can be had
  [[nodiscard]] bool has(net::Family family) const;
};

// The API server has settled a Service's families.
Families families_of(const resources::Service& service);
// A LoadBalancer's are those it names, else those of its addresses, else the cluster's own, that of the Service
// default/kubernetes first.
Families families_of(const resources::LoadBalancer& lb, const resources::ClusterState& cluster);

// Of Service::ip_families; of none known, IPv4.
std::vector<net::Family> parse_families(const std::vector<std::string>& names);
const char* name_of(net::Family family);  // "IPv4"

// A port of an object is one service for each family: "Service/NS/NAME/PORT", and for IPv6 "Service/NS/NAME/PORT/IPv6".
std::string service_id(const Owner& owner, const std::string& port, net::Family family);
net::Family family_of(const std::string& service_id);
std::string port_of(const std::string& service_id);

}  // namespace sluice::planner
