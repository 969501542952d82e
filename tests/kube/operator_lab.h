// The operator's real binary against a real API server, with node agents that have no dataplane. Nodes and pods are
// made up; the EndpointSlice controller is the real one.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "operator/kube/api.h"
#include "tests/fakes/fake_agent.h"
#include "tests/kube/cluster.h"

namespace sluice::test {

using nlohmann::json;

struct Condition {
  std::string status = "absent";
  std::string reason;
  std::string message;
};

class Operator {
 public:
  Operator(Process process, uint16_t metrics_port, std::string log)
      : process_(std::move(process)), metrics_port_(metrics_port), log_(std::move(log)) {}
  Process& process() { return process_; }
  [[nodiscard]] std::string log() const;
  // The body of a GET; the status in `status`.
  std::string http(const std::string& path, int* status = nullptr) const;
  // A sample's value, by its name with labels as they are printed; -1: there is none.
  [[nodiscard]] double metric(const std::string& sample) const;
  [[nodiscard]] bool leading() const { return metric("sluice_operator_leading") == 1; }
  // SIGTERM, and waits for its end. True where it ended by itself.
  bool stop();

 private:
  Process process_;
  uint16_t metrics_port_;
  std::string log_;
};

// One at a time: what it makes is in the whole cluster, and it takes all of it away again.
class Lab {
 public:
  explicit Lab(int nodes = 2);
  ~Lab();
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  [[nodiscard]] const std::string& ns() const { return ns_; }
  kube::Api& api() { return *api_; }

  // Without agents nothing gets programmed; start_agents() waits until the operator has made their certificate.
  std::unique_ptr<Operator> start_operator(const std::string& name = "op", const std::vector<std::string>& more = {});
  // Exit code and output of the operator's binary run to its end.
  CommandResult run_operator(const std::vector<std::string>& more);
  void start_agents();
  fakes::FakeAgent& agent(size_t index) { return *agents_.at(index); }
  void stop_agent(size_t index) { agents_.at(index).reset(); }
  void start_agent(size_t index);
  [[nodiscard]] static std::string node_name(size_t index) { return "lab-node" + std::to_string(index); }
  // Runs operator and agents and makes a pool `public` of 192.0.2.0/29 (.0 to .7).
  void start(const std::vector<std::string>& more_for_operator = {});
  Operator& op() { return *operator_; }
  void stop_operator() { operator_.reset(); }  // SIGKILL
  void replace_operator();                     // SIGTERM, and another one that leads

  void make_node(size_t index, const json& labels = json::object());
  void set_node_ready(size_t index, bool ready);
  void make_pool(const std::string& name, const std::vector<std::string>& addresses, const json& more = json::object());
  // A Service of type LoadBalancer and class sluice.io/xdp with port 80 to 8080, selecting app=NAME; `spec` is merged
  // over that.
  void make_service(const std::string& name, const json& spec = json::object(), const json& metadata = json::object());
  // A ClusterIP Service for LoadBalancers to name.
  void make_backend_service(const std::string& name);
  void make_load_balancer(const std::string& name, const json& spec);
  // A pod app=APP on the node, Running and Ready, without a kubelet.
  void make_pod(const std::string& name, const std::string& app, size_t node, const std::string& ip);
  void set_pod_ready(const std::string& name, bool ready);
  void remove_pod(const std::string& name);
  void patch(const kube::Resource& resource, const std::string& name, const json& merge_patch,
             const std::string& subresource = {});
  void remove(const kube::Resource& resource, const std::string& name);

  // null where it is not there. Cluster-scoped kinds need no namespace.
  [[nodiscard]] json get(const kube::Resource& resource, const std::string& name);
  [[nodiscard]] std::vector<json> list(const kube::Resource& resource);
  Condition condition(const kube::Resource& resource, const std::string& name, const std::string& type);
  // Of status.loadBalancer.ingress.
  std::vector<std::string> ingress(const std::string& service);
  // Wait for it; throw with what there is where it does not come.
  std::string wait_for_address(const std::string& service);
  void wait_for_condition(const kube::Resource& resource, const std::string& name, const std::string& type,
                          const std::string& status, const std::string& reason = {});
  void wait_for_backends(size_t agent, const std::string& address, const std::vector<std::string>& backends);
  bool gone(const kube::Resource& resource, const std::string& name);  // waits
  // Backends that the state of the agent leads to from this address and port, as "10.0.0.1:8080", sorted.
  std::vector<std::string> backends(size_t agent, const std::string& address, uint16_t port);
  // Resource versions of everything the operator writes, but for the Lease.
  std::map<std::string, std::string> versions();
  // Waits until the Lease has been renewed this often.
  bool lease_renewed(int times);
  // Reasons of the events about this object.
  std::vector<std::string> event_reasons(const std::string& kind, const std::string& name);

 private:
  void create(const kube::Resource& resource, const json& object);
  void wait_for_service_account();
  void clear();

  Cluster& cluster_;
  std::string ns_;
  std::shared_ptr<kube::Transport> transport_;
  std::unique_ptr<kube::Api> api_;
  uint16_t agent_port_;
  size_t nodes_;
  int operators_ = 0;
  std::vector<std::unique_ptr<fakes::FakeAgent>> agents_;
  std::unique_ptr<Operator> operator_;
  std::string logs_;  // directory
};

}  // namespace sluice::test
