// kubeconfig files: merging and parsing. Pure.
#include <openssl/evp.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "operator/kube/config.h"

namespace sluice::kube {
namespace {

constexpr const char* kOperation = "read kubeconfig";

struct Entry {
  YAML::Node value;
  std::string file;  // it came from
};
struct Merged {
  std::map<std::string, Entry> clusters;
  std::map<std::string, Entry> contexts;
  std::map<std::string, Entry> users;
  std::string current;
};

tl::unexpected<Error> invalid(const std::string& object, std::string reason) {
  return fail(ErrorKind::invalid, kOperation, object, std::move(reason));
}

std::string text(const YAML::Node& node, const char* name) {
  const YAML::Node value = node[name];
  return value && value.IsScalar() ? value.Scalar() : std::string();
}

bool flag(const YAML::Node& node, const char* name) {
  const YAML::Node value = node[name];
  return value && value.IsScalar() && value.as<bool>(false);
}

std::string absolute(const std::string& path, const std::string& file) {
  if (path.empty() || path.front() == '/') return path;
  return (std::filesystem::path(file).parent_path() / path).lexically_normal().string();
}

Result<std::string> decode_base64(const std::string& encoded, const std::string& object) {
  std::string compact;
  std::copy_if(encoded.begin(), encoded.end(), std::back_inserter(compact),
               [](char c) { return c != '\n' && c != '\r' && c != ' ' && c != '\t'; });
  std::string out(compact.size() / 4 * 3 + 3, '\0');
  const std::unique_ptr<EVP_ENCODE_CTX, decltype(&EVP_ENCODE_CTX_free)> context(EVP_ENCODE_CTX_new(),
                                                                                &EVP_ENCODE_CTX_free);
  EVP_DecodeInit(context.get());
  int length = 0;
  int tail = 0;
  auto* bytes = reinterpret_cast<unsigned char*>(out.data());
  const auto* in = reinterpret_cast<const unsigned char*>(compact.data());
  if (compact.size() % 4 != 0 ||
      EVP_DecodeUpdate(context.get(), bytes, &length, in, static_cast<int>(compact.size())) < 0 ||
      EVP_DecodeFinal(context.get(), bytes + length, &tail) < 0) {
    return invalid(object, "is not base64");
  }
  out.resize(static_cast<std::size_t>(length) + static_cast<std::size_t>(tail));
  return out;
}

// `data` (base64) before `file`, as kubectl has it.
Result<Material> material(const YAML::Node& node, const char* data, const char* file, const Entry& entry) {
  Material out;
  if (const std::string inline_text = text(node, data); !inline_text.empty()) {
    auto decoded = decode_base64(inline_text, entry.file + ": " + data);
    if (!decoded) return tl::unexpected(decoded.error());
    out.inline_data = std::move(*decoded);
  } else {
    out.file = absolute(text(node, file), entry.file);
  }
  return out;
}

void take_entries(const YAML::Node& root, const char* list, const char* member, const std::string& file,
                  std::map<std::string, Entry>& into) {
  const YAML::Node entries = root[list];
  if (!entries || !entries.IsSequence()) return;
  for (const auto& entry : entries) {
    if (!entry.IsMap() || !entry[member] || !entry[member].IsMap()) continue;
    into.try_emplace(text(entry, "name"), Entry{entry[member], file});  // the first one stays
  }
}

Result<ExecPlugin> exec_plugin(const YAML::Node& node, const Entry& user) {
  ExecPlugin plugin;
  plugin.api_version = text(node, "apiVersion");
  if (plugin.api_version != "client.authentication.k8s.io/v1" &&
      plugin.api_version != "client.authentication.k8s.io/v1beta1") {
    return fail(ErrorKind::not_supported, kOperation, user.file,
                "exec plugin with apiVersion \"" + plugin.api_version + "\": v1 and v1beta1 are known");
  }
  if (text(node, "interactiveMode") == "Always") {
    return fail(ErrorKind::not_supported, kOperation, user.file, "exec plugin with interactiveMode Always");
  }
  plugin.command = text(node, "command");
  if (plugin.command.empty()) return invalid(user.file, "exec plugin without a command");
  // As kubectl: with a slash a path relative to the file, else a name for PATH.
  if (plugin.command.find('/') != std::string::npos) plugin.command = absolute(plugin.command, user.file);
  if (const YAML::Node args = node["args"]; args && args.IsSequence()) {
    for (const auto& arg : args) plugin.args.push_back(arg.as<std::string>());
  }
  if (const YAML::Node env = node["env"]; env && env.IsSequence()) {
    for (const auto& pair : env) plugin.env.emplace_back(text(pair, "name"), text(pair, "value"));
  }
  plugin.provide_cluster_info = flag(node, "provideClusterInfo");
  return plugin;
}

Status take_user(const Entry& user, ClusterConfig& config) {
  const YAML::Node& node = user.value;
  if (node["username"] || node["password"]) {
    return fail(ErrorKind::not_supported, kOperation, user.file,
                "user name and password: Kubernetes has no basic authentication since 1.19");
  }
  if (node["auth-provider"]) {
    return fail(ErrorKind::not_supported, kOperation, user.file, "auth-provider: use an exec plugin");
  }
  for (const char* name : {"as", "as-groups", "as-uid"}) {
    if (node[name]) return fail(ErrorKind::not_supported, kOperation, user.file, "impersonation");
  }
  auto certificate = material(node, "client-certificate-data", "client-certificate", user);
  if (!certificate) return tl::unexpected(certificate.error());
  auto key = material(node, "client-key-data", "client-key", user);
  if (!key) return tl::unexpected(key.error());
  if (certificate->given() != key->given()) return invalid(user.file, "client certificate and key come together");
  config.client_certificate = std::move(*certificate);
  config.client_key = std::move(*key);
  // As kubectl: of token and tokenFile the file wins.
  if (const std::string file = text(node, "tokenFile"); !file.empty()) {
    config.token.file = absolute(file, user.file);
  } else {
    config.token.inline_data = text(node, "token");
  }
  if (const YAML::Node exec = node["exec"]; exec && exec.IsMap()) {
    auto plugin = exec_plugin(exec, user);
    if (!plugin) return tl::unexpected(plugin.error());
    config.exec = std::move(*plugin);
  }
  return {};
}

Status take_cluster(const Entry& cluster, ClusterConfig& config) {
  const YAML::Node& node = cluster.value;
  config.server = text(node, "server");
  if (config.server.empty()) return invalid(cluster.file, "cluster without a server");
  while (config.server.back() == '/') config.server.pop_back();
  if (node["proxy-url"]) return fail(ErrorKind::not_supported, kOperation, cluster.file, "proxy-url");
  config.tls_server_name = text(node, "tls-server-name");
  config.insecure_skip_tls_verify = flag(node, "insecure-skip-tls-verify");
  auto ca = material(node, "certificate-authority-data", "certificate-authority", cluster);
  if (!ca) return tl::unexpected(ca.error());
  config.ca = std::move(*ca);
  if (config.insecure_skip_tls_verify && config.ca.given()) {
    return invalid(cluster.file, "a certificate authority together with insecure-skip-tls-verify");
  }
  return {};
}

Result<Merged> merge(const std::vector<KubeconfigFile>& files) {
  Merged merged;
  for (const auto& file : files) {
    const YAML::Node root = YAML::Load(file.text);
    if (root.IsNull()) continue;  // an empty file
    if (!root.IsMap()) return invalid(file.path, "is not a kubeconfig");
    take_entries(root, "clusters", "cluster", file.path, merged.clusters);
    take_entries(root, "contexts", "context", file.path, merged.contexts);
    take_entries(root, "users", "user", file.path, merged.users);
    if (merged.current.empty()) merged.current = text(root, "current-context");
  }
  return merged;
}

Result<ClusterConfig> resolve(const Merged& merged, const std::string& wanted, const std::string& files) {
  const std::string name = wanted.empty() ? merged.current : wanted;
  if (name.empty()) return invalid(files, "no current-context");
  const auto context = merged.contexts.find(name);
  if (context == merged.contexts.end()) {
    return fail(ErrorKind::not_found, kOperation, files, "no context \"" + name + "\"");
  }
  const std::string cluster_name = text(context->second.value, "cluster");
  const auto cluster = merged.clusters.find(cluster_name);
  if (cluster == merged.clusters.end()) {
    return fail(ErrorKind::not_found, kOperation, files,
                "no cluster \"" + cluster_name + "\", which context \"" + name + "\" names");
  }
  ClusterConfig config;
  if (auto taken = take_cluster(cluster->second, config); !taken) return tl::unexpected(taken.error());
  if (const std::string user_name = text(context->second.value, "user"); !user_name.empty()) {
    const auto user = merged.users.find(user_name);
    if (user == merged.users.end()) {
      return fail(ErrorKind::not_found, kOperation, files,
                  "no user \"" + user_name + "\", which context \"" + name + "\" names");
    }
    if (auto taken = take_user(user->second, config); !taken) return tl::unexpected(taken.error());
  }
  if (const std::string ns = text(context->second.value, "namespace"); !ns.empty()) config.ns = ns;
  return config;
}

}  // namespace

Result<ClusterConfig> parse_kubeconfig(const std::vector<KubeconfigFile>& files, const std::string& context) {
  std::string names;
  for (const auto& file : files) names += (names.empty() ? "" : ":") + file.path;
  try {
    auto merged = merge(files);
    if (!merged) return tl::unexpected(merged.error());
    return resolve(*merged, context, names);
  } catch (const YAML::Exception& error) {
    return invalid(names, error.what());
  }
}

}  // namespace sluice::kube
