// The rules of calls and streams: how long each is waited for, what is tried again, and on which connections they go.
#include "operator/kube/transport.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <semaphore>
#include <stop_token>
#include <utility>

#include "operator/kube/connector.h"
#include "operator/kube/exchange.h"
#include "operator/kube/line_splitter.h"

namespace sluice::kube {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kStreamBuffer = 1 << 20;  // bytes of an answer that may wait for their reader
constexpr std::size_t kMaxLine = 32 << 20;
constexpr std::ptrdiff_t kShortCalls = 8;
constexpr int kUnauthorized = 401;

class HttpStream final : public Stream {
 public:
  HttpStream(std::shared_ptr<Connector> connector, Request request)
      : connector_(std::move(connector)), request_(std::move(request)), splitter_(kMaxLine) {}
  ~HttpStream() override { cancel(); }
  HttpStream(const HttpStream&) = delete;
  HttpStream& operator=(const HttpStream&) = delete;

  Result<Response> head() override {
    begin();
    auto response = read_head();
    if (response && response->status == kUnauthorized) {
      connector_->invalidate();
      begin();
      response = read_head();
    }
    if (!response) connector_->connection_failed();
    return response;
  }

  Result<Next> next(Clock::time_point deadline) override {
    for (;;) {
      if (auto line = splitter_.next()) return Next{Next::Kind::line, std::move(*line)};
      if (splitter_.overlong()) {
        cancel();
        return fail(ErrorKind::unavailable, Exchange::kOperation, "", "a line of more than 32 MiB");
      }
      const auto exchange = current();
      std::string piece;
      if (!exchange->take(deadline, piece)) return Next{Next::Kind::timeout, {}};
      if (!piece.empty()) {
        splitter_.add(piece);
        continue;
      }
      const auto end = exchange->end();
      if (!end) continue;
      if (!*end) return tl::unexpected(end->error());
      if (splitter_.partial())
        return fail(ErrorKind::unavailable, Exchange::kOperation, "", "the answer ends within a line");
      return Next{Next::Kind::end, {}};
    }
  }

  void cancel() override {
    std::shared_ptr<Exchange> exchange;
    {
      const std::lock_guard lock(mutex_);
      canceled_ = true;
      exchange = exchange_;
    }
    if (exchange) exchange->cancel();
  }

 private:
  void begin() {
    const auto credentials = connector_->credentials();
    const std::lock_guard lock(mutex_);
    // A client, and with it a connection, of its own.
    client_ = connector_->client(credentials, request_.timeout);
    exchange_ = connector_->begin(*client_, *credentials, request_, kStreamBuffer);
    if (canceled_) exchange_->cancel();
  }
  std::shared_ptr<Exchange> current() {
    const std::lock_guard lock(mutex_);
    return exchange_;
  }
  Result<Response> read_head() {
    const auto exchange = current();
    const auto deadline = Clock::now() + std::min(request_.timeout, request_.head_timeout);
    bool came = exchange->wait_head(deadline);
    if (came) {
      auto response = exchange->head();
      if (!response || response->ok()) return response;
      came = exchange->wait_end(deadline);
      if (came) return exchange->answer();
    }
    exchange->cancel();
    return fail(ErrorKind::unavailable, Exchange::kOperation, request_.path, "no answer in time");
  }

  const std::shared_ptr<Connector> connector_;
  const Request request_;
  LineSplitter splitter_;
  std::mutex mutex_;
  bool canceled_ = false;
  std::shared_ptr<Connector::Client> client_;
  std::shared_ptr<Exchange> exchange_;
};

class HttpTransport final : public Transport {
 public:
  explicit HttpTransport(std::shared_ptr<Connector> connector) : connector_(std::move(connector)) {}

  Result<Response> send(const Request& request) override {
    const auto deadline = Clock::now() + request.timeout;
    if (!places_.try_acquire_until(deadline)) {
      return fail(ErrorKind::unavailable, Exchange::kOperation, request.path, "too many calls under way");
    }
    auto response = attempt(request, deadline);
    // A kept-alive connection that the server has closed shows only when it is used.
    if (!response && (request.method == "GET" || never_sent(response.error())) && Clock::now() < deadline &&
        !request.stop.stop_requested()) {
      response = attempt(request, deadline);
    }
    if (response && response->status == kUnauthorized) {
      connector_->invalidate();
      response = attempt(request, deadline);
    }
    places_.release();
    if (!response) response.error().object = request.method + " " + request.path;
    return response;
  }

  std::unique_ptr<Stream> stream(const Request& request) override {
    return std::make_unique<HttpStream>(connector_, request);
  }

 private:
  Result<Response> attempt(const Request& request, Clock::time_point deadline) {
    const auto credentials = connector_->credentials();
    const auto client = shared_client(credentials);
    const auto exchange = connector_->begin(*client, *credentials, request, std::numeric_limits<std::size_t>::max());
    const std::stop_callback give_up(request.stop, [&exchange] { exchange->cancel(); });
    if (!exchange->wait_end(deadline)) {
      exchange->cancel();
      return fail(ErrorKind::unavailable, Exchange::kOperation, "", "no answer in time");
    }
    auto response = exchange->answer();
    if (!response) {
      connector_->connection_failed();
      const std::lock_guard lock(mutex_);
      if (client_ == client) client_.reset();  // what else is in its pool is no better
    }
    return response;
  }

  // New connections for a new certificate or CA: what is in the old client's pool dies with it.
  std::shared_ptr<Connector::Client> shared_client(const std::shared_ptr<const Credentials>& credentials) {
    const std::lock_guard lock(mutex_);
    const auto same = [&] {
      return client_ && made_with_->ca == credentials->ca &&
             made_with_->client_certificate == credentials->client_certificate;
    };
    if (!same()) {
      made_with_ = credentials;
      client_ = connector_->client(credentials, std::chrono::minutes(5));
    }
    return client_;
  }

  const std::shared_ptr<Connector> connector_;
  std::counting_semaphore<kShortCalls> places_{kShortCalls};
  std::mutex mutex_;
  std::shared_ptr<const Credentials> made_with_;
  std::shared_ptr<Connector::Client> client_;
};

}  // namespace

Result<std::shared_ptr<Transport>> make_transport(const ClusterConfig& config, const std::string& user_agent) {
  auto connector = Connector::create(config, user_agent);
  if (!connector) return tl::unexpected(connector.error());
  return std::shared_ptr<Transport>(std::make_shared<HttpTransport>(std::move(*connector)));
}

}  // namespace sluice::kube
