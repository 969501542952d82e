#include "tests/kube/cluster.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace sluice::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

std::string find_binaries() {
  const char* given = std::getenv("SLUICE_KUBE_BIN");
  const char* home = std::getenv("HOME");
  std::string path = given != nullptr && *given != '\0'
                         ? std::string(given)
                         : std::string(home == nullptr ? "" : home) + "/.cache/sluice/kube/bin";
  for (const char* name : {"etcd", "kube-apiserver", "kube-controller-manager", "kubectl"}) {
    if (access((path + "/" + name).c_str(), X_OK) != 0) {
      throw std::runtime_error("tests of the operator need " + path + "/" + name +
                               ": run hack/kube-binaries, or point SLUICE_KUBE_BIN at them");
    }
  }
  return path;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::trunc);
  out << text;
}

std::string tail(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream out;
  out << in.rdbuf();
  std::string text = out.str();
  return text.size() > 3000 ? text.substr(text.size() - 3000) : text;
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

}  // namespace

bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds within) {
  const auto deadline = std::chrono::steady_clock::now() + within;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(10ms);
  }
  return true;
}

std::string Cluster::program(const std::string& name) const {
  return binaries_ + "/" + name;
}

void Cluster::wait_for(const std::string& what, const std::function<bool()>& condition, const std::string& log) {
  if (!eventually(condition, 60s)) throw std::runtime_error(what + "; its log ends:\n" + tail(log));
}

std::unique_ptr<Cluster> Cluster::start(const Options& options) {
  std::unique_ptr<Cluster> cluster(new Cluster());
  cluster->options_ = options;
  cluster->binaries_ = find_binaries();
  std::string pattern = (fs::temp_directory_path() / ("sluice-kube-" + std::to_string(getpid()) + "-XXXXXX")).string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make " + pattern);
  cluster->directory_ = pattern;
  cluster->api_port_ = free_port();
  cluster->etcd_port_ = free_port();
  cluster->etcd_peer_port_ = free_port();
  cluster->write_files();
  cluster->start_etcd();
  cluster->start_api_server();
  if (options.controller_manager) cluster->start_controller_manager();
  return cluster;
}

Cluster& Cluster::shared() {
  static const std::unique_ptr<Cluster> cluster = start({});
  return *cluster;
}

Cluster::~Cluster() {
  controller_manager_.kill();
  api_server_.kill();
  etcd_.kill();
  std::error_code ignored;
  if (!directory_.empty() && std::getenv("SLUICE_KEEP") == nullptr) fs::remove_all(directory_, ignored);
}

void Cluster::write_files() {
  const auto made = run_command({"openssl", "genrsa", "-out", directory_ + "/sa.key", "2048"});
  if (made.exit_code != 0) throw std::runtime_error("openssl: " + made.out);
  write_file(directory_ + "/tokens.csv",
             std::string(kAdminToken) + ",admin,admin,system:masters\n" + kNobodyToken + ",nobody,nobody\n");
  fs::copy_file(kubeconfig_as(kAdminToken), kubeconfig(), fs::copy_options::overwrite_existing);
}

std::string Cluster::kubeconfig_as(const std::string& token, uint16_t port) const {
  const std::string at = std::to_string(port == 0 ? api_port_ : port);
  std::string path = directory_ + "/kubeconfig-" + token + "-" + at;
  write_file(path,
             "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
             "clusters: [{name: l, cluster: {server: 'https://127.0.0.1:" +
                 at + "', certificate-authority: certs/apiserver.crt}}]\n" + "users: [{name: u, user: {token: " +
                 token + "}}]\n" + "contexts: [{name: c, context: {cluster: l, user: u}}]\n");
  return path;
}

void Cluster::start_etcd() {
  const std::string client = "http://127.0.0.1:" + std::to_string(etcd_port_);
  const std::string peer = "http://127.0.0.1:" + std::to_string(etcd_peer_port_);
  const std::string log = directory_ + "/etcd.log";
  etcd_ =
      Process::start({program("etcd"), "--data-dir", directory_ + "/etcd", "--listen-client-urls", client,
                      "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls",
                      peer, "--initial-cluster", "default=" + peer, "--unsafe-no-fsync", "--log-level", "warn"},
                     log);
  wait_for(
      "etcd does not listen", [this] { return listening(etcd_port_); }, log);
}

