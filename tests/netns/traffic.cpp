#include "tests/netns/traffic.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <tuple>
#include <utility>

namespace sluice::lab {
namespace {

constexpr std::chrono::milliseconds kWindow{100};

// Of either family.
struct Address {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  [[nodiscard]] int family() const { return storage.ss_family; }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Address to_sockaddr(const std::string& address, uint16_t port) {
  Address out;
  auto* const ipv4 = reinterpret_cast<sockaddr_in*>(&out.storage);
  auto* const ipv6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  if (inet_pton(AF_INET, address.c_str(), &ipv4->sin_addr) == 1) {
    ipv4->sin_family = AF_INET;
    ipv4->sin_port = htons(port);
    out.length = sizeof *ipv4;
  } else if (inet_pton(AF_INET6, address.c_str(), &ipv6->sin6_addr) == 1) {
    ipv6->sin6_family = AF_INET6;
    ipv6->sin6_port = htons(port);
    out.length = sizeof *ipv6;
  } else {
    throw std::runtime_error("no address: " + address);
  }
  return out;
}

// As people write it: what comes to a socket of both families is mapped.
std::string text_of(const Address& from) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const auto& address = reinterpret_cast<const sockaddr_in6*>(&from.storage)->sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&address)) {
    inet_ntop(AF_INET, &address.s6_addr[12], text.data(), text.size());
  } else {
    inet_ntop(AF_INET6, &address, text.data(), text.size());
  }
  return text.data();
}

// For both families.
int bound_socket(int type, uint16_t port) {
  const int fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  const int off = 0;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  const Address any = to_sockaddr("::", port);
  if (fd < 0 || bind(fd, any.get(), any.length) < 0 || (type == SOCK_STREAM && listen(fd, 1024) < 0)) {
    throw std::runtime_error("cannot serve on port " + std::to_string(port));
  }
  return fd;
}

// -1 with errno; EINPROGRESS is no failure.
int connect_to(const Address& to) {
  const int fd = socket(to.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(fd, to.get(), to.length) == 0 || errno == EINPROGRESS) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

std::string request_text(bool keep_alive) {
  return std::string("GET / HTTP/1.1\r\nHost: lab\r\nConnection: ") + (keep_alive ? "keep-alive" : "close") +
         "\r\n\r\n";
}

// The body, once head and body are there. Answers of HttpServer only.
bool whole_answer(std::string& buffer, std::string& body) {
  const auto head = buffer.find("\r\n\r\n");
  if (head == std::string::npos) return false;
  const auto field = buffer.find("Content-Length: ");
  if (field == std::string::npos || field > head) return false;
  const size_t length = std::stoul(buffer.substr(field + 16));
  if (buffer.size() < head + 4 + length) return false;
  body = buffer.substr(head + 4, length);
  buffer.erase(0, head + 4 + length);
  return true;
}

// epoll, and an eventfd that ends the loop.
struct Poller {
  Poller() : epoll(epoll_create1(EPOLL_CLOEXEC)), stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { add(stop, EPOLLIN); }
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;
  ~Poller() {
    close(epoll);
    close(stop);
  }
  void add(int fd, uint32_t events) const {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  }
  void modify(int fd, uint32_t events) const {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
  }
  void end() const {
    const uint64_t one = 1;
    std::ignore = write(stop, &one, sizeof one);
  }
  int epoll;
  int stop;
};

}  // namespace

struct HttpServer::State {
  Poller poller;
  int listener = -1;
  std::string answer;
  std::map<int, std::string> open;  // what came of the next request
  mutable std::mutex mutex;
  std::set<std::string> peers;
  std::thread thread;

  void accept_all() {
    for (;;) {
      Address from;
      const int fd = accept4(listener, from.get(), &from.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      {
        const std::scoped_lock lock(mutex);
        peers.insert(text_of(from));
      }
      open[fd];
      poller.add(fd, EPOLLIN);
    }
  }
  void serve(int fd) {
    std::array<char, 4096> part{};
    const ssize_t got = read(fd, part.data(), part.size());
    if (got < 0 && errno == EAGAIN) return;
    bool keep = got > 0;
    if (keep) {
      std::string& buffer = open[fd];
      buffer.append(part.data(), static_cast<size_t>(got));
      size_t end = 0;
      while ((end = buffer.find("\r\n\r\n")) != std::string::npos) {
        if (buffer.find("Connection: close") < end) keep = false;
        buffer.erase(0, end + 4);
        if (write(fd, answer.data(), answer.size()) != static_cast<ssize_t>(answer.size())) keep = false;
      }
    }
    if (keep) return;
    open.erase(fd);
    close(fd);
  }
  void run() {
    for (;;) {
      std::array<epoll_event, 64> events{};
      const int count = epoll_wait(poller.epoll, events.data(), events.size(), -1);
      for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<size_t>(i)].data.fd;
        if (fd == poller.stop) return;
        if (fd == listener) {
          accept_all();
        } else {
          serve(fd);
        }
      }
    }
  }
};

