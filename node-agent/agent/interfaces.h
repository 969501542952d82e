// From names and patterns to the devices that are there. Pure.
#pragma once

#include <optional>
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
  std::set<std::string> may_fall_back;                // of those: to generic mode
  std::set<uint32_t> indices;
  std::vector<std::string> missing;  // names and patterns that no device has, for people
};

// `wanted` empty: the devices of the default routes. A device that several entries name takes the mode of the first.
// `otherwise`: the mode of those that name none; not `unset`. Loopback and devices that are no Ethernet are left to the
// kernel: a pattern never chooses them.
ChosenInterfaces choose_interfaces(const std::vector<config::Interface>& wanted, config::InterfaceMode otherwise,
                                   const nexthop::NetworkView& view);

// Where `refused` says that an interface which may fall back has no native mode: the same choice with that one, or with
// all of them where it names none, in generic mode. nullopt: no way out.
std::optional<ChosenInterfaces> fall_back(const ChosenInterfaces& chosen, const Error& refused);

}  // namespace sluice::agent
