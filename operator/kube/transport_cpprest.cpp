// The Transport on cpprestsdk's client, and all there is of cpprestsdk. Its rules, learnt the hard way: one thread in
// its pool, which is never blocked; every task's outcome is looked at; what is begun is cancelled, never abandoned;
// answers go into a streambuf of our own, which holds the server back when nobody reads.
// cpprestsdk would define U(x), which others use as a name. NOLINTNEXTLINE(bugprone-reserved-identifier): its own
#define _TURN_OFF_PLATFORM_STRING
#include <cpprest/astreambuf.h>
#include <cpprest/http_client.h>
#include <netdb.h>
#include <pplx/threadpool.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <condition_variable>
#include <mutex>
#include <semaphore>
#include <stop_token>

#include "operator/kube/connection_options.h"
#include "operator/kube/line_splitter.h"
#include "operator/kube/transport.h"

namespace sluice::kube {
namespace {

using boost::asio::ip::tcp;
using Clock = std::chrono::steady_clock;
namespace http = web::http;

constexpr std::size_t kStreamBuffer = 1 << 20;  // bytes of an answer that may wait for their reader
constexpr std::size_t kMaxLine = 32 << 20;
constexpr std::ptrdiff_t kShortCalls = 8;
constexpr int kUnauthorized = 401;
constexpr const char* kOperation = "talk to the API server";
constexpr const char* kNotWritten = "Failed to write request";  // so the library's messages begin then

// One request and its answer, between cpprestsdk's thread, which fills it, and a thread of ours, which empties it.
// Shared by both: a call that is given up does not wait for the library to notice.
class Exchange {
 public:
  explicit Exchange(std::size_t limit) : limit_(limit) {}

  // --- the library's side
  pplx::task<std::size_t> put(const uint8_t* data, std::size_t size) {
    const std::lock_guard lock(mutex_);
    if (!canceled_) buffer_.append(reinterpret_cast<const char*>(data), size);
    changed_.notify_all();
    if (canceled_ || buffer_.size() < limit_) return pplx::task_from_result(size);
    room_.emplace();  // the next piece is read from the socket when there is room again
    held_ = size;
    return pplx::create_task(*room_);
  }
  void answered(int status, std::optional<std::chrono::seconds> retry_after) {
    const std::lock_guard lock(mutex_);
    head_ = Response{status, {}, retry_after};
    changed_.notify_all();
  }
  void ended(std::string error) {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    error_ = std::move(error);
    changed_.notify_all();
  }

  // --- our side
  // Waits for the status, or the end. False at the deadline.
  bool wait_head(Clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, deadline, [this] { return head_ || ended_ || canceled_; });
  }
  bool wait_end(Clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, deadline, [this] { return ended_ || canceled_; });
  }
  // Takes what has come; waits while that is nothing. False at the deadline.
  bool take(Clock::time_point deadline, std::string& out) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_until(lock, deadline, [this] { return !buffer_.empty() || ended_ || canceled_; })) return false;
    out = std::exchange(buffer_, {});
    const auto room = std::exchange(room_, std::nullopt);
    lock.unlock();
    if (room) room->set(held_);  // the library reads on
    return true;
  }
  // The complete answer, after wait_end().
  Result<Response> answer() {
    const std::lock_guard lock(mutex_);
    if (auto broken = failure(); !broken) return tl::unexpected(broken.error());
    Response response = *head_;
    response.body = std::exchange(buffer_, {});
    return response;
  }
  // The status line, after wait_head().
  Result<Response> head() {
    const std::lock_guard lock(mutex_);
    if (head_) return *head_;
    return tl::unexpected(failure().error());
  }
  // The end, if that is reached: a Status that says how. Nothing while it goes on.
  std::optional<Status> end() {
    const std::lock_guard lock(mutex_);
    if (!ended_ && !canceled_) return std::nullopt;
    return failure();
  }
  void cancel() {
    std::optional<pplx::task_completion_event<std::size_t>> room;
    {
      const std::lock_guard lock(mutex_);
      canceled_ = true;
      buffer_.clear();
      room.swap(room_);
      changed_.notify_all();
    }
    source_.cancel();  // closes the socket, on this thread
    if (room) room->set(held_);
  }
  pplx::cancellation_token token() { return source_.get_token(); }

 private:
  Status failure() const {
    if (canceled_) return fail(ErrorKind::unavailable, kOperation, "", "canceled");
    if (!error_.empty()) return fail(ErrorKind::unavailable, kOperation, "", error_);
    if (!head_) return fail(ErrorKind::unavailable, kOperation, "", "no answer");
    return {};
  }

  const std::size_t limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string buffer_;
  std::optional<pplx::task_completion_event<std::size_t>> room_;
  std::size_t held_ = 0;
  std::optional<Response> head_;
  bool ended_ = false;
  bool canceled_ = false;
  std::string error_;
  pplx::cancellation_token_source source_;
};

