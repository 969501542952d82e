#include "operator/controller/options.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <cstdlib>
#include <random>

namespace sluice::controller {

namespace {

std::string environment(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): before any thread
  return value != nullptr && *value != '\0' ? value : otherwise;
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "sluice-operator";
}

// Two processes of one pod name (a container that restarts) are two holders.
std::string unique(const std::string& base) {
  constexpr uint32_t kBits = 0xffffff;
  std::array<char, 16> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), std::random_device{}() & kBits, 16).ptr;
  return base + "_" + std::string(text.data(), end);
}

std::vector<net::Prefix> parse_prefixes(const std::string& option, const std::string& text) {
  std::vector<net::Prefix> prefixes;
  size_t from = 0;
  while (from < text.size()) {
    const size_t comma = std::min(text.find(',', from), text.size());
    auto prefix = net::Prefix::parse(text.substr(from, comma - from));
    if (!prefix) {
      throw CLI::ValidationError(option, text.substr(from, comma - from) + ": " + prefix.error().reason);
    }
    prefixes.push_back(*prefix);
    from = comma + 1;
  }
  return prefixes;
}

// In seconds, from "30s", "5m" or "24h".
CLI::AsNumberWithUnit duration() {
  return CLI::AsNumberWithUnit(std::map<std::string, int64_t>{{"s", 1}, {"m", 60}, {"h", 3600}},
                               CLI::AsNumberWithUnit::CASE_SENSITIVE, "DURATION");
}

void add_options(CLI::App& app, Options& options, std::string& static_backends) {
  app.add_option("--kubeconfig", options.kubeconfig,
                 "File to reach the API server with; default: $KUBECONFIG, then the pod's service account, then "
                 "~/.kube/config")
      ->envname("SLUICE_KUBECONFIG");
  app.add_option("--namespace", options.ns,
                 "Namespace of the Lease and the Secrets [$POD_NAMESPACE, else sluice-system]")
      ->envname("SLUICE_NAMESPACE");
  app.add_option("--identity", options.identity,
                 "Name in the Lease; a random part is added [$POD_NAME, else the host's name]")
      ->envname("SLUICE_IDENTITY");
  app.add_option("--class", options.load_balancer_class, "loadBalancerClass of the Services to serve")
      ->envname("SLUICE_CLASS")
      ->capture_default_str();
  app.add_flag("--default-class", options.default_class, "Serve Services of type LoadBalancer without a class as well")
      ->envname("SLUICE_DEFAULT_CLASS");
  app.add_option_function<std::string>(
         "--endpoints-source",
         [&options](const std::string& text) {
           options.endpoints_source =
               text == "endpoints" ? EndpointsSource::endpoints : EndpointsSource::endpoint_slices;
         },
         "endpointslices, or endpoints where there are only those")
      ->check(CLI::IsMember({"endpointslices", "endpoints"}))
      ->envname("SLUICE_ENDPOINTS_SOURCE")
      ->default_str("endpointslices");
  app.add_option("--agent-port", options.agent_port, "Port of the agents on the nodes' internal addresses")
      ->check(CLI::Range(1, 65535))
      ->envname("SLUICE_AGENT_PORT")
      ->capture_default_str();
  app.add_option("--metrics-listen", options.metrics_listen,
                 "HOST:PORT for /metrics, /healthz and /readyz; empty host: all")
      ->envname("SLUICE_METRICS_LISTEN")
      ->capture_default_str();
  app.add_option("--lease-name", options.lease_name, "Lease by which replicas elect their leader")
      ->envname("SLUICE_LEASE_NAME")
      ->capture_default_str();
  app.add_option("--ca-secret", options.ca_secret, "Secret with the CA and its key")
      ->envname("SLUICE_CA_SECRET")
      ->capture_default_str();
  app.add_option("--operator-secret", options.operator_secret, "Secret with the operator's certificate")
      ->envname("SLUICE_OPERATOR_SECRET")
      ->capture_default_str();
  app.add_option("--agent-secret", options.agent_secret, "Secret with the agents' certificate")
      ->envname("SLUICE_AGENT_SECRET")
      ->capture_default_str();
  app.add_flag("--ignore-exclude-label", options.ignore_exclude_label,
               "Announce also on nodes labelled node.kubernetes.io/exclude-from-external-load-balancers (kubeadm "
               "labels control planes)")
      ->envname("SLUICE_IGNORE_EXCLUDE_LABEL");
  app.add_option(
         "--announce-grace", options.announce_grace,
         "How long an agent that is not reached keeps its addresses, as 30s; the agents' own value must be the same")
      ->transform(duration())
      ->envname("SLUICE_ANNOUNCE_GRACE")
      ->default_str("30s");
  app.add_option("--tunnel-port", options.tunnel_port, "UDP port of the tunnel between nodes; not the CNI's")
      ->check(CLI::Range(1, 65535))
      ->envname("SLUICE_TUNNEL_PORT")
      ->capture_default_str();
  app.add_option("--tunnel-key-rotation", options.tunnel_key_rotation,
                 "After what time the tunnel between nodes gets another key, as 24h; 0: never")
      ->transform(duration())
      ->envname("SLUICE_TUNNEL_KEY_ROTATION")
      ->default_str("24h");
  app.add_option("--allowed-static-backends", static_backends,
                 "Prefixes of backends outside the cluster that LoadBalancers may name by address, as "
                 "198.51.100.0/24,2001:db8::/48; default: none")
      ->envname("SLUICE_ALLOWED_STATIC_BACKENDS");
  app.add_option("--log-level", options.log_level, "trace, debug, info, warn or error")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}))
      ->envname("SLUICE_LOG_LEVEL")
      ->capture_default_str();
  app.add_option("--log-format", options.log_format, "text, json, or auto: text on a terminal")
      ->check(CLI::IsMember({"auto", "text", "json"}))
      ->envname("SLUICE_LOG_FORMAT")
      ->capture_default_str();
  app.add_flag(
      "--cleanup", options.cleanup,
      "Take everything of Sluice off nodes and Services, keep the addresses' claims, and exit: for helm uninstall");
}

}  // namespace

