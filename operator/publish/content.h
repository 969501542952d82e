// States as they are sent: serialised once, shared by all agents. Not thread-safe; bytes are immutable once made.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/state/desired_state.h"
#include "common/state/digest.h"

namespace sluice::publish {

using Bytes = std::shared_ptr<const std::string>;

// A state, its digest, and the OperatorMessage that carries it whole.
class Content {
 public:
  explicit Content(std::shared_ptr<const state::DesiredState> state)
      : state_(std::move(state)), digest_(state::digest(*state_)) {}
  [[nodiscard]] const state::DesiredState& state() const { return *state_; }
  [[nodiscard]] const state::Digest& digest() const { return digest_; }
  // A serialised OperatorMessage{snapshot}, made at the first call.
  const Bytes& snapshot();

 private:
  std::shared_ptr<const state::DesiredState> state_;
  state::Digest digest_;
  Bytes snapshot_;
};

// The newest state and those few before it that agents still hold, to make deltas from: as far as agents of one
// contract know their fields.
class History {
 public:
  explicit History(uint32_t contract = state::kContract) : contract_(contract) {}

  // How many states that are not the newest are kept at most: an agent that holds an older one gets a snapshot.
  static constexpr size_t kKept = 4;

  // A state that agents may hold, but that is not to be sent.
  void remember(std::shared_ptr<const state::DesiredState> state);
  // `held`: what agents hold, as for keep_only.
  void set_newest(std::shared_ptr<const state::DesiredState> state, const std::set<state::Digest>& held);
  [[nodiscard]] Content* newest() { return newest_.get(); }
  // A serialised OperatorMessage{delta} from `from` to the newest; null where `from` is unknown or a delta cannot
  // express it.
  Bytes delta(const state::Digest& from);
  // The revision of a state of this history; nullopt for content that is not in it.
  [[nodiscard]] std::optional<state::Revision> revision_of(const state::Digest& digest) const;
  // Forgets states, other than the newest, that are not in `held`.
  void keep_only(const std::set<state::Digest>& held);

 private:
  [[nodiscard]] std::shared_ptr<Content> content(std::shared_ptr<const state::DesiredState> state) const;

  uint32_t contract_;
  std::shared_ptr<Content> newest_;
  std::vector<std::shared_ptr<Content>> older_;  // newest first
  std::map<state::Digest, Bytes> deltas_;        // by `from`; to the newest
};

}  // namespace sluice::publish
