#include "node-agent/program/projection.h"

#include <arpa/inet.h>

#include <algorithm>
#include <unordered_map>

#include "bpf/sluice.h"
#include "common/maglev/maglev.h"
#include "common/maglev/service_table.h"

namespace sluice::agent::program {

std::optional<std::string> not_supported(const state::Service& service) {
  for (const auto& address : service.addresses) {
    if (!address.is_ipv4()) {
      return "address " + address.to_string() + ": IPv6 is not supported";
    }
  }
  for (const auto& backend : service.backends) {
    if (!backend.address.is_ipv4()) {
      return "backend " + backend.address.to_string() + ": IPv6 is not supported";
    }
  }
  if (service.forwarding == state::Forwarding::tunnel || service.forwarding == state::Forwarding::direct) {
    return std::string("forwarding ") + state::to_string(service.forwarding) + " is not supported; use Auto or NAT";
  }
  if (!service.allowed_sources.empty()) {
    return "allowed sources are not supported";
  }
  if (service.traffic_policy == state::TrafficPolicy::local) {
    return "traffic policy Local is not supported";
  }
  return std::nullopt;
}

std::vector<uint64_t> keys_of(const state::Service& service) {
  std::vector<uint64_t> keys;
  for (const auto& address : service.addresses) {
    keys.push_back(sluice_key_ipv4(address.ipv4(), htons(service.port), static_cast<uint8_t>(service.protocol)));
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

std::string key_text(uint64_t key) {
  const auto address = net::IpAddress::from_ipv4(static_cast<uint32_t>(key >> 32));
  const auto protocol = static_cast<uint8_t>(key >> 8);
  return address.to_string() + ":" + std::to_string(ntohs(static_cast<uint16_t>(key >> 16))) + "/" +
         (protocol == 6    ? "TCP"
          : protocol == 17 ? "UDP"
                           : std::to_string(protocol));
}

uint8_t forwarding_of(const state::Backend& backend, const std::string& node, const Ways& ways) {
  if (!backend.node.empty() && backend.node == node) {
    return SLUICE_FORWARD_LOCAL;
  }
  const auto way = ways.next_hops.find(backend.address);
  return way != ways.next_hops.end() && way->second.local ? SLUICE_FORWARD_LOCAL : SLUICE_FORWARD_NAT;
}

Result<Projection> project(const state::Service& service, const std::string& node, const Ways& ways) {
  Projection projection;
  projection.keys = keys_of(service);
  projection.flags = SLUICE_SERVICE_VALID;
  if (service.affinity == state::Affinity::client_ip) {
    projection.flags |= SLUICE_SERVICE_AFFINITY;
  }
  maglev::ServiceTable table = maglev::build_service_table(service);
  projection.log2 = table.log2;
  // Position in service.backends -> position in projection.backends.
  std::vector<uint16_t> positions(service.backends.size(), SLUICE_NO_BACKEND);
  for (auto& plane : table.planes) {
    for (uint16_t& slot : plane) {
      if (slot == maglev::kNoBackend) {
        continue;
      }
      uint16_t& position = positions.at(slot);
      if (position == SLUICE_NO_BACKEND) {
        if (projection.backends.size() == SLUICE_NO_BACKEND) {
          return fail(ErrorKind::not_supported, "program", service.id, "more than 65535 backends");
        }
        const state::Backend& backend = service.backends[slot];
        position = static_cast<uint16_t>(projection.backends.size());
        projection.backends.push_back(
            RecordIdentity{backend.address.ipv4(), htons(backend.port), forwarding_of(backend, node, ways)});
      }
      slot = position;
    }
  }
  if (!projection.backends.empty()) {
    projection.planes = std::move(table.planes);
  }
  return projection;
}

}  // namespace sluice::agent::program
