// One load balancer of the standalone file, read and checked for itself. Internal to config/.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/state/desired_state.h"
#include "node-agent/config/yaml_reader.h"

namespace sluice::agent::config {

struct Port {
  std::string name;
  uint16_t port = 0;
  uint16_t backend_port = 0;
  state::Protocol protocol = state::Protocol::tcp;
};

struct BackendEntry {
  std::string path;
  std::string name;
  net::IpAddress address;
  uint32_t weight = 1;
  std::map<std::string, uint16_t> ports;  // overrides by the port's name
};

// What one item of loadBalancers says, before it becomes one service a port and address family.
struct LoadBalancer {
  std::string name;
  std::vector<net::IpAddress> addresses;
  std::vector<Port> ports;
  std::vector<BackendEntry> backends;
  state::Forwarding forwarding = state::Forwarding::automatic;
  state::Affinity affinity = state::Affinity::none;
  uint32_t affinity_seconds = state::Service{}.affinity_seconds;
  std::vector<net::Prefix> allowed_sources;
  uint32_t drain_seconds = 300;
};

// The port of a backend that the packets of one port go to.
uint16_t port_of(const BackendEntry& backend, const Port& port);

// nullopt, with mistakes, where not even a name is there.
std::optional<LoadBalancer> read_load_balancer(const Field& item);

// One service for each port and family that the load balancer has an address of, in the file's order.
void add_services(const LoadBalancer& balancer, std::vector<state::Service>& services);

}  // namespace sluice::agent::config