void Cluster::start_api_server() {
  const std::string log = directory_ + "/apiserver.log";
  std::vector<std::string> command{program("kube-apiserver"),
                                   "--etcd-servers=http://127.0.0.1:" + std::to_string(etcd_port_),
                                   "--bind-address=127.0.0.1",
                                   "--advertise-address=127.0.0.1",
                                   "--secure-port=" + std::to_string(api_port_),
                                   "--endpoint-reconciler-type=none",
                                   "--cert-dir=" + directory_ + "/certs",
                                   "--service-account-key-file=" + directory_ + "/sa.key",
                                   "--service-account-signing-key-file=" + directory_ + "/sa.key",
                                   "--service-account-issuer=https://kubernetes.default.svc",
                                   "--service-cluster-ip-range=10.96.0.0/16,fd96::/112",
                                   "--token-auth-file=" + directory_ + "/tokens.csv",
                                   "--authorization-mode=Node,RBAC",
                                   "--allow-privileged=true"};
  command.insert(command.end(), options_.api_server_flags.begin(), options_.api_server_flags.end());
  api_server_ = Process::start(command, log);
  wait_for(
      "the API server does not listen", [this] { return listening(api_port_) || !api_server_.running(); }, log);
  wait_for(
      "the API server does not get ready",
      [this] {
        if (!api_server_.running())
          throw std::runtime_error("the API server ended:\n" + tail(directory_ + "/apiserver.log"));
        return kubectl({"get", "--raw", "/readyz"}).exit_code == 0;
      },
      log);
}

void Cluster::start_controller_manager() {
  const std::string log = directory_ + "/controller-manager.log";
  controller_manager_ =
      Process::start({program("kube-controller-manager"), "--kubeconfig=" + kubeconfig(),
                      "--service-account-private-key-file=" + directory_ + "/sa.key", "--root-ca-file=" + ca_file(),
                      "--use-service-account-credentials=true", "--secure-port=0", "--leader-elect=false",
                      // No kubelet reports here: nodes would turn NotReady, and their endpoints with them.
                      "--controllers=*,-node-lifecycle-controller"},
                     log);
  wait_for(
      "the controller manager does not work",
      [this] {
        return kubectl({"get", "serviceaccount", "-n", "default", "default"}).exit_code == 0;
      },
      log);
}

CommandResult Cluster::kubectl(std::vector<std::string> arguments, const std::string& input) {
  std::vector<std::string> command{program("kubectl"), "--kubeconfig", kubeconfig(), "--cache-dir",
                                   directory_ + "/kubectl-cache"};
  command.insert(command.end(), std::make_move_iterator(arguments.begin()), std::make_move_iterator(arguments.end()));
  return run_command(command, input);
}

void Cluster::apply(const std::string& yaml) {
  const auto done = kubectl({"apply", "-f", "-"}, yaml);
  if (done.exit_code != 0) throw std::runtime_error("kubectl apply: " + done.out);
}

std::string Cluster::get(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "get");
  return trimmed(kubectl(std::move(arguments)).out);
}

std::unique_ptr<Cluster::Namespace> Cluster::make_namespace(const std::string& stem) {
  const std::string name = stem + "-" + std::to_string(++namespaces_);
  const auto made = kubectl({"create", "namespace", name});
  if (made.exit_code != 0) throw std::runtime_error("kubectl create namespace: " + made.out);
  return std::make_unique<Namespace>(*this, name);
}

Cluster::Namespace::~Namespace() {
  cluster_.kubectl({"delete", "namespace", name_, "--wait=false"});
}

// It drains its watches for up to a minute: not for a test.
void Cluster::stop_api_server() {
  api_server_.terminate(3s);
}
void Cluster::kill_api_server() {
  api_server_.kill();
}

void Cluster::backup() {
  stop_api_server();
  etcd_.terminate(5s);
  fs::remove_all(directory_ + "/backup");
  fs::copy(directory_ + "/etcd", directory_ + "/backup", fs::copy_options::recursive);
  start_etcd();
  start_api_server();
}

void Cluster::restore() {
  stop_api_server();
  etcd_.kill();
  fs::remove_all(directory_ + "/etcd");
  fs::copy(directory_ + "/backup", directory_ + "/etcd", fs::copy_options::recursive);
  start_etcd();
  start_api_server();
}

}  // namespace sluice::test