HttpServer::HttpServer(const std::string& ns, uint16_t port, const std::string& name)
    : state_(std::make_unique<State>()) {
  state_->listener = inside(ns, [port] { return bound_socket(SOCK_STREAM, port); });
  state_->answer = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(name.size()) + "\r\n\r\n" + name;
  state_->poller.add(state_->listener, EPOLLIN);
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

HttpServer::~HttpServer() {
  state_->poller.end();
  state_->thread.join();
  close(state_->listener);
  for (const auto& [fd, buffer] : state_->open) close(fd);
}

std::set<std::string> HttpServer::peers() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->peers;
}

struct UdpServer::State {
  Poller poller;
  int fd = -1;
  std::thread thread;
};

UdpServer::UdpServer(const std::string& ns, uint16_t port, const std::string& name)
    : state_(std::make_unique<State>()) {
  state_->fd = inside(ns, [port] { return bound_socket(SOCK_DGRAM, port); });
  state_->poller.add(state_->fd, EPOLLIN);
  state_->thread = std::thread([state = state_.get(), name] {
    for (;;) {
      std::array<epoll_event, 2> events{};
      const int count = epoll_wait(state->poller.epoll, events.data(), events.size(), -1);
      for (int i = 0; i < count; ++i) {
        if (events[static_cast<size_t>(i)].data.fd == state->poller.stop) return;
      }
      std::array<char, 2048> datagram{};
      Address from;
      while (recvfrom(state->fd, datagram.data(), datagram.size(), 0, from.get(), &from.length) >= 0) {
        sendto(state->fd, name.data(), name.size(), 0, from.get(), from.length);
      }
    }
  });
}

UdpServer::~UdpServer() {
  state_->poller.end();
  state_->thread.join();
  close(state_->fd);
}

struct HttpLoad::State {
  struct Connection {
    int fd = -1;
    std::string buffer;
    std::string server;  // of the first answer
    bool waiting = false;
    Clock::time_point asked;
  };
  Options options;
  Address to;
  std::string request;
  Poller poller;
  std::map<int, Connection> open;
  std::atomic<uint64_t> requests{0};
  std::atomic<uint64_t> failures{0};
  std::atomic<bool> ending{false};
  LoadOutcome outcome;
  std::thread thread;

  void begin() {
    const int fd = connect_to(to);
    if (fd < 0) {
      fail_with("connect", errno);
      return;
    }
    Connection& connection = open[fd];
    connection.fd = fd;
    connection.asked = Clock::now();
    connection.waiting = true;
    poller.add(fd, EPOLLOUT);
  }
  void fail_with(const std::string& what, int error) {
    ++failures;
    if (outcome.first_failure.empty())
      outcome.first_failure = what + (error != 0 ? std::string(": ") + std::strerror(error) : "");
  }
  void finish(int fd) {
    open.erase(fd);
    close(fd);
    if (!ending) begin();
  }
  void ask(Connection& connection) {
    if (write(connection.fd, request.data(), request.size()) != static_cast<ssize_t>(request.size())) {
      fail_with("write", errno);
      finish(connection.fd);
      return;
    }
    connection.asked = Clock::now();
    connection.waiting = true;
  }
  void answered(Connection& connection, const std::string& server) {
    ++requests;
    ++outcome.by_server[server];
    if (connection.server.empty()) {
      connection.server = server;
      ++outcome.connections[server];
    } else if (connection.server != server) {
      ++outcome.moved;
    }
    connection.waiting = false;
    if (!options.keep_alive || ending) {
      finish(connection.fd);
    } else {
      ask(connection);
    }
  }
  void ready(int fd, uint32_t events) {
    const auto found = open.find(fd);
    if (found == open.end()) return;
    Connection& connection = found->second;
    if ((events & EPOLLOUT) != 0) {
      int error = 0;
      socklen_t length = sizeof error;
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
      if (error != 0) {
        fail_with("connect", error);
        finish(fd);
        return;
      }
      poller.modify(fd, EPOLLIN);
      ask(connection);
      return;
    }
    std::array<char, 4096> part{};
    const ssize_t got = read(fd, part.data(), part.size());
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      if (connection.waiting) fail_with(got == 0 ? "closed by the server" : "read", got == 0 ? 0 : errno);
      finish(fd);
      return;
    }
    connection.buffer.append(part.data(), static_cast<size_t>(got));
    std::string server;
    if (whole_answer(connection.buffer, server)) answered(connection, server);
  }
  void check_timeouts() {
    std::vector<int> late;
    for (const auto& [fd, connection] : open) {
      if (connection.waiting && Clock::now() - connection.asked > options.timeout) late.push_back(fd);
    }
    for (const int fd : late) {
      fail_with("no answer in time", 0);
      finish(fd);
    }
  }
  void run() {
    for (int i = 0; i < options.connections; ++i) begin();
    auto window_end = Clock::now() + kWindow;
    uint64_t window_begin = 0;
    while (!ending || !open.empty()) {
      std::array<epoll_event, 128> events{};
      const int count = epoll_wait(poller.epoll, events.data(), events.size(), 20);
      for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<size_t>(i)];
        if (event.data.fd != poller.stop) ready(event.data.fd, event.events);
      }
      check_timeouts();
      for (; Clock::now() >= window_end; window_end += kWindow) {
        if (!ending) outcome.per_window.push_back(requests - std::exchange(window_begin, requests.load()));
      }
      // After a failure on the way down there is nothing to wait for in an idle connection.
      if (ending)
        std::erase_if(open, [](const auto& entry) {
          if (!entry.second.waiting) close(entry.first);
          return !entry.second.waiting;
        });
    }
  }
};

