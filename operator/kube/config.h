// Where the API server is and how to prove who we are: from the pod's service account or from a kubeconfig. Parsing is
// pure; CredentialSource is the one thing here that reads files and runs plugins.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"

namespace sluice::kube {

// Bytes given inline or by the name of a file that is read again when it changes. Both empty: not given.
struct Material {
  std::string inline_data;
  std::string file;  // absolute

  [[nodiscard]] bool given() const { return !inline_data.empty() || !file.empty(); }
  friend bool operator==(const Material&, const Material&) = default;
};

// A credential plugin (client.authentication.k8s.io/v1 or v1beta1): a command that prints an ExecCredential.
struct ExecPlugin {
  std::string api_version;
  std::string command;  // a path, or a name to be found in PATH
  std::vector<std::string> args;
  std::vector<std::pair<std::string, std::string>> env;
  bool provide_cluster_info = false;

  friend bool operator==(const ExecPlugin&, const ExecPlugin&) = default;
};

struct ClusterConfig {
  std::string server;           // "https://10.96.0.1:443", optionally with a path; no trailing slash
  std::string tls_server_name;  // name to verify and to ask for (SNI) instead of the server's; may be empty
  bool insecure_skip_tls_verify = false;
  Material ca;                  // PEM; not given: the system's
  Material client_certificate;  // PEM
  Material client_key;          // PEM; secret
  Material token;               // secret
  std::optional<ExecPlugin> exec;
  std::string ns = "default";  // of the context, or the pod's own

  friend bool operator==(const ClusterConfig&, const ClusterConfig&) = default;
};

using Environment = std::map<std::string, std::string, std::less<>>;
Environment process_environment();

// --- pure parsers

struct KubeconfigFile {
  std::string path;  // absolute; relative paths inside are relative to its directory
  std::string text;  // YAML or JSON
};
// The `context` (empty: current-context) of several kubeconfig files merged as kubectl merges them: of two entries with
// one name the first file's wins, and so it is with current-context. Errors (invalid, not_supported, not_found) name
// the file and the entry.
Result<ClusterConfig> parse_kubeconfig(const std::vector<KubeconfigFile>& files, const std::string& context = {});

// From KUBERNETES_SERVICE_HOST/PORT and the service account's directory. An IPv6 host becomes the API server's name
// inside the cluster (kubernetes.default.svc), which its certificate carries as well.
Result<ClusterConfig> in_cluster_config(const Environment& environment, const std::string& service_account_directory);
inline constexpr const char* kServiceAccountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount";

// --- the usual order: `kubeconfig` if given (a flag), $KUBECONFIG (a list), the service account, ~/.kube/config.
Result<ClusterConfig> load_config(const std::string& kubeconfig, const std::string& context = {});

// --- credentials as they are now

struct Credentials {
  std::string token;               // empty: none
  std::string client_certificate;  // PEM; empty: none
  std::string client_key;
  std::string ca;  // PEM; empty: the system's

  friend bool operator==(const Credentials&, const Credentials&) = default;
};

// Follows files and plugins: files are read again once a minute, plugins when their credential expires, both on
// invalidate() (the server said 401). What cannot be read leaves what was there, with a warning. Thread-safe.
class CredentialSource {
 public:
  using Clock = std::chrono::steady_clock;
  // The first reading must succeed.
  static Result<std::shared_ptr<CredentialSource>> create(ClusterConfig config);
  virtual ~CredentialSource() = default;
  virtual Credentials current(Clock::time_point now) = 0;
  virtual void invalidate() = 0;  // the next current() reads again
};

}  // namespace sluice::kube
