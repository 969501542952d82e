#include "operator/publish/content.h"

#include <algorithm>
#include <utility>

#include "common/api/convert.h"
#include "common/api/node.pb.h"
#include "common/state/delta.h"

namespace sluice::publish {

namespace {

Bytes to_bytes(const node::v1::OperatorMessage& message) {
  return std::make_shared<const std::string>(message.SerializeAsString());
}

std::string raw(const state::Digest& digest) {
  return {reinterpret_cast<const char*>(digest.bytes.data()), digest.bytes.size()};
}

}  // namespace

const Bytes& Content::snapshot() {
  if (!snapshot_) {
    node::v1::OperatorMessage message;
    message.mutable_snapshot()->set_state(api::serialise(*state_));
    message.mutable_snapshot()->set_digest(raw(digest_));
    snapshot_ = to_bytes(message);
  }
  return snapshot_;
}

std::shared_ptr<Content> History::content(std::shared_ptr<const state::DesiredState> state) const {
  if (contract_ < state::kContract) {
    state = std::make_shared<const state::DesiredState>(state::as_of(*state, contract_));
  }
  return std::make_shared<Content>(std::move(state));
}

void History::remember(std::shared_ptr<const state::DesiredState> state) {
  older_.insert(older_.begin(), content(std::move(state)));
}

void History::set_newest(std::shared_ptr<const state::DesiredState> state, const std::set<state::Digest>& held) {
  auto next = content(std::move(state));
  if (newest_ && newest_->digest() != next->digest()) {
    older_.insert(older_.begin(), newest_);
  }
  newest_ = std::move(next);
  deltas_.clear();
  keep_only(held);
}

void History::keep_only(const std::set<state::Digest>& held) {
  std::erase_if(older_, [&](const auto& content) { return !held.contains(content->digest()); });
  if (older_.size() > kKept) {
    older_.resize(kKept);
  }
}

Bytes History::delta(const state::Digest& from) {
  if (const auto made = deltas_.find(from); made != deltas_.end()) {
    return made->second;
  }
  const auto base = std::ranges::find_if(older_, [&](const auto& content) { return content->digest() == from; });
  Bytes bytes;
  if (base != older_.end() && newest_) {
    if (const auto delta = state::make_delta((*base)->state(), newest_->state())) {
      node::v1::OperatorMessage message;
      // Our own bytes: they parse.
      message.mutable_delta()->ParseFromString(api::serialise(*delta));
      bytes = to_bytes(message);
    }
  }
  deltas_.emplace(from, bytes);
  return bytes;
}

std::optional<state::Revision> History::revision_of(const state::Digest& digest) const {
  if (newest_ && newest_->digest() == digest) {
    return newest_->state().revision;
  }
  const auto found = std::ranges::find_if(older_, [&](const auto& content) { return content->digest() == digest; });
  return found == older_.end() ? std::nullopt : std::optional((*found)->state().revision);
}

}  // namespace sluice::publish
