#include "common/state/desired_state.h"

namespace sluice::state {

const char* to_string(Protocol protocol) {
  switch (protocol) {
    case Protocol::tcp:
      return "TCP";
    case Protocol::udp:
      return "UDP";
  }
  return "unknown";
}

const char* to_string(Forwarding forwarding) {
  switch (forwarding) {
    case Forwarding::automatic:
      return "Auto";
    case Forwarding::nat:
      return "NAT";
    case Forwarding::tunnel:
      return "Tunnel";
    case Forwarding::direct:
      return "Direct";
  }
  return "unknown";
}

DesiredState as_of(DesiredState state, uint32_t contract) {
  if (contract >= kContract) return state;
  state.tunnel = {};
  for (auto& [id, service] : state.services) {
    service.affinity_seconds = Service{}.affinity_seconds;
    std::erase_if(service.backends, [](const Backend& backend) { return backend.joined == kNotYet; });
  }
  return state;
}

}  // namespace sluice::state