// Write-only; everything but writing is the least that the interface admits.
class Sink final : public concurrency::streams::details::streambuf_state_manager<uint8_t> {
 public:
  explicit Sink(std::shared_ptr<Exchange> exchange)
      : streambuf_state_manager(std::ios_base::out), exchange_(std::move(exchange)) {}

  bool can_seek() const override { return false; }
  bool has_size() const override { return false; }
  std::size_t buffer_size(std::ios_base::openmode) const override { return 0; }
  void set_buffer_size(std::size_t, std::ios_base::openmode) override {}
  std::size_t in_avail() const override { return 0; }
  pos_type getpos(std::ios_base::openmode) const override { return static_cast<pos_type>(traits::eof()); }
  pos_type seekpos(pos_type, std::ios_base::openmode) override { return static_cast<pos_type>(traits::eof()); }
  pos_type seekoff(off_type, std::ios_base::seekdir, std::ios_base::openmode) override {
    return static_cast<pos_type>(traits::eof());
  }
  bool acquire(uint8_t*& data, std::size_t& count) override {
    data = nullptr;
    count = 0;
    return false;
  }
  void release(uint8_t*, std::size_t) override {}

 protected:
  pplx::task<std::size_t> _putn(const uint8_t* data, std::size_t count) override { return exchange_->put(data, count); }
  pplx::task<int_type> _putc(uint8_t byte) override {
    return exchange_->put(&byte, 1).then([byte](std::size_t) { return static_cast<int_type>(byte); });
  }
  pplx::task<bool> _sync() override { return pplx::task_from_result(true); }
  pplx::task<int_type> _bumpc() override { return pplx::task_from_result<int_type>(traits::eof()); }
  int_type _sbumpc() override { return traits::eof(); }
  pplx::task<int_type> _getc() override { return pplx::task_from_result<int_type>(traits::eof()); }
  int_type _sgetc() override { return traits::eof(); }
  pplx::task<int_type> _nextc() override { return pplx::task_from_result<int_type>(traits::eof()); }
  pplx::task<int_type> _ungetc() override { return pplx::task_from_result<int_type>(traits::eof()); }
  pplx::task<std::size_t> _getn(uint8_t*, std::size_t) override { return pplx::task_from_result<std::size_t>(0); }
  std::size_t _scopy(uint8_t*, std::size_t) override { return 0; }
  uint8_t* _alloc(std::size_t) override { return nullptr; }
  void _commit(std::size_t) override {}

 private:
  std::shared_ptr<Exchange> exchange_;
};

std::optional<std::chrono::seconds> retry_after_of(const http::http_headers& headers) {
  std::string text;
  if (!headers.match("Retry-After", text) || text.empty() || text.size() > 6) return std::nullopt;
  int64_t seconds = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    seconds = seconds * 10 + (c - '0');
  }
  return std::chrono::seconds(seconds);
}

