#include "tests/kube/operator_lab.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <thread>

#include "operator/certificates/keeper.h"
#include "tests/fakes/loopback.h"
#include "tests/kube/client.h"

namespace sluice::test {

namespace {

using std::chrono::seconds;

constexpr const char* kLease = "sluice-operator";
constexpr const char* kCaSecret = "sluice-ca";
constexpr const char* kOperatorSecret = "sluice-operator-tls";
constexpr const char* kAgentSecret = "sluice-agent-tls";
constexpr int kPort = 80;
constexpr int kTargetPort = 8080;

std::string receive(uint16_t port, const std::string& request) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const auto address = fakes::loopback(port);
  std::string text;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
      ::send(fd, request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size())) {
    std::array<char, 65536> buffer{};
    for (ssize_t got = 0; (got = ::recv(fd, buffer.data(), buffer.size(), 0)) > 0;) {
      text.append(buffer.data(), static_cast<size_t>(got));
    }
  }
  ::close(fd);
  return text;
}

std::string address_of(size_t index) {
  return "127.0.0." + std::to_string(11 + index);
}

json meta(const std::string& ns, const std::string& name, const json& more = json::object()) {
  json metadata = {{"name", name}};
  if (!ns.empty()) {
    metadata["namespace"] = ns;
  }
  metadata.merge_patch(more);
  return metadata;
}

// One control plane for all tests of the binary, with the kinds of Sluice.
Cluster& cluster_with_crds() {
  static Cluster& cluster = [&]() -> Cluster& {
    auto& shared = Cluster::shared();
    const auto applied = shared.kubectl({"apply", "--server-side", "-f", SLUICE_CRDS});
    const auto waited = shared.kubectl({"wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"});
    if (applied.exit_code != 0 || waited.exit_code != 0) {
      throw std::runtime_error("CRDs: " + applied.out + waited.out);
    }
    return shared;
  }();
  return cluster;
}

std::string unique_namespace() {
  static int count = 0;
  return "lab-" + std::to_string(++count);
}

}  // namespace

std::string Operator::log() const {
  return read_text(log_);
}

