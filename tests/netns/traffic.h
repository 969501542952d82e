// Servers that tell who they are, and clients that keep many connections busy. Each runs on a thread of its own, inside
// a namespace of the lab, until destroyed.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/netns/network.h"

namespace sluice::lab {

// HTTP/1.1 with keep-alive: answers every request with its name.
class HttpServer {
 public:
  HttpServer(const std::string& ns, uint16_t port, const std::string& name);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();
  // The addresses that have connected so far.
  [[nodiscard]] std::set<std::string> peers() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Answers each datagram with its name.
class UdpServer {
 public:
  UdpServer(const std::string& ns, uint16_t port, const std::string& name);
  UdpServer(const UdpServer&) = delete;
  UdpServer& operator=(const UdpServer&) = delete;
  ~UdpServer();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct LoadOutcome {
  uint64_t requests = 0;
  uint64_t failures = 0;
  std::string first_failure;
  std::map<std::string, uint64_t> by_server;    // requests
  std::map<std::string, uint64_t> connections;  // by the server that answered their first request
  uint64_t moved = 0;                           // answers from another server than the connection's first
  std::vector<uint64_t> per_window;             // requests in each whole tenth of a second
};

// Closed-loop HTTP: every connection sends its next request when the answer is there.
class HttpLoad {
 public:
  struct Options {
    int connections = 100;
    bool keep_alive = true;                   // false: a new connection for each request
    std::chrono::milliseconds timeout{5000};  // an answer that takes longer is a failure
  };
  HttpLoad(const std::string& ns, const std::string& address, uint16_t port, Options options);
  HttpLoad(const HttpLoad&) = delete;
  HttpLoad& operator=(const HttpLoad&) = delete;
  ~HttpLoad();
  [[nodiscard]] uint64_t requests() const;
  [[nodiscard]] uint64_t failures() const;
  // Waits until that many more requests have been answered; false when that takes longer than `deadline`.
  bool run(uint64_t more, std::chrono::milliseconds deadline = std::chrono::seconds(30)) const;
  void run_for(std::chrono::milliseconds time) const;
  // Lets the requests under way be answered, then closes.
  LoadOutcome stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// `count` requests on a new connection each, one after the other: answers by server; "" for those that failed.
std::map<std::string, int> ask_http(const std::string& ns, const std::string& address, uint16_t port, int count,
                                    std::chrono::milliseconds timeout = std::chrono::seconds(3));
// The same with datagrams, from a new source port each.
std::map<std::string, int> ask_udp(const std::string& ns, const std::string& address, uint16_t port, int count,
                                   std::chrono::milliseconds timeout = std::chrono::seconds(2));
// The body of http://127.0.0.1:port/path in a namespace, and its status; 0: no answer.
std::pair<int, std::string> get_http(const std::string& ns, uint16_t port, const std::string& path);

}  // namespace sluice::lab
