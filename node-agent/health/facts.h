// What the agent knows of itself, as others read it: readiness, metrics, and what the operator is told. Plain data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/net/address.h"
#include "common/state/digest.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/tunnel/tunnels.h"

namespace sluice::agent::health {

// As metav1.Condition, without the time.
struct Condition {
  std::string type;
  bool status = false;
  std::string reason;   // one word
  std::string message;  // for people
  friend bool operator==(const Condition&, const Condition&) = default;
};

// How much of what there is is in use, as of the last sweep.
struct Usage {
  dataplane::FlowUse flows_ipv4, flows_ipv6;
  std::vector<dataplane::TableUse> tables;
  std::vector<dataplane::PortUse> nat_ports;
  std::vector<dataplane::ShareUse> shares;
};

struct Facts {
  bool ready = false;
  // Ready, Programmed; NodePrepared once it was looked at, CapacityLeft once it was swept, TunnelsProved where the
  // state has keys for tunnels.
  std::vector<Condition> conditions;
  std::string config_error;  // standalone: the file as it is now cannot be used; the state before it stands
  bool has_state = false;
  state::Epoch epoch = 0;
  state::Revision revision = 0;
  state::Digest digest;
  size_t services = 0;
  size_t backends = 0;  // in the choice
  std::vector<dataplane::AttachedInterface> interfaces;
  std::vector<net::IpAddress> announcing;
  std::vector<std::string> services_with_old_flows;
  std::vector<dataplane::ServiceFailure> failures;
  std::map<net::IpAddress, std::string> unresolved;  // backend addresses without a way, and why
  std::vector<tunnel::TunnelFact> tunnels;           // to nodes with backends that packets may reach by one
  Usage usage;
  std::vector<dataplane::LeavingFlows> leaving;  // backends that are in the choice no more and have flows here
  uint64_t flows_live = 0;
  std::map<std::string, uint64_t> flows_by_service;
  uint64_t flows_expired = 0;  // by all sweeps together
  uint64_t sweeps = 0;
};

// "from SOURCE to BACKEND:PORT (TCP)"
std::string port_use_text(const dataplane::PortUse& use);
// "ADDRESS:PORT", an IPv6 address in brackets.
std::string endpoint_text(const net::IpAddress& address, uint16_t port);

}  // namespace sluice::agent::health
