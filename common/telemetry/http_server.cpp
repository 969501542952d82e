#include "common/telemetry/http_server.h"

#include <sys/un.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <exception>
#include <filesystem>
#include <thread>
#include <utility>

namespace sluice::telemetry {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Tcp = asio::ip::tcp;
using Local = asio::local::stream_protocol;
using Generic = asio::generic::stream_protocol;  // either
using Response = http::response<http::string_body>;

constexpr std::chrono::milliseconds kAcceptPause{100};  // after accept failed, e.g. for want of file descriptors
constexpr std::chrono::milliseconds kLingerTime{1000};  // for the client to close after the reply

Response respond(int status, unsigned version, HttpReply reply, bool head) {
  Response response{static_cast<http::status>(status), version};
  response.set(http::field::content_type, reply.content_type);
  response.set(http::field::cache_control, "no-store");
  response.keep_alive(false);
  const size_t size = reply.body.size();
  if (!head) response.body() = std::move(reply.body);
  response.content_length(size);
  return response;
}

HttpReply plain(int status, std::string text) {
  return {.status = status, .body = std::move(text)};
}

Response answer(const http::request<http::empty_body>& request, const std::map<std::string, HttpHandler>& handlers) {
  const bool head = request.method() == http::verb::head;
  if (!head && request.method() != http::verb::get) {
    Response response = respond(405, request.version(), plain(405, "only GET and HEAD\n"), false);
    response.set(http::field::allow, "GET, HEAD");
    return response;
  }
  const beast::string_view target = request.target();
  const auto handler = handlers.find(std::string(target.substr(0, target.find('?'))));
  if (handler == handlers.end()) return respond(404, request.version(), plain(404, "not found\n"), head);
  try {
    HttpReply reply = handler->second();
    const int status = reply.status;
    return respond(status, request.version(), std::move(reply), head);
  } catch (const std::exception& exception) {
    return respond(500, request.version(), plain(500, std::string(exception.what()) + "\n"), head);
  }
}

class Sessions;

// One connection, one request: reads the header, replies, waits a moment for the client to close. Every step has a
// deadline, at which the connection is closed.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Generic::socket socket, Sessions& sessions, uint64_t id);
  void read();
  // Forgets the session, which ends what it waits for. More than once does no harm.
  void end();

 private:
  void have_request(beast::error_code error);
  void write(Response response);
  void linger();
  void drain();

  beast::basic_stream<Generic> stream_;
  Sessions& sessions_;
  uint64_t id_;
  beast::flat_buffer buffer_;
  http::request_parser<http::empty_body> parser_;
  Response response_;
  std::array<char, 4096> discarded_{};
};

class Sessions {
 public:
  Sessions(std::map<std::string, HttpHandler> handlers, HttpLimits limits)
      : handlers_(std::move(handlers)), limits_(limits) {}
  void begin(Generic::socket socket) {
    if (sessions_.size() >= limits_.connections) {
      const auto oldest = sessions_.begin()->second;
      oldest->end();
    }
    const uint64_t id = next_id_++;
    const auto session = std::make_shared<Session>(std::move(socket), *this, id);
    sessions_.emplace(id, session);
    session->read();
  }
  void forget(uint64_t id) { sessions_.erase(id); }
  [[nodiscard]] const std::map<std::string, HttpHandler>& handlers() const { return handlers_; }
  [[nodiscard]] const HttpLimits& limits() const { return limits_; }

 private:
  std::map<std::string, HttpHandler> handlers_;
  HttpLimits limits_;
  std::map<uint64_t, std::shared_ptr<Session>> sessions_;  // the oldest first
  uint64_t next_id_ = 0;
};

template <typename Protocol>
class Server : public HttpServer {
 public:
  Server(std::map<std::string, HttpHandler> handlers, HttpLimits limits)
      : acceptor_(context_), pause_(context_), sessions_(std::move(handlers), limits) {}
  ~Server() override {
    context_.stop();
    if (thread_.joinable()) thread_.join();
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  [[nodiscard]] uint16_t port() const override { return 0; }

 protected:
  using Acceptor = typename Protocol::acceptor;
  Acceptor& acceptor() { return acceptor_; }
  void run() {
    accept();
    thread_ = std::thread([this] { context_.run(); });
  }

 private:
  void accept() {
    acceptor_.async_accept(
        [this](beast::error_code error, typename Protocol::socket socket) { accepted(error, std::move(socket)); });
  }
  void accepted(beast::error_code error, typename Protocol::socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (error) {
      // Out of descriptors or memory: trying again at once would spin.
      pause_.expires_after(kAcceptPause);
      pause_.async_wait([this](beast::error_code aborted) {
        if (!aborted) accept();
      });
      return;
    }
    sessions_.begin(Generic::socket(std::move(socket)));
    accept();
  }

  asio::io_context context_{1};
  Acceptor acceptor_;
  asio::steady_timer pause_;
  Sessions sessions_;
  std::thread thread_;
};

class TcpServer final : public Server<Tcp> {
 public:
  using Server::Server;
  Status listen(const std::string& address, uint16_t port);
  [[nodiscard]] uint16_t port() const override { return port_; }

