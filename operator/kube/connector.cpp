// All there is of cpprestsdk. Its rules, learnt the hard way: one thread in its pool, which is never blocked; every
// task's outcome is looked at; what is begun is cancelled, never abandoned; answers go into a streambuf of our own,
// which holds the server back when nobody reads.
#include "operator/kube/connector.h"

// cpprestsdk would define U(x), which others use as a name. NOLINTNEXTLINE(bugprone-reserved-identifier): its own
#define _TURN_OFF_PLATFORM_STRING
#include <cpprest/astreambuf.h>
#include <cpprest/http_client.h>
#include <netdb.h>
#include <pplx/threadpool.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <mutex>
#include <optional>
#include <utility>

#include "common/log/spdlog.h"

namespace sluice::kube {
namespace {

using boost::asio::ip::tcp;
namespace http = web::http;

constexpr const char* kNotWritten = "Failed to write request";  // so the library's messages begin then

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
  pplx::task<std::size_t> _putn(const uint8_t* data, std::size_t count) override {
    if (exchange_->put(reinterpret_cast<const char*>(data), count)) return pplx::task_from_result(count);
    pplx::task_completion_event<std::size_t> room;  // the next piece is read from the socket when there is room again
    exchange_->when_there_is_room([room, count] { room.set(count); });
    return pplx::create_task(room);
  }
  pplx::task<int_type> _putc(uint8_t byte) override {
    return _putn(&byte, 1).then([byte](std::size_t) { return static_cast<int_type>(byte); });
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

void observe_head(const std::shared_ptr<Exchange>& exchange, const std::shared_ptr<TlsFailure>& tls,
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

Status check_server(const ClusterConfig& config) {
  const auto invalid = [&config](ErrorKind kind, std::string reason) {
    return fail(kind, Exchange::kOperation, config.server, std::move(reason));
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

// With more threads the library's timeout races its use of the TLS socket. Later calls throw: it is set by then.
void start_one_thread() {
  static std::once_flag once;
  std::call_once(once, [] {
    try {
      crossplat::threadpool::initialize_with_threads(1);
    } catch (const std::exception& error) {
      spdlog::error("the HTTP library's threads were started before the Kubernetes client: {}", error.what());
    }
  });
}

}  // namespace

Result<std::shared_ptr<Connector>> Connector::create(const ClusterConfig& config, const std::string& user_agent) {
  start_one_thread();
  if (auto checked = check_server(config); !checked) return tl::unexpected(checked.error());
  auto source = CredentialSource::create(config);
  if (!source) return tl::unexpected(source.error());
  std::shared_ptr<Connector> connector(new Connector(config, *source, user_agent));
  try {
    boost::asio::ssl::context probe(boost::asio::ssl::context::tls_client);
    const Status usable =
        configure_tls(probe.native_handle(), *connector->credentials(), std::make_shared<TlsFailure>());
    if (!usable) return tl::unexpected(usable.error());
  } catch (const std::exception& error) {
    return fail(ErrorKind::internal, Exchange::kOperation, config.server, error.what());
  }
  return connector;
}

Connector::Connector(ClusterConfig config, std::shared_ptr<CredentialSource> source, std::string user_agent)
    : config_(std::move(config)),
      source_(std::move(source)),
      user_agent_(std::move(user_agent)),
      host_(web::uri(config_.server).host()),
      secure_(web::uri(config_.server).scheme() == "https"),
      tls_(std::make_shared<TlsFailure>()),
      family_(AF_UNSPEC) {}

std::shared_ptr<const Credentials> Connector::credentials() {
  auto now = std::make_shared<const Credentials>(source_->current(std::chrono::steady_clock::now()));
  if (family_ == AF_UNSPEC) family_ = family_of(host_);
  return now;
}

void Connector::connection_failed() {
  family_ = AF_UNSPEC;
}

std::shared_ptr<Connector::Client> Connector::client(const std::shared_ptr<const Credentials>& credentials,
                                                     std::chrono::milliseconds silence) {
  http::client::http_client_config settings;
  settings.set_timeout(std::chrono::duration_cast<std::chrono::microseconds>(silence));
  settings.set_max_redirects(0);
  settings.set_validate_certificates(!config_.insecure_skip_tls_verify);
  settings.set_ssl_context_callback([credentials, tls = tls_](boost::asio::ssl::context& context) {
    const Status done = configure_tls(context.native_handle(), *credentials, tls);
    if (!done) throw std::runtime_error(done.error().message());
  });
  // The socket is opened here so that it has its options before it connects. Should the name lead to the other family
  // first, the library goes on with a socket of its own, without them.
  settings.set_nativehandle_options([secure = secure_, family = family_.load()](http::client::native_handle handle) {
    auto& socket = secure ? static_cast<boost::asio::ssl::stream<tcp::socket&>*>(handle)->next_layer()
                          : *static_cast<tcp::socket*>(handle);
    boost::system::error_code ignored;
    if (!socket.is_open() && family != AF_UNSPEC) socket.open(family == AF_INET ? tcp::v4() : tcp::v6(), ignored);
    if (socket.is_open()) configure_socket(socket.native_handle());
  });
  return std::make_shared<http::client::http_client>(web::uri(config_.server), settings);
}

std::shared_ptr<Exchange> Connector::begin(Client& client, const Credentials& credentials, const Request& request,
                                           std::size_t limit) {
  const pplx::cancellation_token_source source;
  auto exchange = std::make_shared<Exchange>(limit, [source] { source.cancel(); });
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
    client.request(message, source.get_token())
        .then(
            [exchange, tls = tls_](const pplx::task<http::http_response>& task) { observe_head(exchange, tls, task); });
  } catch (...) {
    exchange->ended(describe(*tls_));
  }
  return exchange;
}

bool never_sent(const Error& error) {
  return error.reason.find(kNotWritten) != std::string::npos;
}

}  // namespace sluice::kube
