#include "node-agent/agent/interfaces.h"

#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <utility>

#include "node-agent/dataplane/causes.h"

namespace sluice::agent {
namespace {

bool is_pattern(const std::string& text) {
  return text.find_first_of("*?[") != std::string::npos;
}

config::InterfaceMode mode_of(const config::Interface& interface, config::InterfaceMode otherwise) {
  return interface.mode == config::InterfaceMode::unset ? otherwise : interface.mode;
}

ChosenInterfaces all_generic(ChosenInterfaces chosen, GenericBecause because) {
  for (auto& request : chosen.requests) {
    if (chosen.may_fall_back.contains(request.name)) request.mode = dataplane::AttachMode::generic;
  }
  chosen.may_fall_back.clear();
  chosen.generic_because = std::move(because);
  return chosen;
}

}  // namespace

ChosenInterfaces choose_interfaces(const std::vector<config::Interface>& wanted, config::InterfaceMode otherwise,
                                   const nexthop::NetworkView& view) {
  std::map<std::string, config::InterfaceMode> chosen;
  ChosenInterfaces out;
  const auto take = [&](const nexthop::Link& link, config::InterfaceMode mode) {
    chosen.emplace(link.name, mode);
    out.indices.insert(link.index);
  };
  for (const config::Interface& interface : wanted) {
    bool found = false;
    for (const auto& [index, link] : view.links) {
      if (dataplane::is_node_link(link.name)) continue;
      const bool named = link.name == interface.pattern;
      const bool matches = link.ethernet && fnmatch(interface.pattern.c_str(), link.name.c_str(), 0) == 0;
      if (!named && !matches) continue;
      found = true;
      take(link, mode_of(interface, otherwise));
    }
    if (!found) {
      out.missing.push_back(interface.pattern + (is_pattern(interface.pattern) ? ": no such interface (a pattern)"
                                                                               : ": no such interface"));
    }
  }
  if (wanted.empty()) {
    for (const uint32_t index : view.default_devices) {
      if (const auto link = view.links.find(index); link != view.links.end() && link->second.ethernet) {
        take(link->second, otherwise);
      }
    }
    if (chosen.empty()) out.missing.emplace_back("there is no default route over an Ethernet device: name interfaces");
  }
  bool generic_by_name = false;
  for (const auto& [name, mode] : chosen) {
    const bool generic = mode == config::InterfaceMode::generic;
    out.requests.push_back({name, generic ? dataplane::AttachMode::generic : dataplane::AttachMode::native});
    if (mode == config::InterfaceMode::automatic) out.may_fall_back.insert(name);
    generic_by_name = generic_by_name || generic;
  }
  return generic_by_name ? all_generic(std::move(out), {}) : out;
}

ChosenInterfaces stay_generic(const ChosenInterfaces& chosen,
                              const std::vector<dataplane::AttachedInterface>& attached) {
  const auto one = std::ranges::find_if(attached, [&chosen](const dataplane::AttachedInterface& interface) {
    return interface.mode == dataplane::AttachMode::generic && chosen.may_fall_back.contains(interface.name);
  });
  if (one == attached.end()) return chosen;
  return all_generic(chosen, {one->name, one->name + " was in generic mode before, and stays so until it is detached"});
}

std::optional<ChosenInterfaces> fall_back(const ChosenInterfaces& chosen, const Error& refused) {
  if (refused.cause != dataplane::cause::kNativeModeNotSupported || !chosen.may_fall_back.contains(refused.object)) {
    return std::nullopt;
  }
  return all_generic(chosen, {refused.object, refused.object + ": " + refused.reason});
}

}  // namespace sluice::agent
