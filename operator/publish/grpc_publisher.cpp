#include "operator/publish/grpc_publisher.h"

#include <grpc/support/log.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "common/api/convert.h"
#include "common/log/spdlog.h"
#include "operator/publish/decode.h"

namespace sluice::publish {

namespace {

// A session that lasted this long was a good one: the next dial does not wait longer than the first.
constexpr std::chrono::seconds kHealthySession{10};
constexpr unsigned kMostDoublings = 16;

Bytes make_hello(const Term& term, const std::string& node) {
  node::v1::OperatorMessage message;
  auto& hello = *message.mutable_hello();
  hello.set_cluster_id(term.cluster_id);
  hello.set_epoch(term.epoch);
  hello.set_identity(term.identity);
  hello.set_version(term.version);
  hello.set_node(node);
  return std::make_shared<const std::string>(message.SerializeAsString());
}

// gRPC says the same of every failed dial; what of it helps is what follows.
std::string reason_of(const grpc::Status& status) {
  constexpr std::string_view kPreamble = "failed to connect to all addresses; last error: ";
  std::string reason = status.error_message();
  if (reason.starts_with(kPreamble)) {
    reason.erase(0, kPreamble.size());
  }
  return reason.empty() ? "the agent ended the session" : reason;
}

// What gRPC would print to stderr in a format of its own. Failed handshakes are in the progress already.
void log_for_grpc(gpr_log_func_args* line) {
  spdlog::debug("grpc: {}", line->message);
}

}  // namespace

std::unique_ptr<Publisher> Publisher::create(const Settings& settings, std::function<void()> notify) {
  gpr_set_log_function(log_for_grpc);
  return std::make_unique<GrpcPublisher>(settings, std::move(notify));
}

GrpcPublisher::~GrpcPublisher() {
  loop_.call([this] {
    term_.reset();
    for (auto& [node, link] : links_) {
      end_session(*link, "the operator stops");
    }
  });
  std::unique_lock lock(mutex_);
  stream_gone_.wait(lock, [this] { return open_streams_ == 0; });
  lock.unlock();
  loop_.stop();
}

void GrpcPublisher::set_credentials(const Credentials& credentials) {
  loop_.post([this, credentials] {
    if (credentials_ == credentials) {
      return;
    }
    credentials_ = credentials;
    for (auto& [node, link] : links_) {
      link->failures = 0;
      if (!link->stream) {
        dial(link);
      }
    }
  });
}

void GrpcPublisher::set_nodes(const std::map<std::string, Endpoint>& nodes) {
  loop_.post([this, nodes] {
    std::erase_if(links_, [&](const auto& entry) {
      const auto node = nodes.find(entry.first);
      if (node != nodes.end() && node->second.address == entry.second->endpoint.address &&
          node->second.port == entry.second->endpoint.port) {
        return false;
      }
      end_session(*entry.second, "the node is gone");
      ++entry.second->attempt;
      return true;
    });
    for (const auto& [node, endpoint] : nodes) {
      if (auto& link = links_[node]; !link) {
        link = std::make_shared<Link>();
        link->node = node;
        link->endpoint = endpoint;
        link->progress.since = Clock::now();
        link->progress.error = "not reached yet";
        dial(link);
        refresh(*link);
      } else if (const bool was_ready = std::exchange(link->endpoint.ready, endpoint.ready);
                 endpoint.ready && !was_ready && !link->stream) {
        link->failures = 0;  // of the time when it was away
        dial(link);
      }
    }
    size_t gone = 0;
    {
      const std::lock_guard lock(mutex_);
      gone = std::erase_if(progress_, [&](const auto& entry) { return !links_.contains(entry.first); });
    }
    if (gone > 0) {
      notify_();
    }
  });
}

void GrpcPublisher::lead(const Term& term, std::shared_ptr<const state::DesiredState> known) {
  loop_.post([this, term, known = std::move(known)] {
    term_ = term;
    histories_.clear();
    newest_.reset();
    known_.reset();
    if (known) {
      histories_[state::kContract].remember(known);
      known_ = state::digest(*known);
    }
    for (auto& [node, link] : links_) {
      end_session(*link, "a new term of leadership");
      link->failures = 0;
      link->progress.since = Clock::now();  // how long it was away is counted anew in each term
      link->progress.refusal = Refusal::none;
      link->progress.refusal_message.clear();
      link->progress.acked_revision = 0;
      dial(link);
      refresh(*link);
    }
  });
}

void GrpcPublisher::publish(std::shared_ptr<const state::DesiredState> state) {
  loop_.post([this, state = std::move(state)] {
    if (!term_) {
      return;
    }
    newest_ = state;
    std::erase_if(histories_, [this](const auto& entry) {
      return entry.first != state::kContract && std::ranges::none_of(links_, [&](const auto& node) {
               return node.second->greeted && contract_of(*node.second) == entry.first;
             });
    });
    histories_.try_emplace(state::kContract);
    for (auto& [contract, history] : histories_) {
      history.set_newest(state, held_by_agents());
    }
    for (auto& [node, link] : links_) {
      push(*link);
      refresh(*link);
    }
  });
}

void GrpcPublisher::rest() {
  loop_.call([this] {
    term_.reset();
    histories_.clear();
    newest_.reset();
    for (auto& [node, link] : links_) {
      end_session(*link, "not leading");
      refresh(*link);
    }
  });
}

Progress GrpcPublisher::progress() const {
  const std::lock_guard lock(mutex_);
  return progress_;
}

void GrpcPublisher::dial(const LinkRef& link) {
  if (!term_ || !credentials_) {
    if (term_ && !link->progress.connected) {
      link->progress.error = "the operator has no certificate yet";
    }
    return;
  }
  const auto attempt = ++link->attempt;
  link->closed_because.clear();
  {
    const std::lock_guard lock(mutex_);
    ++open_streams_;
  }
  Stream::Handlers handlers;
  handlers.read = [this, link, attempt](node::v1::AgentMessage message) {
    post_for(link, attempt, [this, link, message = std::move(message)] { read(link, message); });
  };
  handlers.written = [this, link, attempt] {
    post_for(link, attempt, [this, link] {
      link->writing = false;
      push(*link);
    });
  };
  handlers.closed = [this, link, attempt](const grpc::Status& status, std::shared_ptr<Stream> stream) {
    loop_.post([this, link, attempt, status, stream = std::move(stream)] {
      if (link->attempt == attempt) {
        closed(link, status);
      }
    });
    const std::lock_guard lock(mutex_);
    --open_streams_;
    stream_gone_.notify_all();
  };
  link->writing = true;  // the Hello
  link->stream = Stream::open(make_channel(link->endpoint, *credentials_, settings_), make_hello(*term_, link->node),
                              std::move(handlers));
  loop_.post_at(Clock::now() + settings_.dial_timeout, [this, link, attempt] {
    if (link->attempt == attempt && link->stream && !link->greeted) {
      link->closed_because = "no answer to the Hello in time";
      link->stream->close();
    }
  });
}

void GrpcPublisher::dial_later(const LinkRef& link) {
  const auto doubled = settings_.backoff_min * (1LL << std::min(link->failures, kMostDoublings));
  const auto delay = std::min<std::chrono::milliseconds>(doubled, settings_.backoff_max);
  ++link->failures;
  std::uniform_int_distribution<int64_t> jitter(delay.count() / 2, delay.count());
  const auto attempt = link->attempt;
  loop_.post_at(Clock::now() + std::chrono::milliseconds(jitter(random_)), [this, link, attempt] {
    if (link->attempt == attempt && !link->stream) {
      dial(link);
    }
  });
}

// What comes from the stream later belongs to an earlier attempt and is dropped.
void GrpcPublisher::end_session(Link& link, const std::string& reason) {
  ++link.attempt;
  if (link.stream) {
    link.stream->close();
    link.stream.reset();
  }
  if (link.progress.connected) {
    link.progress.connected = false;
    link.progress.since = Clock::now();
  }
  link.progress.error = reason;
  link.greeted = false;
  link.writing = false;
  link.session = {};
}

void GrpcPublisher::closed(const LinkRef& link, const grpc::Status& status) {
  if (link->progress.connected && Clock::now() - link->progress.since >= kHealthySession) {
    link->failures = 0;
  }
  std::string reason = link->closed_because;
  if (reason.empty()) {
    reason = reason_of(status);
  }
  // The same failure again and again is told once.
  spdlog::log(reason == link->told ? spdlog::level::debug : spdlog::level::warn, "node {}: agent {}: {}", link->node,
              link->greeted ? "lost" : "not reached", reason);
  link->told = reason;
  link->stream.reset();
  end_session(*link, reason);
  refresh(*link);
  dial_later(link);
}

void GrpcPublisher::read(const LinkRef& link, const node::v1::AgentMessage& message) {
  auto verdict = Session::Verdict::go_on;
  switch (message.message_case()) {
    case node::v1::AgentMessage::kHello:
      greeted(*link, message.hello());
      break;
    case node::v1::AgentMessage::kAck:
      verdict = acked(*link, message.ack());
      break;
    case node::v1::AgentMessage::kNeedSnapshot:
      verdict = link->session.needs_snapshot(decode_digest(message.need_snapshot().have()));
      break;
    case node::v1::AgentMessage::kRefused:
      verdict = refused(*link, message.refused());
      break;
    case node::v1::AgentMessage::kStatus:
      link->progress.status = decode(message.status());
      break;
    default:
      break;  // of a later version
  }
  if (verdict == Session::Verdict::close) {
    link->stream->close();
  } else {
    push(*link);
    link->stream->read();
  }
  refresh(*link);
  for (auto& [contract, history] : histories_) {
    history.keep_only(held_by_agents());
  }
}

void GrpcPublisher::greeted(Link& link, const node::v1::AgentHello& hello) {
  auto& progress = link.progress;
  progress.info = decode(hello);
  progress.refusal = Refusal::none;
  progress.refusal_message.clear();
  progress.error.clear();
  progress.connected = true;
  progress.since = Clock::now();
  progress.acked_revision = 0;
  link.greeted = true;
  link.told.clear();
  spdlog::info("node {}: agent {} connected, with epoch {} and revision {}", link.node, progress.info.version,
               progress.info.epoch, progress.info.revision);
  link.session.opened(progress.info.digest);
}

Session::Verdict GrpcPublisher::acked(Link& link, const node::v1::Ack& ack) {
  auto& info = link.progress.info;
  info.epoch = std::max(info.epoch, ack.epoch());
  info.revision = ack.revision();
  info.digest = decode_digest(ack.digest());
  info.failures = decode(ack.failures());
  if (!info.digest) {
    link.closed_because = "the agent acknowledged without a digest";
    return Session::Verdict::close;
  }
  const auto verdict = link.session.acked(*info.digest, ack.epoch(), ack.revision());
  if (verdict == Session::Verdict::close) {
    link.closed_because = "the agent acknowledged another content than it was sent";
  } else {
    link.progress.refusal = Refusal::none;
    link.progress.refusal_message.clear();
  }
  return verdict;
}

Session::Verdict GrpcPublisher::refused(Link& link, const node::v1::Refused& refused) {
  auto& progress = link.progress;
  progress.refusal = decode(refused.reason());
  progress.refusal_message = refused.message();
  progress.highest_epoch = refused.highest_epoch();
  if (link.greeted && progress.refusal == Refusal::invalid_state) {
    link.session.refused();
    return Session::Verdict::go_on;
  }
  link.closed_because = "refused: " + refused.message();
  link.failures = kMostDoublings;  // it will say the same again until something changes
  return Session::Verdict::close;
}

void GrpcPublisher::push(Link& link) {
  auto& history = history_for(link);
  auto* newest = history.newest();
  if (!term_ || !newest || !link.greeted || link.writing || !link.stream) {
    return;
  }
  auto how = link.session.next(newest->digest());
  if (how == Session::Push::nothing) {
    return;
  }
  Bytes bytes;
  if (how == Session::Push::delta) {
    bytes = history.delta(*link.session.held());
  }
  if (!bytes) {
    how = Session::Push::snapshot;
    bytes = newest->snapshot();
  }
  link.session.pushed(newest->digest(), newest->state().epoch, newest->state().revision, how);
  link.writing = true;
  link.stream->write(bytes);
}

void GrpcPublisher::refresh(Link& link) {
  auto& progress = link.progress;
  auto& history = history_for(link);
  const auto* newest = history.newest();
  const auto& held = link.session.held();
  const bool was = progress.up_to_date;
  progress.up_to_date = newest != nullptr && held == newest->digest();
  if (was && !progress.up_to_date) {
    progress.lagging_since = Clock::now();
  }
  if (held) {
    progress.acked_revision = std::max(progress.acked_revision, history.revision_of(*held).value_or(0));
  }
  if (const auto mine = links_.find(link.node); mine == links_.end() || mine->second.get() != &link) {
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    const auto [known, fresh] = progress_.try_emplace(link.node);
    if (!fresh && known->second == progress) {
      return;
    }
    known->second = progress;
  }
  notify_();
}

History& GrpcPublisher::history_for(const Link& link) {
  const auto [found, fresh] = histories_.try_emplace(contract_of(link), contract_of(link));
  if (fresh && newest_) {
    found->second.set_newest(newest_, held_by_agents());
  }
  return found->second;
}

// Also what an agent held when it was last heard of, and what agents that have not been heard yet may hold.
std::set<state::Digest> GrpcPublisher::held_by_agents() const {
  std::set<state::Digest> held;
  for (const auto& [node, link] : links_) {
    const auto in_flight = link->session.in_flight();
    if (in_flight) {
      held.insert(*in_flight);
    }
    if (link->progress.info.digest) {
      held.insert(*link->progress.info.digest);
    } else if (known_ && !link->greeted && link->failures == 0) {
      held.insert(*known_);
    }
  }
  return held;
}

Dialling GrpcPublisher::dialling() {
  Dialling dialling;
  dialling.settings = settings_;
  loop_.call([&] {
    dialling.credentials = credentials_.value_or(Credentials{});
    for (const auto& [node, link] : links_) {
      dialling.nodes.emplace(node, link->endpoint);
    }
  });
  return dialling;
}

void GrpcPublisher::post_for(const LinkRef& link, uint64_t attempt, std::function<void()> task) {
  loop_.post([link, attempt, task = std::move(task)] {
    if (link->attempt == attempt) {
      task();
    }
  });
}

std::map<std::string, Result<AgentInfo>> GrpcPublisher::ask(std::chrono::milliseconds timeout) {
  std::map<std::string, Result<AgentInfo>> answers;
  for (const auto& [node, reply] : get_state(dialling(), true, timeout)) {
    if (reply) {
      answers.emplace(node, decode(reply->agent()));
    } else {
      answers.emplace(node, tl::unexpected(reply.error()));
    }
  }
  return answers;
}

Result<StateOfAgent> GrpcPublisher::fetch_state(const std::string& node, std::chrono::milliseconds timeout) {
  auto from = dialling();
  std::erase_if(from.nodes, [&](const auto& entry) { return entry.first != node; });
  const auto replies = get_state(from, false, timeout);
  if (replies.empty()) {
    return fail(ErrorKind::not_found, "fetch the state of agent", node, "no such node");
  }
  const auto& reply = replies.begin()->second;
  if (!reply) {
    return tl::unexpected(reply.error());
  }
  StateOfAgent held{.agent = decode(reply->agent()), .state = std::nullopt};
  if (!reply->state().empty()) {
    auto state = api::parse(reply->state());
    if (!state) {
      return tl::unexpected(state.error());
    }
    held.state = std::move(*state);
  }
  return held;
}

std::map<std::string, Status> GrpcPublisher::purge(const std::string& cluster_id, state::Epoch epoch,
                                                   std::chrono::milliseconds timeout) {
  node::v1::PurgeRequest request;
  request.set_cluster_id(cluster_id);
  request.set_epoch(epoch);
  return publish::purge(dialling(), request, timeout);
}

}  // namespace sluice::publish