 private:
  uint16_t port_ = 0;
};

class LocalServer final : public Server<Local> {
 public:
  using Server::Server;
  ~LocalServer() override {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove(path_, ignored);
  }
  LocalServer(const LocalServer&) = delete;
  LocalServer& operator=(const LocalServer&) = delete;
  Status listen(const std::string& path);

 private:
  std::string path_;  // once it is ours
};

Session::Session(Generic::socket socket, Sessions& sessions, uint64_t id)
    : stream_(std::move(socket)), sessions_(sessions), id_(id), buffer_(sessions.limits().header_bytes) {
  parser_.header_limit(static_cast<uint32_t>(sessions.limits().header_bytes));
}

void Session::read() {
  // One deadline for the whole header: a client that sends a byte now and then is cut as well.
  stream_.expires_after(sessions_.limits().time);
  http::async_read_header(stream_, buffer_, parser_,
                          [self = shared_from_this()](beast::error_code error, size_t) { self->have_request(error); });
}

void Session::have_request(beast::error_code error) {
  if (!error) return write(answer(parser_.get(), sessions_.handlers()));
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return write(respond(431, 11, plain(431, "header too large\n"), false));
  }
  const bool malformed = error.category() == http::make_error_code(http::error::bad_method).category() &&
                         error != http::error::end_of_stream && error != http::error::partial_message;
  if (malformed) return write(respond(400, 11, plain(400, error.message() + "\n"), false));
  end();
}

void Session::write(Response response) {
  response_ = std::move(response);
  stream_.expires_after(sessions_.limits().time);
  http::async_write(stream_, response_, [self = shared_from_this()](beast::error_code error, size_t) {
    error ? self->end() : self->linger();
  });
}

// Closing with unread bytes (a request's body) sends a reset, which may take the reply from the client's hands.
void Session::linger() {
  beast::error_code ignored;
  stream_.socket().shutdown(Generic::socket::shutdown_send, ignored);
  stream_.expires_after(kLingerTime);
  drain();
}

void Session::drain() {
  stream_.async_read_some(asio::buffer(discarded_), [self = shared_from_this()](beast::error_code error, size_t) {
    error ? self->end() : self->drain();
  });
}

void Session::end() {
  stream_.close();
  sessions_.forget(id_);
}

Status TcpServer::listen(const std::string& address, uint16_t port) {
  const std::string where = address + " port " + std::to_string(port);
  beast::error_code error;
  const auto ip = asio::ip::make_address(address, error);
  if (error) return fail(ErrorKind::invalid, "listen for HTTP", where, "not an IP address");
  const Tcp::endpoint endpoint(ip, port);
  acceptor().open(endpoint.protocol(), error);
  // A machine without IPv6 (ipv6.disable=1): all its addresses are IPv4's.
  if (error == asio::error::address_family_not_supported && ip.is_v6() && ip.is_unspecified()) {
    return listen("0.0.0.0", port);
  }
  if (!error) acceptor().set_option(Acceptor::reuse_address(true), error);
  if (!error) acceptor().bind(endpoint, error);
  if (!error) acceptor().listen(asio::socket_base::max_listen_connections, error);
  if (error) return fail_errno(error.value(), "listen for HTTP", where);
  port_ = acceptor().local_endpoint(error).port();
  run();
  return {};
}

// Somebody answers there.
bool is_answered(const Local::endpoint& endpoint) {
  asio::io_context context;
  Local::socket socket(context);
  beast::error_code error;
  socket.connect(endpoint, error);
  return !error;
}

Status LocalServer::listen(const std::string& path) {
  constexpr const char* kOperation = "listen on";
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return fail(ErrorKind::invalid, kOperation, path, "the path is too long for a socket");
  }
  std::error_code failed;
  const std::filesystem::path file(path);
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), failed);
  if (failed) return fail_errno(failed.value(), "make directory", file.parent_path().string());
  const Local::endpoint endpoint(path);
  if (is_answered(endpoint)) return fail(ErrorKind::exists, kOperation, path, "somebody answers there already");
  if (std::filesystem::is_socket(file, failed)) std::filesystem::remove(file, failed);
  beast::error_code error;
  acceptor().open(endpoint.protocol(), error);
  if (!error) acceptor().bind(endpoint, error);
  if (error) return fail_errno(error.value(), kOperation, path);
  path_ = path;
  // Nobody can connect before it listens.
  std::filesystem::permissions(file, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write, failed);
  if (failed) return fail_errno(failed.value(), kOperation, path);
  acceptor().listen(asio::socket_base::max_listen_connections, error);
  if (error) return fail_errno(error.value(), kOperation, path);
  run();
  return {};
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::start(const std::string& address, uint16_t port,
                                                      std::map<std::string, HttpHandler> handlers, HttpLimits limits) {
  auto server = std::make_unique<TcpServer>(std::move(handlers), limits);
  if (Status listening = server->listen(address, port); !listening) return tl::unexpected(listening.error());
  return std::unique_ptr<HttpServer>(std::move(server));
}

Result<std::unique_ptr<HttpServer>> HttpServer::start_local(const std::string& path,
                                                            std::map<std::string, HttpHandler> handlers,
                                                            HttpLimits limits) {
  auto server = std::make_unique<LocalServer>(std::move(handlers), limits);
  if (Status listening = server->listen(path); !listening) return tl::unexpected(listening.error());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace sluice::telemetry
