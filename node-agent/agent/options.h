// What people type: flags, each also as SLUICE_... in the environment.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "node-agent/config/standalone.h"
#include "node-agent/inspect/socket.h"

namespace sluice::agent {

// host:port, an IPv6 host in brackets.
struct Endpoint {
  std::string host;
  uint16_t port = 0;
  [[nodiscard]] std::string text() const;
};

struct Options {
  std::string config;              // standalone mode where not empty
  std::optional<Endpoint> listen;  // cluster mode
  std::string tls_directory = "/etc/sluice/tls";
  bool check = false;
  bool purge = false;
  std::string node_name;  // default: the host's name
  std::vector<config::Interface> interfaces;
  config::InterfaceMode interface_mode = config::InterfaceMode::native;
  std::optional<Endpoint> metrics_listen;  // nullopt: off
  std::string socket = inspect::kSocket;   // empty: off
  std::string state_file = "/var/lib/sluice/state.json";
  std::string bpffs = "/sys/fs/bpf/sluice";
  uint16_t nat_port_first = 10'000;
  uint16_t nat_port_last = 29'999;
  uint32_t max_services = 0;  // 0 in these four: the dataplane's default
  uint32_t max_backends = 0;
  uint32_t max_slots = 0;
  uint32_t max_flows = 0;
  std::chrono::seconds announce_grace{30};
  std::string log_level = "info";
  std::string log_format = "auto";
};

// The exit code where there is nothing more to do: 0 after --help and --version, 2 where what was typed makes no sense
// (it has been said on stderr).
struct Parsed {
  Options options;
  std::optional<int> exit_code;
};
Parsed parse_options(int argc, const char* const* argv);

}  // namespace sluice::agent
