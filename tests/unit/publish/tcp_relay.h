// A TCP relay that can go dead without closing anything, as a machine that lost its power does.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace sluice::fakes {

class TcpRelay {
 public:
  // From any port of 127.0.0.1 to `target_port` of it.
  explicit TcpRelay(uint16_t target_port);
  ~TcpRelay();
  TcpRelay(const TcpRelay&) = delete;
  TcpRelay& operator=(const TcpRelay&) = delete;
  TcpRelay(TcpRelay&&) = delete;
  TcpRelay& operator=(TcpRelay&&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }
  // Nothing is read from or written to either side any more; connections stay, new ones are not taken.
  void freeze(bool frozen) { frozen_ = frozen; }

 private:
  void run();
  void accept_one();
  bool pump(int from, int to);

  uint16_t target_port_;
  uint16_t port_ = 0;
  int listener_ = -1;
  std::vector<std::pair<int, int>> pairs_;
  std::atomic<bool> frozen_ = false;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace sluice::fakes
