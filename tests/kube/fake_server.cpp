#include "tests/kube/fake_server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <stdexcept>

#include "tests/fakes/loopback.h"

namespace sluice::test {
namespace {

constexpr int kTick = 20;  // milliseconds between looks at what a test has changed

int listen_anywhere(uint16_t& port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = fakes::loopback(0);
  socklen_t size = sizeof address;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd, 64) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::runtime_error("cannot listen on loopback");
  }
  port = ntohs(address.sin_port);
  return fd;
}

bool readable(int fd) {
  pollfd poller{fd, POLLIN, 0};
  return poll(&poller, 1, kTick) > 0;
}

bool send_all(int fd, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
    if (n <= 0) return false;
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

std::string decode(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      out += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

void parse_target(const std::string& target, FakeRequest& request) {
  const auto question = target.find('?');
  request.path = target.substr(0, question);
  if (question == std::string::npos) return;
  std::istringstream pairs(target.substr(question + 1));
  for (std::string pair; std::getline(pairs, pair, '&');) {
    const auto equals = pair.find('=');
    request.query[pair.substr(0, equals)] = equals == std::string::npos ? "" : decode(pair.substr(equals + 1));
  }
}

FakeRequest parse_head(const std::string& head) {
  FakeRequest request;
  std::istringstream lines(head);
  std::string target;
  std::string line;
  std::getline(lines, line);
  std::istringstream(line) >> request.method >> target;
  parse_target(target, request);
  while (std::getline(lines, line)) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    std::string name = line.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    std::string value = line.substr(colon + 1);
    value.erase(0, value.find_first_not_of(' '));
    while (!value.empty() && value.back() == '\r') value.pop_back();
    request.headers[name] = value;
  }
  return request;
}

}  // namespace

bool FakeConnection::write(const std::string& bytes) {
  return !closed_ && send_all(fd_, bytes.data(), bytes.size());
}

bool FakeConnection::answer(int status, const std::string& body, const std::string& headers) {
  return write("HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Type: application/json\r\n" + headers +
               "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
}

bool FakeConnection::begin_chunked(int status) {
  return write("HTTP/1.1 " + std::to_string(status) +
               " X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
}

bool FakeConnection::chunk(const std::string& bytes) {
  std::ostringstream size;
  size << std::hex << bytes.size();
  return write(size.str() + "\r\n" + bytes + "\r\n");
}

bool FakeConnection::end_chunked() {
  return write("0\r\n\r\n");
}

void FakeConnection::close() {
  shutdown(fd_, SHUT_RDWR);
  closed_ = true;
}

void FakeConnection::reset() {
  const linger now{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  closed_ = true;  // closed, and with that reset, when its thread ends
}

bool FakeConnection::wait_for_peer() {
  char byte = 0;
  while (!stopping_) {
    if (readable(fd_) && recv(fd_, &byte, 1, 0) <= 0) return true;
  }
  return false;
}

FakeServer::FakeServer(Handler handler)
    : handler_(std::move(handler)), listener_(listen_anywhere(port_)), acceptor_([this] { accept_all(); }) {}

FakeServer::~FakeServer() {
  stopping_ = true;
  acceptor_.join();
  for (auto& thread : threads_) thread.join();
  ::close(listener_);
}

std::vector<FakeRequest> FakeServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void FakeServer::accept_all() {
  while (!stopping_) {
    if (!readable(listener_)) continue;
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    const timeval patience{5, 0};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    ++open_;
    threads_.emplace_back([this, fd] { serve(fd); });
  }
}

bool FakeServer::read_request(int fd, std::string& buffer, FakeRequest& request) const {
  std::size_t end = std::string::npos;
  std::size_t want = 0;
  for (;;) {
    if (end == std::string::npos && (end = buffer.find("\r\n\r\n")) != std::string::npos) {
      request = parse_head(buffer.substr(0, end));
      const auto length = request.headers.find("content-length");
      want = end + 4 + (length == request.headers.end() ? 0 : std::stoul(length->second));
    }
    if (end != std::string::npos && buffer.size() >= want) {
      request.body = buffer.substr(end + 4, want - end - 4);
      buffer.erase(0, want);
      return true;
    }
    while (!readable(fd)) {
      if (stopping_) return false;
    }
    char piece[4096];
    const ssize_t n = recv(fd, piece, sizeof piece, 0);
    if (n <= 0) return false;
    buffer.append(piece, static_cast<std::size_t>(n));
  }
}

void FakeServer::serve(int fd) {
  std::string buffer;
  FakeRequest request;
  FakeConnection connection(fd, stopping_);
  while (!stopping_ && !connection.closed() && read_request(fd, buffer, request)) {
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    handler_(request, connection);
  }
  ::close(fd);
  --open_;
}

FaultProxy::FaultProxy(uint16_t target)
    : target_(target), listener_(listen_anywhere(port_)), acceptor_([this] { accept_all(); }) {}

FaultProxy::~FaultProxy() {
  stopping_ = true;
  acceptor_.join();
  for (auto& thread : threads_) thread.join();
  ::close(listener_);
}

void FaultProxy::accept_all() {
  while (!stopping_) {
    if (!readable(listener_)) continue;
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    if (refused_) {
      ::close(fd);
      continue;
    }
    ++open_;
    threads_.emplace_back([this, fd] { pump(fd); });
  }
}

void FaultProxy::pump(int client) {
  const int cuts = cuts_;
  const int abandoned = abandoned_;
  const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = fakes::loopback(target_);
  bool open = connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  char piece[16384];
  while (open && !stopping_ && cuts_ == cuts) {
    pollfd pollers[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
    if (poll(pollers, 2, kTick) <= 0) continue;
    while ((frozen_ || abandoned_ != abandoned) && !stopping_ && cuts_ == cuts) poll(nullptr, 0, kTick);
    for (int side = 0; side < 2 && open; ++side) {
      if (pollers[side].revents == 0) continue;
      const ssize_t n = recv(pollers[side].fd, piece, sizeof piece, MSG_DONTWAIT);
      open = n > 0 && send_all(pollers[1 - side].fd, piece, static_cast<std::size_t>(n));
    }
  }
  ::close(client);
  ::close(server);
  --open_;
}

}  // namespace sluice::test
