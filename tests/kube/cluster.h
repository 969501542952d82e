// A real Kubernetes control plane for tests: etcd, kube-apiserver and, where asked for, kube-controller-manager, on
// loopback ports of their own, with their data in a directory that goes when they go. Nodes and pods can be made up:
// objects are objects; the EndpointSlice controller does the rest.
//
// Binaries: $SLUICE_KUBE_BIN, else ~/.cache/sluice/kube/bin. Where they lack, start() throws and says how to get them.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/kube/process.h"

namespace sluice::test {

// Polls until `condition` holds. False at the deadline.
bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds within = std::chrono::seconds(20));

class Cluster {
 public:
  struct Options {
    bool controller_manager = true;
    std::vector<std::string> api_server_flags;  // in addition
  };
  // Returns when the API server is ready, and with a controller manager when the namespace default has its service
  // account.
  static std::unique_ptr<Cluster> start(const Options& options);
  // One for the whole test binary, with a controller manager; started when it is first asked for.
  static Cluster& shared();
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  [[nodiscard]] const std::string& directory() const { return directory_; }
  [[nodiscard]] std::string kubeconfig() const { return directory_ + "/kubeconfig"; }  // cluster-admin, verifies TLS
  // The same for the user that `token` belongs to, through `port` (0: the API server's own).
  [[nodiscard]] std::string kubeconfig_as(const std::string& token, uint16_t port = 0) const;
  static constexpr const char* kAdminToken = "admin-token";
  static constexpr const char* kNobodyToken = "nobody-token";  // a user without any permission
  [[nodiscard]] uint16_t api_port() const { return api_port_; }
  [[nodiscard]] std::string server() const { return "https://127.0.0.1:" + std::to_string(api_port_); }
  [[nodiscard]] std::string etcd() const { return "http://127.0.0.1:" + std::to_string(etcd_port_); }
  [[nodiscard]] std::string ca_file() const { return directory_ + "/certs/apiserver.crt"; }

  CommandResult kubectl(std::vector<std::string> arguments, const std::string& input = {});
  void apply(const std::string& yaml);                  // throws when kubectl refuses
  std::string get(std::vector<std::string> arguments);  // "kubectl get ARGUMENTS", its output trimmed

  // A namespace that is deleted with the value (without waiting for it).
  class Namespace {
   public:
    Namespace(Cluster& cluster, std::string name) : cluster_(cluster), name_(std::move(name)) {}
    ~Namespace();
    Namespace(const Namespace&) = delete;
    Namespace& operator=(const Namespace&) = delete;
    [[nodiscard]] const std::string& name() const { return name_; }

   private:
    Cluster& cluster_;
    std::string name_;
  };
  std::unique_ptr<Namespace> make_namespace(const std::string& stem);

  // Outages. Ports and data stay.
  void stop_api_server();
  void kill_api_server();
  void start_api_server();
  Process& api_server() { return api_server_; }
  // etcd's data as it is now, and back to that: what a restore from a backup does. Both stop and start the API server.
  void backup();
  void restore();

 private:
  Cluster() = default;
  void start_etcd();
  void start_controller_manager();
  void write_files();
  [[nodiscard]] std::string program(const std::string& name) const;
  void wait_for(const std::string& what, const std::function<bool()>& condition, const std::string& log);

  Options options_;
  std::string binaries_;
  std::string directory_;
  uint16_t api_port_ = 0;
  uint16_t etcd_port_ = 0;
  uint16_t etcd_peer_port_ = 0;
  int namespaces_ = 0;
  Process etcd_;
  Process api_server_;
  Process controller_manager_;
};

}  // namespace sluice::test
