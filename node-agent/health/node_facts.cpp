#include "node-agent/health/node_facts.h"

#include <net/if.h>

#include <charconv>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <utility>

#include "node-agent/health/device_facts.h"
#include "node-agent/health/forward_chains.h"

namespace sluice::agent::health {
namespace {

std::optional<std::string> read(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::optional<int> read_number(const std::string& path) {
  const auto text = read(path);
  if (!text) return std::nullopt;
  int value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc()) return std::nullopt;
  return value;
}

std::optional<int> of_device(const char* family, const std::string& device, const char* name) {
  return read_number("/proc/sys/net/" + std::string(family) + "/conf/" + device + "/" + name);
}

std::optional<uint16_t> to_port(const std::string& text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc()) return std::nullopt;
  return port;
}

std::optional<PortRange> read_local_ports() {
  const auto text = read("/proc/sys/net/ipv4/ip_local_port_range");
  if (!text) return std::nullopt;
  std::istringstream words(*text);
  PortRange range;
  if (!(words >> range.first >> range.last)) return std::nullopt;
  return range;
}

// "8080,9148-9150".
std::vector<PortRange> read_reserved_ports() {
  std::vector<PortRange> out;
  std::istringstream list(read("/proc/sys/net/ipv4/ip_local_reserved_ports").value_or(""));
  for (std::string item; std::getline(list, item, ',');) {
    const size_t dash = item.find('-');
    const auto first = to_port(item);
    const auto last = dash == std::string::npos ? first : to_port(item.substr(dash + 1));
    if (first && last) out.push_back({*first, *last});
  }
  return out;
}

}  // namespace

NodeFacts read_node_facts(const std::vector<std::string>& interfaces) {
  NodeFacts facts;
  facts.ip_forward = read_number("/proc/sys/net/ipv4/ip_forward");
  facts.ipv6_forwarding = read_number("/proc/sys/net/ipv6/conf/all/forwarding");
  facts.rp_filter_all = of_device("ipv4", "all", "rp_filter");
  facts.local_ports = read_local_ports();
  facts.reserved_ports = read_reserved_ports();
  for (const std::string& name : interfaces) {
    auto device = read_device(name);
    if (!device) {
      facts.unreadable.push_back(device.error().message());
      continue;
    }
    device->forwarding_ipv4 = of_device("ipv4", name, "forwarding");
    device->rp_filter = of_device("ipv4", name, "rp_filter");
    device->accept_ra = of_device("ipv6", name, "accept_ra");
    facts.devices.push_back(std::move(*device));
  }
  for (const auto& read_chains : {read_nftables_forward, read_legacy_forward}) {
    auto chains = read_chains();
    if (!chains) {
      facts.unreadable.push_back(chains.error().message());
      continue;
    }
    std::ranges::move(*chains, std::back_inserter(facts.forward_chains));
  }
  return facts;
}

}  // namespace sluice::agent::health
