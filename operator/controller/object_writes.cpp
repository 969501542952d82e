#include "operator/controller/object_writes.h"

#include <nlohmann/json.hpp>

#include "operator/kube/json_text.h"

namespace sluice::controller {

namespace {

using nlohmann::json;

Status drop_value(const Result<kube::Object>& written) {
  return written ? Status{} : Status(tl::unexpected(written.error()));
}

// The write as a call, without its events.
std::function<Status(kube::Api&)> call_of(const status::Write& write) {
  switch (write.verb) {
    case status::Verb::merge_patch:
    case status::Verb::strategic_patch:
      return [write](kube::Api& api) {
        const auto type = write.verb == status::Verb::merge_patch ? kube::PatchType::merge : kube::PatchType::strategic;
        return drop_value(api.patch(write.resource, write.key, type, *write.body, write.subresource));
      };
    case status::Verb::create:
      return [write](kube::Api& api) { return drop_value(api.create(write.resource, write.key.ns, *write.body)); };
    case status::Verb::remove:
      break;
  }
  return [write](kube::Api& api) { return api.remove(write.resource, write.key); };
}

std::string kind_of(const status::Write& write) {
  if (!write.subresource.empty()) {
    return "status";
  }
  return write.verb == status::Verb::create || write.verb == status::Verb::remove ? "node" : "finalizer";
}

// The body without the times at which it says that something changed: a write that was refused is the same one later.
std::string fingerprint_of(const status::Write& write) {
  std::string out = std::to_string(static_cast<int>(write.verb));
  if (!write.body) {
    return out;
  }
  json body = *write.body;
  if (const json::json_pointer at("/status/conditions"); body.contains(at) && body[at].is_array()) {
    for (auto& condition : body[at]) {
      if (condition.is_object()) {
        condition.erase("lastTransitionTime");
      }
    }
  }
  return out + kube::to_text(body);
}

}  // namespace

void add_claim_writes(const ipam::ClaimWrites& claims, std::vector<Write>& writes) {
  for (const auto& claim : claims.create) {
    const std::string body = kube::to_text(resources::claim_object(claim));
    writes.push_back({.key = "claim " + claim.meta.key.name,
                      .kind = "claim",
                      .base_version = {},
                      .fingerprint = "create " + body,
                      .perform = [body](kube::Api& api) {
                        return drop_value(api.create(kube::kAddressClaims, {}, kube::parse_json(body)));
                      }});
  }
  for (const auto& claim : claims.update) {
    const std::string body = kube::to_text(resources::claim_object(claim));
    writes.push_back({.key = "claim " + claim.meta.key.name,
                      .kind = "claim",
                      .base_version = claim.meta.resource_version,
                      .fingerprint = "update " + body,
                      .perform = [body](kube::Api& api) {
                        return drop_value(api.update(kube::kAddressClaims, kube::parse_json(body)));
                      }});
  }
  for (const auto& claim : claims.remove) {
    writes.push_back({.key = "claim " + claim.meta.key.name,
                      .kind = "claim",
                      .base_version = claim.meta.resource_version,
                      .fingerprint = "remove",
                      .perform = [key = claim.meta.key, uid = claim.meta.uid,
                                  version = claim.meta.resource_version](kube::Api& api) {
                        return api.remove(kube::kAddressClaims, key, {.uid = uid, .resource_version = version});
                      }});
  }
}

void add_status_writes(const status::Output& status, kube::EventRecorder& events, std::vector<Write>& writes) {
  for (const auto& wanted : status.writes) {
    Write write;
    write.kind = kind_of(wanted);
    write.key = write.kind + " " + std::string(wanted.resource.kind) + " " + wanted.key.text();
    write.base_version = wanted.body ? kube::resource_version_of(*wanted.body) : std::string();
    write.fingerprint = fingerprint_of(wanted);
    if (write.kind == "status") {
      write.settle = kStatusSettle;
      write.min_interval = wanted.only_counts ? kCountsInterval : kStatusInterval;
    }
    write.perform = [call = call_of(wanted), told = wanted.events, &events](kube::Api& api) {
      auto done = call(api);
      if (done) {
        for (const auto& event : told) {
          events.record(kube::ref_of(*event.about), event.warning ? kube::EventType::warning : kube::EventType::normal,
                        event.reason, event.message);
        }
      }
      return done;
    };
    writes.push_back(std::move(write));
  }
}

std::vector<std::string> without_finalizers(std::vector<std::string> present, bool upstream_too) {
  std::erase_if(present, [&](const std::string& finalizer) {
    return finalizer == planner::kCleanupFinalizer || (upstream_too && finalizer == planner::kUpstreamFinalizer);
  });
  return present;
}

Status write_finalizers(kube::Api& api, const kube::Resource& resource, const kube::ObjectKey& key,
                        const std::string& version, const std::vector<std::string>& finalizers) {
  const json patch = {{"metadata", {{"resourceVersion", version}, {"finalizers", finalizers}}}};
  return drop_value(api.patch(resource, key, kube::PatchType::merge, patch));
}

}  // namespace sluice::controller
