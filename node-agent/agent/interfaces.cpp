#include "node-agent/agent/interfaces.h"

#include <fnmatch.h>

#include <map>

namespace sluice::agent {
namespace {

bool is_pattern(const std::string& text) {
  return text.find_first_of("*?[") != std::string::npos;
}

dataplane::AttachMode mode_of(const config::Interface& interface, dataplane::AttachMode otherwise) {
  switch (interface.mode) {
    case config::InterfaceMode::native:
      return dataplane::AttachMode::native;
    case config::InterfaceMode::generic:
      return dataplane::AttachMode::generic;
    case config::InterfaceMode::unset:
      break;
  }
  return otherwise;
}

}  // namespace

ChosenInterfaces choose_interfaces(const std::vector<config::Interface>& wanted, dataplane::AttachMode otherwise,
                                   const nexthop::NetworkView& view) {
  std::map<std::string, dataplane::AttachMode> chosen;
  ChosenInterfaces out;
  const auto take = [&](const nexthop::Link& link, dataplane::AttachMode mode) {
    chosen.emplace(link.name, mode);
    out.indices.insert(link.index);
  };
  for (const config::Interface& interface : wanted) {
    bool found = false;
    for (const auto& [index, link] : view.links) {
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
  for (const auto& [name, mode] : chosen) out.requests.push_back({name, mode});
  return out;
}

}  // namespace sluice::agent
