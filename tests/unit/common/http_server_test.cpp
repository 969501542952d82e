#include "common/telemetry/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <thread>

#include "tests/fakes/loopback.h"

namespace sluice::telemetry {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr milliseconds kDeadline{20000};
constexpr size_t kLarge = 32 << 20;  // more than the buffers of two sockets take

// A plain client socket: what it sends and when is the test's choice.
class Client {
 public:
  explicit Client(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const auto address = fakes::loopback(port);
    connected_ = connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  Client(Client&& other) noexcept : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_) {}
  ~Client() {
    if (fd_ >= 0) close(fd_);
  }

  [[nodiscard]] bool connected() const { return connected_; }
  bool send(const std::string& text) const {
    return ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
  }
  void finish() const { shutdown(fd_, SHUT_WR); }
  // All that comes until the server closes; nullopt when it has not within the deadline.
  [[nodiscard]] std::optional<std::string> read_all() const {
    std::string text;
    const auto end = steady_clock::now() + kDeadline;
    while (steady_clock::now() < end) {
      pollfd waiting{fd_, POLLIN, 0};
      if (poll(&waiting, 1, 100) != 1) continue;
      char buffer[4096];
      const ssize_t size = recv(fd_, buffer, sizeof buffer, 0);
      if (size <= 0) return text;
      text.append(buffer, static_cast<size_t>(size));
    }
    return std::nullopt;
  }
  // True where the server closed the connection (or reset it) within the deadline.
  [[nodiscard]] bool cut() const { return read_all().has_value(); }

 private:
  int fd_;
  bool connected_ = false;
};

// From now on this thread, and those it starts, can open no IPv6 socket: as on a machine booted with ipv6.disable=1.
bool take_ipv6_away() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(filter), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 &&
         socket(AF_INET6, SOCK_STREAM, 0) == -1 && errno == EAFNOSUPPORT;
}

