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

// Why interfaces that might be native are not.
struct GenericBecause {
  std::string interface;  // the one that it lies with; empty: nothing to say
  std::string text;       // for people
};

struct ChosenInterfaces {
  std::vector<dataplane::InterfaceRequest> requests;  // in the order of their names, each once
  std::set<std::string> may_fall_back;                // of those: to generic mode
  std::set<uint32_t> indices;
  std::vector<std::string> missing;  // names and patterns that no device has, for people
  GenericBecause generic_because;
};

// `wanted` empty: the devices of the default routes. A device that several entries name takes the mode of the first.
// `otherwise`: the mode of those that name none; not `unset`. Loopback and devices that are no Ethernet are left to the
// kernel: a pattern never chooses them.
//
// All interfaces that may fall back have one mode: what one in native mode redirects to another goes through that one's
// driver, and is lost in the kernel, counted as forwarded, where the driver is not set up for XDP. So they are generic
// from the start beside one that is generic by name.
ChosenInterfaces choose_interfaces(const std::vector<config::Interface>& wanted, config::InterfaceMode otherwise,
                                   const nexthop::NetworkView& view);

// Where one that may fall back is attached in generic mode already: the same choice with all that may in generic mode.
// The kernel has one mode at a time, so to ask for native mode means to detach first, and packets would pass by Sluice
// until it is refused again: an interface stays generic until it is detached (purge, reboot, the device goes).
ChosenInterfaces stay_generic(const ChosenInterfaces& chosen,
                              const std::vector<dataplane::AttachedInterface>& attached);

// Where `refused` says that an interface which may fall back has no native mode: the same choice with all that may in
// generic mode. nullopt: no way out.
std::optional<ChosenInterfaces> fall_back(const ChosenInterfaces& chosen, const Error& refused);

}  // namespace sluice::agent
