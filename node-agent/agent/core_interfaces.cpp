// Which interfaces the core is attached to: the choice, and keeping it.

#include <algorithm>
#include <utility>

#include "common/log/spdlog.h"
#include "node-agent/agent/core.h"
#include "node-agent/dataplane/causes.h"

namespace sluice::agent {
namespace {

// Whether an interface has to be detached, to be attached in its other mode.
bool changes_a_mode(const std::vector<dataplane::InterfaceRequest>& requests,
                    const std::vector<dataplane::AttachedInterface>& attached) {
  return std::ranges::any_of(requests, [&attached](const dataplane::InterfaceRequest& request) {
    const auto now = std::ranges::find(attached, request.name, &dataplane::AttachedInterface::name);
    return now != attached.end() && now->mode != request.mode;
  });
}

}  // namespace

ChosenInterfaces Core::choose() const {
  return choose_interfaces(options_.interfaces, options_.mode, network_.view);
}

Status Core::change_interfaces(const std::vector<config::Interface>& interfaces) {
  auto previous = std::exchange(options_.interfaces, interfaces);
  const ChosenInterfaces chosen = choose();
  Status outcome;
  if (!chosen.missing.empty()) {
    outcome = fail(ErrorKind::not_found, "use interfaces", "", chosen.missing.front());
  } else if (dataplane_ && programmed_ && described(chosen) != attached_as_) {
    const auto trouble = troubles_.attach;
    outcome = attach(chosen);
    if (!outcome) troubles_.attach = trouble;  // the caller is told; what was attached before still is
  }
  if (!outcome) options_.interfaces = std::move(previous);
  return outcome;
}

std::map<std::string, Core::AttachedAs> Core::described(const ChosenInterfaces& chosen) const {
  std::map<std::string, AttachedAs> out;
  for (const auto& request : chosen.requests) {
    for (const auto& [index, link] : network_.view.links) {
      if (link.name != request.name) continue;
      const bool may_fall_back = chosen.may_fall_back.contains(link.name);
      out.emplace(link.name, AttachedAs{request.mode, may_fall_back, index, link.mac});
    }
  }
  return out;
}

Core::Attempt Core::attempt(const ChosenInterfaces& chosen) const {
  Attempt out{described(chosen), {}, {}};
  for (const auto& [name, as] : out.asked) out.mtus[name] = network_.view.links.at(as.ifindex).mtu;
  for (const auto& interface : dataplane_->attached()) out.attached.insert(interface.name);
  return out;
}

// False: somebody has taken a link off, or its device is gone.
bool Core::still_attached(const ChosenInterfaces& chosen) const {
  const auto attached = dataplane_->attached();
  return std::ranges::all_of(chosen.requests, [&](const dataplane::InterfaceRequest& request) {
    return std::ranges::find(attached, request.name, &dataplane::AttachedInterface::name) != attached.end();
  });
}

void Core::attach_if_changed() {
  const ChosenInterfaces chosen = choose();
  troubles_.missing = chosen.missing;
  // With none left there is nothing to attach to: what is attached stays until its device goes.
  if (chosen.requests.empty() || (described(chosen) == attached_as_ && still_attached(chosen))) return;
  attach_or_say(chosen);
}

// Before anything is judged by its absence: an address would move for what is back in a moment, and would not come back
// to this node. Tries once: what refuses is retry()'s to try again.
bool Core::put_back_links() {
  if (!dataplane_ || !programmed_ || troubles_.attach) return false;
  const ChosenInterfaces chosen = choose();
  if (chosen.requests.empty() || still_attached(chosen)) return false;
  if (const Status attached = attach(chosen); attached) {
    spdlog::warn("somebody had taken the programs off: they are attached again");
  } else if (attached.error().cause == dataplane::cause::kInterfaceNotFound) {
    troubles_.attach.reset();  // the link went with its device: on_network() chooses anew
  } else {
    spdlog::error("{}", attached.error().message());
  }
  return true;
}

bool Core::attach_or_say(const ChosenInterfaces& chosen) {
  const auto before = troubles_.attach;
  const Status attached = attach(chosen);
  if (!attached && troubles_.attach != before) spdlog::error("{}", attached.error().message());
  return attached.has_value();
}

Status Core::attach(const ChosenInterfaces& chosen) {
  // To ask again would cost flows, and bring the same answer.
  if (refusal_ && refusal_->of == attempt(chosen)) {
    troubles_.attach = refusal_->error;
    return tl::unexpected(refusal_->error);
  }
  refusal_.reset();
  ChosenInterfaces asked = stay_generic(chosen, dataplane_->attached());
  // Where it is known which driver had refused, that says more; of an interface that has no part in it, it is not true.
  const bool stays = !asked.generic_because.text.empty();
  if (stays && chosen.may_fall_back.contains(troubles_.generic_because.interface)) {
    asked.generic_because = troubles_.generic_because;
  }
  auto attached = dataplane_->attach(asked.requests);
  if (!attached) {
    if (auto generic = fall_back(asked, attached.error())) {
      asked = std::move(*generic);
      attached = dataplane_->attach(asked.requests);
    }
  }
  if (!attached) {
    troubles_.attach = attached.error();
    if (attached.error().cause == dataplane::cause::kNativeModeNotSupported) {
      troubles_.attach->reason += "; generic mode, which is slower, must be asked for: mode Generic or Auto";
      if (changes_a_mode(asked.requests, dataplane_->attached())) {
        refusal_ = Refusal{attempt(chosen), dataplane_->without_egress(), *troubles_.attach};
      }
    }
    return tl::unexpected(*troubles_.attach);
  }
  troubles_.attach.reset();
  troubles_.generic_because = std::move(asked.generic_because);
  attached_as_ = described(chosen);
  for (const auto& interface : *attached) {
    spdlog::info("attached to {} ({} mode, driver {})", interface.name,
                 interface.mode == dataplane::AttachMode::native ? "native" : "generic", interface.driver);
  }
  return {};
}

}  // namespace sluice::agent
