// A node agent without a dataplane: speaks the whole protocol, keeps what it is sent, and misbehaves when told to.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/state/desired_state.h"
#include "common/state/digest.h"

namespace sluice::fakes {

struct FakeAgentOptions {
  std::string node;
  std::string address = "127.0.0.1";
  uint16_t port = 0;  // 0: any
  std::string ca_bundle;
  std::string certificate;
  std::string key;
  // What it says it knows. Of a lower one it refuses what an agent of that version would: a state that it cannot
  // digest.
  uint32_t contract = state::kContract;
};

class FakeAgent {
 public:
  struct Seen {
    int sessions = 0;  // Hellos answered with Hello
    int snapshots = 0;
    int deltas = 0;
    int refused = 0;
    int purges = 0;
    std::string operator_identity;
  };
  struct Failure {
    std::string service;
    std::string reason;
    std::string message;
  };

  static Result<std::unique_ptr<FakeAgent>> start(const FakeAgentOptions& options);
  virtual ~FakeAgent() = default;  // ends like a killed process, sessions and all
  [[nodiscard]] virtual uint16_t port() const = 0;

  [[nodiscard]] virtual Seen seen() const = 0;
  [[nodiscard]] virtual std::optional<state::DesiredState> held() const = 0;
  [[nodiscard]] virtual state::Epoch epoch() const = 0;
  // What it holds from an earlier life.
  virtual void hold(state::DesiredState state) = 0;
  virtual void forget() = 0;
  virtual void set_epoch(state::Epoch epoch) = 0;

  // Whether sessions take further messages off the stream.
  virtual void pause_reading(bool paused) = 0;
  // Whether pushes are answered; what is held back is answered when it ends.
  virtual void hold_back_acks(bool held_back) = 0;
  virtual void refuse_next_push() = 0;  // INVALID_STATE
  virtual void refuse_purges(bool refuse) = 0;
  virtual void ask_for_snapshots(bool always) = 0;                // instead of applying a delta
  virtual void fail_services(std::vector<Failure> failures) = 0;  // in every Ack from now on
  // Sent to sessions now, and to new ones after Hello.
  virtual void report(std::vector<std::string> announcing, std::vector<std::string> services_with_old_flows) = 0;
  // The same: live flows of a backend that is in the choice no more.
  virtual void report_leaving(const std::string& service, const std::string& address, uint32_t port,
                              uint64_t flows) = 0;
  virtual void report_interface(const std::string& name, const std::string& mode) = 0;
  // Announces what the state says this node is first in, as an agent does.
  virtual void announce_as_told(bool on) = 0;
  virtual void end_sessions() = 0;

  // Waits until `condition` holds; looked at whenever something of the above has changed. False at the deadline.
  virtual bool wait(const std::function<bool()>& condition,
                    std::chrono::milliseconds timeout = std::chrono::seconds(10)) = 0;
};

}  // namespace sluice::fakes
