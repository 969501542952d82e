#include "operator/controller/leader.h"

#include <algorithm>
#include <random>
#include <thread>
#include <utility>

#include "common/log/spdlog.h"
#include "common/version.h"
#include "operator/controller/agents.h"
#include "operator/controller/object_writes.h"
#include "operator/status/status.h"

namespace sluice::controller {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kAskAgents{5};
constexpr seconds kFetchState{15};
constexpr seconds kCatchUp{10};
constexpr milliseconds kCatchUpStep{20};
constexpr seconds kRetryCertificates{5};
// A refused epoch is a renewal that failed: there must be time for others before the lease is lost.
constexpr seconds kRetryEpoch{5};
// Beyond the announcement grace, so that an agent which restarts just in time is not overtaken.
constexpr seconds kGraceMargin{15};

std::array<uint64_t, 2> random_words() {
  std::random_device source;
  std::uniform_int_distribution<uint64_t> word(1);
  return {word(source), word(source)};
}

void tell_keys(const state::Tunnel& before, const state::Tunnel& now) {
  if (before.keys == now.keys) {
    return;
  }
  std::string ids;
  for (const auto& key : now.keys) {
    ids += (ids.empty() ? "key " : ", accepting also ") + std::to_string(key.id);
  }
  spdlog::info("tunnel between nodes: {}", ids);
}

// A line for every address that has another announcing node than before.
void tell_moves(const state::DesiredState& before, const planner::Plan& plan) {
  for (const auto& [address, planned] : plan.addresses) {
    const auto old = before.announcements.find(address);
    const std::string node = old == before.announcements.end() || old->second.nodes.empty() ? "" : old->second.nodes[0];
    if (node != planned.node && !planned.why.empty()) {
      spdlog::info("{}: {}", address.to_string(), planned.why);
    }
  }
}

}  // namespace

Status Leader::take_over() {
  for (const auto step :
       {&Leader::read_cluster_id, &Leader::tend_certificates, &Leader::look_consistently, &Leader::succeed_agents}) {
    if (auto done = (this->*step)(); !done) {
      return done;
    }
  }
  return {};
}

Status Leader::read_cluster_id() {
  const auto ns = cluster_.namespaces.find("kube-system");
  if (ns == cluster_.namespaces.end() || ns->second->meta.uid.empty()) {
    return fail(ErrorKind::not_found, "read the cluster's identity from namespace", "kube-system", "it is not there");
  }
  planning_.cluster_id = ns->second->meta.uid;
  planning_.load_balancer_class = tools_.options.load_balancer_class;
  planning_.default_class = tools_.options.default_class;
  planning_.ignore_exclude_label = tools_.options.ignore_exclude_label;
  planning_.lost_after = tools_.options.announce_grace + kGraceMargin;
  planning_.allowed_static_backends = tools_.options.allowed_static_backends;
  planning_.tunnel_port = tools_.options.tunnel_port;
  planning_.tunnel_key_rotation = tools_.options.tunnel_key_rotation;
  return {};
}

Status Leader::tend_certificates() {
  const auto now = certificates::Clock::now();
  auto tended = tools_.certificates.tend(now);
  if (!tended && tended.error().kind != ErrorKind::conflict) {
    return tl::unexpected(tended.error());
  }
  tend_again_ = tended ? tended->next : now;
  const auto leaf = tools_.certificates.operator_leaf(now);
  if (!leaf) {
    return fail(ErrorKind::unavailable, "read the operator's certificate from Secret", tools_.options.operator_secret,
                "it is not usable yet");
  }
  const auto key = tools_.certificates.flow_hash_key();
  if (!key) {
    return fail(ErrorKind::unavailable, "read the flow hash's key from Secret", tools_.options.ca_secret,
                "it is not there yet");
  }
  tools_.publisher.set_credentials({leaf->bundle, leaf->certificate, leaf->key});
  planning_.flow_hash_key = *key;
  return {};
}