// What the library threw, in words. Of its error codes only the timeout says what happened: others are numbers of one
// category read as those of another.
std::string describe(TlsFailure& tls) {
  try {
    throw;
  } catch (const http::http_exception& error) {
    std::string text = error.what();
    const bool handshake = text.find("SSL handshake") != std::string::npos;
    if (const std::string reason = tls.take(); handshake && !reason.empty()) return text + ": " + reason;
    if (error.error_code() == std::errc::timed_out) return "the connection was silent for too long: " + text;
    for (const char* broke : {"Retrieving ", "Failed to read ", kNotWritten}) {
      if (handshake || text.starts_with(broke)) return "the connection broke: " + text;
    }
    return text;
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "unknown exception";
  }
}

// The server cannot have acted on a request that could not be written to its end.
bool never_sent(const Error& error) {
  return error.reason.find(kNotWritten) != std::string::npos;
}

// The family a name leads to first; AF_UNSPEC where it leads nowhere now.
int family_of(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return AF_UNSPEC;
  const int family = found == nullptr ? AF_UNSPEC : found->ai_family;
  freeaddrinfo(found);
  return family;
}

// What connections are made from. Callbacks run on the library's thread and may outlive the Transport: they share it.
class Endpoint {
 public:
  Endpoint(ClusterConfig config, std::shared_ptr<CredentialSource> source, std::string user_agent)
      : config_(std::move(config)),
        source_(std::move(source)),
        user_agent_(std::move(user_agent)),
        uri_(config_.server),
        tls_(std::make_shared<TlsFailure>()) {}

  // On our thread, before each request: what may block happens here.
  std::shared_ptr<const Credentials> credentials() {
    auto now = std::make_shared<const Credentials>(source_->current(Clock::now()));
    if (family_ == AF_UNSPEC) family_ = family_of(uri_.host());
    return now;
  }
  void invalidate() { source_->invalidate(); }

  std::shared_ptr<http::client::http_client> client(const std::shared_ptr<const Credentials>& credentials,
                                                    std::chrono::milliseconds silence) {
    http::client::http_client_config settings;
    settings.set_timeout(std::chrono::duration_cast<std::chrono::microseconds>(silence));
    settings.set_max_redirects(0);
    settings.set_validate_certificates(!config_.insecure_skip_tls_verify);
    settings.set_ssl_context_callback([credentials, tls = tls_](boost::asio::ssl::context& context) {
      const Status done = configure_tls(context.native_handle(), *credentials, tls);
      if (!done) throw std::runtime_error(done.error().message());
    });
    const bool secure = uri_.scheme() == "https";
    // The socket is opened here so that it has its options before it connects. Should the name lead to the other family
    // first, the library goes on with a socket of its own, without them.
    settings.set_nativehandle_options([secure, family = family_.load()](http::client::native_handle handle) {
      auto& socket = secure ? static_cast<boost::asio::ssl::stream<tcp::socket&>*>(handle)->next_layer()
                            : *static_cast<tcp::socket*>(handle);
      boost::system::error_code ignored;
      if (!socket.is_open() && family != AF_UNSPEC) socket.open(family == AF_INET ? tcp::v4() : tcp::v6(), ignored);
      if (socket.is_open()) configure_socket(socket.native_handle());
    });
    return std::make_shared<http::client::http_client>(uri_, settings);
  }

  std::shared_ptr<Exchange> begin(http::client::http_client& client, const Credentials& credentials,
                                  const Request& request, std::size_t limit) {
    auto exchange = std::make_shared<Exchange>(limit);
    try {
      http::http_request message(request.method);
      message.set_request_uri(request.path);
      auto& headers = message.headers();
      headers.add("Accept", "application/json");
      headers.add("User-Agent", user_agent_);
      if (!credentials.token.empty()) headers.add("Authorization", "Bearer " + credentials.token);
      // The library verifies the certificate for, and sends as SNI, what the Host header says.
      if (!config_.tls_server_name.empty()) headers.add("Host", config_.tls_server_name);
      if (!request.body.empty()) message.set_body(request.body, request.content_type);
      message.set_response_stream(concurrency::streams::basic_ostream<uint8_t>(
          concurrency::streams::streambuf<uint8_t>(std::make_shared<Sink>(exchange))));
      client.request(message, exchange->token())
          .then([exchange, tls = tls_](const pplx::task<http::http_response>& task) {
            observe_head(exchange, tls, task);
          });
    } catch (...) {
      exchange->ended(describe(*tls_));
    }
    return exchange;
  }

