#include "tests/unit/publish/tcp_relay.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "tests/fakes/loopback.h"

namespace sluice::fakes {

TcpRelay::TcpRelay(uint16_t target_port) : target_port_(target_port), listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
  auto address = loopback(0);
  socklen_t length = sizeof(address);
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener_, 16) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    std::abort();
  }
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

TcpRelay::~TcpRelay() {
  stopping_ = true;
  thread_.join();
  for (const auto& [a, b] : pairs_) {
    ::close(a);
    ::close(b);
  }
  ::close(listener_);
}

void TcpRelay::run() {
  constexpr int kTurnMs = 10;
  while (!stopping_) {
    std::vector<pollfd> watched;
    if (!frozen_) {
      watched.push_back({listener_, POLLIN, 0});
      for (const auto& [a, b] : pairs_) {
        watched.push_back({a, POLLIN, 0});
        watched.push_back({b, POLLIN, 0});
      }
    }
    if (::poll(watched.data(), watched.size(), kTurnMs) <= 0 || frozen_) {
      continue;
    }
    std::erase_if(pairs_, [&](const auto& pair) {
      const auto ready = [&](int fd) {
        return std::ranges::any_of(watched, [&](const pollfd& p) { return p.fd == fd && p.revents != 0; });
      };
      const bool over = (ready(pair.first) && !pump(pair.first, pair.second)) ||
                        (ready(pair.second) && !pump(pair.second, pair.first));
      if (over) {
        ::close(pair.first);
        ::close(pair.second);
      }
      return over;
    });
    if (watched.front().revents != 0) {
      accept_one();
    }
  }
}

void TcpRelay::accept_one() {
  const int near_side = ::accept(listener_, nullptr, nullptr);
  const int far_side = ::socket(AF_INET, SOCK_STREAM, 0);
  const auto address = loopback(target_port_);
  if (near_side >= 0 && ::connect(far_side, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    pairs_.emplace_back(near_side, far_side);
    return;
  }
  ::close(near_side);
  ::close(far_side);
}

bool TcpRelay::pump(int from, int to) {
  std::array<char, 65536> buffer{};
  const ssize_t got = ::recv(from, buffer.data(), buffer.size(), 0);
  return got > 0 && ::send(to, buffer.data(), static_cast<size_t>(got), MSG_NOSIGNAL) == got;
}

}  // namespace sluice::fakes
