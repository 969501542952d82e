// What tests against a server that misbehaves share.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "operator/kube/config.h"
#include "tests/kube/fake_server.h"

namespace sluice::test {

inline kube::ClusterConfig at(const FakeServer& server) {
  kube::ClusterConfig config;
  config.server = server.url();
  return config;
}

// The body of a refusal.
inline std::string status(int code, const std::string& reason,
                          const nlohmann::json& details = nlohmann::json::object()) {
  return nlohmann::json{{"kind", "Status"}, {"apiVersion", "v1"},   {"status", "Failure"}, {"code", code},
                        {"reason", reason}, {"message", "because"}, {"details", details}}
      .dump();
}

}  // namespace sluice::test
