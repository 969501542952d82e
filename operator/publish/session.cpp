#include "operator/publish/session.h"

namespace sluice::publish {

Session::Push Session::next(const state::Digest& newest) const {
  if (!open_ || in_flight_.has_value() || held_ == newest || refused_ == newest) {
    return Push::nothing;
  }
  return held_.has_value() && !wants_snapshot_ ? Push::delta : Push::snapshot;
}

Session::Verdict Session::acked(const state::Digest& held, state::Epoch epoch, state::Revision revision) {
  held_ = held;
  if (!in_flight_.has_value()) {
    return Verdict::go_on;
  }
  if (in_flight_->to == held) {
    in_flight_.reset();
    refused_.reset();
    wants_snapshot_ = false;
    return Verdict::go_on;
  }
  // An Ack that comes unasked repeats what stood before the push, with its older epoch or revision: the answer is still
  // to come.
  return in_flight_->epoch == epoch && in_flight_->revision == revision ? Verdict::close : Verdict::go_on;
}

Session::Verdict Session::needs_snapshot(std::optional<state::Digest> held) {
  if (!in_flight_.has_value() || in_flight_->how == Push::snapshot) {
    return Verdict::close;
  }
  in_flight_.reset();
  held_ = held;
  wants_snapshot_ = true;
  return Verdict::go_on;
}

void Session::refused() {
  if (in_flight_.has_value()) {
    refused_ = in_flight_->to;
    in_flight_.reset();
  }
}

std::optional<state::Digest> Session::in_flight() const {
  return in_flight_.has_value() ? std::optional(in_flight_->to) : std::nullopt;
}

}  // namespace sluice::publish
