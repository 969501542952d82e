#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "node-agent/inspect/text.h"
#include "node-agent/inspect/view.h"

namespace sluice::agent::inspect {
namespace {

using dataplane::BackendRecord;
using dataplane::Forward;

constexpr uint32_t kIpv4Header = 20;
constexpr uint32_t kIpv6Header = 40;

bool in_choice(const state::Backend& backend) {
  return backend.left == 0 && backend.joined != state::kNotYet;
}

std::string mac_text(const dataplane::Mac& mac) {
  return fmt::format("{:02x}", fmt::join(mac, ":"));
}

using Tunnels = std::map<std::string, const tunnel::TunnelFact*>;

// One service's.
class Rows {
 public:
  Rows(const View& view, const Tunnels& tunnels, const state::Service& service)
      : view_(view), tunnels_(tunnels), service_(service) {
    auto record = std::ranges::lower_bound(view.records, service.id, {}, &BackendRecord::service);
    for (; record != view.records.end() && record->service == service.id; ++record) {
      records_.try_emplace({record->address, record->port}, &*record);
    }
    for (const state::Backend& backend : service.backends) {
      if (in_choice(backend)) in_choice_.emplace(backend.address, backend.port);
      if (takes_flows(backend)) ++members_[backend.group];
    }
    for (const auto& [group, count] : members_) weights_ += service.groups.at(group).weight;
  }

  // One row for each address and port: of several stays the one that counts now.
  [[nodiscard]] Json all() const {
    Json rows = Json::array();
    std::set<Endpoint> told;
    for (const state::Backend& backend : service_.backends) {
      const Endpoint endpoint(backend.address, backend.port);
      const bool superseded = !in_choice(backend) && in_choice_.contains(endpoint);
      if (superseded || !told.insert(endpoint).second) continue;
      const auto record = records_.find(endpoint);
      // Of those that have left long ago nothing is in the maps, and nothing of interest to say.
      if (backend.left != 0 && record == records_.end()) continue;
      rows.push_back(row(backend, record == records_.end() ? nullptr : record->second));
    }
    return rows;
  }

 private:
  using Endpoint = std::pair<net::IpAddress, uint16_t>;

  // From this node's point of view: with the policy Local a node keeps to its own.
  [[nodiscard]] bool takes_flows(const state::Backend& backend) const {
    const bool here = service_.traffic_policy != state::TrafficPolicy::local || backend.node == view_.node;
    return in_choice(backend) && here && service_.groups.at(backend.group).weight != 0;
  }

  [[nodiscard]] Json row(const state::Backend& backend, const BackendRecord* record) const {
    const state::Group& group = service_.groups.at(backend.group);
    Json out = {{"address", health::endpoint_text(backend.address, backend.port)},
                {"group", group.name},
                {"weight", group.weight},
                {"share", share(backend)},
                {"state", backend.left != 0                  ? "draining"
                          : backend.joined == state::kNotYet ? "joining"
                                                             : "ready"}};
    if (!backend.node.empty()) out["node"] = backend.node;
    if (record == nullptr) {
      out["way"] = "none";
      out["reason"] = no_record(backend);
      return out;
    }
    add_way(backend, *record, out);
    return out;
  }

  // Its group's weight, of all groups that have somebody, divided over the group's members.
  [[nodiscard]] double share(const state::Backend& backend) const {
    if (!takes_flows(backend) || weights_ == 0) return 0;
    const double weight = service_.groups.at(backend.group).weight;
    return weight / static_cast<double>(weights_) / static_cast<double>(members_.at(backend.group));
  }

  [[nodiscard]] std::string no_record(const state::Backend& backend) const {
    if (service_.traffic_policy == state::TrafficPolicy::local && backend.node != view_.node) {
      return "traffic policy Local: this node keeps to its own";
    }
    if (backend.joined == state::kNotYet) return "waits for its node";
    return service_.groups.at(backend.group).weight == 0 ? "weight 0" : "not programmed";
  }

