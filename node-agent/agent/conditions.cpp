#include "node-agent/agent/conditions.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <tuple>
#include <utility>

namespace sluice::agent {
namespace {

constexpr size_t kNamed = 3;  // how many of many a message names
// A new tunnel is proved in tenths of a second, and one on a narrow way in two seconds or so.
constexpr std::chrono::seconds kProving{5};

std::string reason_of(const Error& error, const char* otherwise) {
  return error.cause.empty() ? std::string(otherwise) : std::string(error.cause);
}

// Why packets do not reach a backend; nullopt: they do.
std::optional<std::string> no_way(const state::Service& service, const state::Backend& backend,
                                  const std::map<net::IpAddress, std::string>& unresolved,
                                  const std::map<std::string, const tunnel::TunnelFact*>& tunnels) {
  const bool by_name = service.forwarding == state::Forwarding::tunnel;
  if (by_name || service.forwarding == state::Forwarding::automatic) {
    const auto tunnel = tunnels.find(backend.node);
    if (tunnel != tunnels.end() && tunnel->second->usable) return std::nullopt;
    if (by_name && tunnel != tunnels.end()) {
      return fmt::format("no tunnel to node {}: {}", backend.node, tunnel->second->why);
    }
  }
  const auto found = unresolved.find(backend.address);
  return found == unresolved.end() ? std::nullopt : std::optional(found->second);
}

auto text_of(const dataplane::ServiceFailure& failure) {
  return std::tie(failure.service, failure.reason, failure.message);
}

}  // namespace

health::Condition ready_condition(const Troubles& troubles, const std::vector<dataplane::AttachedInterface>& attached,
                                  Stage stage) {
  std::string reason;
  std::vector<std::string> messages;
  const auto add = [&](std::string why, std::string message) {
    if (reason.empty()) reason = std::move(why);
    messages.push_back(std::move(message));
  };
  if (troubles.open) add(reason_of(*troubles.open, "DataplaneFailed"), troubles.open->message());
  if (stage != Stage::no_state) {
    for (const std::string& missing : troubles.missing) add("InterfaceNotFound", missing);
    if (troubles.attach) add(reason_of(*troubles.attach, "AttachFailed"), troubles.attach->message());
  }
  if (reason.empty() && stage == Stage::programmed && attached.empty()) {
    add("AttachFailed", "Sluice is attached to no interface: somebody has taken its programs off");
  }
  if (!reason.empty()) return {"Ready", false, reason, fmt::format("{}", fmt::join(messages, "; "))};
  // Nothing is in the way, so no address has to move.
  if (stage == Stage::held) return {"Ready", true, "Starting", "bringing the state that is held into the maps"};
  // It forwards, and answers for the others.
  if (troubles.announce) return {"Ready", true, "AnnounceFailed", troubles.announce->message()};
  // It forwards; only a restart without the operator would begin with an older state.
  if (troubles.state_file) return {"Ready", true, "StateNotSaved", troubles.state_file->message()};

  std::map<dataplane::AttachMode, std::vector<std::string>> by_mode;
  for (const dataplane::AttachedInterface& interface : attached) by_mode[interface.mode].push_back(interface.name);
  if (const auto& generic = by_mode[dataplane::AttachMode::generic]; !generic.empty()) {
    std::string message =
        fmt::format("forwarding, by generic XDP on {}: slower than native mode, possibly than no XDP at all",
                    fmt::join(generic, ", "));
    if (const auto& why = troubles.generic_because.text; !why.empty()) message += "; " + why;
    if (const auto& native = by_mode[dataplane::AttachMode::native]; !native.empty()) {
      message += fmt::format("; what comes in on {}, in native mode, and leaves by {} may be lost: give all one mode",
                             fmt::join(native, ", "), fmt::join(generic, ", "));
    }
    return {"Ready", true, "GenericMode", message};
  }
  return {"Ready", true, "Ready", stage == Stage::programmed ? "forwarding" : "waiting for a first desired state"};
}

health::Condition programmed_condition(bool has_state, const std::vector<dataplane::ServiceFailure>& failures) {
  if (!has_state) return {"Programmed", false, "NoState", "no desired state has been received yet"};
  if (failures.empty()) return {"Programmed", true, "Programmed", "every service stands in the maps"};
  std::vector<std::string> named;
  for (const auto& failure : failures) {
    if (named.size() == kNamed) break;
    named.push_back(fmt::format("{}: {}", failure.service, failure.message));
  }
  const std::string more = failures.size() > kNamed ? fmt::format("; and {} more", failures.size() - kNamed) : "";
  return {"Programmed", false, failures.front().reason, fmt::format("{}{}", fmt::join(named, "; "), more)};
}

health::Condition tunnels_condition(const std::vector<tunnel::TunnelFact>& tunnels, tunnel::Clock::time_point now) {
  const auto type = "TunnelsProved";
  if (tunnels.empty()) return {type, true, "NoneNeeded", "no backend is on another node that tunnels lead to"};
  std::vector<std::string> texts;
  size_t missing = 0;
  size_t proved = 0;
  for (const auto& tunnel : tunnels) {
    proved += tunnel.usable ? 1 : 0;
    const bool has_only_begun = !tunnel.heard && tunnel.since && now - *tunnel.since < kProving;
    if (tunnel.usable || has_only_begun) continue;
    if (missing++ < kNamed) texts.push_back(fmt::format("to {}: {}", tunnel.node, tunnel.why));
  }
  if (missing == 0) {
    return {type, true, "Proved",
            proved == tunnels.size()
                ? fmt::format("all {} tunnels are proved", proved)
                : fmt::format("{} of {} tunnels are proved, the others have only just begun", proved, tunnels.size())};
  }
  const std::string more = missing > kNamed ? fmt::format("; and {} more", missing - kNamed) : "";
  return {
      type, false, "NotProved",
      fmt::format("{} of {} tunnels are not proved: {}{}. Check on both nodes that UDP port {} is open to the other "
                  "and that packets of {} bytes get there; nat stands in where the service does not ask for tunnels",
                  missing, tunnels.size(), fmt::join(texts, "; "), more, tunnels.front().port,
                  tunnel::least_bytes(!tunnels.front().address.is_ipv4()))};
}

std::vector<dataplane::ServiceFailure> unreachable(const state::DesiredState& state,
                                                   const std::map<net::IpAddress, std::string>& unresolved,
                                                   const std::vector<tunnel::TunnelFact>& tunnels) {
  std::vector<dataplane::ServiceFailure> failures;
  std::map<std::string, const tunnel::TunnelFact*> by_node;
  for (const auto& tunnel : tunnels) by_node.emplace(tunnel.node, &tunnel);
  for (const auto& [id, service] : state.services) {
    std::map<net::IpAddress, std::string> missing;
    for (const state::Backend& backend : service.backends) {
      if (backend.left != 0) continue;
      if (auto why = no_way(service, backend, unresolved, by_node)) missing.emplace(backend.address, std::move(*why));
    }
    if (missing.empty()) continue;
    const auto& [first, why] = *missing.begin();
    const std::string more = missing.size() > 1 ? fmt::format(" (and {} more backends)", missing.size() - 1) : "";
    failures.push_back({id, "Unreachable", fmt::format("backend {}: {}{}", first.to_string(), why, more)});
  }
  return failures;
}

std::vector<dataplane::ServiceFailure> all_failed(const state::DesiredState& state, const health::Condition& ready) {
  const std::string reason = ready.status ? "Programming" : ready.reason;
  std::vector<dataplane::ServiceFailure> failures;
  for (const auto& [id, service] : state.services) failures.push_back({id, reason, ready.message});
  return failures;
}

std::vector<dataplane::ServiceFailure> merge(std::vector<dataplane::ServiceFailure> first,
                                             const std::vector<dataplane::ServiceFailure>& second) {
  std::set<std::string> known;
  for (const auto& failure : first) known.insert(failure.service);
  for (const auto& failure : second) {
    if (!known.contains(failure.service)) first.push_back(failure);
  }
  std::ranges::sort(first, {}, text_of);
  return first;
}

FailureChanges failure_changes(const std::vector<dataplane::ServiceFailure>& before,
                               const std::vector<dataplane::ServiceFailure>& now) {
  FailureChanges changes;
  std::ranges::set_difference(now, before, std::back_inserter(changes.come), {}, text_of, text_of);
  auto still = now.begin();
  for (const auto& failure : before) {
    still = std::find_if(still, now.end(), [&](const auto& other) { return other.service >= failure.service; });
    const bool fails_still = still != now.end() && still->service == failure.service;
    const bool told = !changes.gone.empty() && changes.gone.back() == failure.service;
    if (!fails_still && !told) changes.gone.push_back(failure.service);
  }
  return changes;
}

}  // namespace sluice::agent
