#include "node-agent/program/projection.h"

#include <arpa/inet.h>

#include <algorithm>
#include <tuple>

#include "bpf/sluice.h"
#include "common/maglev/maglev.h"
#include "common/maglev/service_table.h"

namespace sluice::agent::program {
namespace {

bool is_local(const state::Backend& backend, const dataplane::NextHop* way, const Standpoint& here) {
  return (!backend.node.empty() && backend.node == here.node) || (way != nullptr && way->local);
}

bool is_local(const state::Backend& backend, const Standpoint& here) {
  return is_local(backend, here.ways.find(backend.address), here);
}

// Where packets for a backend of the service go that is not on this node.
uint8_t forwarding_of(const state::Service& service, const state::Backend& backend, const Standpoint& here) {
  const bool peer = here.peers.index_of(backend.node) != 0;
  switch (service.forwarding) {
    case state::Forwarding::direct:
      return SLUICE_FORWARD_DIRECT;
    case state::Forwarding::tunnel:
      // On a node of ours that no tunnel leads to (yet) the backend would not know what to do with IP in IP.
      return peer || here.nodes.contains(backend.node) ? SLUICE_FORWARD_TUNNEL : SLUICE_FORWARD_IPIP;
    case state::Forwarding::automatic:
      return peer ? SLUICE_FORWARD_TUNNEL : SLUICE_FORWARD_NAT;
    case state::Forwarding::nat:
      break;
  }
  return SLUICE_FORWARD_NAT;
}

// A backend that packets reach with the port that they came with.
bool keeps_port(const state::Service& service, const state::Backend& backend) {
  return service.forwarding == state::Forwarding::direct ||
         (service.forwarding == state::Forwarding::tunnel && backend.node.empty());
}

using Endpoint = std::pair<net::IpAddress, uint16_t>;

// Endpoints of which a stay has ended and none goes on or is to come, ascending.
std::vector<Endpoint> left_endpoints(const state::Service& service) {
  std::vector<Endpoint> left;
  for (const state::Backend& backend : service.backends) {
    if (backend.left != 0) {
      left.emplace_back(backend.address, backend.port);
    }
  }
  if (left.empty()) {
    return left;
  }
  std::sort(left.begin(), left.end());
  left.erase(std::unique(left.begin(), left.end()), left.end());
  std::vector<Endpoint> others;
  for (const state::Backend& backend : service.backends) {
    if (backend.left == 0) {
      others.emplace_back(backend.address, backend.port);
    }
  }
  std::sort(others.begin(), others.end());
  std::vector<Endpoint> only_left;
  std::set_difference(left.begin(), left.end(), others.begin(), others.end(), std::back_inserter(only_left));
  return only_left;
}

class Projector {
 public:
  Projector(const state::Service& service, const Standpoint& here)
      : service_(service), here_(here), left_(left_endpoints(service)) {}

  [[nodiscard]] ProjectedBackend backend(const state::Backend& backend) const {
    ProjectedBackend made;
    made.way = here_.ways.find(backend.address);
    const bool local = is_local(backend, made.way, here_);
    made.way = local ? nullptr : made.way;
    made.identity = {backend.address, htons(backend.port),
                     local ? uint8_t{SLUICE_FORWARD_LOCAL} : forwarding_of(service_, backend, here_)};
    if (made.identity.forwarding == SLUICE_FORWARD_TUNNEL) {
      made.flags.peer = here_.peers.index_of(backend.node);
      if (service_.forwarding == state::Forwarding::tunnel) {
        made.flags.flags |= SLUICE_BACKEND_STRICT;
      }
    }
    if (!left_.empty() && std::binary_search(left_.begin(), left_.end(), Endpoint{backend.address, backend.port})) {
      made.flags.flags |= SLUICE_BACKEND_LEFT;
    }
    return made;
  }

  // Puts the backends that slots name into the projection, and renumbers the slots. False: there are too many.
  bool place(const state::Service& service, std::vector<std::vector<uint16_t>>& planes, Projection& projection) const {
    std::vector<uint16_t> positions(service.backends.size(), SLUICE_NO_BACKEND);
    for (auto& plane : planes) {
      for (uint16_t& slot : plane) {
        if (slot == maglev::kNoBackend) {
          continue;
        }
        uint16_t& position = positions.at(slot);
        if (position == SLUICE_NO_BACKEND) {
          if (projection.backends.size() == SLUICE_NO_BACKEND) {
            return false;
          }
          position = static_cast<uint16_t>(projection.backends.size());
          projection.backends.push_back(backend(service.backends[slot]));
        }
        slot = position;
      }
    }
    return true;
  }

