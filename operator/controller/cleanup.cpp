#include "operator/controller/cleanup.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <iterator>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "common/log/spdlog.h"
#include "operator/certificates/keeper.h"
#include "operator/controller/agents.h"
#include "operator/controller/object_writes.h"
#include "operator/controller/succession.h"
#include "operator/kube/api.h"
#include "operator/kube/lease.h"
#include "operator/kube/lease_rules.h"
#include "operator/kube/time_text.h"
#include "operator/planner/acceptance.h"
#include "operator/resources/core.h"
#include "operator/status/ingress.h"
#include "operator/status/uninstalled.h"

namespace sluice::controller {

namespace {

using nlohmann::json;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr const char* kHolder = "sluice-cleanup";
constexpr seconds kHold{300};
constexpr seconds kAskAgents{5};
constexpr seconds kPurge{30};
constexpr int kAttempts = 5;
constexpr size_t kWorkers = 8;

// Repeats `attempt`, which reads the object anew each time, as long as somebody else is quicker to change it.
Status persist(const std::function<Status()>& attempt) {
  Status outcome;
  for (int i = 0; i < kAttempts; ++i) {
    outcome = attempt();
    if (outcome || outcome.error().kind != ErrorKind::conflict) {
      break;
    }
  }
  return outcome;
}

Status drop_value(const Result<kube::Object>& written) {
  return written ? Status{} : Status(tl::unexpected(written.error()));
}

class Cleanup {
 public:
  Cleanup(const Options& options, const std::shared_ptr<kube::Transport>& transport)
      : options_(options), api_(transport) {
    planning_.load_balancer_class = options_.load_balancer_class;
    planning_.default_class = options_.default_class;
  }

  Status run() {
    if (auto held = hold_lease(0); !held) {
      return held;  // while somebody leads, everything else would be undone
    }
    tell_held();
    purge_nodes();  // the epoch fences this off from whoever led until now; writes to the API server have no such fence
    if (const auto rest = leader_writes_until_ - Clock::now(); rest > Clock::duration::zero()) {
      spdlog::info("waiting {} s, until the former leader must have noticed", std::chrono::ceil<seconds>(rest).count());
      std::this_thread::sleep_for(rest);
    }
    if (read_claims()) {
      clean_kind(kube::kServices, [this](const kube::Object& object) { return clean_service(object); });
    }
    clean_statuses(kube::kLoadBalancers, status::uninstalled_load_balancer);
    clean_statuses(kube::kAddressPools, status::uninstalled_pool);
    remove_nodes();
    if (failures_ > 0) {
      return fail(ErrorKind::unavailable, "clean up", {},
                  std::to_string(failures_.load()) + " things are left; see above");
    }
    return {};
  }

 private:
  // Writes ourselves into the Lease; with an epoch where it is not 0.
  Status hold_lease(state::Epoch epoch) {
    return persist([&]() -> Status {
      const auto lease = lease_or_another();
      if (!lease) {
        return tl::unexpected(lease.error());
      }
      if (*lease == nullptr) {
        lease_epoch_ = std::max(lease_epoch_, epoch);
        held_at_ = Clock::now();
        lease_refused_ = true;
        return {};
      }
      auto record = kube::read_lease(**lease);
      const auto stamp = kube::rfc3339_micro(std::chrono::system_clock::now());
      if (record.holder != kHolder) {
        if (!record.holder.empty()) {
          leader_writes_until_ = Clock::now() + record.duration - Writer::kLeaseMargin;
        }
        record.holder = kHolder;
        record.acquire_time = stamp;
        ++record.transitions;
      }
      record.duration = kHold;
      record.renew_time = stamp;
      lease_epoch_ = std::max(record.epoch, epoch);
      record.epoch = lease_epoch_;
      held_at_ = Clock::now();
      return drop_value(api_.update(kube::kLeases, kube::write_lease(**lease, record)));
    });
  }

