// From names and patterns to the devices that are there. Pure.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "common/result.h"
#include "node-agent/config/standalone.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/nexthop/ways.h"

namespace sluice::agent {

struct ChosenInterfaces {
  std::vector<dataplane::InterfaceRequest> requests;  // in the order of their names, each once
  std::set<uint32_t> indices;
  std::vector<std::string> missing;  // names and patterns that no device has, for people
};

// `wanted` empty: the devices of the default routes. A device that several entries name takes the mode of the first.
// Loopback and devices that are no Ethernet are left to the kernel: a pattern never chooses them.
ChosenInterfaces choose_interfaces(const std::vector<config::Interface>& wanted, dataplane::AttachMode otherwise,
                                   const nexthop::NetworkView& view);

}  // namespace sluice::agent
