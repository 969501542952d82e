#include "node-agent/config/load_balancer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <tuple>
#include <utility>

namespace sluice::agent::config {
namespace {

// The resources' maxima, so that a file and a LoadBalancer object have the same limits.
constexpr size_t kMaxAddresses = 16;
constexpr size_t kMaxPorts = 64;
constexpr size_t kMaxBackends = 256;
constexpr size_t kMaxSources = 10'000;
constexpr int64_t kMaxWeight = 1000;
constexpr int64_t kMaxSeconds = 86'400;

std::optional<net::IpAddress> host_address(const Field& field) {
  const auto text = field.text();
  if (!text) return std::nullopt;
  auto address = net::IpAddress::parse(*text);
  if (!address) {
    field.mistake(fmt::format("must be an address, is \"{}\": {}", *text, address.error().reason));
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

void read_affinity(const Field& field, LoadBalancer& into) {
  static constexpr std::array<std::string_view, 1> kFields = {"clientIP"};
  static constexpr std::array<std::string_view, 1> kClientFields = {"timeoutSeconds"};
  field.mapping(kFields);
  const auto client_ip = field.is_mapping() ? field.get("clientIP") : std::nullopt;
  if (!client_ip) return;
  into.affinity = state::Affinity::client_ip;
  client_ip->mapping(kClientFields);
  const auto timeout = client_ip->is_mapping() ? client_ip->get("timeoutSeconds") : std::nullopt;
  if (!timeout) return;
  into.affinity_seconds = static_cast<uint32_t>(timeout->number(1, kMaxSeconds).value_or(into.affinity_seconds));
}

std::vector<net::Prefix> read_sources(const Field& field) {
  std::vector<net::Prefix> sources;
  field.list(0, kMaxSources, [&](const Field& item) {
    const auto text = item.text();
    if (!text) return;
    if (const auto prefix = net::Prefix::parse(*text)) {
      sources.push_back(*prefix);
    } else {
      item.mistake(fmt::format("must be a prefix as 203.0.113.0/24, is \"{}\": {}", *text, prefix.error().reason));
    }
  });
  return sources;
}

state::Forwarding read_forwarding(const Field& field) {
  static constexpr std::array<std::string_view, 4> kForwarding = {"Auto", "NAT", "Tunnel", "Direct"};
  const auto value = choice(field, kForwarding, {}, "");
  if (value == "NAT") return state::Forwarding::nat;
  if (value == "Tunnel") return state::Forwarding::tunnel;
  if (value == "Direct") return state::Forwarding::direct;
  return state::Forwarding::automatic;
}

std::string_view name_of(net::Family family) {
  return family == net::Family::ipv4 ? "IPv4" : "IPv6";
}

bool has_family(const std::vector<net::IpAddress>& addresses, net::Family family) {
  return std::ranges::any_of(addresses, [&](const auto& address) { return address.family() == family; });
}

// The addresses are listed, and with them the families: what the file says of families besides must agree with them.
void check_families(const Field& item, const LoadBalancer& balancer) {
  static constexpr std::array<std::string_view, 3> kPolicies = {"SingleStack", "PreferDualStack", "RequireDualStack"};
  static constexpr std::array<std::string_view, 2> kFamilies = {"IPv4", "IPv6"};
  const bool four = has_family(balancer.addresses, net::Family::ipv4);
  const bool six = has_family(balancer.addresses, net::Family::ipv6);
  if (const auto policy = item.get("ipFamilyPolicy")) {
    const auto value = choice(*policy, kPolicies, {}, "");
    if (value == "SingleStack" && four && six) policy->mistake("SingleStack, but the addresses are of both families");
    if (value == "RequireDualStack" && !(four && six)) {
      policy->mistake("RequireDualStack, but the addresses are of one family: list one of each");
    }
  }
  if (const auto families = item.get("ipFamilies")) {
    families->list(1, 2, [&](const Field& family) {
      const auto value = choice(family, kFamilies, {}, "");
      if ((value == "IPv4" && !four) || (value == "IPv6" && !six)) {
        family.mistake(fmt::format("no address is {}: list one", *value));
      }
    });
  }
}

// A backend can be reached only by packets of its own family.
void check_backend_families(const Field& item, const LoadBalancer& balancer) {
  if (balancer.addresses.empty() || balancer.backends.empty()) return;
  for (const auto family : {net::Family::ipv4, net::Family::ipv6}) {
    const bool listened = has_family(balancer.addresses, family);
    const bool served = std::ranges::any_of(
        balancer.backends, [&](const BackendEntry& backend) { return backend.address.family() == family; });
    if (listened && !served) {
      item.get("addresses")
          ->mistake(fmt::format("an address is {0} and no backend is: packets are not translated "
                                "between families; add an {0} backend",
                                name_of(family)));
    }
    if (served && !listened) {
      item.get("backends")
          ->mistake(fmt::format("a backend is {0} and no address is: packets are not translated "
                                "between families; add an {0} address",
                                name_of(family)));
    }
  }
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
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kUnbuilt = {{
      {"addressPools", "there are no pools without Kubernetes: list addresses"},
      {"sharingKey",
       "one address for several load balancers is not built yet; one load balancer may have several ports"},
      {"healthCheck", "active health checks are not built yet: take a failed backend out of the file"},
  }};
  for (const auto& [key, why] : kUnbuilt) {
    if (const auto field = item.get(key)) not_supported(*field, why);
  }
  static constexpr std::array<std::string_view, 2> kPolicies = {"Cluster", "Local"};
  if (const auto policy = item.get("externalTrafficPolicy")) {
    if (choice(*policy, kPolicies, {}, "") == "Local") {
      policy->mistake(
          "there are no other nodes without Kubernetes: leave it out; with Tunnel or Direct backends see "
          "the client's address");
    }
  }
}

}  // namespace

uint16_t port_of(const BackendEntry& backend, const Port& port) {
  const auto override_port = backend.ports.find(port.name);
  return override_port != backend.ports.end() ? override_port->second : port.backend_port;
}

std::optional<LoadBalancer> read_load_balancer(const Field& item) {
  static constexpr std::array<std::string_view, 14> kFields = {
      "name",  "addresses",  "addressPools", "ipFamilyPolicy",        "ipFamilies",      "sharingKey",
      "ports", "backends",   "forwarding",   "externalTrafficPolicy", "sessionAffinity", "allowedSources",
      "drain", "healthCheck"};
  item.mapping(kFields);
  if (!item.is_mapping()) return std::nullopt;
  LoadBalancer balancer;
  const auto name = item.require("name");
  const auto label = name ? name->name() : std::nullopt;
  if (const auto addresses = item.require("addresses")) balancer.addresses = read_addresses(*addresses);
  if (const auto ports = item.require("ports")) balancer.ports = read_ports(*ports);
  if (const auto backends = item.require("backends")) balancer.backends = read_backends(*backends, balancer);
  if (const auto forwarding = item.get("forwarding")) balancer.forwarding = read_forwarding(*forwarding);
  if (const auto affinity = item.get("sessionAffinity")) read_affinity(*affinity, balancer);
  if (const auto sources = item.get("allowedSources")) balancer.allowed_sources = read_sources(*sources);
  if (const auto drain = item.get("drain")) balancer.drain_seconds = read_drain(*drain, balancer.drain_seconds);
  check_families(item, balancer);
  check_backend_families(item, balancer);
  refuse_unbuilt(item);
  if (!label) return std::nullopt;
  balancer.name = *label;
  return balancer;
}

void add_services(const LoadBalancer& balancer, std::vector<state::Service>& services) {
  for (const Port& port : balancer.ports) {
    for (const auto family : {net::Family::ipv4, net::Family::ipv6}) {
      if (!has_family(balancer.addresses, family)) continue;
      state::Service& service = services.emplace_back();
      service.id = balancer.name + "/" + port.name + (family == net::Family::ipv6 ? "/IPv6" : "");
      std::ranges::copy_if(balancer.addresses, std::back_inserter(service.addresses),
                           [&](const auto& address) { return address.family() == family; });
      service.port = port.port;
      service.protocol = port.protocol;
      service.forwarding = balancer.forwarding;
      service.affinity = balancer.affinity;
      service.affinity_seconds = balancer.affinity_seconds;
      service.allowed_sources = balancer.allowed_sources;
      service.drain_seconds = balancer.drain_seconds;
      for (const BackendEntry& entry : balancer.backends) {
        if (entry.address.family() != family) continue;
        state::Backend& backend = service.backends.emplace_back();
        backend.address = entry.address;
        backend.port = port_of(entry, port);
        backend.group = static_cast<uint32_t>(service.groups.size());
        service.groups.push_back({entry.name, entry.weight});
      }
    }
  }
}

}  // namespace sluice::agent::config
