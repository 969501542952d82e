#include "operator/resources/endpoints.h"

#include <algorithm>
#include <map>
#include <optional>

namespace sluice::resources {
namespace {

enum class Standing : uint8_t { ready, serving_while_terminating, neither };

// discovery/v1: ready nil means true, serving nil follows ready, terminating nil means false.
Standing standing(const SliceEndpoint& endpoint) {
  const bool ready = endpoint.ready.value_or(true);
  if (ready) return Standing::ready;
  const bool serving = endpoint.serving.value_or(ready);
  return serving && endpoint.terminating.value_or(false) ? Standing::serving_while_terminating : Standing::neither;
}

struct Known {
  Endpoint endpoint;
  Standing standing;
};

const char* address_type(net::Family family) {
  return family == net::Family::ipv4 ? "IPv4" : "IPv6";
}

class Collector {
 public:
  Collector(net::Family family, Scope scope, const EndpointGuard& guard)
      : family_(family), scope_(scope), guard_(guard) {}

  void add(const EndpointSlice& slice, uint16_t port, bool trusted) {
    for (const SliceEndpoint& endpoint : slice.endpoints) add(endpoint, port, trusted);
  }

  PortEndpoints finish() && {
    PortEndpoints out;
    out.refused = std::move(refused_);
    std::ranges::sort(out.refused);
    out.refused.erase(std::unique(out.refused.begin(), out.refused.end()), out.refused.end());
    std::ranges::sort(known_, [](const Known& a, const Known& b) {
      return std::tie(a.endpoint.address, a.endpoint.port, a.standing, a.endpoint.node, a.endpoint.zone) <
             std::tie(b.endpoint.address, b.endpoint.port, b.standing, b.endpoint.node, b.endpoint.zone);
    });
    // Of duplicates the one in the best standing counts: a pod that two slices tell of while it moves between them.
    known_.erase(std::unique(known_.begin(), known_.end(),
                             [](const Known& a, const Known& b) {
                               return a.endpoint.address == b.endpoint.address && a.endpoint.port == b.endpoint.port;
                             }),
                 known_.end());
    out.total = known_.size();
    out.ready = static_cast<size_t>(std::ranges::count(known_, Standing::ready, &Known::standing));
    for (const Known& known : known_) {
      if (scope_ != Scope::node || known.endpoint.node.empty()) continue;
      if (known.standing == Standing::ready) out.ready_on.insert(known.endpoint.node);
    }
    for (Known& known : known_) {
      if (known.standing == wanted(known.endpoint.node, out)) out.chosen.push_back(std::move(known.endpoint));
    }
    out.only_terminating = out.ready == 0 && !out.chosen.empty();
    return out;
  }

 private:
  [[nodiscard]] std::optional<Standing> wanted(const std::string& node, const PortEndpoints& out) const {
    if (scope_ == Scope::node && node.empty()) return std::nullopt;
    const bool ready = scope_ == Scope::node ? out.ready_on.contains(node) : out.ready > 0;
    return ready ? Standing::ready : Standing::serving_while_terminating;
  }

  void add(const SliceEndpoint& endpoint, uint16_t port, bool trusted) {
    if (endpoint.addresses.empty()) return;
    const auto address = net::IpAddress::parse(endpoint.addresses.front());
    if (!address || address->family() != family_) return;
    if (!trusted) {
      if (const std::string why = guard_.refusal(*address); !why.empty()) {
        refused_.push_back(address->to_string() + ": " + why);
        return;
      }
    }
    known_.push_back({{*address, port, endpoint.node, endpoint.zone}, standing(endpoint)});
  }

  net::Family family_;
  Scope scope_;
  const EndpointGuard& guard_;
  std::vector<Known> known_;
  std::vector<std::string> refused_;
};

}  // namespace

std::string EndpointGuard::refusal(const net::IpAddress& address) const {
  if (!address.is_global_unicast()) return "not a global unicast address";
  if (const auto found = addresses_.find(address); found != addresses_.end()) return found->second;
  for (const auto& [range, why] : ranges_) {
    if (range.contains(address)) return why;
  }
  return {};
}

std::string EndpointGuard::refusal_outside(const net::IpAddress& address) const {
  if (std::string why = refusal(address); !why.empty()) return why;
  const auto has = [&address](const net::Prefix& prefix) { return prefix.range().contains(address); };
  if (const auto pods = std::ranges::find_if(pods_, has); pods != pods_.end())
    return "in the pods' range " + pods->to_string();
  if (std::ranges::none_of(outside_, has)) return "not in the operator's --allowed-static-backends";
  return {};
}

EndpointGuard make_guard(const ClusterState& cluster) {
  EndpointGuard guard;
  for (const auto& [name, node] : cluster.nodes) {
    for (const net::Prefix& range : node->pod_ranges) guard.forbid_pods(range);
    for (const NodeAddress& address : node->addresses) guard.forbid(address.address, "an address of node " + name);
  }
  if (const auto api = cluster.slices.find({"default", "kubernetes"}); api != cluster.slices.end()) {
    for (const auto& [name, slice] : *api->second) {
      for (const SliceEndpoint& endpoint : slice->endpoints) {
        for (const std::string& text : endpoint.addresses) {
          if (auto address = net::IpAddress::parse(text)) guard.forbid(*address, "the API server's address");
        }
      }
    }
  }
  for (const auto& [name, cidr] : cluster.service_cidrs) {
    for (const net::Prefix& prefix : cidr->ranges)
      guard.forbid(prefix.range(), "in the Services' range " + prefix.to_string());
  }
  for (const auto& [name, claim] : cluster.claims) guard.forbid(claim->address, "an address of Sluice");
  for (const auto& [name, pool] : cluster.pools) {
    for (const std::string& text : pool->addresses) {
      if (auto range = net::AddressRange::parse(text)) guard.forbid(*range, "in AddressPool " + name);
    }
  }
  return guard;
}

PortEndpoints resolve_endpoints(const Service& service, const ServicePort& port, const SlicesByName& slices,
                                net::Family family, Scope scope, const EndpointGuard& guard) {
  Collector collector(family, scope, guard);
  for (const auto& [name, slice] : slices) {
    if (slice->address_type != address_type(family)) continue;
    // The label alone can be forged; for a Service with a selector the controller removes what it did not make.
    const bool trusted = slice->by_controller && service.has_selector;
    for (const SlicePort& slice_port : slice->ports) {
      if (slice_port.name != port.name || slice_port.protocol != port.protocol || slice_port.port == 0) continue;
      collector.add(*slice, slice_port.port, trusted);
    }
  }
  return std::move(collector).finish();
}

const ServicePort* find_port(const Service& service, const PortRef& port, std::string_view protocol) {
  const auto found = std::ranges::find_if(service.ports, [&](const ServicePort& candidate) {
    const bool named = port.number != 0 ? candidate.port == port.number : candidate.name == port.name;
    return named && candidate.protocol == protocol;
  });
  return found == service.ports.end() ? nullptr : &*found;
}

}  // namespace sluice::resources