  // Those that have not joined: others name them in tunnels as soon as they have, before this node may know.
  bool place_ahead(const state::Service& service, Projection& projection) const {
    if (!here_.tunnels) {
      return true;
    }
    for (const state::Backend& one : service.backends) {
      if (one.joined != state::kNotYet || !is_local(one, here_)) {
        continue;
      }
      const ProjectedBackend made = backend(one);
      const bool there = std::any_of(projection.backends.begin(), projection.backends.end(),
                                     [&](const auto& other) { return other.identity == made.identity; });
      if (!there && projection.backends.size() == SLUICE_NO_BACKEND) {
        return false;
      }
      if (!there) {
        projection.backends.push_back(made);
      }
    }
    return true;
  }

 private:
  const state::Service& service_;
  const Standpoint& here_;
  std::vector<Endpoint> left_;
};

}  // namespace

std::optional<std::string> not_supported(const state::Service& service) {
  if (service.addresses.empty()) {
    return std::nullopt;
  }
  const net::Family family = service.addresses.front().family();
  for (const auto& address : service.addresses) {
    if (address.family() != family) {
      return "address " + address.to_string() + " is of another family than " + service.addresses.front().to_string();
    }
  }
  for (const auto& backend : service.backends) {
    if (backend.address.family() != family) {
      return "backend " + backend.address.to_string() + " is of another family than " +
             service.addresses.front().to_string();
    }
    if (backend.left == 0 && backend.port != service.port && keeps_port(service, backend)) {
      return std::string("forwarding ") + state::to_string(service.forwarding) + " does not change the port: backend " +
             backend.address.to_string() + " is at port " + std::to_string(backend.port) + ", the service at " +
             std::to_string(service.port);
    }
  }
  return std::nullopt;
}

std::vector<WholeKey> keys_of(const state::Service& service) {
  std::vector<std::pair<uint64_t, WholeKey>> by_word;
  for (const auto& address : service.addresses) {
    const WholeKey key{address, htons(service.port), static_cast<uint8_t>(service.protocol)};
    by_word.emplace_back(key.word(), key);
  }
  std::sort(by_word.begin(), by_word.end());
  by_word.erase(std::unique(by_word.begin(), by_word.end()), by_word.end());
  std::vector<WholeKey> keys;
  keys.reserve(by_word.size());
  for (auto& [word, key] : by_word) {
    keys.push_back(key);
  }
  return keys;
}

Result<Projection> project(const state::Service& service, const Standpoint& here) {
  Projection projection;
  projection.keys = keys_of(service);
  projection.flags = SLUICE_SERVICE_VALID;
  if (!service.addresses.empty() && !service.addresses.front().is_ipv4()) {
    projection.flags |= SLUICE_SERVICE_IPV6;
  }
  if (service.affinity == state::Affinity::client_ip) {
    projection.flags |= SLUICE_SERVICE_AFFINITY;
    projection.affinity = std::min(service.affinity_seconds, 0xffffffU);
  }
  // With the policy Local only what runs here is there at all.
  std::optional<state::Service> local;
  if (service.traffic_policy == state::TrafficPolicy::local) {
    local = service;
    std::erase_if(local->backends, [&here](const state::Backend& backend) { return !is_local(backend, here); });
  }
  const state::Service& seen = local ? *local : service;
  const Projector projector(service, here);
  maglev::ServiceTable table = maglev::build_service_table(seen);
  const bool fits = projector.place(seen, table.planes, projection);
  const size_t named_by_slots = projection.backends.size();
  if (!fits || !projector.place_ahead(seen, projection)) {
    return fail(ErrorKind::not_supported, "program", service.id, "more than 65535 backends");
  }
  if (named_by_slots != 0) {
    projection.log2 = table.log2;
    projection.planes = std::move(table.planes);
  } else if (!projection.backends.empty()) {
    projection.planes = {{SLUICE_NO_BACKEND}};  // a table leads to the records
  }
  return projection;
}

std::optional<std::vector<net::Prefix>> allowed_sources(const state::Service& service) {
  if (service.allowed_sources.empty() || service.addresses.empty()) {
    return std::nullopt;
  }
  std::vector<net::Prefix> prefixes;
  for (const net::Prefix& prefix : service.allowed_sources) {
    if (prefix.address.family() == service.addresses.front().family()) {
      prefixes.push_back(prefix);
    }
  }
  return prefixes;
}

}  // namespace sluice::agent::program
