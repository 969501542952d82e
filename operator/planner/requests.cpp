#include "operator/planner/requests.h"

#include <algorithm>

#include "operator/planner/acceptance.h"
#include "operator/planner/families.h"
#include "operator/planner/standing.h"

namespace sluice::planner {
namespace {

std::vector<net::IpAddress> addresses(const std::vector<std::string>& texts) {
  std::vector<net::IpAddress> out;
  for (const std::string& text : texts) {
    const auto address = net::IpAddress::parse(text);
    if (address && std::ranges::find(out, *address) == out.end()) out.push_back(*address);
  }
  return out;
}

void ask_for(const Families& families, ipam::Request& out) {
  out.families = families.wanted;
  out.any_family = families.any;
}

ipam::Request service_request(const resources::Service& service) {
  ipam::Request out;
  ask_for(families_of(service), out);
  out.owner = {resources::OwnerKind::service, service.meta.key};
  out.meta = service.meta;
  for (const resources::ServicePort& port : service.ports) out.ports.push_back({port.port, port.protocol});
  out.wanted = addresses(wanted_addresses(service));
  out.pools = wanted_pools(service);
  std::vector<std::string> ips;
  for (const resources::IngressPoint& point : service.ingress) ips.push_back(point.ip);
  out.in_status = addresses(ips);
  out.may_claim = service.meta.has_finalizer(kCleanupFinalizer);
  return out;
}

ipam::Request load_balancer_request(const resources::LoadBalancer& lb, const resources::ClusterState& cluster) {
  ipam::Request out;
  ask_for(families_of(lb, cluster), out);
  out.owner = {resources::OwnerKind::load_balancer, lb.meta.key};
  out.meta = lb.meta;
  for (const resources::LoadBalancerPort& port : lb.ports) out.ports.push_back({port.port, port.protocol});
  out.wanted = addresses(lb.addresses);
  out.pools = lb.address_pools;
  out.in_status = addresses(lb.status_addresses);
  return out;
}

// Of one whose present spec is not accepted, what is in force is all it asks for, claims that are missing included.
void stand(ipam::Request& request, const state::DesiredState& previous) {
  if (request.programmed.empty()) return;
  std::erase_if(request.wanted, [&](const net::IpAddress& address) {
    return std::ranges::find(request.programmed, address) == request.programmed.end();
  });
  for (const net::IpAddress& address : request.programmed) {
    if (std::ranges::find(request.wanted, address) == request.wanted.end()) request.wanted.push_back(address);
  }
  request.pools.clear();
  request.families.clear();
  request.ports.clear();
  for (const state::Service* service : in_force_of(request.owner, previous)) {
    const resources::ClaimPort port{service->port, to_string(service->protocol)};
    if (std::ranges::find(request.ports, port) == request.ports.end()) request.ports.push_back(port);
  }
  request.standing = true;
}

}  // namespace

std::optional<Owner> owner_of(const std::string& service_id) {
  const size_t kind_end = service_id.find('/');
  if (kind_end == std::string::npos) return std::nullopt;
  const size_t ns_end = service_id.find('/', kind_end + 1);
  if (ns_end == std::string::npos) return std::nullopt;
  const size_t name_end = service_id.find('/', ns_end + 1);
  if (name_end == std::string::npos) return std::nullopt;
  const std::string_view kind = std::string_view(service_id).substr(0, kind_end);
  Owner out;
  if (kind == "Service")
    out.kind = resources::OwnerKind::service;
  else if (kind == "LoadBalancer")
    out.kind = resources::OwnerKind::load_balancer;
  else
    return std::nullopt;
  out.key = {service_id.substr(kind_end + 1, ns_end - kind_end - 1),
             service_id.substr(ns_end + 1, name_end - ns_end - 1)};
  return out;
}

std::vector<ipam::Request> make_requests(const resources::ClusterState& cluster, const state::DesiredState& previous,
                                         const Options& options) {
  std::map<Owner, std::vector<net::IpAddress>> programmed;
  for (const auto& [id, service] : previous.services) {
    const auto owner = owner_of(id);
    if (!owner) continue;
    auto& list = programmed[*owner];
    for (const net::IpAddress& address : service.addresses) {
      if (std::ranges::find(list, address) == list.end()) list.push_back(address);
    }
  }
  std::vector<ipam::Request> out;
  const auto add = [&](ipam::Request request, bool accepted) {
    if (const auto found = programmed.find(request.owner); found != programmed.end())
      request.programmed = found->second;
    if (!accepted) {
      request.keep_only = true;
      stand(request, previous);
    }
    out.push_back(std::move(request));
  };
  for (const auto& [key, service] : cluster.services) {
    const bool ours = is_ours(*service, options);
    if (!ours && !service->meta.has_finalizer(kCleanupFinalizer)) continue;
    ipam::Request request = service_request(*service);
    request.keep_only = !ours || service->meta.deleting;
    const bool accepted = request.keep_only || accept(*service).good;
    add(std::move(request), accepted);
  }
  for (const auto& [key, lb] : cluster.load_balancers) {
    ipam::Request request = load_balancer_request(*lb, cluster);
    request.keep_only = lb->meta.deleting;
    const bool accepted = request.keep_only || accept(*lb).good;
    add(std::move(request), accepted);
  }
  return out;
}

}  // namespace sluice::planner
