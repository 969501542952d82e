// Small states and a directory that goes away again.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "common/state/desired_state.h"

namespace sluice::agent {

inline net::IpAddress ip(const std::string& text) {
  return net::IpAddress::parse(text).value();
}

// One service "s/http" on 192.0.2.10:80 with `backends` members 10.0.0.2, .3, ...; announced by node1.
inline state::DesiredState small_state(state::Epoch epoch, state::Revision revision, int backends = 2) {
  state::DesiredState state;
  state.cluster_id = "cluster-1";
  state.epoch = epoch;
  state.revision = revision;
  state.flow_hash_key = {1, 2};
  state::Service service;
  service.id = "s/http";
  service.addresses = {ip("192.0.2.10")};
  service.port = 80;
  service.groups = {{"g", 1}};
  service.sizes = {{0, 10}};
  for (int i = 0; i < backends; ++i) {
    state::Backend backend;
    backend.address = ip("10.0.0." + std::to_string(i + 2));
    backend.port = 8080;
    service.backends.push_back(backend);
  }
  state.services[service.id] = service;
  state.nodes["node1"] = {"node1", {ip("10.0.0.1")}, {}};
  state.announcements[ip("192.0.2.10")] = {ip("192.0.2.10"), {"node1", "node2"}, {}};
  return state;
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sluice-agent-test-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace sluice::agent
