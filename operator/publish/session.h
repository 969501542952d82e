// What one agent holds and what it is sent next. Pure: no I/O, no clock.
#pragma once

#include <optional>

#include "common/state/desired_state.h"
#include "common/state/digest.h"

namespace sluice::publish {

// One push at a time: the next one waits for the agent's answer, so that an agent that is slow skips the states in
// between instead of queueing them.
class Session {
 public:
  enum class Push { nothing, delta, snapshot };
  enum class Verdict { go_on, close };

  // The agent's Hello: what it holds, if anything.
  void opened(std::optional<state::Digest> held) { *this = Session{}, held_ = held, open_ = true; }

  // What to write now to bring the agent to `newest`. A delta is from held().
  [[nodiscard]] Push next(const state::Digest& newest) const;
  void pushed(const state::Digest& to, state::Epoch epoch, state::Revision revision, Push how) {
    in_flight_ = InFlight{to, epoch, revision, how};
  }

  // close: it acknowledged our revision with another content.
  Verdict acked(const state::Digest& held, state::Epoch epoch, state::Revision revision);
  // close: it asked for a snapshot although it was just sent one, or nothing at all.
  Verdict needs_snapshot(std::optional<state::Digest> held);
  // The content is wrong for this agent; it is not sent the same again.
  void refused();

  [[nodiscard]] const std::optional<state::Digest>& held() const { return held_; }
  // What it was sent and has not answered yet.
  [[nodiscard]] std::optional<state::Digest> in_flight() const;

 private:
  struct InFlight {
    state::Digest to;
    state::Epoch epoch = 0;
    state::Revision revision = 0;
    Push how = Push::nothing;
  };
  bool open_ = false;
  std::optional<state::Digest> held_;
  std::optional<InFlight> in_flight_;
  std::optional<state::Digest> refused_;
  bool wants_snapshot_ = false;
};

}  // namespace sluice::publish