  // A name may lead elsewhere by now.
  void connection_failed() { family_ = AF_UNSPEC; }

 private:
  static void observe_head(const std::shared_ptr<Exchange>& exchange, const std::shared_ptr<TlsFailure>& tls,
                           const pplx::task<http::http_response>& task) {
    try {
      const http::http_response response = task.get();
      exchange->answered(response.status_code(), retry_after_of(response.headers()));
      response.content_ready().then([exchange, tls](const pplx::task<http::http_response>& body) {
        try {
          body.get();
          exchange->ended({});
        } catch (...) {
          exchange->ended(describe(*tls));
        }
      });
    } catch (...) {
      exchange->ended(describe(*tls));
    }
  }

  const ClusterConfig config_;
  const std::shared_ptr<CredentialSource> source_;
  const std::string user_agent_;
  const web::uri uri_;
  const std::shared_ptr<TlsFailure> tls_;
  std::atomic<int> family_ = AF_UNSPEC;
};

class CpprestStream final : public Stream {
 public:
  CpprestStream(std::shared_ptr<Endpoint> endpoint, Request request)
      : endpoint_(std::move(endpoint)), request_(std::move(request)), splitter_(kMaxLine) {}
  ~CpprestStream() override { cancel(); }
  CpprestStream(const CpprestStream&) = delete;
  CpprestStream& operator=(const CpprestStream&) = delete;

  Result<Response> head() override {
    begin();
    auto response = read_head();
    if (response && response->status == kUnauthorized) {
      endpoint_->invalidate();
      begin();
      response = read_head();
    }
    if (!response) endpoint_->connection_failed();
    return response;
  }

