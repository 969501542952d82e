#include <algorithm>
#include <optional>
#include <tuple>
#include <unordered_set>

#include "common/state/desired_state.h"

namespace sluice::state {

namespace {

// What is wrong, starting with the field's name; nullopt: nothing.
using Complaint = std::optional<std::string>;

std::string at(const char* field, size_t index) {
  return std::string(field) + "[" + std::to_string(index) + "]";
}

Complaint check_enums(const Service& service) {
  if (service.protocol != Protocol::tcp && service.protocol != Protocol::udp) return "protocol: neither TCP nor UDP";
  if (service.forwarding > Forwarding::direct) return "forwarding: unknown value";
  if (service.affinity > Affinity::client_ip) return "affinity: unknown value";
  if (service.traffic_policy > TrafficPolicy::local) return "traffic_policy: unknown value";
  return std::nullopt;
}

Complaint check_affinity(const Service& service) {
  if (service.affinity == Affinity::none) return std::nullopt;
  if (service.affinity_seconds >= 1 && service.affinity_seconds <= kMaxAffinitySeconds) return std::nullopt;
  return "affinity_seconds: " + std::to_string(service.affinity_seconds) + ", not 1 to " +
         std::to_string(kMaxAffinitySeconds);
}

Complaint check_families(const Service& service) {
  std::optional<net::Family> family;
  const auto differs = [&](const net::IpAddress& address) {
    if (!family) family = address.family();
    return *family != address.family();
  };
  for (size_t i = 0; i < service.addresses.size(); ++i) {
    if (differs(service.addresses[i])) return at("addresses", i) + ": of another family than the one before";
  }
  for (size_t i = 0; i < service.backends.size(); ++i) {
    if (differs(service.backends[i].address)) return at("backends", i) + ".address: of another family";
  }
  return std::nullopt;
}

Complaint check_sources(const Service& service) {
  for (size_t i = 0; i < service.allowed_sources.size(); ++i) {
    // The text form refuses a length out of range and host bits that are set.
    if (auto prefix = net::Prefix::parse(service.allowed_sources[i].to_string()); !prefix) {
      return at("allowed_sources", i) + ": " + prefix.error().reason;
    }
  }
  return std::nullopt;
}

Complaint check_sizes(const Service& service, Revision revision) {
  if (service.sizes.empty()) return "sizes: empty";
  if (service.sizes.front().from != 0) return "sizes[0].from: not 0";
  for (size_t i = 0; i < service.sizes.size(); ++i) {
    const TableSize& size = service.sizes[i];
    if (size.log2 > kMaxTableLog2) return at("sizes", i) + ".log2: above " + std::to_string(kMaxTableLog2);
    if (size.from > revision) return at("sizes", i) + ".from: later than the state's revision";
    if (i > 0 && size.from <= service.sizes[i - 1].from) return at("sizes", i) + ".from: not ascending";
  }
  return std::nullopt;
}

Complaint check_backend(const Backend& backend, size_t groups, Revision revision) {
  if (backend.address == net::IpAddress{}) return "address: 0.0.0.0";
  if (backend.port == 0) return "port: 0";
  if (backend.group >= groups) return "group: " + std::to_string(backend.group) + " of " + std::to_string(groups);
  if (backend.joined == kNotYet) {
    return backend.left != 0 ? Complaint("left: set, of a backend that has not joined") : std::nullopt;
  }
  if (backend.joined > revision) return "joined: later than the state's revision";
  if (backend.left > revision) return "left: later than the state's revision";
  if (backend.left != 0 && backend.left <= backend.joined) return "left: not after joined";
  return std::nullopt;
}

// Two stays of one endpoint in one group must not overlap: its share would count twice.
Complaint check_stays(const Service& service) {
  std::vector<const Backend*> stays;
  stays.reserve(service.backends.size());
  for (const Backend& backend : service.backends) stays.push_back(&backend);
  const auto endpoint = [](const Backend& b) { return std::tie(b.address, b.port, b.group); };
  std::sort(stays.begin(), stays.end(), [&](const Backend* a, const Backend* b) {
    return std::tuple_cat(endpoint(*a), std::tie(a->joined)) < std::tuple_cat(endpoint(*b), std::tie(b->joined));
  });
  for (size_t i = 1; i < stays.size(); ++i) {
    const Backend& earlier = *stays[i - 1];
    const Backend& later = *stays[i];
    if (endpoint(earlier) == endpoint(later) && (earlier.left == 0 || later.joined < earlier.left)) {
      return "backends: " + later.address.to_string() + " port " + std::to_string(later.port) + " is twice in group " +
             std::to_string(later.group) + " at revision " + std::to_string(later.joined);
    }
  }
  return std::nullopt;
}

Complaint check_service(const Service& service, Revision revision) {
  if (service.port == 0) return "port: 0";
  if (auto complaint = check_enums(service)) return complaint;
  if (auto complaint = check_affinity(service)) return complaint;
  if (auto complaint = check_sources(service)) return complaint;
  if (auto complaint = check_families(service)) return complaint;
  if (auto complaint = check_sizes(service, revision)) return complaint;
  for (size_t i = 0; i < service.groups.size(); ++i) {
    if (service.groups[i].weight > kMaxWeight) return at("groups", i) + ".weight: above " + std::to_string(kMaxWeight);
  }
  if (service.backends.size() > kMaxBackends) return "backends: more than " + std::to_string(kMaxBackends);
  for (size_t i = 0; i < service.backends.size(); ++i) {
    if (auto complaint = check_backend(service.backends[i], service.groups.size(), revision)) {
      return at("backends", i) + "." + *complaint;
    }
  }
  return check_stays(service);
}

struct Frontend {
  net::IpAddress address;
  uint16_t port;
  Protocol protocol;
  friend bool operator==(const Frontend&, const Frontend&) = default;
};
struct FrontendHash {
  size_t operator()(const Frontend& f) const noexcept {
    return std::hash<net::IpAddress>{}(f.address) ^ (size_t{f.port} << 8 | static_cast<size_t>(f.protocol));
  }
};

Complaint check_services(const DesiredState& state) {
  std::unordered_set<Frontend, FrontendHash> taken;
  for (const auto& [id, service] : state.services) {
    const std::string where = "services[" + id + "].";
    if (id.empty() || id != service.id) return where + "id: empty or not its key";
    if (auto complaint = check_service(service, state.revision)) return where + *complaint;
    for (size_t i = 0; i < service.addresses.size(); ++i) {
      if (!taken.insert({service.addresses[i], service.port, service.protocol}).second) {
        return where + at("addresses", i) + ": " + service.addresses[i].to_string() + " " +
               to_string(service.protocol) + " port " + std::to_string(service.port) + " is taken by another service";
      }
    }
  }
  return std::nullopt;
}

Complaint check_tunnel(const Tunnel& tunnel) {
  if (tunnel.port == 0) return "port: 0";
  if (tunnel.keys.size() > kMaxTunnelKeys) return "keys: more than " + std::to_string(kMaxTunnelKeys);
  for (size_t i = 0; i < tunnel.keys.size(); ++i) {
    if (tunnel.keys[i].secret == std::array<uint64_t, 2>{}) return at("keys", i) + ".secret: 0";
    if (i > 0 && tunnel.keys[i].id == tunnel.keys[i - 1].id) return at("keys", i) + ".id: that of the key before";
  }
  return std::nullopt;
}

Complaint check(const DesiredState& state) {
  if (state.cluster_id.empty()) return "cluster_id: empty";
  if (auto complaint = check_tunnel(state.tunnel)) return "tunnel." + *complaint;
  if (auto complaint = check_services(state)) return complaint;
  for (const auto& [name, node] : state.nodes) {
    if (name.empty() || name != node.name) return "nodes[" + name + "].name: empty or not its key";
  }
  for (const auto& [address, announcement] : state.announcements) {
    if (address != announcement.address) return "announcements[" + address.to_string() + "].address: not its key";
  }
  return std::nullopt;
}

}  // namespace

Status validate(const DesiredState& state) {
  if (auto complaint = check(state)) {
    return fail(ErrorKind::invalid, "validate desired state", "revision " + std::to_string(state.revision), *complaint);
  }
  return {};
}

}  // namespace sluice::state
