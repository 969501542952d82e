#include "node-agent/agent/options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <map>
#include <string_view>
#include <utility>

#include "common/version.h"
#include "node-agent/dataplane/loader.h"

namespace sluice::agent {
namespace {

constexpr int kUsage = 2;
constexpr unsigned kLowestNatPort = 1024;
constexpr unsigned kLeastNatPorts = 64;
// Each has as many entries of the key table as by default.
constexpr uint32_t kMostServices = dataplane::kMostKeys / (program::Sizes{}.keys / program::Sizes{}.services);

template <typename Number>
std::optional<Number> to_number(std::string_view text) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<Endpoint> to_endpoint(const std::string& text) {
  const auto colon = text.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  std::string host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (host.empty() || (!bracketed && host.find(':') != std::string::npos)) return std::nullopt;
  const auto port = to_number<uint16_t>(std::string_view(text).substr(colon + 1));
  if (!port) return std::nullopt;
  return Endpoint{host, *port};
}

std::optional<std::chrono::seconds> to_seconds(std::string_view text) {
  int64_t scale = 1;
  if (text.ends_with('m')) scale = 60;
  if (text.ends_with('h')) scale = 3600;
  if (text.ends_with('s') || scale > 1) text.remove_suffix(1);
  const auto count = to_number<uint32_t>(text);
  if (!count) return std::nullopt;
  return std::chrono::seconds(scale * *count);
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

// What CLI11 fills in before it is checked.
struct Typed {
  std::string listen;
  std::string metrics_listen = "127.0.0.1:9471";
  std::string nat_ports = "10000-29999";
  std::string announce_grace = "30s";
  std::string interface_mode = "native";
  std::vector<std::string> interfaces;
};

// A flag and its name in the environment: --nat-ports is SLUICE_NAT_PORTS.
template <typename Value>
CLI::Option* add(CLI::App& app, const std::string& flag, Value& value, const std::string& help) {
  std::string name = "SLUICE_" + flag.substr(2);
  for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return app.add_option(flag, value, help)->envname(name)->capture_default_str();
}

void declare(CLI::App& app, Options& options, Typed& typed) {
  auto* config = add(app, "--config", options.config, "Standalone mode: the YAML file to follow")->type_name("FILE");
  add(app, "--listen", typed.listen, "Cluster mode: where the operator pushes to (gRPC, mutual TLS)")
      ->type_name("ADDRESS:PORT")
      ->excludes(config);
  add(app, "--tls-dir", options.tls_directory, "Cluster mode: ca.crt, tls.crt and tls.key, read again when they change")
      ->type_name("DIR");
  app.add_flag("--check", options.check, "Only validate the file of --config: 0 good, 1 mistakes");
  app.add_flag("--purge", options.purge, "Detach and remove everything of Sluice from this machine, then exit");
  add(app, "--node-name", options.node_name, "This node's name in the desired state (default: the host's name)")
      ->type_name("NAME");
  add(app, "--interfaces", typed.interfaces,
      "Devices to attach to: names and patterns, separated by commas (default: those of the default routes)")
      ->delimiter(',')
      ->type_name("NAME,...");
  add(app, "--interface-mode", typed.interface_mode,
      "native, generic, or auto: native, or generic for all where one has none")
      ->type_name("MODE");
  add(app, "--metrics-listen", typed.metrics_listen, "/metrics, /healthz and /readyz; empty: off")
      ->type_name("ADDRESS:PORT");
  add(app, "--socket", options.socket, "Where sluicectl is answered, for this machine's root; empty: off")
      ->type_name("FILE");
  add(app, "--state", options.state_file, "What is remembered across restarts")->type_name("FILE");
  add(app, "--bpffs", options.bpffs, "Where maps and links are pinned; below a mounted bpffs")->type_name("DIR");
  add(app, "--nat-ports", typed.nat_ports, "Source ports of translated flows, first and last")->type_name("A-B");
  const auto room = [&app](const char* flag, uint32_t& value, uint32_t most, const char* help) {
    add(app, flag, value, help)->check(CLI::Range(uint32_t{0}, most));
  };
  room("--max-services", options.max_services, kMostServices, "Services (ports of load balancers); 0: default 16384");
  room("--max-backends", options.max_backends, dataplane::kMostBackends,
       "Backend records of all services; 0: default 65536");
  room("--max-slots", options.max_slots, dataplane::kMostSlots,
       "Table slots of all services, 2 bytes each; 0: default 16777216");
  room("--max-flows", options.max_flows, dataplane::kMostFlows, "Records of established IPv4 flows; 0: default 262144");
  add(app, "--announce-grace", typed.announce_grace, "How long ARP is answered after the agent is gone, in s, m or h")
      ->type_name("DURATION");
  add(app, "--log-level", options.log_level, "trace, debug, info, warn or error")->type_name("LEVEL");
  add(app, "--log-format", options.log_format, "text, json, or auto: text on a terminal, JSON elsewhere")
      ->type_name("FORMAT");
}

using Problem = std::optional<std::string>;

Problem take_interfaces(const Typed& typed, Options& options) {
  static const std::map<std::string, config::InterfaceMode> modes = {{"native", config::InterfaceMode::native},
                                                                     {"generic", config::InterfaceMode::generic},
                                                                     {"auto", config::InterfaceMode::automatic}};
  const auto mode = modes.find(typed.interface_mode);
  if (mode == modes.end()) {
    return fmt::format("--interface-mode: must be native, generic or auto, is {}", typed.interface_mode);
  }
  options.interface_mode = mode->second;
  for (const std::string& name : typed.interfaces) {
    if (!name.empty()) options.interfaces.push_back({name, config::InterfaceMode::unset});
  }
  return std::nullopt;
}

Problem take_nat_ports(const Typed& typed, Options& options) {
  const auto dash = typed.nat_ports.find('-');
  const auto first = to_number<uint16_t>(std::string_view(typed.nat_ports).substr(0, dash));
  const auto last = dash == std::string::npos ? std::nullopt
                                              : to_number<uint16_t>(std::string_view(typed.nat_ports).substr(dash + 1));
  if (!first || !last || *first < kLowestNatPort || *last < *first + kLeastNatPorts - 1) {
    return fmt::format("--nat-ports: must be FIRST-LAST, at least {} ports from {} up, is {}", kLeastNatPorts,
                       kLowestNatPort, typed.nat_ports);
  }
  options.nat_port_first = *first;
  options.nat_port_last = *last;
  return std::nullopt;
}

Problem take(const Typed& typed, Options& options) {
  if (!typed.listen.empty()) {
    options.listen = to_endpoint(typed.listen);
    if (!options.listen) return fmt::format("--listen: must be ADDRESS:PORT, is {}", typed.listen);
  }
  if (!typed.metrics_listen.empty()) {
    options.metrics_listen = to_endpoint(typed.metrics_listen);
    if (!options.metrics_listen)
      return fmt::format("--metrics-listen: must be ADDRESS:PORT, is {}", typed.metrics_listen);
  }
  const auto grace = to_seconds(typed.announce_grace);
  if (!grace || *grace < std::chrono::seconds(2)) {
    return fmt::format("--announce-grace: must be at least 2s (it is renewed every second), is {}",
                       typed.announce_grace);
  }
  options.announce_grace = *grace;
  if (options.node_name.empty()) options.node_name = host_name();
  if (options.node_name.empty()) return "--node-name: this machine has no name, give one";
  if (auto problem = take_interfaces(typed, options)) return problem;
  if (auto problem = take_nat_ports(typed, options)) return problem;
  if (options.check && options.config.empty()) return "--check: needs --config FILE";
  if (options.purge || options.check) return std::nullopt;
  if (options.config.empty() && !options.listen)
    return "one of --config FILE (standalone) and --listen ADDRESS:PORT is needed";
  return std::nullopt;
}

}  // namespace

std::string Endpoint::text() const {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

Parsed parse_options(int argc, const char* const* argv) {
  Parsed parsed;
  Typed typed;
  CLI::App app(
      "sluice-agent: programs this node's XDP load balancer, from a YAML file or as the operator says.\n"
      "Each flag can be given in the environment too: --nat-ports is SLUICE_NAT_PORTS.");
  app.set_version_flag("--version", fmt::format("sluice-agent {} ({})", version(), git_revision()));
  declare(app, parsed.options, typed);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    parsed.exit_code = app.exit(error) == 0 ? 0 : kUsage;
    return parsed;
  }
  if (const auto problem = take(typed, parsed.options)) {
    std::fprintf(stderr, "%s\nRun with --help for more information.\n", problem->c_str());
    parsed.exit_code = kUsage;
  }
  return parsed;
}

}  // namespace sluice::agent
