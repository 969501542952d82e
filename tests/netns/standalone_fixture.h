// What the tests of the standalone agent share: the lab with its servers, and a file for the agent.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/netns/agent_process.h"
#include "tests/netns/traffic.h"

namespace sluice::lab {

inline constexpr uint16_t kPort = 80;
inline constexpr uint16_t kBackendPort = 8080;

// "{name: b1, address: 10.77.0.11, weight: 2}"
inline std::string backend(int number, int weight = 1) {
  return "{name: b" + std::to_string(number) + ", address: " + backend_address(number) +
         ", weight: " + std::to_string(weight) + "}";
}

inline std::string file_text(const std::string& backends, const std::string& interface = "eth0") {
  return "apiVersion: sluice.io/v1alpha1\nkind: StandaloneConfig\ninterfaces: [" + interface +
         "]\nloadBalancers:\n- name: web\n  addresses: [" + kAddress +
         "]\n  ports:\n  - {name: http, port: 80, backendPort: 8080}\n"
         "  - {name: dns, port: 53, protocol: UDP, backendPort: 5353}\n  backends: [" +
         backends + "]\n";
}

class Standalone : public testing::Test {
 protected:
  explicit Standalone(int backends = 2) : lab_(backends) {
    for (int i = 1; i <= backends; ++i) {
      const std::string name = "b" + std::to_string(i);
      http_.push_back(std::make_unique<HttpServer>(lab_.ns(name), kBackendPort, name));
      udp_.push_back(std::make_unique<UdpServer>(lab_.ns(name), uint16_t{5353}, name));
    }
  }
  // Replaced whole, as an editor or a package does it.
  void write(const std::string& text) const {
    std::ofstream(file_ + ".next") << text;
    std::filesystem::rename(file_ + ".next", file_);
  }
  std::unique_ptr<AgentProcess> start(std::vector<std::string> extra = {}) {
    extra.insert(extra.begin(), {"--config", file_});
    return std::make_unique<AgentProcess>(lab_, extra);
  }
  std::unique_ptr<AgentProcess> started(const std::string& text, std::vector<std::string> extra = {}) {
    write(text);
    auto agent = start(std::move(extra));
    EXPECT_TRUE(agent->wait_ready(200, "forwarding"));
    return agent;
  }
  [[nodiscard]] std::unique_ptr<HttpLoad> load(HttpLoad::Options options = {}) const {
    return std::make_unique<HttpLoad>(lab_.ns("client"), kAddress, kPort, options);
  }
  [[nodiscard]] std::map<std::string, int> ask(int count) const {
    return ask_http(lab_.ns("client"), kAddress, kPort, count);
  }
  // No request failed, and the flow of answers never dried up: a split handshake or a lost packet costs 200 ms and
  // more.
  static void expect_smooth(const LoadOutcome& outcome) {
    EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
    EXPECT_EQ(outcome.moved, 0U);
    auto windows = outcome.per_window;
    ASSERT_GE(windows.size(), 5U);
    std::ranges::sort(windows);
    const uint64_t median = windows[windows.size() / 2];
    EXPECT_GT(median, 100U) << "requests in a tenth of a second";
    // The machine is shared: a tenth of the usual in one window is its scheduler, in a tenth of the windows it is not.
    EXPECT_GT(windows[windows.size() / 10], median / 10);
  }
  Lab lab_;
  std::string file_ = lab_.file("lb.yaml");
  std::vector<std::unique_ptr<HttpServer>> http_;
  std::vector<std::unique_ptr<UdpServer>> udp_;
};

}  // namespace sluice::lab