  Result<Next> next(Clock::time_point deadline) override {
    for (;;) {
      if (auto line = splitter_.next()) return Next{Next::Kind::line, std::move(*line)};
      if (splitter_.overlong()) {
        cancel();
        return fail(ErrorKind::unavailable, kOperation, "", "a line of more than 32 MiB");
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
      if (splitter_.partial()) return fail(ErrorKind::unavailable, kOperation, "", "the answer ends within a line");
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
    const auto credentials = endpoint_->credentials();
    const std::lock_guard lock(mutex_);
    // A client, and with it a connection, of its own.
    client_ = endpoint_->client(credentials, request_.timeout);
    exchange_ = endpoint_->begin(*client_, *credentials, request_, kStreamBuffer);
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
    return fail(ErrorKind::unavailable, kOperation, request_.path, "no answer in time");
  }

  const std::shared_ptr<Endpoint> endpoint_;
  const Request request_;
  LineSplitter splitter_;
  std::mutex mutex_;
  bool canceled_ = false;
  std::shared_ptr<http::client::http_client> client_;
  std::shared_ptr<Exchange> exchange_;
};

class CpprestTransport final : public Transport {
 public:
  explicit CpprestTransport(std::shared_ptr<Endpoint> endpoint) : endpoint_(std::move(endpoint)) {}

  Result<Response> send(const Request& request) override {
    const auto deadline = Clock::now() + request.timeout;
    if (!places_.try_acquire_until(deadline)) {
      return fail(ErrorKind::unavailable, kOperation, request.path, "too many calls under way");
    }
    auto response = attempt(request, deadline);
    // A kept-alive connection that the server has closed shows only when it is used.
    if (!response && (request.method == "GET" || never_sent(response.error())) && Clock::now() < deadline &&
        !request.stop.stop_requested()) {
      response = attempt(request, deadline);
    }
    if (response && response->status == kUnauthorized) {
      endpoint_->invalidate();
      response = attempt(request, deadline);
    }
    places_.release();
    if (!response) response.error().object = request.method + " " + request.path;
    return response;
  }

  std::unique_ptr<Stream> stream(const Request& request) override {
    return std::make_unique<CpprestStream>(endpoint_, request);
  }

 private:
  Result<Response> attempt(const Request& request, Clock::time_point deadline) {
    const auto credentials = endpoint_->credentials();
    const auto client = shared_client(credentials);
    const auto exchange = endpoint_->begin(*client, *credentials, request, std::numeric_limits<std::size_t>::max());
    const std::stop_callback give_up(request.stop, [&exchange] { exchange->cancel(); });
    if (!exchange->wait_end(deadline)) {
      exchange->cancel();
      return fail(ErrorKind::unavailable, kOperation, "", "no answer in time");
    }
    auto response = exchange->answer();
    if (!response) {
      endpoint_->connection_failed();
      const std::lock_guard lock(mutex_);
      if (client_ == client) client_.reset();  // what else is in its pool is no better
    }
    return response;
  }

  // New connections for a new certificate or CA: what is in the old client's pool dies with it.
  std::shared_ptr<http::client::http_client> shared_client(const std::shared_ptr<const Credentials>& credentials) {
    const std::lock_guard lock(mutex_);
    const auto same = [&] {
      return client_ && made_with_->ca == credentials->ca &&
             made_with_->client_certificate == credentials->client_certificate;
    };
    if (!same()) {
      made_with_ = credentials;
      client_ = endpoint_->client(credentials, std::chrono::minutes(5));
    }
    return client_;
  }

  const std::shared_ptr<Endpoint> endpoint_;
  std::counting_semaphore<kShortCalls> places_{kShortCalls};
  std::mutex mutex_;
  std::shared_ptr<const Credentials> made_with_;
  std::shared_ptr<http::client::http_client> client_;
};

Status check_server(const ClusterConfig& config) {
  const auto invalid = [&config](ErrorKind kind, std::string reason) {
    return fail(kind, kOperation, config.server, std::move(reason));
  };
  try {
    const web::uri uri(config.server);
    if (uri.scheme() != "https" && uri.scheme() != "http")
      return invalid(ErrorKind::invalid, "neither https:// nor http://");
    if (uri.host().empty()) return invalid(ErrorKind::invalid, "no host");
    if (uri.host().front() == '[') {
      return invalid(ErrorKind::not_supported, "an IPv6 address as the server: use a name that leads to it");
    }
  } catch (const std::exception& error) {
    return invalid(ErrorKind::invalid, error.what());
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<Transport>> make_transport(const ClusterConfig& config, const std::string& user_agent) {
  // With more threads the library's timeout races its use of the TLS socket. Later calls throw: it is set by then.
  static std::once_flag once;
  std::call_once(once, [] {
    try {
      crossplat::threadpool::initialize_with_threads(1);
    } catch (const std::exception& error) {
      spdlog::error("the HTTP library's threads were started before the Kubernetes client: {}", error.what());
    }
  });
  if (auto checked = check_server(config); !checked) return tl::unexpected(checked.error());
  auto source = CredentialSource::create(config);
  if (!source) return tl::unexpected(source.error());
  auto endpoint = std::make_shared<Endpoint>(config, *source, user_agent);
  try {
    boost::asio::ssl::context probe(boost::asio::ssl::context::tls_client);
    const Status usable =
        configure_tls(probe.native_handle(), *endpoint->credentials(), std::make_shared<TlsFailure>());
    if (!usable) return tl::unexpected(usable.error());
  } catch (const std::exception& error) {
    return fail(ErrorKind::internal, kOperation, config.server, error.what());
  }
  return std::shared_ptr<Transport>(std::make_shared<CpprestTransport>(std::move(endpoint)));
}

}  // namespace sluice::kube
