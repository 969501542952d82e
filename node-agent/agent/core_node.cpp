// What the node lacks, and what runs short on it: asked for every few seconds, told as conditions and in the log.

#include <algorithm>
#include <utility>

#include "common/log/spdlog.h"
#include "node-agent/agent/core.h"

namespace sluice::agent {

void Core::check_node() {
  if (!kernel_.read_node) return;
  const health::NodeUse use = node_use();
  std::vector<std::string> names;
  std::ranges::transform(use.interfaces, std::back_inserter(names), &health::NodeUse::Interface::name);
  const health::NodeFacts facts = kernel_.read_node(names);
  for (const std::string& why : facts.unreadable) spdlog::debug("{}", why);
  auto findings = health::check_node(facts, use);
  if (findings_ == findings) return;
  const auto before = std::exchange(findings_, std::move(findings));
  for (const auto& finding : *findings_) {
    const bool new_to_us = !before || std::ranges::find(*before, finding) == before->end();
    if (new_to_us) spdlog::warn("this node: {}", health::text_of(finding));
  }
  if (before) {
    for (const auto& finding : *before) {
      const bool still = std::ranges::find(*findings_, finding) != findings_->end();
      if (!still) spdlog::info("this node, no more: {}", finding.message);
    }
  }
  report();
}

void Core::note_shortages() {
  auto before = std::exchange(shortages_, {});
  shortages_ = health::find_shortages(facts_.usage, before);
  for (const auto& shortage : shortages_) {
    const bool known = std::ranges::find(before, shortage.what, &health::Shortage::what) != before.end();
    if (!known) spdlog::warn("{}: {} % or more are in use: {}", shortage.what, shortage.percent, shortage.way_out);
  }
  for (const auto& shortage : before) {
    const bool still = std::ranges::find(shortages_, shortage.what, &health::Shortage::what) != shortages_.end();
    if (!still) spdlog::info("{}: there is room again", shortage.what);
  }
}

health::NodeUse Core::node_use() const {
  health::NodeUse use;
  use.nat_ports = options_.nat_ports;
  use.node_ports = options_.node_ports;
  const auto attached = dataplane_ ? dataplane_->attached() : std::vector<dataplane::AttachedInterface>{};
  for (const auto& request : choose().requests) {
    health::NodeUse::Interface interface;
    interface.name = request.name;
    interface.native_wanted = request.mode == dataplane::AttachMode::native;
    const auto now = std::ranges::find(attached, request.name, &dataplane::AttachedInterface::name);
    interface.attached = now != attached.end();
    interface.attached_native = interface.attached && now->mode == dataplane::AttachMode::native;
    for (const auto& [index, link] : network_.view.links) {
      if (link.name != request.name) continue;
      interface.default_route = network_.view.default_devices.contains(index);
      interface.has_vlans = std::ranges::any_of(network_.view.links, [lower = index](const auto& entry) {
        return entry.second.vlan && entry.second.parent == lower;
      });
    }
    use.interfaces.push_back(std::move(interface));
  }
  use.tunnels_answer_ipv4 = led_ && !tunnels_.empty() &&
                            std::ranges::any_of(led_->second, [](const auto& one) { return one.first.is_ipv4(); });
  if (!memory_.state) return use;
  for (const auto& [id, service] : memory_.state->services) {
    for (const state::Backend& backend : service.backends) {
      const bool here = !backend.node.empty() && backend.node == options_.node;
      if (!here || network_.view.addresses.contains(backend.address)) continue;
      (backend.address.is_ipv4() ? use.delivers_ipv4 : use.delivers_ipv6) = true;
    }
  }
  return use;
}

}  // namespace sluice::agent
