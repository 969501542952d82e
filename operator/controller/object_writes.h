// The writes that follow from one round of decisions, for the Writer. They decide nothing themselves: what is as it
// should be makes no write.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "operator/controller/writer.h"
#include "operator/ipam/allocator.h"
#include "operator/kube/events.h"
#include "operator/status/status.h"

namespace sluice::controller {

// Creations, changes and deletions of AddressClaims.
void add_claim_writes(const ipam::ClaimWrites& claims, std::vector<Write>& writes);

// Statuses, finalizers and LoadBalancerNodes. Once a write has succeeded its events are told.
void add_status_writes(const status::Output& status, kube::EventRecorder& events, std::vector<Write>& writes);

// A status waits this long before it is written: agents mostly answer within it, and one write says it all.
inline constexpr std::chrono::milliseconds kStatusSettle{100};
// An object's status is written no more often than this.
inline constexpr std::chrono::seconds kStatusInterval{2};

// Where nothing but counts has changed, no more often than this.
inline constexpr std::chrono::seconds kCountsInterval{10};

// A Service's finalizers without ours; others' stay in their order.
std::vector<std::string> without_finalizers(std::vector<std::string> present, bool upstream_too);
// Sets exactly these, if the object is still at `version`.
Status write_finalizers(kube::Api& api, const kube::Resource& resource, const kube::ObjectKey& key,
                        const std::string& version, const std::vector<std::string>& finalizers);

}  // namespace sluice::controller
