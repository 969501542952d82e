#include "operator/controller/watches.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/log/spdlog.h"

namespace sluice::controller {

namespace {

std::string kind_of(const kube::Object& object) {
  return object->value("kind", "");
}

}  // namespace

Watches::Watches(const std::shared_ptr<kube::Transport>& transport, EndpointsSource endpoints,
                 std::function<void()> changed)
    : changed_(std::move(changed)) {
  const auto& endpoints_kind = endpoints == EndpointsSource::endpoints ? kube::kEndpoints : kube::kEndpointSlices;
  for (const auto& resource :
       {kube::kServices, endpoints_kind, kube::kNodes, kube::kNamespaces, kube::kServiceCidrs, kube::kLoadBalancers,
        kube::kAddressPools, kube::kAddressClaims, kube::kLoadBalancerNodes}) {
    reflectors_.emplace_back(resource, kube::Reflector::start(transport, resource, {}, this));
  }
}

// The reflectors call back until they are gone.
Watches::~Watches() {
  reflectors_.clear();
}

bool Watches::synced() const {
  return std::ranges::all_of(reflectors_, [](const auto& entry) { return entry.second->synced(); });
}

std::string Watches::not_synced() const {
  std::string missing;
  for (const auto& [resource, reflector] : reflectors_) {
    if (!reflector->synced()) {
      const auto error = reflector->stats().last_error;
      missing += (missing.empty() ? "" : "; ") + std::string(resource.plural) + (error.empty() ? "" : ": " + error);
    }
  }
  return missing;
}

bool Watches::take_changes(resources::ClusterState& cluster) {
  std::map<std::pair<std::string, kube::ObjectKey>, kube::Object> changes;
  {
    const std::lock_guard lock(mutex_);
    changes.swap(changes_);
  }
  for (const auto& [about, object] : changes) {
    if (!object) {
      cluster.erase(about.first, about.second);
    } else if (auto taken = cluster.upsert(object); !taken) {
      spdlog::warn("{} is left out: {}", about.first, taken.error().message());
    }
  }
  return !changes.empty();
}

bool Watches::caught_up(const kube::Resource& resource, const kube::ObjectList& list) const {
  const auto entry = std::ranges::find_if(
      reflectors_, [&](const auto& candidate) { return candidate.first.plural == resource.plural; });
  return entry != reflectors_.end() && std::ranges::all_of(list.items, [&](const kube::Object& listed) {
           const auto known = entry->second->find(kube::key_of(*listed));
           if (!known) {
             return false;
           }
           const auto version = kube::resource_version_of(*known);
           const auto newest = kube::resource_version_of(*listed);
           return version == newest || kube::older_version(newest, version).value_or(false);
         });
}

std::map<std::string, kube::Reflector::Stats> Watches::stats() const {
  std::map<std::string, kube::Reflector::Stats> stats;
  for (const auto& [resource, reflector] : reflectors_) {
    stats.emplace(resource.plural, reflector->stats());
  }
  return stats;
}

void Watches::replaced(const std::vector<kube::Object>& all, const std::vector<kube::Object>& vanished) {
  {
    const std::lock_guard lock(mutex_);
    for (const auto& object : vanished) {
      changes_.insert_or_assign({kind_of(object), kube::key_of(*object)}, nullptr);
    }
    for (const auto& object : all) {
      changes_.insert_or_assign({kind_of(object), kube::key_of(*object)}, object);
    }
  }
  changed_();
}

void Watches::upserted(const kube::Object& object) {
  {
    const std::lock_guard lock(mutex_);
    changes_.insert_or_assign({kind_of(object), kube::key_of(*object)}, object);
  }
  changed_();
}

void Watches::deleted(const kube::ObjectKey& key, const kube::Object& last_known) {
  {
    const std::lock_guard lock(mutex_);
    changes_.insert_or_assign({kind_of(last_known), key}, nullptr);
  }
  changed_();
}

}  // namespace sluice::controller