  void tell_held() const {
    if (lease_refused_) {
      spdlog::info("no replica can lead: Lease {}/{} may not be made", options_.ns, options_.lease_name);
    } else {
      spdlog::info("no replica takes the lead for {} s, by Lease {}/{}", kHold.count(), options_.ns,
                   options_.lease_name);
    }
  }

  // One that somebody has deleted is made anew. Null where that is refused: the operator has no more rights than this,
  // so that nobody can lead.
  Result<kube::Object> lease_or_another() {
    const kube::ObjectKey key{options_.ns, options_.lease_name};
    auto lease = api_.get(kube::kLeases, key);
    if (lease || lease.error().kind != ErrorKind::not_found) {
      return lease;
    }
    if (!std::exchange(lease_gone_, true)) {
      leader_writes_until_ = Clock::now() + kube::LeaseOptions{}.lease_duration;
      spdlog::warn("Lease {}/{} is not there: whoever led by it must notice first", key.ns, key.name);
    }
    auto made = api_.create(kube::kLeases, key.ns,
                            {{"apiVersion", kube::kLeases.api_version()},
                             {"kind", kube::kLeases.kind},
                             {"metadata", {{"name", key.name}, {"namespace", key.ns}}}});
    if (!made && made.error().kind == ErrorKind::denied) {
      return kube::Object{};
    }
    return made;
  }

  // The object of a node that could not be purged stays: when this is repeated, it tells that there is something to
  // purge. That of a node that is down goes with the last attempt, which is the one that leaves nothing else.
  void remove_nodes() {
    if (!nodes_read_) {
      return;
    }
    const bool last = failures_ == 0;
    clean_kind(kube::kLoadBalancerNodes, [this, last](const kube::Object& object) {
      const auto name = kube::key_of(*object).name;
      if (unpurged_.contains(name) && !(last && down_.contains(name))) {
        return Status{};
      }
      auto removed = api_.remove(kube::kLoadBalancerNodes, kube::key_of(*object));
      return removed || removed.error().kind == ErrorKind::not_found ? Status{} : removed;
    });
  }

  void purge_nodes() {
    if (auto read = read_nodes(); !read) {
      trouble(read.error().message());
      return;
    }
    const auto secret = api_.get(kube::kSecrets, {options_.ns, options_.operator_secret});
    const auto leaf = certificates::read_leaf(secret ? secret->get() : nullptr);
    if (!certificates::usable(leaf, tls::kOperatorName, certificates::Clock::now())) {
      const std::string why =
          "no node was purged: Secret " + options_.ns + "/" + options_.operator_secret + " holds no usable certificate";
      if (unpurged_.empty()) {
        spdlog::info("{}, and no agent was ever reached: there is nothing on any node", why);
      } else {
        trouble(why + "; run `sluice-agent --purge` on the nodes");
      }
      return;
    }
    const auto publisher = publish::Publisher::create({}, [] {});
    publisher->set_credentials({leaf.bundle, leaf.certificate, leaf.key});
    publisher->set_nodes(agent_endpoints(cluster_, options_.agent_port));
    const auto succession = succeed(publisher->ask(kAskAgents), lease_epoch_, cluster_id_);
    if (auto held = hold_lease(succession.epoch); !held) {
      trouble(held.error().message());
      return;
    }
    for (const auto& [node, outcome] : publisher->purge(cluster_id_, succession.epoch, kPurge)) {
      tell_purged(node, outcome);
    }
  }

  void tell_purged(const std::string& node, const Status& outcome) {
    const auto known = cluster_.nodes.find(node);
    const bool answered = outcome || outcome.error().kind != ErrorKind::unavailable;
    if (outcome) {
      spdlog::info("node {}: everything of Sluice is gone", node);
      unpurged_.erase(node);
    } else if (!answered && !unpurged_.contains(node)) {
      spdlog::info("{}; no agent was ever reached there", outcome.error().message());
    } else if (!answered && known != cluster_.nodes.end() && !known->second->ready) {
      spdlog::warn("{}; it is NotReady: run `sluice-agent --purge` there if it comes back", outcome.error().message());
      down_.insert(node);
    } else {
      unpurged_.insert(node);
      trouble(outcome.error().message() + "; run `sluice-agent --purge` there");
    }
  }