// A watch may lag behind. What others have written before this term must be known before anything is allocated in it.
Status Leader::look_consistently() {
  for (const auto& resource : {kube::kAddressClaims, kube::kServices, kube::kLoadBalancers}) {
    const auto deadline = Clock::now() + kCatchUp;
    while (true) {
      if (!tools_.elector.leading()) {
        return fail(ErrorKind::conflict, "read all", std::string(resource.plural), "the lease is lost");
      }
      const auto list = tools_.api.consistent_list(resource);
      if (!list && list.error().kind == ErrorKind::not_found) {
        break;  // the kind is not known to the server: there are none
      }
      if (!list) {
        return tl::unexpected(list.error());
      }
      const auto list_again = Clock::now() + seconds(1);
      while (!tools_.watches.caught_up(resource, *list) && Clock::now() < list_again) {
        std::this_thread::sleep_for(kCatchUpStep);
      }
      if (tools_.watches.caught_up(resource, *list)) {
        break;
      }
      if (Clock::now() > deadline) {
        return fail(ErrorKind::unavailable, "read all", std::string(resource.plural), "the watch lags behind");
      }
    }
  }
  tools_.watches.take_changes(cluster_);
  return {};
}

Status Leader::succeed_agents() {
  tools_.publisher.set_nodes(agent_endpoints(cluster_, tools_.options.agent_port));
  const auto answers = tools_.publisher.ask(kAskAgents);
  const auto succession = succeed(answers, tools_.elector.epoch(), planning_.cluster_id);
  // Without a state to go on from, what is in force of objects whose edit is not accepted would be forgotten.
  if (const auto silent = missed(answers, cluster_); !succession.from && !silent.empty()) {
    if (!patience_.spent(Clock::now())) {
      return fail(ErrorKind::unavailable, "read the state in force from node", silent.front(),
                  "its agent does not answer yet, and no other holds one");
    }
    spdlog::warn("no agent holds a state; going on without those of {} nodes, {} first", silent.size(), silent.front());
  }
  auto held = std::make_shared<state::DesiredState>();
  if (succession.from) {
    auto fetched = tools_.publisher.fetch_state(*succession.from, kFetchState);
    if (!fetched) {
      return tl::unexpected(fetched.error());
    }
    if (fetched->state && fetched->state->cluster_id == planning_.cluster_id) {
      *held = std::move(*fetched->state);
    }
  }
  if (auto written = tools_.elector.set_epoch(succession.epoch); !written) {
    return written;
  }
  const bool continues = held->cluster_id == planning_.cluster_id;
  planning_.epoch = succession.epoch;
  if (continues) {
    planning_.flow_hash_key = held->flow_hash_key;
  }
  held->cluster_id = planning_.cluster_id;
  held->flow_hash_key = planning_.flow_hash_key;
  held->revision = std::max(held->revision, succession.revision);
  held->epoch = succession.epoch;
  state_ = held;
  term_ = {.cluster_id = planning_.cluster_id,
           .epoch = succession.epoch,
           .identity = tools_.options.identity,
           .version = version()};
  const auto reached = std::ranges::count_if(answers, [](const auto& answer) { return answer.second.has_value(); });
  spdlog::info("leading with epoch {} from revision {}{}; {} of {} agents answered", term_.epoch, state_->revision,
               continues ? " of node " + *succession.from : "", reached, answers.size());
  if (!tools_.while_leading([&] { tools_.publisher.lead(term_, state_); })) {
    return fail(ErrorKind::conflict, "lead", {}, "the lease is lost");
  }
  return {};
}

