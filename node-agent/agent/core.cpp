#include "node-agent/agent/core.h"

#include <algorithm>
#include <utility>

#include "common/log/spdlog.h"
#include "node-agent/announce/groups.h"
#include "node-agent/announce/sender.h"

namespace sluice::agent {
namespace {

// How long a first look at the network may take: neighbours that an earlier run of the agent left with the kernel
// answer at once, and a live flow's way must not be taken out for want of patience.
constexpr std::chrono::milliseconds kFirstPatience{1'500};

void log_failures(const std::vector<dataplane::ServiceFailure>& before,
                  const std::vector<dataplane::ServiceFailure>& now) {
  const FailureChanges changes = failure_changes(before, now);
  for (const auto& failure : changes.come) {
    spdlog::warn("service {}: {}: {}", failure.service, failure.reason, failure.message);
  }
  for (const auto& service : changes.gone) spdlog::info("service {}: stands again", service);
}

}  // namespace

Core::Core(CoreOptions options, StateFile file, Kernel kernel)
    : options_(std::move(options)),
      file_(std::move(file)),
      kernel_(std::move(kernel)),
      tunnels_(options_.probe_secret, options_.tunnel_times) {}

void Core::set_watcher(nexthop::NetworkWatcher* watcher) {
  watcher_ = watcher;
  take_network(std::chrono::milliseconds(0));
  report();
}

Status Core::load() {
  auto memory = file_.load();
  memory_lost_ = !memory;
  if (!memory) return tl::unexpected(memory.error());
  memory_ = std::move(*memory);
  if (memory_.state) digest_ = state::digest(*memory_.state);
  return {};
}

void Core::restore() {
  if (memory_.state) {
    learn_what_is_answered();
    program();
  } else if (auto probed = kernel_.probe(); !probed) {
    spdlog::error("{}", probed.error().message());
    troubles_.open = probed.error();
  }
  report();
}

// After a reboot, or longer away than the grace, another node may have what the memory says is ours: two that answer
// for one address break the connections of both.
void Core::learn_what_is_answered() {
  if (!open()) return;
  auto owned = dataplane_->owned();
  if (!owned) {
    spdlog::warn("{}", owned.error().message());
    return;
  }
  for (const auto& one : *owned) answered_.insert(one.address);
  const auto chosen = announce::chosen(*memory_.state, options_.node);
  confirmed_ = std::ranges::all_of(chosen, [this](const auto& address) { return answered_.contains(address); });
  if (!confirmed_) spdlog::info("waiting for the operator before announcing what this node had before");
}

void Core::apply(state::DesiredState next) {
  confirmed_ = true;
  memory_.state = std::move(next);
  digest_ = state::digest(*memory_.state);
  save();
  program();
}

void Core::remember_epoch(const std::string& cluster_id, state::Epoch epoch) {
  if (epoch <= epoch_of(cluster_id)) return;
  memory_.epochs[cluster_id] = epoch;
  save();
  report();
}

state::Epoch Core::epoch_of(const std::string& cluster_id) const {
  const auto known = memory_.epochs.find(cluster_id);
  return known == memory_.epochs.end() ? 0 : known->second;
}

void Core::save() {
  auto saved = file_.save(memory_);
  if (saved) {
    troubles_.state_file.reset();
    return;
  }
  if (troubles_.state_file != saved.error()) {
    spdlog::error("{}: after a restart the agent would begin with what was saved before", saved.error().message());
  }
  troubles_.state_file = saved.error();
}

bool Core::open() {
  if (dataplane_) return true;
  auto opened = kernel_.open();
  if (!opened) {
    if (!troubles_.open || *troubles_.open != opened.error()) spdlog::error("{}", opened.error().message());
    troubles_.open = opened.error();
    return false;
  }
  dataplane_ = std::move(*opened);
  troubles_.open.reset();
  tunnels_.found(dataplane_->peers());
  return true;
}

Result<Core::Left> Core::left_by_an_earlier_run() {
  if (!open()) return tl::unexpected(*troubles_.open);
  return Left{!dataplane_->attached().empty(), dataplane_->flow_hash_key()};
}

void Core::take_network(std::chrono::milliseconds patience) {
  if (watcher_ == nullptr) return;
  network_ = watcher_->wait(patience);
  defaults_seen_.insert(network_.view.default_devices.begin(), network_.view.default_devices.end());
  network_.view.default_devices = defaults_seen_;
}

nexthop::Targets Core::targets() const {
  nexthop::Targets targets;
  if (!memory_.state) return targets;
  for (const auto& [id, service] : memory_.state->services) {
    for (const state::Backend& backend : service.backends) {
      bool& on_this_node = targets[backend.address];
      on_this_node = on_this_node || (!backend.node.empty() && backend.node == options_.node);
    }
  }
  for (const net::IpAddress& address : tunnels_.addresses()) targets.try_emplace(address, false);
  return targets;
}

dataplane::NextHops Core::next_hops() const {
  dataplane::NextHops hops = network_.ways.next_hops;
  if (!memory_.state) return hops;
  const auto node = memory_.state->nodes.find(options_.node);
  if (node == memory_.state->nodes.end()) return hops;
  const auto& sources = node->second.source_addresses;
  for (auto& [address, hop] : hops) {
    const auto source = std::ranges::find(sources, address.family(), &net::IpAddress::family);
    if (!hop.local && source != sources.end()) hop.source = *source;
  }
  return hops;
}

dataplane::Network Core::ways(const ChosenInterfaces& chosen) {
  dataplane::Network ways;
  ways.next_hops = next_hops();
  ways.node_addresses = network_.view.addresses;
  ways.interfaces = nexthop::way_devices(network_.ways, network_.view, chosen.indices);
  std::erase_if(ways.interfaces, [this](const auto& entry) {
    return (entry.second.by_kernel && !options_.can.by_kernel) || (entry.second.vlan != 0 && !options_.can.tags);
  });
  follow_tunnel_ways();
  ways.peers = tunnels_.peers();
  describe_node_link(ways);
  ways.devices = nexthop::stack_devices(network_.view);
  return ways;
}

void Core::program() {
  if (!open()) {
    report();
    return;
  }
  const ChosenInterfaces chosen = choose();
  tunnels_.follow_state(*memory_.state, options_.node);
  if (watcher_ != nullptr) watcher_->set_targets(targets(), chosen.indices);
  take_network(programmed_ ? options_.resolve_patience : kFirstPatience);
  keep_node_link(chosen);
  programmed_ways_ = ways(chosen);
  const auto outcome = dataplane_->program(*memory_.state, options_.node, programmed_ways_);
  program_failures_ = outcome.failures;
  programmed_ = true;
  spdlog::info("programmed revision {} of {}: {} services, {} map writes, {} failures", memory_.state->revision,
               memory_.state->cluster_id, memory_.state->services.size(), outcome.writes, outcome.failures.size());
  attach_if_changed();
  lead_node_clients(Look::at_the_kernel);
  announce();
  report();
}

void Core::follow_ways(const ChosenInterfaces& chosen) {
  auto now = ways(chosen);
  if (now == programmed_ways_) return;
  if (auto updated = dataplane_->update_ways(now); !updated) {
    spdlog::error("{}", updated.error().message());
  } else {
    programmed_ways_ = std::move(now);
  }
}

void Core::on_network() {
  if (watcher_ == nullptr) return;
  const auto links_before = network_.view.links;
  take_network(std::chrono::milliseconds(0));
  if (!memory_.state || !dataplane_ || !programmed_) {
    report();
    return;
  }
  const ChosenInterfaces chosen = choose();
  watcher_->set_targets(targets(), chosen.indices);
  const auto link_before = node_link_;
  keep_node_link(chosen);
  attach_if_changed();
  follow_ways(chosen);
  if (node_link_ != link_before) tend_node_clients();
  lead_node_clients(Look::at_what_changed);
  // A link that has come up may lead to a network that has not heard of this node.
  std::vector<dataplane::OwnedAddress> again;
  for (const auto& owned : owned_) {
    const auto before = links_before.find(owned.ifindex);
    const auto now = network_.view.links.find(owned.ifindex);
    if (before == links_before.end() || now == network_.view.links.end()) continue;
    if (now->second.up && before->second != now->second) again.push_back(owned);
  }
  heralds_.add(again, announce::Heralds::Clock::now());
  announce();
  report();
}

void Core::announce() {
  if (!memory_.state || !dataplane_ || !programmed_) return;
  const bool put_back = put_back_links();
  const auto attached = dataplane_->attached();
  auto ownership = announce::ownership(*memory_.state, options_.node, attached, vlans(), network_.view.addresses);
  if (!confirmed_) ownership = announce::withhold(std::move(ownership), answered_);
  auto outcome = dataplane_->set_owned(ownership.owned, options_.announce_grace);
  if (outcome.trouble && !troubles_.announce) spdlog::error("{}", outcome.trouble->message());
  std::set<net::IpAddress> silent;
  for (const auto& one : announce::taken(outcome.answered, ownership.owned)) silent.insert(one.address);
  std::erase_if(ownership.announcing, [&](const net::IpAddress& address) { return silent.contains(address); });
  const bool changed = put_back || ownership.announcing != facts_.announcing || outcome.trouble != troubles_.announce;
  troubles_.announce = std::move(outcome.trouble);
  const auto now = announce::Heralds::Clock::now();
  heralds_.add(announce::taken(owned_, outcome.answered), now);
  owned_ = std::move(outcome.answered);
  join_groups();
  heralds_.tick(owned_, now, [this](const dataplane::OwnedAddress& owned) { make_known(owned); });
  if (!changed) return;
  facts_.announcing = std::move(ownership.announcing);
  report();
}

void Core::make_known(const dataplane::OwnedAddress& owned) {
  const auto link = network_.view.links.find(owned.ifindex);
  if (link == network_.view.links.end()) return;
  // Also with a tag it is the lower device's MAC that the program takes frames for.
  const uint32_t device = announce::device_of(owned, vlans());
  if (device == 0) return;
  if (auto sent = announce::send_announcement(device, link->second.mac, owned.address); !sent) {
    spdlog::warn("{} on {}", sent.error().message(), link->second.name);
  }
}

std::vector<announce::VlanDevice> Core::vlans() const {
  std::vector<announce::VlanDevice> out;
  if (!options_.can.tags) return out;
  for (const auto& [index, link] : network_.view.links) {
    if (link.vlan && link.vlan->protocol == nexthop::kCustomerTag) {
      out.push_back({link.name, index, link.parent, link.vlan->id});
    }
  }
  return out;
}

void Core::join_groups() {
  const Status joined = memberships_.set(announce::solicited_node_groups(owned_, vlans()));
  const auto trouble = joined ? std::nullopt : std::optional<Error>(joined.error());
  if (trouble && trouble != membership_trouble_) {
    spdlog::warn("{}: solicitations for addresses of it may not reach this node", trouble->message());
  }
  membership_trouble_ = trouble;
}

void Core::sweep() {
  if (!dataplane_ || !programmed_) return;
  auto outcome = dataplane_->sweep(options_.idle);
  if (!outcome) {
    spdlog::warn("{}", outcome.error().message());
    return;
  }
  facts_.usage = {outcome->ipv4, outcome->ipv6, dataplane_->tables(), std::move(outcome->nat_ports),
                  std::move(outcome->shares)};
  note_shortages();
  facts_.leaving = std::move(outcome->leaving);
  facts_.flows_live = outcome->live;
  facts_.flows_by_service = std::move(outcome->live_by_service);
  facts_.flows_expired += outcome->expired;
  ++facts_.sweeps;
  facts_.services_with_old_flows = std::move(outcome->services_with_old_flows);
  std::ranges::sort(facts_.services_with_old_flows);
  tunnels_.swept(outcome->peers_with_nat_flows);
  tell_tunnels();
  report();
}

void Core::verify() {
  if (!dataplane_ || !programmed_) return;
  // What routers have said stands in the maps already: it is not to be taken for somebody's writing.
  tend_tunnels(tunnel::Clock::now());
  program_failures_ = dataplane_->verify().failures;
  const bool differs = std::ranges::any_of(
      program_failures_, [](const dataplane::ServiceFailure& failure) { return failure.reason == "ReadBackDiffers"; });
  if (!differs) {
    report();
    return;
  }
  for (const auto& failure : program_failures_) spdlog::error("service {}: {}", failure.service, failure.message);
  spdlog::error("the maps are not what was written: taking them over anew");
  // As after a restart: what stands is read, what is damaged is taken out, the rest is written. Links stay.
  dataplane_.reset();
  programmed_ = false;
  attached_as_.clear();
  refusal_.reset();
  program();
}

void Core::retry() {
  if (troubles_.state_file) {
    save();
    if (!troubles_.state_file) report();
  }
  if (!memory_.state) return;
  if (!dataplane_ || !programmed_) {
    program();
    return;
  }
  const ChosenInterfaces chosen = choose();
  if (chosen.requests.empty()) return;
  keep_node_link(chosen);
  follow_ways(chosen);
  const auto without_egress = dataplane_->without_egress();
  if (!troubles_.attach && still_attached(chosen) && without_egress.empty()) {
    lead_node_clients(Look::at_the_kernel);
    return;
  }
  // Worth another attempt, which puts the classifier back: without it replies leave untranslated.
  if (refusal_ && refusal_->without_egress != without_egress) refusal_.reset();
  if (!troubles_.attach) spdlog::warn("somebody has taken the programs off: attaching again");
  if (attach_or_say(chosen)) announce();
  lead_node_clients(Look::at_the_kernel);
  report();
}

void Core::release_neighbours() {
  if (watcher_ == nullptr) return;
  if (memory_.state && !programmed_) {
    // Kept by an earlier run, over whatever interfaces that had: first taken over, then let go.
    std::set<uint32_t> every;
    for (const auto& [index, link] : network_.view.links) every.insert(index);
    watcher_->set_targets(targets(), every);
    watcher_->wait(options_.resolve_patience);
  }
  watcher_->set_targets({}, {});
  watcher_->wait(options_.resolve_patience);
}

Status Core::purge() {
  auto purged = dataplane_ ? dataplane_->purge() : kernel_.purge();
  if (!purged) return purged;
  dataplane_.reset();
  release_neighbours();
  memory_.state.reset();
  tunnels_.clear();
  node_link_.reset();
  led_.reset();
  node_clients_trouble_.reset();
  digest_ = {};
  confirmed_ = false;
  answered_.clear();
  programmed_ = false;
  program_failures_.clear();
  attached_as_.clear();
  refusal_.reset();
  owned_.clear();
  shortages_.clear();
  join_groups();
  troubles_ = {};
  facts_ = {};
  report();
  return file_.remove();
}

Result<dataplane::Counters> Core::counters() const {
  if (!dataplane_) return dataplane::Counters{};
  return dataplane_->counters();
}

inspect::View Core::view(tunnel::Clock::time_point now) const {
  return {options_.node,    memory_.state ? &*memory_.state : nullptr,
          facts_,           network_.ways,
          network_.view,    dataplane_ ? dataplane_->backends() : std::vector<dataplane::BackendRecord>{},
          tunnels_.facts(), now};
}

void Core::set_config_error(std::string error) {
  if (facts_.config_error == error) return;
  facts_.config_error = std::move(error);
  report();
}

void Core::report() {
  put_back_links();
  refresh_facts();
  if (listener_) listener_(facts_);
}

void Core::refresh_facts() {
  const auto failures_before = facts_.failures;
  facts_.has_state = memory_.state.has_value();
  facts_.interfaces = dataplane_ ? dataplane_->attached() : std::vector<dataplane::AttachedInterface>{};
  const Stage stage = !facts_.has_state ? Stage::no_state : programmed_ ? Stage::programmed : Stage::held;
  const auto ready = ready_condition(troubles_, facts_.interfaces, stage);
  facts_.failures.clear();
  facts_.unresolved = network_.ways.unresolved;
  facts_.tunnels = tunnels_.facts();
  facts_.epoch = memory_.state ? memory_.state->epoch : 0;
  facts_.revision = memory_.state ? memory_.state->revision : 0;
  facts_.digest = digest_;
  facts_.services = 0;
  facts_.backends = 0;
  if (memory_.state) {
    auto settled = network_.ways.unresolved;
    std::erase_if(settled, [this](const auto& entry) { return network_.ways.pending.contains(entry.first); });
    facts_.services = memory_.state->services.size();
    for (const auto& [id, service] : memory_.state->services) {
      facts_.backends +=
          static_cast<size_t>(std::ranges::count(service.backends, state::Revision{0}, &state::Backend::left));
    }
    facts_.failures = facts_.interfaces.empty() || !programmed_
                          ? all_failed(*memory_.state, ready)
                          : merge(unreachable(*memory_.state, settled, facts_.tunnels), program_failures_);
  }
  log_failures(failures_before, facts_.failures);
  facts_.conditions = {ready, programmed_condition(facts_.has_state, facts_.failures)};
  if (findings_) facts_.conditions.push_back(health::node_prepared_condition(*findings_));
  if (facts_.sweeps != 0) facts_.conditions.push_back(health::capacity_condition(shortages_));
  if (memory_.state && !memory_.state->tunnel.keys.empty()) {
    facts_.conditions.push_back(tunnels_condition(facts_.tunnels, tunnel::Clock::now()));
  }
  facts_.ready = ready.status && (!facts_.has_state || (programmed_ && !facts_.interfaces.empty()));
}

}  // namespace sluice::agent
