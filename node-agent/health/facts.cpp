#include "node-agent/health/facts.h"

#include <fmt/format.h>

namespace sluice::agent::health {

std::string endpoint_text(const net::IpAddress& address, uint16_t port) {
  const std::string text = address.to_string();
  return address.is_ipv4() ? fmt::format("{}:{}", text, port) : fmt::format("[{}]:{}", text, port);
}

std::string port_use_text(const dataplane::PortUse& use) {
  return fmt::format("from {} to {} ({})", use.source.to_string(), endpoint_text(use.backend, use.port),
                     state::to_string(static_cast<state::Protocol>(use.protocol)));
}

}  // namespace sluice::agent::health
