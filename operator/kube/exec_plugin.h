// Running a credential plugin and reading what it prints.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "operator/kube/config.h"

namespace sluice::kube {

struct ExecCredential {
  std::string token;
  std::string client_certificate;  // PEM
  std::string client_key;
  std::optional<std::chrono::system_clock::time_point> expires;
};

// Pure: the JSON that a plugin printed.
Result<ExecCredential> parse_exec_credential(std::string_view output, const ExecPlugin& plugin);
// Pure: what a plugin finds in KUBERNETES_EXEC_INFO.
std::string exec_info(const ExecPlugin& plugin, const ClusterConfig& config);

// Runs it (stdin closed, stderr inherited) and kills it when it takes longer than `timeout`.
Result<ExecCredential> run_exec_plugin(const ExecPlugin& plugin, const ClusterConfig& config,
                                       std::chrono::milliseconds timeout);

}  // namespace sluice::kube
