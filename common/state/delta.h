// What changed between two desired states, as it is pushed: {from, to, upserts, deletes}. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/state/desired_state.h"
#include "common/state/digest.h"

namespace sluice::state {

struct Delta {
  Digest from;  // digest of the content this delta applies to
  Digest to;    // digest of the content after it
  Epoch epoch = 0;
  Revision revision = 0;
  std::optional<Tunnel> tunnel;  // where it changed
  std::vector<Service> upsert_services;
  std::vector<std::string> delete_services;
  std::vector<Node> upsert_nodes;
  std::vector<std::string> delete_nodes;
  std::vector<Announcement> upsert_announcements;
  std::vector<net::IpAddress> delete_announcements;
  [[nodiscard]] bool empty() const;
};

// nullopt where a delta cannot express it (another cluster id or flow hash key): send a snapshot.
std::optional<Delta> make_delta(const DesiredState& from, const DesiredState& to);
// The same with digests that the caller has already: hashing is most of the cost for a large state.
std::optional<Delta> make_delta(const DesiredState& from, const Digest& from_digest, const DesiredState& to,
                                const Digest& to_digest);

// The state after `delta`, with the delta's epoch and revision. Fails (invalid) where `base` has another digest than
// delta.from, or the outcome another than delta.to: ask for a snapshot then.
Result<DesiredState> apply_delta(const DesiredState& base, const Delta& delta);

}  // namespace sluice::state
