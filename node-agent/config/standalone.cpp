#include "node-agent/config/standalone.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "node-agent/config/yaml_reader.h"

namespace sluice::agent::config {
namespace {

// The resources' maxima, so that a file and a LoadBalancer object have the same limits.
constexpr size_t kMaxLoadBalancers = 10'000;
constexpr size_t kMaxInterfaces = 64;
constexpr size_t kMaxAddresses = 16;
constexpr size_t kMaxPorts = 64;
constexpr size_t kMaxBackends = 256;
constexpr int64_t kMaxWeight = 1000;
constexpr int64_t kMaxSeconds = 86'400;
constexpr size_t kMaxInterfaceName = 15;  // IFNAMSIZ - 1

using Names = std::span<const std::string_view>;

struct Port {
  std::string name;
  uint16_t port = 0;
  uint16_t backend_port = 0;
  state::Protocol protocol = state::Protocol::tcp;
};

struct BackendEntry {
  std::string path;
  std::string name;
  net::IpAddress address;
  uint32_t weight = 1;
  std::map<std::string, uint16_t> ports;  // overrides by the port's name
};

// What one item of loadBalancers says, before it becomes one service a port.
struct LoadBalancer {
  std::string name;
  std::vector<net::IpAddress> addresses;
  std::vector<Port> ports;
  std::vector<BackendEntry> backends;
  state::Forwarding forwarding = state::Forwarding::automatic;
  state::Affinity affinity = state::Affinity::none;
  uint32_t drain_seconds = 300;
};

void not_supported(const Field& field, std::string_view why) {
  field.mistake(fmt::format("NotSupported: {}", why));
}

// One of `allowed`, or nullopt with a mistake; those in `later` are known but not built.
std::optional<std::string> choice(const Field& field, Names allowed, Names later, std::string_view why_later) {
  auto value = field.text();
  if (!value) return std::nullopt;
  if (std::ranges::find(allowed, *value) != allowed.end()) return value;
  if (std::ranges::find(later, *value) != later.end()) {
    not_supported(field, why_later);
    return std::nullopt;
  }
  const std::string_view near = nearest(*value, allowed);
  field.mistake(fmt::format("must be {}, is \"{}\"{}", fmt::join(allowed, " or "), *value,
                            near.empty() || allowed.size() < 2 ? "" : fmt::format("; is it {}?", near)));
  return std::nullopt;
}

std::optional<net::IpAddress> host_address(const Field& field) {
  const auto text = field.text();
  if (!text) return std::nullopt;
  auto address = net::IpAddress::parse(*text);
  if (!address) {
    field.mistake(fmt::format("must be an IPv4 address, is \"{}\"", *text));
    return std::nullopt;
  }
  if (!address->is_ipv4()) {
    not_supported(field, fmt::format("IPv6 is not built yet ({})", *text));
    return std::nullopt;
  }
  if (!address->is_global_unicast()) {
    field.mistake(fmt::format("{} is not the address of a single host on a network", *text));
    return std::nullopt;
  }
  return *address;
}

std::vector<net::IpAddress> read_addresses(const Field& field) {
  std::vector<net::IpAddress> addresses;
  field.list(1, kMaxAddresses, [&](const Field& item) {
    const auto address = host_address(item);
    if (!address) return;
    if (std::ranges::find(addresses, *address) != addresses.end()) {
      item.mistake(fmt::format("{} is given twice", address->to_string()));
      return;
    }
    addresses.push_back(*address);
  });
  return addresses;
}

// 0, with a mistake, where it is no port.
uint16_t port_number(const Field& field) {
  return static_cast<uint16_t>(field.number(1, 65'535).value_or(0));
}

uint16_t required_port(const Field& field) {
  const auto port = field.require("port");
  return port ? port_number(*port) : uint16_t{0};
}

std::optional<Port> read_port(const Field& field) {
  static constexpr std::array<std::string_view, 4> kFields = {"name", "port", "protocol", "backendPort"};
  static constexpr std::array<std::string_view, 2> kProtocols = {"TCP", "UDP"};
  static constexpr std::array<std::string_view, 1> kLater = {"SCTP"};
  if (!field.mapping(kFields) && !field.is_mapping()) return std::nullopt;
  const auto name_field = field.require("name");
  const auto name = name_field ? name_field->name() : std::nullopt;
  const uint16_t number = required_port(field);
  Port port;
  if (const auto protocol = field.get("protocol")) {
    const auto value = choice(*protocol, kProtocols, kLater, "SCTP is not built yet");
    if (!value) return std::nullopt;
    port.protocol = *value == "UDP" ? state::Protocol::udp : state::Protocol::tcp;
  }
  if (!name || number == 0) return std::nullopt;
  port.name = *name;
  port.port = number;
  port.backend_port = number;
  if (const auto backend_port = field.get("backendPort")) {
    const auto text = backend_port->is_scalar() ? backend_port->text() : std::nullopt;
    if (text && !text->empty() && text->find_first_not_of("+-.0123456789") != std::string::npos) {
      backend_port->mistake(
          fmt::format("must be a number, is \"{}\": a port's name means something only with a Service", *text));
      return std::nullopt;
    }
    port.backend_port = port_number(*backend_port);
    if (port.backend_port == 0) return std::nullopt;
  }
  return port;
}

std::vector<Port> read_ports(const Field& field) {
  std::vector<Port> ports;
  field.list(1, kMaxPorts, [&](const Field& item) {
    auto port = read_port(item);
    if (!port) return;
    for (const Port& other : ports) {
      if (other.name == port->name) item.mistake(fmt::format("the name {} is given twice", port->name));
      if (other.port == port->port && other.protocol == port->protocol) {
        item.mistake(fmt::format("port {} {} is given twice", port->port, state::to_string(port->protocol)));
      }
    }
    ports.push_back(std::move(*port));
  });
  return ports;
}

std::map<std::string, uint16_t> read_port_overrides(const Field& field, const std::vector<Port>& ports) {
  static constexpr std::array<std::string_view, 2> kFields = {"name", "port"};
  std::map<std::string, uint16_t> overrides;
  field.list(0, kMaxPorts, [&](const Field& item) {
    item.mapping(kFields);
    if (!item.is_mapping()) return;
    const auto name_field = item.require("name");
    const auto name = name_field ? name_field->name() : std::nullopt;
    const uint16_t number = required_port(item);
    if (!name || number == 0) return;
    if (std::ranges::find(ports, *name, &Port::name) == ports.end()) {
      name_field->mistake(fmt::format("no port of this load balancer is named {}", *name));
      return;
    }
    if (!overrides.emplace(*name, number).second) name_field->mistake(fmt::format("{} is given twice", *name));
  });
  return overrides;
}

std::optional<BackendEntry> read_backend(const Field& field, const std::vector<Port>& ports) {
  static constexpr std::array<std::string_view, 5> kFields = {"name", "address", "weight", "ports", "service"};
  field.mapping(kFields);
  if (!field.is_mapping()) return std::nullopt;
  BackendEntry backend;
  backend.path = field.path();
  bool good = true;
  if (const auto service = field.get("service")) {
    service->mistake("there are no Services without Kubernetes: give an address");
    good = false;
  }
  const auto name_field = field.require("name");
  const auto name = name_field ? name_field->name() : std::nullopt;
  const auto address_field = good ? field.require("address") : field.get("address");
  const auto address = address_field ? host_address(*address_field) : std::nullopt;
  if (const auto weight = field.get("weight")) {
    const auto value = weight->number(0, kMaxWeight);
    good = good && value;
    backend.weight = static_cast<uint32_t>(value.value_or(1));
  }
  if (const auto overrides = field.get("ports")) backend.ports = read_port_overrides(*overrides, ports);
  if (!good || !name || !address) return std::nullopt;
  backend.name = *name;
  backend.address = *address;
  return backend;
}

uint16_t port_of(const BackendEntry& backend, const Port& port) {
  const auto override_port = backend.ports.find(port.name);
  return override_port != backend.ports.end() ? override_port->second : port.backend_port;
}

std::vector<BackendEntry> read_backends(const Field& field, const LoadBalancer& balancer) {
  std::vector<BackendEntry> backends;
  std::map<std::tuple<std::string, net::IpAddress, uint16_t>, std::string> seen;
  field.list(1, kMaxBackends, [&](const Field& item) {
    auto backend = read_backend(item, balancer.ports);
    if (!backend) return;
    if (std::ranges::find(backends, backend->name, &BackendEntry::name) != backends.end()) {
      item.mistake(fmt::format("the name {} is given twice", backend->name));
    }
    for (const Port& port : balancer.ports) {
      const uint16_t number = port_of(*backend, port);
      const auto [first, added] = seen.try_emplace({port.name, backend->address, number}, backend->name);
      if (added) continue;
      item.mistake(fmt::format("{}:{} is already the backend {} of port {}: add up their weights instead",
                               backend->address.to_string(), number, first->second, port.name));
      break;
    }
    backends.push_back(std::move(*backend));
  });
  return backends;
}

state::Affinity read_affinity(const Field& field) {
  static constexpr std::array<std::string_view, 1> kFields = {"clientIP"};
  static constexpr std::array<std::string_view, 1> kClientFields = {"timeoutSeconds"};
  field.mapping(kFields);
  const auto client_ip = field.is_mapping() ? field.get("clientIP") : std::nullopt;
  if (!client_ip) return state::Affinity::none;
  client_ip->mapping(kClientFields);
  if (client_ip->is_mapping()) {
    // Checked only: the choice follows the client's address alone and needs no memory that could time out.
    if (const auto timeout = client_ip->get("timeoutSeconds")) std::ignore = timeout->number(1, kMaxSeconds);
  }
  return state::Affinity::client_ip;
}

uint32_t read_drain(const Field& field, uint32_t otherwise) {
  static constexpr std::array<std::string_view, 1> kFields = {"timeoutSeconds"};
  field.mapping(kFields);
  const auto timeout = field.is_mapping() ? field.get("timeoutSeconds") : std::nullopt;
  if (!timeout) return otherwise;
  return static_cast<uint32_t>(timeout->number(0, kMaxSeconds).value_or(otherwise));
}

// Fields that a LoadBalancer object has and that are not built, or mean nothing without Kubernetes.
void refuse_unbuilt(const Field& item) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kUnbuilt = {{
      {"addressPools", "there are no pools without Kubernetes: list addresses"},
      {"sharingKey",
       "one address for several load balancers is not built yet; one load balancer may have several ports"},
      {"allowedSources", "filtering by source is not built yet: use a firewall"},
      {"healthCheck", "active health checks are not built yet: take a failed backend out of the file"},
  }};
  for (const auto& [key, why] : kUnbuilt) {
    if (const auto field = item.get(key)) not_supported(*field, why);
  }
  static constexpr std::array<std::string_view, 1> kCluster = {"Cluster"};
  static constexpr std::array<std::string_view, 1> kLocal = {"Local"};
  if (const auto policy = item.get("externalTrafficPolicy")) {
    choice(*policy, kCluster, kLocal, "Local is not built yet");
  }
  static constexpr std::array<std::string_view, 1> kSingle = {"SingleStack"};
  static constexpr std::array<std::string_view, 2> kDual = {"PreferDualStack", "RequireDualStack"};
  if (const auto policy = item.get("ipFamilyPolicy")) choice(*policy, kSingle, kDual, "IPv6 is not built yet");
  static constexpr std::array<std::string_view, 1> kIpv4 = {"IPv4"};
  static constexpr std::array<std::string_view, 1> kIpv6 = {"IPv6"};
  if (const auto families = item.get("ipFamilies")) {
    families->list(1, 1, [](const Field& family) { choice(family, kIpv4, kIpv6, "IPv6 is not built yet"); });
  }
}

std::optional<LoadBalancer> read_load_balancer(const Field& item) {
  static constexpr std::array<std::string_view, 14> kFields = {
      "name",  "addresses",  "addressPools", "ipFamilyPolicy",        "ipFamilies",      "sharingKey",
      "ports", "backends",   "forwarding",   "externalTrafficPolicy", "sessionAffinity", "allowedSources",
      "drain", "healthCheck"};
  static constexpr std::array<std::string_view, 2> kForwarding = {"Auto", "NAT"};
  static constexpr std::array<std::string_view, 2> kLater = {"Tunnel", "Direct"};
  item.mapping(kFields);
  if (!item.is_mapping()) return std::nullopt;
  LoadBalancer balancer;
  const auto name = item.require("name");
  const auto label = name ? name->name() : std::nullopt;
  if (const auto addresses = item.require("addresses")) balancer.addresses = read_addresses(*addresses);
  if (const auto ports = item.require("ports")) balancer.ports = read_ports(*ports);
  if (const auto backends = item.require("backends")) balancer.backends = read_backends(*backends, balancer);
  if (const auto forwarding = item.get("forwarding")) {
    const auto value = choice(*forwarding, kForwarding, kLater, "only Auto and NAT are built yet");
    if (value == "NAT") balancer.forwarding = state::Forwarding::nat;
  }
  if (const auto affinity = item.get("sessionAffinity")) balancer.affinity = read_affinity(*affinity);
  if (const auto drain = item.get("drain")) balancer.drain_seconds = read_drain(*drain, balancer.drain_seconds);
  refuse_unbuilt(item);
  if (!label) return std::nullopt;
  balancer.name = *label;
  return balancer;
}

void add_services(const LoadBalancer& balancer, std::vector<state::Service>& services) {
  for (const Port& port : balancer.ports) {
    state::Service service;
    service.id = balancer.name + "/" + port.name;
    service.addresses = balancer.addresses;
    service.port = port.port;
    service.protocol = port.protocol;
    service.forwarding = balancer.forwarding;
    service.affinity = balancer.affinity;
    service.drain_seconds = balancer.drain_seconds;
    for (const BackendEntry& entry : balancer.backends) {
      state::Backend backend;
      backend.address = entry.address;
      backend.port = port_of(entry, port);
      backend.group = static_cast<uint32_t>(service.groups.size());
      service.groups.push_back({entry.name, entry.weight});
      service.backends.push_back(std::move(backend));
    }
    services.push_back(std::move(service));
  }
}

// Rules between load balancers: names, {address, port, protocol}, and backends that are themselves balanced addresses.
class Neighbours {
 public:
  void check(const Field& item, const LoadBalancer& balancer) {
    if (!names_.insert(balancer.name).second) item.mistake(fmt::format("the name {} is given twice", balancer.name));
    for (const net::IpAddress& address : balancer.addresses) {
      addresses_.insert(address);
      for (const Port& port : balancer.ports) {
        const auto [owner, added] = owners_.try_emplace({address, port.port, port.protocol}, balancer.name);
        if (added || owner->second == balancer.name) continue;
        item.mistake(fmt::format("{}:{} {} is already taken by {}", address.to_string(), port.port,
                                 state::to_string(port.protocol), owner->second));
      }
    }
    for (const BackendEntry& backend : balancer.backends) backends_.emplace_back(item, backend);
  }
  void finish() const {
    for (const auto& [item, backend] : backends_) {
      if (addresses_.contains(backend.address)) {
        item.mistake(fmt::format("backend {} has an address that is balanced itself ({}): packets would go in circles",
                                 backend.name, backend.address.to_string()));
      }
    }
  }

 private:
  std::set<std::string> names_;
  std::set<net::IpAddress> addresses_;
  std::map<std::tuple<net::IpAddress, uint16_t, state::Protocol>, std::string> owners_;
  std::vector<std::pair<Field, BackendEntry>> backends_;
};

std::optional<Interface> read_interface(const Field& item) {
  static constexpr std::array<std::string_view, 2> kFields = {"name", "mode"};
  static constexpr std::array<std::string_view, 3> kModes = {"Native", "Generic", "Auto"};
  Interface interface;
  std::optional<Field> name;
  if (!item.is_mapping()) {
    name.emplace(item);
  } else {
    item.mapping(kFields);
    if (const auto field = item.require("name")) name.emplace(*field);
    if (const auto mode = item.get("mode")) {
      const auto value = choice(*mode, kModes, {}, "");
      if (value == "Native") interface.mode = InterfaceMode::native;
      if (value == "Generic") interface.mode = InterfaceMode::generic;
      if (value == "Auto") interface.mode = InterfaceMode::automatic;
    }
  }
  const auto pattern = name ? name->text() : std::nullopt;
  if (!pattern) return std::nullopt;
  if (pattern->empty() || pattern->size() > kMaxInterfaceName || pattern->find_first_of("/ \t,") != std::string::npos) {
    name->mistake(fmt::format("must be a device's name or a pattern of at most {} characters, is \"{}\"",
                              kMaxInterfaceName, *pattern));
    return std::nullopt;
  }
  interface.pattern = *pattern;
  return interface;
}

void read_head(const Field& root) {
  static constexpr std::array<std::string_view, 1> kVersion = {"sluice.io/v1alpha1"};
  static constexpr std::array<std::string_view, 1> kKind = {"StandaloneConfig"};
  if (const auto version = root.require("apiVersion")) choice(*version, kVersion, {}, "");
  if (const auto kind = root.require("kind")) choice(*kind, kKind, {}, "");
}

StandaloneConfig read_root(const Field& root) {
  static constexpr std::array<std::string_view, 4> kFields = {"apiVersion", "kind", "interfaces", "loadBalancers"};
  StandaloneConfig config;
  root.mapping(kFields);
  if (!root.is_mapping()) return config;
  read_head(root);
  if (const auto interfaces = root.get("interfaces")) {
    interfaces->list(0, kMaxInterfaces, [&](const Field& item) {
      auto interface = read_interface(item);
      if (!interface) return;
      if (std::ranges::find(config.interfaces, interface->pattern, &Interface::pattern) != config.interfaces.end()) {
        item.mistake(fmt::format("{} is given twice", interface->pattern));
      }
      config.interfaces.push_back(std::move(*interface));
    });
  }
  // Required, if empty: a file that was cut off must not look like a wish to have none.
  if (const auto balancers = root.require("loadBalancers")) {
    Neighbours neighbours;
    balancers->list(0, kMaxLoadBalancers, [&](const Field& item) {
      const auto balancer = read_load_balancer(item);
      if (!balancer) return;
      neighbours.check(item, *balancer);
      add_services(*balancer, config.services);
    });
    neighbours.finish();
  }
  return config;
}

}  // namespace

std::string Mistake::text(std::string_view file) const {
  return fmt::format("{}:{}:{}: {}{}{}", file, line, column, field, field.empty() ? "" : ": ", message);
}

tl::expected<StandaloneConfig, Mistakes> parse_standalone(std::string_view text) {
  Mistakes mistakes;
  StandaloneConfig config;
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    if (documents.empty() || documents.front().IsNull()) {
      mistakes.push_back({1, 1, "", "the file is empty"});
    } else if (documents.size() > 1) {
      const YAML::Mark mark = documents[1].Mark();
      mistakes.push_back({mark.line + 1, mark.column + 1, "", "one document is expected, here begins another"});
    } else {
      config = read_root(Field(documents.front(), "", mistakes));
    }
  } catch (const YAML::Exception& error) {
    const bool known = error.mark.line >= 0;
    mistakes.push_back(
        {known ? error.mark.line + 1 : 1, known ? error.mark.column + 1 : 1, "", "not YAML: " + error.msg});
  }
  if (mistakes.empty()) return config;
  std::ranges::stable_sort(mistakes, {},
                           [](const Mistake& mistake) { return std::pair(mistake.line, mistake.column); });
  return tl::unexpected(std::move(mistakes));
}

}  // namespace sluice::agent::config
