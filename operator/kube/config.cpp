#include "operator/kube/config.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace sluice::kube {
namespace {

constexpr const char* kOperation = "configure the Kubernetes client";

Result<std::string> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail_errno(errno, "read", path);
  std::ostringstream out;
  out << in.rdbuf();
  return std::move(out).str();
}

std::string value_of(const Environment& environment, std::string_view name) {
  const auto found = environment.find(name);
  return found == environment.end() ? std::string() : found->second;
}

// $KUBECONFIG: files that are not there are passed over, unless none is.
Result<ClusterConfig> from_list(const std::string& list, const std::string& context) {
  std::vector<KubeconfigFile> files;
  std::istringstream paths(list);
  for (std::string path; std::getline(paths, path, ':');) {
    if (path.empty() || !std::filesystem::exists(path)) continue;
    auto text = read_file(path);
    if (!text) return tl::unexpected(text.error());
    files.push_back({std::filesystem::absolute(path).string(), std::move(*text)});
  }
  if (files.empty()) return fail(ErrorKind::not_found, kOperation, list, "no such kubeconfig file");
  return parse_kubeconfig(files, context);
}

}  // namespace

Environment process_environment() {
  Environment out;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const auto equals = text.find('=');
    if (equals != std::string_view::npos) out.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return out;
}

Result<ClusterConfig> in_cluster_config(const Environment& environment, const std::string& service_account_directory) {
  const std::string host = value_of(environment, "KUBERNETES_SERVICE_HOST");
  const std::string port = value_of(environment, "KUBERNETES_SERVICE_PORT");
  if (host.empty() || port.empty()) {
    return fail(ErrorKind::not_found, kOperation, "", "KUBERNETES_SERVICE_HOST and _PORT are not set: not in a pod");
  }
  ClusterConfig config;
  // The HTTP library cannot take an IPv6 literal.
  config.server = "https://" + (host.find(':') == std::string::npos ? host : "kubernetes.default.svc") + ":" + port;
  config.ca.file = service_account_directory + "/ca.crt";
  config.token.file = service_account_directory + "/token";
  for (const auto& file : {config.ca.file, config.token.file}) {
    if (access(file.c_str(), R_OK) != 0) return fail_errno(errno, kOperation, file);
  }
  if (auto ns = read_file(service_account_directory + "/namespace"); ns && !ns->empty()) config.ns = *ns;
  return config;
}

Result<ClusterConfig> load_config(const std::string& kubeconfig, const std::string& context) {
  const Environment environment = process_environment();
  if (!kubeconfig.empty()) return from_list(kubeconfig, context);
  if (const std::string list = value_of(environment, "KUBECONFIG"); !list.empty()) return from_list(list, context);
  auto in_cluster = in_cluster_config(environment, kServiceAccountDirectory);
  if (in_cluster || in_cluster.error().kind != ErrorKind::not_found) return in_cluster;
  const std::string home = value_of(environment, "HOME") + "/.kube/config";
  if (std::filesystem::exists(home)) return from_list(home, context);
  return fail(ErrorKind::not_found, kOperation, "",
              "no --kubeconfig, no KUBECONFIG, not in a pod with a service account, no " + home);
}

}  // namespace sluice::kube