  void add_way(const state::Backend& backend, const BackendRecord& record, Json& out) const {
    Forward way = record.way;
    std::string reason;
    const auto tunnel = tunnels_.find(backend.node);
    const bool usable = tunnel != tunnels_.end() && tunnel->second->usable;
    if (way == Forward::tunnel && !usable) {
      const std::string why = tunnel == tunnels_.end() ? "there is none" : tunnel->second->why;
      reason = fmt::format("the tunnel to {} is not proved: {}", backend.node, why);
      if (!record.strict) way = Forward::nat;
    } else if (way == Forward::nat && service_.forwarding == state::Forwarding::automatic) {
      reason = no_tunnel(backend);
    } else if (way == Forward::ipip) {
      reason = "it is on no node of Sluice's";
    }
    out["way"] = text_of(way);
    if (!reason.empty()) out["reason"] = reason;
    if (way == Forward::local) return;
    add_hop(way == Forward::tunnel && tunnel != tunnels_.end() ? tunnel->second->address : backend.address, out);
    if (const auto mtu = fits(way, backend, usable ? tunnel->second : nullptr)) out["mtu"] = *mtu;
  }

  [[nodiscard]] std::string no_tunnel(const state::Backend& backend) const {
    if (backend.node.empty()) return "Auto: it is on no node of Sluice's";
    if (view_.state->tunnel.keys.empty()) return "Auto: there are no keys for tunnels";
    return fmt::format("Auto: no tunnel leads to {}", backend.node);
  }

  void add_hop(const net::IpAddress& to, Json& out) const {
    const auto way = view_.ways.every.find(to);
    if (const auto why = view_.ways.unresolved.find(to); why != view_.ways.unresolved.end()) {
      out["nextHop"] = {{"why", why->second}};
      return;
    }
    if (way == view_.ways.every.end()) {
      out["nextHop"] = {{"why", "not looked up yet"}};
      return;
    }
    const auto link = view_.network.links.find(way->second.ifindex);
    Json hop = {{"device", link == view_.network.links.end() ? "" : link->second.name}};
    if (way->second.gateway) hop["gateway"] = way->second.gateway->to_string();
    if (way->second.mac) hop["mac"] = mac_text(*way->second.mac);
    out["nextHop"] = std::move(hop);
  }

  // Of the client's packet.
  [[nodiscard]] std::optional<uint32_t> fits(Forward way, const state::Backend& backend,
                                             const tunnel::TunnelFact* tunnel) const {
    const bool ipv4 = backend.address.is_ipv4();
    if (way == Forward::tunnel) {
      if (tunnel == nullptr) return std::nullopt;
      return ipv4 ? tunnel->fits4 : tunnel->fits6;
    }
    const auto found = view_.ways.every.find(backend.address);
    if (found == view_.ways.every.end()) return std::nullopt;
    const uint32_t header = way == Forward::ipip ? (ipv4 ? kIpv4Header : kIpv6Header) : 0;
    return found->second.mtu > header ? found->second.mtu - header : 0;
  }

  const View& view_;
  const Tunnels& tunnels_;
  const state::Service& service_;
  std::map<Endpoint, const BackendRecord*> records_;
  std::set<Endpoint> in_choice_;
  std::map<uint32_t, size_t> members_;  // by group: who takes flows
  uint64_t weights_ = 0;                // of these groups
};

}  // namespace

Json backends(const View& view) {
  Json services = Json::array();
  Tunnels tunnels;
  for (const auto& tunnel : view.tunnels) tunnels.emplace(tunnel.node, &tunnel);
  if (view.state != nullptr) {
    for (const auto& [id, service] : view.state->services) {
      Json frontends = Json::array();
      for (const net::IpAddress& address : service.addresses) {
        frontends.push_back(health::endpoint_text(address, service.port));
      }
      Json one = {{"service", id},
                  {"frontends", std::move(frontends)},
                  {"protocol", state::to_string(service.protocol)},
                  {"forwarding", state::to_string(service.forwarding)},
                  {"trafficPolicy", service.traffic_policy == state::TrafficPolicy::local ? "Local" : "Cluster"},
                  {"backends", Rows(view, tunnels, service).all()}};
      const auto failure = std::ranges::find(view.facts.failures, id, &dataplane::ServiceFailure::service);
      if (failure != view.facts.failures.end()) one["failure"] = failure->reason + ": " + failure->message;
      services.push_back(std::move(one));
    }
  }
  return {{"node", view.node}, {"revision", view.facts.revision}, {"services", std::move(services)}};
}

}  // namespace sluice::agent::inspect
