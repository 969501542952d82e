// What tests of the Kubernetes client share.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "operator/kube/api.h"
#include "tests/kube/cluster.h"

namespace sluice::test {

inline std::string read_text(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

inline std::shared_ptr<kube::Transport> connect(const kube::ClusterConfig& config) {
  auto transport = kube::make_transport(config, "sluice-test");
  if (!transport) throw std::runtime_error(transport.error().message());
  return *transport;
}

inline std::shared_ptr<kube::Transport> connect(const std::string& kubeconfig) {
  const auto config = kube::parse_kubeconfig({{kubeconfig, read_text(kubeconfig)}});
  if (!config) throw std::runtime_error(config.error().message());
  return connect(*config);
}

inline nlohmann::json config_map(const std::string& ns, const std::string& name, const nlohmann::json& data = {},
                                 const nlohmann::json& labels = nlohmann::json::object()) {
  return {{"apiVersion", "v1"},
          {"kind", "ConfigMap"},
          {"metadata", {{"name", name}, {"namespace", ns}, {"labels", labels}}},
          {"data", data}};
}

}  // namespace sluice::test
