#include "node-agent/config/standalone.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "node-agent/config/load_balancer.h"
#include "node-agent/config/yaml_reader.h"

namespace sluice::agent::config {
namespace {

// The resources' maxima, so that a file and a LoadBalancer object have the same limits.
constexpr size_t kMaxLoadBalancers = 10'000;
constexpr size_t kMaxInterfaces = 64;
constexpr size_t kMaxInterfaceName = 15;  // IFNAMSIZ - 1

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
