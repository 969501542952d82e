// What the operator is told by flags and environment.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "common/net/address.h"

namespace sluice::controller {

enum class EndpointsSource { endpoint_slices, endpoints };

struct Options {
  std::string kubeconfig;  // empty: $KUBECONFIG, the service account, ~/.kube/config
  std::string ns;          // where Lease and Secrets are
  std::string identity;    // unique per process
  std::string load_balancer_class = "sluice.io/xdp";
  bool default_class = false;  // Services without a class are ours too
  EndpointsSource endpoints_source = EndpointsSource::endpoint_slices;
  uint16_t agent_port = 9470;
  std::string metrics_listen = ":9472";  // HOST:PORT; empty host: all addresses
  std::string lease_name = "sluice-operator";
  std::string ca_secret = "sluice-ca";
  std::string operator_secret = "sluice-operator-tls";
  std::string agent_secret = "sluice-agent-tls";
  bool ignore_exclude_label = false;
  std::chrono::seconds announce_grace{30};
  uint16_t tunnel_port = 6082;
  std::chrono::seconds tunnel_key_rotation{24 * 3600};  // 0: never
  std::vector<net::Prefix> allowed_static_backends;
  std::string log_level = "info";
  std::string log_format = "auto";
  bool cleanup = false;
};

// What the process is to end with at once: --help and --version are 0, a usage error is 2.
struct Exit {
  int code = 0;
};

// Prints help and errors itself.
std::variant<Options, Exit> parse_options(int argc, const char* const* argv, const std::string& version);

struct ListenAddress {
  std::string host;
  uint16_t port = 0;
};
// "HOST:PORT", ":PORT" or "[V6]:PORT".
std::variant<ListenAddress, std::string> parse_listen(const std::string& text);

}  // namespace sluice::controller