std::string Operator::http(const std::string& path, int* status) const {
  const auto answer = receive(metrics_port_, "GET " + path + " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
  if (status != nullptr) {
    *status = answer.size() > 12 ? std::stoi(answer.substr(9, 3)) : 0;
  }
  const auto body = answer.find("\r\n\r\n");
  return body == std::string::npos ? std::string() : answer.substr(body + 4);
}

double Operator::metric(const std::string& sample) const {
  const auto text = "\n" + http("/metrics");
  const auto at = text.find("\n" + sample + " ");
  return at == std::string::npos ? -1 : std::stod(text.substr(at + sample.size() + 2));
}

bool Operator::stop() {
  process_.signal(SIGTERM);
  const bool ended = eventually([this] { return !process_.running(); });
  process_.kill();
  return ended;
}

Lab::Lab(int nodes)
    : cluster_(cluster_with_crds()),
      ns_(unique_namespace()),
      transport_(connect(cluster_.kubeconfig())),
      api_(std::make_unique<kube::Api>(transport_)),
      agent_port_(free_port()),
      nodes_(static_cast<size_t>(nodes)),
      logs_(cluster_.directory() + "/" + ns_) {
  std::filesystem::create_directories(logs_);
  clear();
  create(kube::kNamespaces, {{"apiVersion", "v1"}, {"kind", "Namespace"}, {"metadata", meta("", ns_)}});
  wait_for_service_account();
  for (const char* name : {kCaSecret, kOperatorSecret, kAgentSecret}) {
    create(kube::kSecrets, {{"apiVersion", "v1"}, {"kind", "Secret"}, {"metadata", meta(ns_, name)}});
  }
  create(kube::kLeases, {{"apiVersion", "coordination.k8s.io/v1"}, {"kind", "Lease"}, {"metadata", meta(ns_, kLease)}});
  for (size_t i = 0; i < nodes_; ++i) {
    make_node(i);
  }
  agents_.resize(nodes_);
}

Lab::~Lab() {
  if (testing::Test::HasFailure() && operator_) {
    std::cerr << "--- the operator's log\n" << operator_->log() << "---\n";
  }
  operator_.reset();
  agents_.clear();
  clear();
  api_->remove(kube::kNamespaces, {"", ns_}).has_value();
}

void Lab::clear() {
  for (const auto& resource : {kube::kServices, kube::kLoadBalancers}) {
    for (const auto& object : list(resource)) {
      if (object.contains("/metadata/finalizers"_json_pointer)) {
        const json none = {{"metadata", {{"finalizers", nullptr}}}};
        (void)api_->patch(resource, kube::key_of(object), kube::PatchType::merge, none);
      }
      if (object["metadata"]["name"] != "kubernetes") {
        (void)api_->remove(resource, kube::key_of(object));
      }
    }
  }
  for (const auto& resource : {kube::kAddressClaims, kube::kAddressPools, kube::kLoadBalancerNodes, kube::kNodes}) {
    for (const auto& object : list(resource)) {
      (void)api_->remove(resource, kube::key_of(object));
    }
  }
}

void Lab::create(const kube::Resource& resource, const json& object) {
  const auto made = api_->create(resource, object["metadata"].value("namespace", ""), object);
  if (!made) {
    throw std::runtime_error(made.error().message());
  }
}

// Pods need it; the controller manager makes it.
void Lab::wait_for_service_account() {
  constexpr kube::Resource kServiceAccounts{"", "v1", "serviceaccounts", "ServiceAccount", true};
  if (!eventually([&] { return !get(kServiceAccounts, "default").is_null(); })) {
    throw std::runtime_error("namespace " + ns_ + " gets no service account");
  }
}

std::unique_ptr<Operator> Lab::start_operator(const std::string& name, const std::vector<std::string>& more) {
  const auto metrics_port = free_port();
  const std::string log = logs_ + "/" + name + "-" + std::to_string(++operators_) + ".log";
  std::vector<std::string> command{SLUICE_OPERATOR,
                                   "--kubeconfig=" + cluster_.kubeconfig(),
                                   "--namespace=" + ns_,
                                   "--identity=" + name,
                                   "--agent-port=" + std::to_string(agent_port_),
                                   "--metrics-listen=127.0.0.1:" + std::to_string(metrics_port),
                                   "--log-level=debug",
                                   "--log-format=text"};
  command.insert(command.end(), more.begin(), more.end());
  return std::make_unique<Operator>(Process::start(command, log), metrics_port, log);
}

CommandResult Lab::run_operator(const std::vector<std::string>& more) {
  std::vector<std::string> command{SLUICE_OPERATOR, "--namespace=" + ns_, "--agent-port=" + std::to_string(agent_port_),
                                   "--log-format=text"};
  if (std::ranges::none_of(more, [](const auto& flag) { return flag.starts_with("--kubeconfig"); })) {
    command.push_back("--kubeconfig=" + cluster_.kubeconfig());
  }
  command.insert(command.end(), more.begin(), more.end());
  return run_command(command);
}

void Lab::start_agent(size_t index) {
  const auto leaf = certificates::read_leaf(std::make_unique<json>(get(kube::kSecrets, kAgentSecret)).get());
  auto agent = fakes::FakeAgent::start({.node = node_name(index),
                                        .address = address_of(index),
                                        .port = agent_port_,
                                        .ca_bundle = leaf.bundle,
                                        .certificate = leaf.certificate,
                                        .key = leaf.key});
  if (!agent) {
    throw std::runtime_error(agent.error().message());
  }
  agents_.at(index) = std::move(*agent);
  agents_.at(index)->announce_as_told(true);
  agents_.at(index)->report_interface("eth0", "Native");
}

void Lab::start_agents() {
  const auto filled = [&] {
    const auto secret = get(kube::kSecrets, kAgentSecret);
    return certificates::usable(certificates::read_leaf(&secret), tls::kAgentName, certificates::Clock::now());
  };
  if (!eventually(filled)) {
    throw std::runtime_error("the operator fills no Secret:\n" + (operator_ ? operator_->log() : ""));
  }
  for (size_t i = 0; i < nodes_; ++i) {
    start_agent(i);
  }
}

void Lab::start(const std::vector<std::string>& more_for_operator) {
  operator_ = start_operator("op", more_for_operator);
  start_agents();
  make_pool("public", {"192.0.2.0/29"});
}

void Lab::replace_operator() {
  if (operator_) {
    operator_->stop();
  }
  operator_ = start_operator();
  // One that was killed keeps its Lease for 15 s, from when the next one has first seen it.
  if (!eventually([&] { return operator_->leading(); }, seconds(40))) {
    throw std::runtime_error("the new operator does not lead:\n" + operator_->log());
  }
}

void Lab::make_node(size_t index, const json& labels) {
  const auto name = node_name(index);
  create(kube::kNodes, {{"apiVersion", "v1"}, {"kind", "Node"}, {"metadata", meta("", name, {{"labels", labels}})}});
  patch(kube::kNodes, name, {{"status", {{"addresses", {{{"type", "InternalIP"}, {"address", address_of(index)}}}}}}},
        "status");
  set_node_ready(index, true);
}

void Lab::set_node_ready(size_t index, bool ready) {
  patch(kube::kNodes, node_name(index),
        {{"status", {{"conditions", {{{"type", "Ready"}, {"status", ready ? "True" : "False"}}}}}}}, "status");
}

void Lab::make_pool(const std::string& name, const std::vector<std::string>& addresses, const json& more) {
  json spec = {{"addresses", addresses}};
  spec.merge_patch(more);
  create(kube::kAddressPools,
         {{"apiVersion", "sluice.io/v1alpha1"}, {"kind", "AddressPool"}, {"metadata", meta("", name)}, {"spec", spec}});
}

void Lab::make_service(const std::string& name, const json& spec, const json& metadata) {
  json full = {{"type", "LoadBalancer"},
               {"loadBalancerClass", "sluice.io/xdp"},
               {"selector", {{"app", name}}},
               {"ports", {{{"name", "http"}, {"port", kPort}, {"targetPort", kTargetPort}}}}};
  full.merge_patch(spec);
  create(kube::kServices,
         {{"apiVersion", "v1"}, {"kind", "Service"}, {"metadata", meta(ns_, name, metadata)}, {"spec", full}});
}

void Lab::make_backend_service(const std::string& name) {
  make_service(name, {{"type", "ClusterIP"}, {"loadBalancerClass", nullptr}});
}

void Lab::make_load_balancer(const std::string& name, const json& spec) {
  create(
      kube::kLoadBalancers,
      {{"apiVersion", "sluice.io/v1alpha1"}, {"kind", "LoadBalancer"}, {"metadata", meta(ns_, name)}, {"spec", spec}});
}

void Lab::make_pod(const std::string& name, const std::string& app, size_t node, const std::string& ip) {
  create(kube::kPods, {{"apiVersion", "v1"},
                       {"kind", "Pod"},
                       {"metadata", meta(ns_, name, {{"labels", {{"app", app}}}})},
                       {"spec",
                        {{"nodeName", node_name(node)},
                         {"terminationGracePeriodSeconds", 0},
                         {"tolerations", {{{"operator", "Exists"}}}},
                         {"containers", {{{"name", "web"}, {"image", "none"}}}}}}});
  patch(kube::kPods, name,
        {{"status",
          {{"phase", "Running"},
           {"podIP", ip},
           {"podIPs", {{{"ip", ip}}}},
           {"conditions", {{{"type", "Ready"}, {"status", "True"}}}}}}},
        "status");
}

void Lab::set_pod_ready(const std::string& name, bool ready) {
  patch(kube::kPods, name, {{"status", {{"conditions", {{{"type", "Ready"}, {"status", ready ? "True" : "False"}}}}}}},
        "status");
}

void Lab::remove_pod(const std::string& name) {
  remove(kube::kPods, name);
}

void Lab::patch(const kube::Resource& resource, const std::string& name, const json& merge_patch,
                const std::string& subresource) {
  const auto done =
      api_->patch(resource, {resource.namespaced ? ns_ : "", name}, kube::PatchType::merge, merge_patch, subresource);
  if (!done) {
    throw std::runtime_error(done.error().message());
  }
}

void Lab::remove(const kube::Resource& resource, const std::string& name) {
  const auto done = api_->remove(resource, {resource.namespaced ? ns_ : "", name});
  if (!done) {
    throw std::runtime_error(done.error().message());
  }
}

json Lab::get(const kube::Resource& resource, const std::string& name) {
  const auto found = api_->get(resource, {resource.namespaced ? ns_ : "", name});
  if (!found && found.error().kind != ErrorKind::not_found) {
    throw std::runtime_error(found.error().message());
  }
  return found ? **found : json();
}

std::vector<json> Lab::list(const kube::Resource& resource) {
  const auto listed = api_->consistent_list(resource);
  if (!listed) {
    throw std::runtime_error(listed.error().message());
  }
  std::vector<json> objects;
  for (const auto& object : listed->items) {
    objects.push_back(*object);
  }
  return objects;
}

Condition Lab::condition(const kube::Resource& resource, const std::string& name, const std::string& type) {
  const auto object = get(resource, name);
  if (!object.is_null()) {
    for (const auto& condition : object.value("/status/conditions"_json_pointer, json::array())) {
      if (condition["type"] == type) {
        return {condition.value("status", ""), condition.value("reason", ""), condition.value("message", "")};
      }
    }
  }
  return {};
}

std::vector<std::string> Lab::ingress(const std::string& service) {
  std::vector<std::string> addresses;
  const auto object = get(kube::kServices, service);
  if (!object.is_null()) {
    for (const auto& point : object.value("/status/loadBalancer/ingress"_json_pointer, json::array())) {
      addresses.push_back(point.value("ip", ""));
    }
  }
  return addresses;
}

std::string Lab::wait_for_address(const std::string& service) {
  if (!eventually([&] { return !ingress(service).empty(); })) {
    throw std::runtime_error("Service " + service + " gets no address: " + get(kube::kServices, service).dump(2) +
                             (operator_ ? operator_->log() : ""));
  }
  return ingress(service).front();
}

void Lab::wait_for_condition(const kube::Resource& resource, const std::string& name, const std::string& type,
                             const std::string& status, const std::string& reason) {
  const auto as_wanted = [&] {
    const auto found = condition(resource, name, type);
    return found.status == status && (reason.empty() || found.reason == reason);
  };
  if (!eventually(as_wanted)) {
    throw std::runtime_error(name + " does not get " + type + "=" + status + " " + reason + ": " +
                             get(resource, name)["status"].dump(2));
  }
}

void Lab::wait_for_backends(size_t agent, const std::string& address, const std::vector<std::string>& wanted) {
  if (!eventually([&] { return backends(agent, address, kPort) == wanted; })) {
    throw std::runtime_error("agent " + std::to_string(agent) + " does not lead " + address + " to " +
                             json(wanted).dump() + " but to " + json(backends(agent, address, kPort)).dump());
  }
}

bool Lab::gone(const kube::Resource& resource, const std::string& name) {
  return eventually([&] { return get(resource, name).is_null(); });
}

std::map<std::string, std::string> Lab::versions() {
  std::map<std::string, std::string> found;
  for (const auto& resource : {kube::kServices, kube::kLoadBalancers, kube::kAddressPools, kube::kAddressClaims,
                               kube::kLoadBalancerNodes, kube::kSecrets, kube::kEvents}) {
    for (const auto& object : list(resource)) {
      found[std::string(resource.kind) + " " + kube::key_of(object).text()] = kube::resource_version_of(object);
    }
  }
  return found;
}

bool Lab::lease_renewed(int times) {
  std::set<std::string> seen;
  return eventually(
      [&] {
        seen.insert(get(kube::kLeases, kLease).value("/spec/renewTime"_json_pointer, ""));
        return seen.size() > static_cast<size_t>(times);
      },
      std::chrono::seconds(60));
}

std::vector<std::string> Lab::backends(size_t agent, const std::string& address, uint16_t port) {
  std::set<std::string> found;
  const auto state = agents_.at(agent)->held();
  if (!state) {
    return {};
  }
  for (const auto& [id, service] : state->services) {
    const bool listens = service.port == port && std::ranges::any_of(service.addresses, [&](const auto& candidate) {
                           return candidate.to_string() == address;
                         });
    for (const auto& backend : service.backends) {
      if (listens && backend.in_choice_at(UINT64_MAX)) {
        found.insert(backend.address.to_string() + ":" + std::to_string(backend.port));
      }
    }
  }
  return {found.begin(), found.end()};
}

std::vector<std::string> Lab::event_reasons(const std::string& kind, const std::string& name) {
  std::vector<std::string> reasons;
  for (const auto& event : list(kube::kEvents)) {
    const auto& about = event["involvedObject"];
    if (about.value("kind", "") == kind && about.value("name", "") == name) {
      reasons.push_back(event.value("reason", ""));
    }
  }
  return reasons;
}

}  // namespace sluice::test
