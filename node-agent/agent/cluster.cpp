#include "node-agent/agent/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/log/spdlog.h"
#include "common/version.h"

namespace sluice::agent {
namespace {

std::string bytes_of(const state::Digest& digest) {
  return {digest.bytes.begin(), digest.bytes.end()};
}

api::NodeStatus status_of(const health::Facts& facts) {
  return {facts.interfaces, facts.conditions, facts.announcing, facts.services_with_old_flows, facts.leaving};
}

bool same(const std::vector<dataplane::ServiceFailure>& a, const std::vector<dataplane::ServiceFailure>& b) {
  return std::ranges::equal(a, b, [](const auto& left, const auto& right) {
    return left.service == right.service && left.reason == right.reason && left.message == right.message;
  });
}

bool same(const api::NodeStatus& a, const api::NodeStatus& b) {
  const auto same_interface = [](const auto& left, const auto& right) {
    return left.name == right.name && left.ifindex == right.ifindex && left.mode == right.mode &&
           left.driver == right.driver;
  };
  return std::ranges::equal(a.interfaces, b.interfaces, same_interface) && a.conditions == b.conditions &&
         a.announcing == b.announcing && a.services_with_old_flows == b.services_with_old_flows &&
         a.leaving == b.leaving;
}

api::Refusal invalid(std::string message) {
  return {api::RefusalReason::invalid_state, std::move(message), 0};
}

}  // namespace

Cluster::Cluster(Loop& loop, Core& core, health::Metrics& metrics, std::string node, uint64_t start_time)
    : loop_(loop), core_(core), metrics_(metrics), node_(std::move(node)), start_time_(start_time) {}

void Cluster::set_server(api::NodeServer* server) {
  const std::scoped_lock lock(mutex_);
  server_ = server;
}

void Cluster::on_facts(const health::Facts& facts) {
  const std::scoped_lock lock(mutex_);
  if (server_ == nullptr) return;
  api::NodeStatus status = status_of(facts);
  status.leaving = drains_.take(facts.leaving, DrainReport::Clock::now());
  if (!same(status, told_)) {
    told_ = status;
    server_->publish(std::move(status));
  }
  // During a push its own reply will tell.
  if (pushing_ || !facts.has_state || same(facts.failures, acked_)) return;
  acked_ = facts.failures;
  server_->publish(api::Ack{facts.revision, facts.epoch, facts.digest, facts.failures});
}

api::Welcome Cluster::welcome(const std::string& cluster_id) const {
  const health::Facts& facts = core_.facts();
  api::Welcome welcome;
  welcome.node = node_;
  welcome.version = version();
  welcome.cluster_id = facts.has_state ? core_.state()->cluster_id : cluster_id;
  welcome.epoch = core_.epoch_of(cluster_id.empty() ? welcome.cluster_id : cluster_id);
  welcome.revision = facts.revision;
  if (facts.has_state) welcome.digest = bytes_of(facts.digest);
  welcome.start_time = start_time_;
  welcome.failures = facts.failures;
  return welcome;
}

std::variant<api::Welcome, api::Refusal> Cluster::hello(api::SessionId session, const api::Hello& hello) {
  using Reply = std::variant<api::Welcome, api::Refusal>;
  return loop_.call([&]() -> Reply {
    if (hello.node != node_) {
      return api::Refusal{api::RefusalReason::wrong_node, fmt::format("this is node {}, not {}", node_, hello.node), 0};
    }
    if (hello.cluster_id.empty()) return invalid("the Hello names no cluster");
    const state::Epoch highest = core_.epoch_of(hello.cluster_id);
    if (hello.epoch < highest) {
      spdlog::warn("refused {} (epoch {}): a leader of epoch {} has been here", hello.identity, hello.epoch, highest);
      return api::Refusal{api::RefusalReason::epoch_too_low,
                          fmt::format("epoch {} is lower than {}", hello.epoch, highest), highest};
    }
    if (const auto purged = purged_.find(hello.cluster_id); purged != purged_.end() && hello.epoch <= purged->second) {
      return api::Refusal{api::RefusalReason::purged, fmt::format("this node was purged in epoch {}", purged->second),
                          highest};
    }
    core_.remember_epoch(hello.cluster_id, hello.epoch);
    spdlog::info("session of {} ({}, epoch {})", hello.identity, hello.version, hello.epoch);
    current_ = {session, hello.cluster_id, hello.epoch};
    acked_ = core_.facts().failures;
    api::Welcome reply = welcome(hello.cluster_id);
    // With an equal digest nothing would be pushed, and nobody would have said that it still holds.
    if (!core_.confirmed()) reply.digest.clear();
    return reply;
  });
}

std::optional<api::Refusal> Cluster::refuse_push(api::SessionId session) const {
  const state::Epoch highest = core_.epoch_of(current_.cluster_id);
  if (session != current_.session || current_.epoch < highest) {
    return api::Refusal{api::RefusalReason::epoch_too_low, "a newer session has taken over", highest};
  }
  const auto purged = purged_.find(current_.cluster_id);
  if (purged != purged_.end() && current_.epoch <= purged->second) {
    return api::Refusal{api::RefusalReason::purged, fmt::format("this node was purged in epoch {}", purged->second),
                        highest};
  }
  return std::nullopt;
}

api::PushReply Cluster::take(state::DesiredState next) {
  if (next.cluster_id != current_.cluster_id || next.epoch != current_.epoch) {
    return invalid(fmt::format("the state is of cluster {} and epoch {}, the session of {} and {}", next.cluster_id,
                               next.epoch, current_.cluster_id, current_.epoch));
  }
  if (auto valid = state::validate(next); !valid) return invalid(valid.error().message());
  pushing_ = true;
  core_.apply(std::move(next));
  pushing_ = false;
  const health::Facts& facts = core_.facts();
  acked_ = facts.failures;
  return api::Ack{facts.revision, facts.epoch, facts.digest, facts.failures};
}

api::PushReply Cluster::counted(std::chrono::steady_clock::time_point begun, api::PushReply reply) {
  if (const auto* refusal = std::get_if<api::Refusal>(&reply)) spdlog::warn("refused a push: {}", refusal->message);
  metrics_.pushed(std::chrono::steady_clock::now() - begun, std::holds_alternative<api::Ack>(reply));
  return reply;
}

api::PushReply Cluster::snapshot(api::SessionId session, state::DesiredState state, const std::string& claimed) {
  const auto begun = std::chrono::steady_clock::now();
  const bool as_claimed = bytes_of(state::digest(state)) == claimed;
  return counted(begun, loop_.call([&]() -> api::PushReply {
    if (auto refused = refuse_push(session)) return *refused;
    if (!as_claimed) return invalid("the state is not the one of the snapshot's digest");
    return take(std::move(state));
  }));
}

api::PushReply Cluster::delta(api::SessionId session, const state::Delta& delta) {
  const auto begun = std::chrono::steady_clock::now();
  return counted(begun, loop_.call([&]() -> api::PushReply {
    if (auto refused = refuse_push(session)) return *refused;
    const auto& held = core_.state();
    if (!held) return api::NeedSnapshot{};
    const std::string have = bytes_of(core_.facts().digest);
    if (held->cluster_id != current_.cluster_id) return api::NeedSnapshot{have};
    auto next = state::apply_delta(*held, delta);
    if (!next) return api::NeedSnapshot{have};
    return take(std::move(*next));
  }));
}

std::pair<api::Welcome, std::shared_ptr<const state::DesiredState>> Cluster::get_state(bool with_state) {
  return loop_.call([&] {
    std::shared_ptr<const state::DesiredState> held;
    if (with_state && core_.state()) held = std::make_shared<state::DesiredState>(*core_.state());
    return std::pair(welcome(""), held);
  });
}

Status Cluster::purge(const std::string& cluster_id, state::Epoch epoch) {
  return loop_.call([&]() -> Status {
    const state::Epoch highest = core_.epoch_of(cluster_id);
    if (epoch < highest) {
      return fail(ErrorKind::denied, "purge", node_, fmt::format("epoch {} is lower than {}", epoch, highest));
    }
    auto purged = core_.purge();
    if (!purged) return purged;
    purged_[cluster_id] = epoch;
    spdlog::info("purged, as told in epoch {} of {}", epoch, cluster_id);
    return {};
  });
}

api::NodeStatus Cluster::status() {
  return loop_.call([&] { return status_of(core_.facts()); });
}

}  // namespace sluice::agent
