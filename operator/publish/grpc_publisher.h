// The Publisher over gRPC. All but the public functions runs on one loop thread; gRPC's threads only post to it.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <random>
#include <set>

#include "operator/publish/content.h"
#include "operator/publish/loop.h"
#include "operator/publish/publisher.h"
#include "operator/publish/session.h"
#include "operator/publish/stream.h"
#include "operator/publish/unary.h"

namespace sluice::publish {

class GrpcPublisher final : public Publisher {
 public:
  GrpcPublisher(const Settings& settings, std::function<void()> notify)
      : settings_(settings), notify_(std::move(notify)) {}
  ~GrpcPublisher() override;
  GrpcPublisher(const GrpcPublisher&) = delete;
  GrpcPublisher& operator=(const GrpcPublisher&) = delete;
  GrpcPublisher(GrpcPublisher&&) = delete;
  GrpcPublisher& operator=(GrpcPublisher&&) = delete;

  void set_credentials(const Credentials& credentials) override;
  void set_nodes(const std::map<std::string, Endpoint>& nodes) override;
  void lead(const Term& term, std::shared_ptr<const state::DesiredState> known) override;
  void publish(std::shared_ptr<const state::DesiredState> state) override;
  void rest() override;
  [[nodiscard]] Progress progress() const override;
  std::map<std::string, Result<AgentInfo>> ask(std::chrono::milliseconds timeout) override;
  Result<StateOfAgent> fetch_state(const std::string& node, std::chrono::milliseconds timeout) override;
  std::map<std::string, Status> purge(const std::string& cluster_id, state::Epoch epoch,
                                      std::chrono::milliseconds timeout) override;

 private:
  struct Link {
    std::string node;
    Endpoint endpoint;
    std::shared_ptr<Stream> stream;
    uint64_t attempt = 0;   // which dial an event belongs to
    unsigned failures = 0;  // in a row
    bool greeted = false;
    bool writing = false;
    std::string closed_because;  // our own reason, said before the stream's
    std::string told;            // why it was not reached when that was last logged
    Session session;
    AgentProgress progress;
  };
  using LinkRef = std::shared_ptr<Link>;

  void dial(const LinkRef& link);
  void dial_later(const LinkRef& link);
  void end_session(Link& link, const std::string& reason);
  void closed(const LinkRef& link, const grpc::Status& status);
  void read(const LinkRef& link, const node::v1::AgentMessage& message);
  void greeted(Link& link, const node::v1::AgentHello& hello);
  Session::Verdict acked(Link& link, const node::v1::Ack& ack);
  Session::Verdict refused(Link& link, const node::v1::Refused& refused);
  void push(Link& link);
  void refresh(Link& link);
  // Nobody knows yet which version an agent is of that was not reached.
  static uint32_t contract_of(const Link& link) {
    return link.greeted ? std::min(link.progress.info.contract, state::kContract) : state::kContract;
  }
  // The one of the contract that its agent knows.
  History& history_for(const Link& link);
  [[nodiscard]] std::set<state::Digest> held_by_agents() const;
  Dialling dialling();
  // Runs `task` on the loop if `link` is still the node's and `attempt` its newest dial.
  void post_for(const LinkRef& link, uint64_t attempt, std::function<void()> task);

  const Settings settings_;
  const std::function<void()> notify_;

  // Of the loop thread.
  std::map<std::string, LinkRef> links_;
  std::optional<Credentials> credentials_;
  std::optional<Term> term_;
  // By contract: other than our own only while agents of an earlier version are connected, in an upgrade.
  std::map<uint32_t, History> histories_;
  std::shared_ptr<const state::DesiredState> newest_;  // published in this term; may be null
  std::optional<state::Digest> known_;                 // what the term began with
  std::minstd_rand random_{std::random_device{}()};

  mutable std::mutex mutex_;
  std::condition_variable stream_gone_;
  Progress progress_;        // under mutex_
  size_t open_streams_ = 0;  // under mutex_

  Loop loop_;  // last: its thread ends before what it uses
};

}  // namespace sluice::publish
