#include "operator/kube/exec_plugin.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "operator/kube/json_text.h"
#include "operator/kube/time_text.h"

namespace sluice::kube {
namespace {

constexpr const char* kOperation = "run credential plugin";
constexpr std::size_t kMaxOutput = 1 << 20;

struct Descriptor {
  int fd = -1;
  explicit Descriptor(int value) : fd(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { reset(); }
  void reset() {
    if (fd >= 0) close(fd);
    fd = -1;
  }
};

std::string string_or_empty(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// Reads to the end, the deadline or the limit. False at the deadline or the limit.
bool read_all(int fd, std::chrono::steady_clock::time_point deadline, std::string& out) {
  char buffer[4096];
  while (out.size() < kMaxOutput) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0) return false;
    pollfd poller{fd, POLLIN, 0};
    const int ready = poll(&poller, 1, static_cast<int>(left));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0;
    out.append(buffer, static_cast<std::size_t>(got));
  }
  return false;
}

Result<pid_t> spawn(const ExecPlugin& plugin, const std::string& info, int output) {
  Environment environment = process_environment();
  for (const auto& [name, value] : plugin.env) environment[name] = value;
  environment["KUBERNETES_EXEC_INFO"] = info;
  std::vector<std::string> pairs;
  pairs.reserve(environment.size());
  for (const auto& [name, value] : environment) pairs.push_back(fmt::format("{}={}", name, value));
  std::vector<std::string> words{plugin.command};
  words.insert(words.end(), plugin.args.begin(), plugin.args.end());
  const auto pointers = [](std::vector<std::string>& from) {
    std::vector<char*> out;
    out.reserve(from.size() + 1);
    for (auto& word : from) out.push_back(word.data());
    out.push_back(nullptr);
    return out;
  };
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  // A group of its own, so that what it starts can be ended with it.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  pid_t child = 0;
  const int error = posix_spawnp(&child, plugin.command.c_str(), &actions, &attributes, pointers(words).data(),
                                 pointers(pairs).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return fail_errno(error, kOperation, plugin.command);
  return child;
}

}  // namespace

Result<ExecCredential> parse_exec_credential(std::string_view output, const ExecPlugin& plugin) {
  const auto invalid = [&plugin](std::string reason) {
    return fail(ErrorKind::invalid, "read what credential plugin printed", plugin.command, std::move(reason));
  };
  const auto root = parse_json(output);
  if (!root.is_object()) return invalid("not a JSON object");
  if (string_or_empty(root, "kind") != "ExecCredential") return invalid("not an ExecCredential");
  if (string_or_empty(root, "apiVersion") != plugin.api_version) {
    return invalid("apiVersion \"" + string_or_empty(root, "apiVersion") + "\", expected " + plugin.api_version);
  }
  const auto status = root.find("status");
  if (status == root.end() || !status->is_object()) return invalid("no status");
  ExecCredential credential;
  credential.token = string_or_empty(*status, "token");
  credential.client_certificate = string_or_empty(*status, "clientCertificateData");
  credential.client_key = string_or_empty(*status, "clientKeyData");
  if (credential.client_certificate.empty() != credential.client_key.empty()) {
    return invalid("client certificate and key come together");
  }
  if (credential.token.empty() && credential.client_certificate.empty())
    return invalid("neither token nor certificate");
  if (const std::string expires = string_or_empty(*status, "expirationTimestamp"); !expires.empty()) {
    credential.expires = parse_rfc3339(expires);
    if (!credential.expires) return invalid("expirationTimestamp \"" + expires + "\" is not a time");
  }
  return credential;
}

std::string exec_info(const ExecPlugin& plugin, const ClusterConfig& config) {
  nlohmann::json info{
      {"apiVersion", plugin.api_version}, {"kind", "ExecCredential"}, {"spec", {{"interactive", false}}}};
  if (plugin.provide_cluster_info) {
    auto& cluster = info["spec"]["cluster"];
    cluster["server"] = config.server;
    if (!config.tls_server_name.empty()) cluster["tls-server-name"] = config.tls_server_name;
    if (config.insecure_skip_tls_verify) cluster["insecure-skip-tls-verify"] = true;
  }
  return to_text(info);
}

Result<ExecCredential> run_exec_plugin(const ExecPlugin& plugin, const ClusterConfig& config,
                                       std::chrono::milliseconds timeout) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, kOperation, plugin.command);
  Descriptor reading(ends[0]);
  Descriptor writing(ends[1]);
  auto child = spawn(plugin, exec_info(plugin, config), writing.fd);
  writing.reset();
  if (!child) return tl::unexpected(child.error());
  std::string output;
  const bool ended = read_all(reading.fd, std::chrono::steady_clock::now() + timeout, output);
  if (!ended) kill(-*child, SIGKILL);
  int state = 0;
  while (waitpid(*child, &state, 0) < 0 && errno == EINTR) {
  }
  if (!ended) return fail(ErrorKind::unavailable, kOperation, plugin.command, "did not end in time");
  if (!WIFEXITED(state) || WEXITSTATUS(state) != 0) {
    return fail(ErrorKind::unavailable, kOperation, plugin.command,
                WIFEXITED(state) ? "exit code " + std::to_string(WEXITSTATUS(state)) : "killed by a signal");
  }
  return parse_exec_credential(output, plugin);
}

}  // namespace sluice::kube
