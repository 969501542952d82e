// The laboratory of namespaces (tests/netns/lab) and what a test does inside them.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace sluice::lab {

using Clock = std::chrono::steady_clock;

// Repeats `condition` until it holds; false when the deadline has passed.
bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds deadline = std::chrono::seconds(30));

struct CommandOutcome {
  int exit_code = -1;
  std::string output;  // stdout and stderr together
};
CommandOutcome command(const std::string& line);

// Makes the calling thread one of this namespace, for good: sockets it makes belong there.
void enter(const std::string& ns);
// Runs `work` on a thread of that namespace and waits for it.
template <typename Work>
auto inside(const std::string& ns, Work work) {
  std::optional<decltype(work())> outcome;
  std::thread([&] {
    enter(ns);
    outcome.emplace(work());
  }).join();
  return std::move(*outcome);
}

// The network, and the processes' files; gone again at the end, whatever happened. Throws where it cannot be made.
class Lab {
 public:
  explicit Lab(int backends, bool with_pod = false);
  struct Nodes {  // of a cluster
    int count = 2;
    bool with_router = false;  // between two
  };
  explicit Lab(Nodes nodes);
  // A pod behind a veth of its own on that node; its namespace is "routed".
  void add_routed_pod(const std::string& node) const;
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;
  ~Lab();
  [[nodiscard]] std::string ns(const std::string& name) const { return prefix_ + "-" + name; }
  [[nodiscard]] std::string file(const std::string& name) const { return directory_ + "/" + name; }
  [[nodiscard]] std::string bpffs(const std::string& node = "lb") const {
    return "/sys/fs/bpf/" + prefix_ + "/sluice" + (node == "lb" ? "" : "-" + node);
  }
  // In a namespace of the lab: its exit code and output.
  [[nodiscard]] CommandOutcome in(const std::string& name, const std::string& line) const;

 private:
  void prepare();

  std::string prefix_;
  std::string directory_;
};

constexpr const char* kAddress = "10.77.0.50";  // free for balancing
constexpr const char* kAddress6 = "fd77::50";
constexpr const char* kClient = "10.77.0.100";
constexpr const char* kClient6 = "fd77::100";
constexpr const char* kBalancer = "10.77.0.1";
constexpr const char* kPod = "10.88.0.2";
constexpr const char* kRoutedPod = "10.99.0.2";
constexpr const char* kRoutedPod6 = "fd99::2";
std::string backend_address(int number);  // from 1
// Of the Nth node of a cluster, from 1, and of its pod.
std::string node_address(int number, bool ipv6 = false);
std::string pod_address(int number, bool ipv6 = false);
// Of the node, in the network between it and the router.
std::string routed_address(int number, bool ipv6 = false);

// Sends an ARP request for `address` from the client's eth0; the MAC that answers, if any does in time.
std::optional<std::array<uint8_t, 6>> ask_arp(const Lab& lab, const std::string& address,
                                              std::chrono::milliseconds patience);

// Counts gratuitous ARP frames about one address that arrive at the client's eth0, from construction on.
class ArpListener {
 public:
  ArpListener(const Lab& lab, const std::string& address);
  ArpListener(const ArpListener&) = delete;
  ArpListener& operator=(const ArpListener&) = delete;
  ~ArpListener();
  struct Seen {
    int requests = 0;
    int replies = 0;
  };
  Seen seen();

 private:
  uint32_t address_;
  int fd_;
  Seen seen_;
};

}  // namespace sluice::lab