  Status read_nodes() {
    const auto ns = api_.get(kube::kNamespaces, {"", "kube-system"});
    if (!ns) {
      return tl::unexpected(ns.error());
    }
    cluster_id_ = kube::uid_of(**ns);
    const auto nodes = api_.consistent_list(kube::kNodes);
    if (!nodes) {
      return tl::unexpected(nodes.error());
    }
    for (const auto& node : nodes->items) {
      if (auto taken = cluster_.upsert(node); !taken) {
        return taken;
      }
    }
    const auto with_agent = api_.consistent_list(kube::kLoadBalancerNodes);
    if (!with_agent && with_agent.error().kind != ErrorKind::not_found) {
      return tl::unexpected(with_agent.error());
    }
    for (const auto& node : with_agent ? with_agent->items : std::vector<kube::Object>{}) {
      const auto name = kube::key_of(*node).name;
      if (cluster_.nodes.contains(name)) {
        unpurged_.insert(name);
      }
    }
    nodes_read_ = true;
    return {};
  }

  bool read_claims() {
    const auto claims = api_.consistent_list(kube::kAddressClaims);
    if (!claims && claims.error().kind != ErrorKind::not_found) {
      trouble(claims.error().message());
      return false;
    }
    for (const auto& claim : claims ? claims->items : std::vector<kube::Object>{}) {
      // One that cannot be read names nobody's address.
      if (auto taken = cluster_.upsert(claim); !taken) {
        spdlog::warn("{}", taken.error().message());
      }
    }
    return true;
  }

  // Calls `clean` for all of the kind, several at a time. Those of a large cluster would take longer than the Job has.
  void clean_kind(const kube::Resource& resource, const std::function<Status(const kube::Object&)>& clean) {
    const auto list = api_.consistent_list(resource);
    if (!list) {
      if (list.error().kind != ErrorKind::not_found) {
        trouble(list.error().message());
      }
      return;
    }
    each(list->items, [&](const kube::Object& object) {
      if (auto cleaned = clean(object); !cleaned) {
        trouble(cleaned.error().message());
      }
    });
  }

  void each(const std::vector<kube::Object>& objects, const std::function<void(const kube::Object&)>& act) {
    std::atomic<size_t> next = 0;
    std::vector<std::jthread> workers;
    for (size_t i = 0; i < std::min(kWorkers, objects.size()); ++i) {
      workers.emplace_back([&] {
        for (size_t at = next++; at < objects.size(); at = next++) {
          keep_lease();
          act(objects[at]);
        }
      });
    }
  }

  // Nobody may lead before the last object is done, however many there are.
  void keep_lease() {
    const std::unique_lock lock(lease_mutex_, std::try_to_lock);
    if (!lock || Clock::now() - held_at_ < kHold / 3) {
      return;
    }
    held_at_ = Clock::now();  // also where it fails: it is tried again in good time
    if (auto held = hold_lease(lease_epoch_); !held) {
      trouble(held.error().message());
    }
  }

  // All are listed again where somebody else was quicker: reading one alone would need a right of its own.
  void clean_statuses(const kube::Resource& resource,
                      json (*patch_for)(const json& object, std::chrono::system_clock::time_point wall)) {
    auto cleaned = persist([&]() -> Status {
      const auto list = api_.consistent_list(resource);
      if (!list) {
        return list.error().kind == ErrorKind::not_found ? Status{} : Status(tl::unexpected(list.error()));
      }
      Status outcome;
      std::mutex mutex;  // of `outcome`
      each(list->items, [&](const kube::Object& object) {
        const json patch = patch_for(*object, std::chrono::system_clock::now());
        if (patch.is_null()) {
          return;
        }
        auto done = drop_value(api_.patch(resource, kube::key_of(*object), kube::PatchType::merge, patch, "status"));
        const std::lock_guard lock(mutex);
        if (!done && done.error().kind != ErrorKind::not_found &&
            (outcome || done.error().kind == ErrorKind::conflict)) {
          outcome = std::move(done);  // the others are cleaned all the same
        }
      });
      return outcome;
    });
    if (!cleaned) {
      trouble(cleaned.error().message());
    }
  }

