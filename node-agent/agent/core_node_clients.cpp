// The core's care for this machine's own clients: the node link, and what is led into it.

#include <map>
#include <utility>

#include "common/log/spdlog.h"
#include "node-agent/agent/core.h"
#include "node-agent/agent/node_clients.h"

namespace sluice::agent {
namespace {

constexpr uint16_t kMtu = 1500;  // where no device tells

}  // namespace

// Without it everything else goes on.
void Core::keep_node_link(const ChosenInterfaces& chosen) {
  if (chosen.requests.empty()) return;
  const uint16_t mtu = smallest_mtu(chosen.indices, network_.view);
  auto kept = dataplane_->keep_node_link(mtu == 0 ? kMtu : mtu);
  note_node_clients(kept ? Status() : tl::unexpected(kept.error()));
  node_link_ = kept ? std::optional(*kept) : std::nullopt;
}

void Core::note_node_clients(const Status& outcome) {
  auto trouble = outcome ? std::nullopt : std::optional<Error>(outcome.error());
  if (trouble && trouble != node_clients_trouble_) {
    spdlog::error("{}: clients on this machine itself do not reach services' addresses", trouble->message());
  }
  node_clients_trouble_ = std::move(trouble);
}

void Core::describe_node_link(dataplane::Network& ways) const {
  if (!node_link_) return;
  dataplane::Interface& far = ways.interfaces[node_link_->far];
  far.mac = node_link_->mac;
  far.mtu = node_link_->mtu;
  far.node_link = true;
  far.sources = node_link_->sources;
}

// Not in the step that programs a state: loading the programs takes its time, and others wait for what is known then.
void Core::tend_node_clients() {
  if (!node_link_ || !programmed_ || !memory_.state || dataplane_->attached().empty()) return;
  if (dataplane_->node_link_programs() != dataplane::NodeLinkPrograms::of_this_process) {
    const Status attached = dataplane_->attach_node_link();
    note_node_clients(attached);
    if (!attached) return;
    spdlog::info("attached to the node link, {}", dataplane::kNodeLinkFar);
  }
  lead_node_clients(Look::at_what_changed);
}

void Core::lead_node_clients(Look look) {
  if (!node_link_ || !programmed_ || !memory_.state) return;
  // What is led where nobody forwards is lost: nothing new before the programs stand there.
  if (dataplane_->node_link_programs() == dataplane::NodeLinkPrograms::none) return;
  dataplane::LedAddresses wanted;
  std::map<net::Family, net::IpAddress> own;
  for (const net::IpAddress& address : addresses_to_lead(*memory_.state, options_.node, network_.view.addresses)) {
    const auto [source, first] = own.try_emplace(address.family());
    if (first) {
      // Not found, or not asked: the kernel chooses.
      if (auto found = dataplane_->own_address_towards(address); found) source->second = *found;
    }
    wanted.emplace(address, source->second);
  }
  if (look == Look::at_what_changed && led_ && *led_ == std::pair(*node_link_, wanted)) return;
  const Status led = dataplane_->lead_into_node_link(*node_link_, wanted);
  note_node_clients(led);
  led_ = led ? std::optional(std::pair(*node_link_, std::move(wanted))) : std::nullopt;
}

}  // namespace sluice::agent