std::optional<Leader::Clock::time_point> Leader::raise_epoch(state::Epoch at_least) {
  if (Clock::now() < next_raise_) {
    return next_raise_;
  }
  const auto epoch = std::max(tools_.elector.epoch(), at_least) + 1;
  if (auto written = tools_.elector.set_epoch(epoch); !written) {
    spdlog::warn("an agent knows of epoch {}: {}", at_least, written.error().message());
    next_raise_ = Clock::now() + std::max<milliseconds>(kRetryEpoch, written.error().retry_after);
    return next_raise_;
  }
  spdlog::info("an agent knows of epoch {}: going on with epoch {}", at_least, epoch);
  planning_.epoch = epoch;
  term_.epoch = epoch;
  auto raised = std::make_shared<state::DesiredState>(*state_);
  raised->epoch = epoch;
  state_ = raised;
  pushed_ = false;
  tools_.while_leading([&] { tools_.publisher.lead(term_, state_); });
  return {};
}

Leader::Clock::time_point Leader::round() {
  const auto now = Clock::now();
  auto again = now + std::chrono::hours(1);
  const auto wall = certificates::Clock::now();
  // Also looks what others did to the Secrets; without a change this costs some parsing of certificates.
  if (auto tended = tools_.certificates.tend(wall); tended) {
    tend_again_ = tended->next;
    again = std::min(again, now + std::chrono::duration_cast<Clock::duration>(tended->next - wall));
  } else {
    spdlog::log(tended.error().kind == ErrorKind::conflict ? spdlog::level::debug : spdlog::level::warn,
                "certificates: {}", tended.error().message());
    again = std::min<Clock::time_point>(again, now + kRetryCertificates);
  }
  if (const auto leaf = tools_.certificates.operator_leaf(wall)) {
    tools_.publisher.set_credentials({leaf->bundle, leaf->certificate, leaf->key});
  }
  tools_.publisher.set_nodes(agent_endpoints(cluster_, tools_.options.agent_port));

  const auto progress = tools_.publisher.progress();
  if (const auto refused = refused_for(progress, term_.epoch); refused != 0) {
    again = std::min(again, raise_epoch(refused).value_or(again));
  }
  const auto agents = to_planner(progress);
  const auto decided = planner::decide({.previous = *state_,
                                        .cluster = cluster_,
                                        .agents = agents,
                                        .options = planning_,
                                        .memory = memory_,
                                        .now = now,
                                        .wall = wall,
                                        .random = random_words()},
                                       cache_);
  memory_ = decided.plan.memory;
  push(decided.plan);
  if (decided.plan.again_at) {
    again = std::min(again, *decided.plan.again_at);
  }
  if (const auto writes_again = write(decided, agents, now)) {
    again = std::min(again, *writes_again);
  }
  return again;
}

void Leader::push(const planner::Plan& plan) {
  if (!plan.changed && pushed_) {
    return;
  }
  tell_moves(*state_, plan);
  tell_keys(state_->tunnel, plan.next.tunnel);
  auto next = std::make_shared<const state::DesiredState>(plan.next);
  pushed_ = tools_.while_leading([&] { tools_.publisher.publish(next); });
  if (plan.changed) {
    spdlog::debug("revision {}: {} services, {} nodes, {} addresses", next->revision, next->services.size(),
                  next->nodes.size(), next->announcements.size());
  }
  state_ = std::move(next);
}

std::optional<Leader::Clock::time_point> Leader::write(const planner::Round& round, const planner::Agents& agents,
                                                       Clock::time_point now) {
  const auto status = status::status({.cluster = cluster_,
                                      .round = round,
                                      .agents = agents,
                                      .options = planning_,
                                      .now = now,
                                      .wall = std::chrono::system_clock::now()});
  std::vector<Write> writes;
  add_claim_writes(round.addresses.writes, writes);
  add_status_writes(status, tools_.events, writes);
  std::optional<Clock::time_point> again = status.again_at;
  std::optional<Clock::time_point> held_back;
  tools_.while_leading([&] { held_back = tools_.writer.want(std::move(writes)); });
  if (held_back) {
    again = std::min(again.value_or(*held_back), *held_back);
  }
  return again;
}

}  // namespace sluice::controller