  // A Service with our finalizer is, or was, ours. What was listed will mostly do; it is read again where somebody was
  // quicker.
  Status clean_service(const kube::Object& listed) {
    if (!has_our_finalizer(*listed)) {
      return {};
    }
    const auto key = kube::key_of(*listed);
    kube::Object service = listed;
    auto cleaned = persist([&]() -> Status {
      if (service == nullptr) {
        auto read = api_.get(kube::kServices, key);
        if (!read) {
          return tl::unexpected(read.error());
        }
        service = *read;
      }
      const auto now = std::exchange(service, nullptr);
      const auto cleared = clear_status(now);
      return cleared ? drop_finalizers(*cleared) : Status(tl::unexpected(cleared.error()));
    });
    return cleaned || cleaned.error().kind == ErrorKind::not_found ? Status{} : cleaned;
  }

  // The Service without address and conditions of ours.
  Result<kube::Object> clear_status(const kube::Object& object) {
    const auto service = resources::parse_service(object);
    if (!service) {
      return tl::unexpected(service.error());
    }
    // One that we have let go, or were about to, may have another's address by now.
    const bool ours = planner::is_ours(*service, planning_);
    const resources::Owner owner{resources::OwnerKind::service, service->meta.key};
    const json patch = status::uninstalled_service(
        *object, [&](const std::string& ip) { return ours || status::claimed_by(cluster_, owner, ip); });
    return patch.is_null()
               ? object
               : api_.patch(kube::kServices, kube::key_of(*object), kube::PatchType::merge, patch, "status");
  }

  static bool has_our_finalizer(const json& object) {
    const auto finalizers = finalizers_of(object);
    return std::ranges::find(finalizers, planner::kCleanupFinalizer) != finalizers.end();
  }

  static std::vector<std::string> finalizers_of(const json& object) {
    return object.value("/metadata/finalizers"_json_pointer, std::vector<std::string>{});
  }

  // Upstream's, too, where there is no class: we have set it as the default class, whether we still are or not.
  Status drop_finalizers(const kube::Object& service) {
    const bool without_class = !service->contains("/spec/loadBalancerClass"_json_pointer);
    return write_finalizers(api_, kube::kServices, kube::key_of(*service), kube::resource_version_of(*service),
                            without_finalizers(finalizers_of(*service), without_class));
  }

  void trouble(const std::string& what) {  // from any thread
    ++failures_;
    spdlog::error("{}", what);
  }

  const Options& options_;
  kube::Api api_;
  planner::Options planning_;
  resources::ClusterState cluster_;  // nodes and claims
  std::string cluster_id_;
  state::Epoch lease_epoch_ = 0;
  bool lease_gone_ = false;
  bool lease_refused_ = false;
  Clock::time_point leader_writes_until_;  // the one that we took the Lease from may not have noticed before
  std::atomic<int> failures_ = 0;
  std::mutex lease_mutex_;
  Clock::time_point held_at_;       // when the Lease was written last
  bool nodes_read_ = false;         // else nobody knows which nodes have something to purge
  std::set<std::string> unpurged_;  // nodes that have, or had, an agent and may still have its programs
  std::set<std::string> down_;      // of these, those that cannot be helped now
};

}  // namespace

Status clean_up(const Options& options, const std::shared_ptr<kube::Transport>& transport) {
  return Cleanup(options, transport).run();
}

}  // namespace sluice::controller