std::variant<Options, Exit> parse_options(int argc, const char* const* argv, const std::string& version) {
  constexpr int kUsage = 2;
  Options options;
  options.ns = environment("POD_NAMESPACE", "sluice-system");
  options.identity = environment("POD_NAME", host_name());
  std::string static_backends;
  CLI::App app("Gives Services and LoadBalancers their addresses and tells the node agents what to do.",
               "sluice-operator");
  app.set_version_flag("--version", version);
  add_options(app, options, static_backends);
  try {
    app.parse(argc, argv);
    options.allowed_static_backends = parse_prefixes("--allowed-static-backends", static_backends);
    if (const auto listen = parse_listen(options.metrics_listen); std::holds_alternative<std::string>(listen)) {
      throw CLI::ValidationError("--metrics-listen", std::get<std::string>(listen));
    }
  } catch (const CLI::ParseError& error) {
    return Exit{app.exit(error) == 0 ? 0 : kUsage};
  }
  options.identity = unique(options.identity);
  return options;
}

std::variant<ListenAddress, std::string> parse_listen(const std::string& text) {
  const size_t colon = text.rfind(':');
  ListenAddress listen;
  if (colon == std::string::npos) {
    return "must be HOST:PORT or :PORT, not " + text;
  }
  listen.host = text.substr(0, colon);
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, end, listen.port);
  if (parsed.ec != std::errc{} || parsed.ptr != end) {
    return "the port must be a number from 0 to 65535, not " + text.substr(colon + 1);
  }
  if (listen.host.size() > 2 && listen.host.front() == '[' && listen.host.back() == ']') {
    listen.host = listen.host.substr(1, listen.host.size() - 2);
  }
  if (listen.host.empty()) {
    listen.host = "::";  // both families
  }
  return listen;
}

}  // namespace sluice::controller