HttpLoad::HttpLoad(const std::string& ns, const std::string& address, uint16_t port, Options options)
    : state_(std::make_unique<State>()) {
  state_->options = options;
  state_->to = to_sockaddr(address, port);
  state_->request = request_text(options.keep_alive);
  state_->thread = std::thread([state = state_.get(), ns] {
    enter(ns);
    state->run();
  });
}

HttpLoad::~HttpLoad() {
  if (state_->thread.joinable()) stop();
}

uint64_t HttpLoad::requests() const {
  return state_->requests;
}
uint64_t HttpLoad::failures() const {
  return state_->failures;
}

bool HttpLoad::run(uint64_t more, std::chrono::milliseconds deadline) const {
  const uint64_t wanted = state_->requests + more;
  return eventually([&] { return state_->requests >= wanted; }, deadline);
}

void HttpLoad::run_for(std::chrono::milliseconds time) const {
  std::this_thread::sleep_for(time);
}

LoadOutcome HttpLoad::stop() {
  state_->ending = true;
  state_->thread.join();
  state_->outcome.requests = state_->requests;
  state_->outcome.failures = state_->failures;
  return state_->outcome;
}

std::map<std::string, int> ask_http(const std::string& ns, const std::string& address, uint16_t port, int count,
                                    std::chrono::milliseconds timeout) {
  return inside(ns, [&] {
    std::map<std::string, int> answers;
    const Address to = to_sockaddr(address, port);
    const std::string request = request_text(false);
    for (int i = 0; i < count; ++i) {
      std::string buffer;
      std::string server;
      const int fd = connect_to(to);
      bool asked = false;
      const auto until = Clock::now() + timeout;
      while (fd >= 0 && server.empty() && Clock::now() < until) {
        pollfd waiting = {fd, static_cast<short>(asked ? POLLIN : POLLOUT), 0};
        if (poll(&waiting, 1, 50) <= 0) continue;
        if (!asked) {
          asked = write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size());
          if (!asked) break;
          continue;
        }
        std::array<char, 4096> part{};
        const ssize_t got = read(fd, part.data(), part.size());
        if (got <= 0) break;
        buffer.append(part.data(), static_cast<size_t>(got));
        whole_answer(buffer, server);
      }
      if (fd >= 0) close(fd);
      ++answers[server];
    }
    return answers;
  });
}

std::map<std::string, int> ask_udp(const std::string& ns, const std::string& address, uint16_t port, int count,
                                   std::chrono::milliseconds timeout) {
  return inside(ns, [&] {
    std::map<std::string, int> answers;
    const Address to = to_sockaddr(address, port);
    for (int i = 0; i < count; ++i) {
      const int fd = socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
      std::string server;
      std::array<char, 512> datagram{};
      if (connect(fd, to.get(), to.length) == 0 && write(fd, "who", 3) == 3) {
        pollfd waiting = {fd, POLLIN, 0};
        if (poll(&waiting, 1, static_cast<int>(timeout.count())) > 0) {
          const ssize_t got = read(fd, datagram.data(), datagram.size());
          if (got > 0) server.assign(datagram.data(), static_cast<size_t>(got));
        }
      }
      close(fd);
      ++answers[server];
    }
    return answers;
  });
}

std::pair<int, std::string> get_http(const std::string& ns, uint16_t port, const std::string& path) {
  return inside(ns, [&]() -> std::pair<int, std::string> {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const Address to = to_sockaddr("127.0.0.1", port);
    const timeval limit = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    std::string text;
    const std::string request = "GET " + path + " HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
    if (connect(fd, to.get(), to.length) == 0 &&
        write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
      std::array<char, 65536> part{};
      for (ssize_t got = 0; (got = read(fd, part.data(), part.size())) > 0;)
        text.append(part.data(), static_cast<size_t>(got));
    }
    close(fd);
    const auto space = text.find(' ');
    const auto head = text.find("\r\n\r\n");
    if (space == std::string::npos || head == std::string::npos) return {0, ""};
    return {std::atoi(text.c_str() + space), text.substr(head + 4)};
  });
}

}  // namespace sluice::lab
