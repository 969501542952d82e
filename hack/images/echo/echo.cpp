// SPDX-License-Identifier: Apache-2.0
// A small server for demos and tests that says who answered: over HTTP/1.1 (keep-alive) and over UDP, one line
//     NAME VERSION CLIENT-ADDRESS:PORT
// NAME is the host's name (a pod's is the pod's), VERSION the environment's VERSION. A UDP answer has the datagram
// behind it. Paths: /healthz answers 200 as long as it runs, /readyz until it is told to stop, everything else with the
// line. SIGTERM: every connection's next answer is its last, which tells the client to connect elsewhere; the process
// ends when all are closed, or after kDrain.
//
// usage: echo [PORT]    (default 8080, TCP and UDP, IPv6 and IPv4)
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kDrain = std::chrono::seconds(5);
constexpr std::size_t kLongestRequest = 65536;

struct Connection {
  std::string peer;
  std::string received;
};

struct Server {
  int epoll = -1;
  int listener = -1;
  int datagrams = -1;
  int signals = -1;
  std::string identity;
  std::map<int, Connection> connections;
  bool stopping = false;
  Clock::time_point stopped_at;
};

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

std::string peer_name(const sockaddr_in6& peer) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(AF_INET6, &peer.sin6_addr, text.data(), text.size());
  std::string_view address = text.data();
  const bool mapped = address.starts_with("::ffff:") && address.find('.') != std::string_view::npos;
  const std::string shown = mapped ? std::string(address.substr(7)) : "[" + std::string(address) + "]";
  return shown + ":" + std::to_string(ntohs(peer.sin6_port));
}

int open_socket(int type, uint16_t port) {
  const int fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  const int off = 0;
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  any.sin6_port = htons(port);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof any) != 0) fail("bind");
  if (type == SOCK_STREAM && listen(fd, 4096) != 0) fail("listen");
  return fd;
}

int open_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  return signalfd(-1, &set, SFD_CLOEXEC);
}

void watch(const Server& server, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(server.epoll, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
}

void drop(Server& server, int fd) {
  close(fd);
  server.connections.erase(fd);
}

std::string response(const Server& server, std::string_view path, const std::string& peer, bool last) {
  std::string status = "200 OK";
  std::string body = server.identity + " " + peer + "\n";
  if (path == "/healthz") body = "ok\n";
  if (path == "/readyz") {
    status = server.stopping ? "503 Service Unavailable" : "200 OK";
    body = server.stopping ? "stopping\n" : "ok\n";
  }
  return "HTTP/1.1 " + status + "\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(body.size()) +
         (last ? "\r\nConnection: close" : "") + "\r\n\r\n" + body;
}

bool wants_close(std::string_view head) {
  return head.find("Connection: close") != std::string_view::npos ||
         head.find("connection: close") != std::string_view::npos ||
         head.find(" HTTP/1.0\r\n") != std::string_view::npos;
}

// Answers every whole request in the buffer. Requests have no body. False when the connection is done.
bool answer(const Server& server, int fd, Connection& connection) {
  for (;;) {
    const std::size_t end = connection.received.find("\r\n\r\n");
    if (end == std::string::npos) return connection.received.size() < kLongestRequest;
    const std::string_view head(connection.received.data(), end + 2);
    const std::size_t path = head.find(' ') + 1;
    const bool last = server.stopping || wants_close(head);
    const std::string text = response(server, head.substr(path, head.find(' ', path) - path), connection.peer, last);
    // An answer is far smaller than any socket buffer: a peer that leaves so many unread is let go.
    if (send(fd, text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size())) return false;
    connection.received.erase(0, end + 4);
    if (last) return false;
  }
}

void accept_all(Server& server) {
  for (;;) {
    sockaddr_in6 peer{};
    socklen_t size = sizeof peer;
    const int fd = accept4(server.listener, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    server.connections[fd].peer = peer_name(peer);
    watch(server, fd);
  }
}

void read_from(Server& server, int fd) {
  const auto found = server.connections.find(fd);
  if (found == server.connections.end()) return;
  std::array<char, 16384> buffer{};
  const ssize_t size = recv(fd, buffer.data(), buffer.size(), 0);
  if (size < 0 && errno == EAGAIN) return;
  if (size > 0) found->second.received.append(buffer.data(), static_cast<std::size_t>(size));
  if (size <= 0 || !answer(server, fd, found->second)) drop(server, fd);
}

void answer_datagrams(const Server& server) {
  for (;;) {
    std::array<char, 65536> buffer{};
    sockaddr_in6 peer{};
    socklen_t peer_size = sizeof peer;
    const ssize_t size =
        recvfrom(server.datagrams, buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&peer), &peer_size);
    if (size < 0) return;
    const std::string text =
        server.identity + " " + peer_name(peer) + "\n" + std::string(buffer.data(), static_cast<std::size_t>(size));
    sendto(server.datagrams, text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&peer), peer_size);
  }
}

void stop(Server& server) {
  server.stopping = true;
  server.stopped_at = Clock::now();
  signalfd_siginfo info{};
  if (read(server.signals, &info, sizeof info) < 0) fail("signalfd");
}

// Connections still in the listener's queue are taken, too: each is somebody's request.
bool finished(const Server& server) {
  return server.stopping && (server.connections.empty() || Clock::now() - server.stopped_at > kDrain);
}

void serve(Server& server) {
  while (!finished(server)) {
    std::array<epoll_event, 256> events{};
    const int count =
        epoll_wait(server.epoll, events.data(), static_cast<int>(events.size()), server.stopping ? 100 : -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == server.listener) {
        accept_all(server);
      } else if (fd == server.datagrams) {
        answer_datagrams(server);
      } else if (fd == server.signals) {
        stop(server);
      } else {
        read_from(server, fd);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto port = static_cast<uint16_t>(argc > 1 ? std::atoi(argv[1]) : 8080);
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  const char* version = std::getenv("VERSION");
  Server server;
  server.identity = std::string(name.data()) + " " + (version != nullptr ? version : "v0");
  server.epoll = epoll_create1(EPOLL_CLOEXEC);
  server.listener = open_socket(SOCK_STREAM, port);
  server.datagrams = open_socket(SOCK_DGRAM, port);
  server.signals = open_signals();
  for (const int fd : {server.listener, server.datagrams, server.signals}) watch(server, fd);
  std::printf("%s listens on port %d\n", server.identity.c_str(), port);
  std::fflush(stdout);
  serve(server);
  return 0;
}