class HttpServerTest : public ::testing::Test {
 protected:
  void start(HttpLimits limits = {}) {
    auto started = HttpServer::start(
        "127.0.0.1", 0,
        {{"/healthz", [] { return HttpReply{.body = "ok\n"}; }},
         {"/readyz", [] { return HttpReply{.status = 503, .body = "not yet\n"}; }},
         {"/metrics",
          [] { return HttpReply{.content_type = "text/plain; version=0.0.4", .body = std::string(kLarge, 'm')}; }},
         {"/throws", []() -> HttpReply { throw std::runtime_error("handler broke"); }}},
        limits);
    ASSERT_TRUE(started) << started.error().message();
    server_ = std::move(*started);
  }
  std::string ask(const std::string& request) const {
    const Client client(server_->port());
    EXPECT_TRUE(client.connected());
    EXPECT_TRUE(client.send(request));
    return client.read_all().value_or("no end");
  }
  std::string get(const std::string& path) const { return ask("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"); }

  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, GetAnswersWithTheHandlersReply) {
  start();
  const std::string reply = get("/healthz");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(reply, HasSubstr("Content-Type: text/plain; charset=utf-8\r\n"));
  EXPECT_THAT(reply, HasSubstr("Content-Length: 3\r\n"));
  EXPECT_THAT(reply, HasSubstr("Connection: close\r\n"));
  EXPECT_THAT(reply, EndsWith("\r\n\r\nok\n"));
  EXPECT_THAT(get("/healthz?verbose=1"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(get("/readyz"), StartsWith("HTTP/1.1 503 "));
}

TEST_F(HttpServerTest, LargeBodiesArriveWhole) {
  start();
  const std::string reply = get("/metrics");
  EXPECT_THAT(reply.substr(0, 500), HasSubstr("Content-Length: " + std::to_string(kLarge) + "\r\n"));
  EXPECT_EQ(reply.size() - reply.find("\r\n\r\n") - 4, kLarge);
}

TEST_F(HttpServerTest, HeadAnswersWithoutBody) {
  start();
  const std::string reply = ask("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(reply, HasSubstr("Content-Length: 3\r\n"));
  EXPECT_THAT(reply, EndsWith("\r\n\r\n"));
}

TEST_F(HttpServerTest, UnknownPathsAre404) {
  start();
  for (const char* path : {"/", "/healthz/", "/HEALTHZ", "/../healthz"}) {
    EXPECT_THAT(get(path), StartsWith("HTTP/1.1 404 ")) << path;
  }
}

TEST_F(HttpServerTest, OtherMethodsAre405AndSayWhichAreNot) {
  start();
  for (const std::string method : {"POST", "PUT", "DELETE", "OPTIONS"}) {
    const std::string reply = ask(method + " /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    EXPECT_THAT(reply, StartsWith("HTTP/1.1 405 ")) << method;
    EXPECT_THAT(reply, HasSubstr("Allow: GET, HEAD\r\n"));
  }
}

TEST_F(HttpServerTest, WhatIsNotHttpIs400) {
  start();
  EXPECT_THAT(ask("hello\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(ask("GET /healthz HTTP/9.9\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
}

TEST_F(HttpServerTest, AHeaderAboveTheBoundIs431) {
  start();
  const std::string request = "GET /healthz HTTP/1.1\r\nX: " + std::string(7168, 'x') + "\r\n";
  EXPECT_THAT(ask(request + "\r\n"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(ask(request + "Y: " + std::string(2048, 'y') + "\r\n\r\n"), StartsWith("HTTP/1.1 431 "));
}

TEST_F(HttpServerTest, AHandlerThatThrowsIs500) {
  start();
  EXPECT_THAT(get("/throws"), StartsWith("HTTP/1.1 500 "));
  EXPECT_THAT(get("/healthz"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(HttpServerTest, ASilentOrSlowClientIsCut) {
  start({.time = milliseconds(300)});
  const Client silent(server_->port());
  EXPECT_TRUE(silent.cut());

  // One byte now and then does not extend the time.
  const Client slow(server_->port());
  const auto begin = steady_clock::now();
  std::atomic<bool> over = false;
  std::thread drip([&] {
    while (!over && slow.send("G")) std::this_thread::sleep_for(milliseconds(50));
  });
  EXPECT_TRUE(slow.cut());
  over = true;
  drip.join();
  EXPECT_LT(steady_clock::now() - begin, kDeadline / 2);
}

TEST_F(HttpServerTest, AClientThatNeverReadsIsCut) {
  start({.time = milliseconds(300)});
  const Client stalled(server_->port());
  ASSERT_TRUE(stalled.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
  // Others are served meanwhile.
  EXPECT_THAT(get("/healthz"), StartsWith("HTTP/1.1 200 "));
  // A client that came later and is cut for its silence shows that the stalled one's time is over.
  EXPECT_TRUE(Client(server_->port()).cut());
  const auto text = stalled.read_all();
  ASSERT_TRUE(text);
  EXPECT_LT(text->size(), kLarge);
}

TEST_F(HttpServerTest, AHalfClosedClientStillGetsItsReply) {
  start();
  const Client client(server_->port());
  ASSERT_TRUE(client.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
  client.finish();
  EXPECT_THAT(client.read_all().value_or(""), EndsWith("ok\n"));
  const Client mute(server_->port());
  mute.finish();
  EXPECT_EQ(mute.read_all(), "");
}

TEST_F(HttpServerTest, IdleConnectionsAboveTheBoundGiveWayToTheNewest) {
  start({.connections = 4, .time = kDeadline});
  std::vector<Client> idle;
  idle.reserve(6);
  for (int i = 0; i < 6; ++i) idle.emplace_back(server_->port());
  EXPECT_TRUE(idle[0].cut());
  EXPECT_TRUE(idle[1].cut());
  EXPECT_THAT(get("/healthz"), StartsWith("HTTP/1.1 200 "));
  EXPECT_TRUE(idle[2].cut());
  // The newest are still served.
  ASSERT_TRUE(idle[5].send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_THAT(idle[5].read_all().value_or(""), EndsWith("ok\n"));
}

TEST_F(HttpServerTest, ManyClientsAtOnceAreAllServed) {
  start();
  std::atomic<int> served = 0;
  std::vector<std::thread> clients;
  clients.reserve(16);
  for (int i = 0; i < 16; ++i) {
    clients.emplace_back([&] {
      for (int n = 0; n < 20; ++n) {
        if (get("/healthz").ends_with("ok\n")) ++served;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(served, 16 * 20);
}

TEST_F(HttpServerTest, EndsWithConnectionsOpen) {
  start();
  const Client idle(server_->port());
  const Client asking(server_->port());
  ASSERT_TRUE(asking.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
  server_.reset();
  EXPECT_TRUE(idle.cut());
}

TEST_F(HttpServerTest, WhereItCannotListenItSaysWhy) {
  start();
  const auto taken = HttpServer::start("127.0.0.1", server_->port(), {});
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().kind, ErrorKind::exists);
  EXPECT_THAT(taken.error().message(), HasSubstr("127.0.0.1 port " + std::to_string(server_->port())));
  EXPECT_EQ(HttpServer::start("localhost", 0, {}).error().kind, ErrorKind::invalid);
  EXPECT_EQ(HttpServer::start("192.0.2.1", 0, {}).error().kind, ErrorKind::not_found);
}

TEST_F(HttpServerTest, ListensOnIpv6) {
  const auto started = HttpServer::start("::1", 0, {});
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_GT((*started)->port(), 0);
}

TEST(HttpServerWithoutIpv6, AllAddressesAreThoseThatThereAre) {
  std::unique_ptr<HttpServer> server;
  std::thread([&server] {
    ASSERT_TRUE(take_ipv6_away());
    auto started = HttpServer::start("::", 0, {{"/healthz", [] { return HttpReply{.body = "ok"}; }}});
    ASSERT_TRUE(started) << started.error().message();
    server = std::move(*started);
    EXPECT_FALSE(HttpServer::start("::1", 0, {})) << "an address that is asked for by name is not another one";
  }).join();
  ASSERT_TRUE(server);
  const Client client(server->port());
  ASSERT_TRUE(client.connected());
  ASSERT_TRUE(client.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_THAT(client.read_all().value_or(""), EndsWith("ok"));
}

}  // namespace
}  // namespace sluice::telemetry
