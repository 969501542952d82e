#include "operator/planner/acceptance.h"

#include <fmt/format.h>

#include <algorithm>

#include "operator/planner/families.h"

namespace sluice::planner {
namespace {

constexpr const char* kAddresses = "sluice.io/addresses";
constexpr const char* kPools = "sluice.io/address-pools";
constexpr const char* kForwarding = "sluice.io/forwarding";
constexpr const char* kSharingKey = "sluice.io/sharing-key";
constexpr size_t kFamilies = 2;
constexpr size_t kMaxPorts = 128;  // of one owner in an AddressClaim

// Where a user looks for it.
std::string place_of(const char* annotation) {
  return fmt::format("annotation {}", annotation);
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> out;
  size_t from = 0;
  while (from <= text.size()) {
    const size_t comma = std::min(text.find(',', from), text.size());
    std::string part = text.substr(from, comma - from);
    part.erase(0, part.find_first_not_of(" \t"));
    part.erase(part.find_last_not_of(" \t") + 1);
    if (!part.empty()) out.push_back(std::move(part));
    from = comma + 1;
  }
  return out;
}

// Collects what is wrong. The worst kind gives the reason; all texts of it the message.
class Complaints {
 public:
  void not_supported(const std::string& field) {
    if (!fields_.empty()) fields_ += ", ";
    fields_ += field;
  }
  // What may be left out by its own definition: it is said and refuses nothing.
  void not_followed(const std::string& field) { note_ += "; " + field + " is not followed"; }
  void invalid(const char* reason, std::string message) {
    if (invalid_.good) invalid_ = {false, reason, std::move(message)};
  }
  [[nodiscard]] Finding finding() const {
    if (!invalid_.good) return invalid_;
    if (fields_.empty()) return {true, "Accepted", "the spec can be built" + note_};
    return {false, "NotSupported", "not supported yet: " + fields_};
  }

 private:
  std::string fields_;
  std::string note_;
  Finding invalid_;
};

// `families`: those that the object can have addresses of, as its field `why` says.
void check_addresses(const std::vector<std::string>& texts, const std::string& field,
                     const std::vector<net::Family>& families, const std::string& why, Complaints& complaints) {
  for (const std::string& text : texts) {
    const auto address = net::IpAddress::parse(text);
    if (!address)
      complaints.invalid("InvalidAddress",
                         std::string(field).append(" ").append(text).append(": ").append(address.error().reason));
    else if (std::ranges::find(families, address->family()) == families.end())
      complaints.invalid("InvalidAddress",
                         fmt::format("{} {} is {}, and {}", field, text, name_of(address->family()), why));
  }
}

std::string join_names(const std::vector<net::Family>& families) {
  std::string out;
  for (const net::Family family : families) out += (out.empty() ? "" : ", ") + std::string(name_of(family));
  return out;
}

// Which families a LoadBalancer may list addresses of, and what says so.
std::pair<std::vector<net::Family>, std::string> listable_families(const resources::LoadBalancer& lb) {
  std::vector<net::Family> families{net::Family::ipv4, net::Family::ipv6};
  if (lb.ip_family_policy != "SingleStack") return {families, ""};
  if (!lb.ip_families.empty()) {
    families = {parse_families(lb.ip_families).front()};
    return {families, "spec.ipFamilies is " + join_names(families) + " alone"};
  }
  for (const std::string& text : lb.addresses) {
    const auto address = net::IpAddress::parse(text);
    if (!address) continue;
    families = {address->family()};
    break;
  }
  return {families, "spec.ipFamilyPolicy is SingleStack; for addresses of both families set it to PreferDualStack"};
}

void check_protocol(const std::string& field, const std::string& protocol, Complaints& complaints) {
  if (protocol != "TCP" && protocol != "UDP") complaints.not_supported(field + ".protocol " + protocol);
}

// `field` is where it was written, `value` what.
void check_forwarding(const std::string& field, const std::string& value, Complaints& complaints) {
  if (value.empty() || value == "Auto" || value == "NAT" || value == "Tunnel" || value == "Direct") return;
  complaints.invalid("InvalidAnnotation", field + " " + value + ": must be Auto, NAT, Tunnel or Direct");
}

// One that cannot be read must not leave open what somebody meant to close.
void check_sources(const std::vector<std::string>& texts, const std::string& field, Complaints& complaints) {
  for (const std::string& text : texts) {
    if (const auto prefix = net::Prefix::parse_loosely(text); !prefix) {
      complaints.invalid("InvalidSourceRange", fmt::format("{} \"{}\": {}", field, text, prefix.error().reason));
    }
  }
}

}  // namespace

bool is_ours(const resources::Service& service, const Options& options) {
  if (service.type != "LoadBalancer") return false;
  return service.load_balancer_class ? *service.load_balancer_class == options.load_balancer_class
                                     : options.default_class;
}

std::vector<std::string> wanted_addresses(const resources::Service& service) {
  std::vector<std::string> out = split(service.meta.annotation(kAddresses));
  if (out.empty() && !service.load_balancer_ip.empty()) out.push_back(service.load_balancer_ip);
  return out;
}

std::vector<std::string> wanted_pools(const resources::Service& service) {
  return split(service.meta.annotation(kPools));
}

Finding accept(const resources::Service& service) {
  Complaints complaints;
  const std::vector<std::string> annotated = split(service.meta.annotation(kAddresses));
  const std::string annotation = place_of(kAddresses);
  const std::vector<net::Family> families = parse_families(service.ip_families);
  const std::string why = "spec.ipFamilies is " + join_names(families) + " alone";
  check_addresses(annotated, annotation, families, why, complaints);
  if (!service.load_balancer_ip.empty()) {
    check_addresses({service.load_balancer_ip}, "spec.loadBalancerIP", families, why, complaints);
    if (!annotated.empty() && std::ranges::find(annotated, service.load_balancer_ip) == annotated.end()) {
      complaints.invalid("AddressesDiffer", "spec.loadBalancerIP " + service.load_balancer_ip + " and " + annotation +
                                                " " + service.meta.annotation(kAddresses) +
                                                " differ; keep one of them");
    }
  }
  const auto v4 = static_cast<size_t>(
      std::ranges::count_if(annotated, [](const std::string& a) { return a.find(':') == std::string::npos; }));
  if (v4 > 1 || annotated.size() - v4 > 1) {
    complaints.invalid("InvalidAnnotation",
                       annotation + ": at most one address per family; a LoadBalancer resource may have more");
  }
  if (wanted_pools(service).size() > kFamilies) {
    complaints.invalid("InvalidAnnotation", place_of(kPools) + ": at most one pool per family");
  }
  check_forwarding(place_of(kForwarding), service.meta.annotation(kForwarding), complaints);
  if (!service.meta.annotation(kSharingKey).empty()) complaints.not_supported(place_of(kSharingKey));
  // A preference, which implementations may leave out. Under Layer2 it would send everything to the announcer's zone.
  if (!service.traffic_distribution.empty()) {
    complaints.not_followed("spec.trafficDistribution " + service.traffic_distribution);
  }
  if (service.ports.size() > kMaxPorts) {
    complaints.not_supported("spec.ports (" + std::to_string(service.ports.size()) + ", at most " +
                             std::to_string(kMaxPorts) + ")");
  }
  check_sources(service.source_ranges, "spec.loadBalancerSourceRanges or its annotation", complaints);
  for (const resources::ServicePort& port : service.ports) {
    check_protocol("spec.ports[" + std::to_string(port.port) + "]", port.protocol, complaints);
  }
  return complaints.finding();
}

Finding accept(const resources::LoadBalancer& lb) {
  Complaints complaints;
  const auto [families, why] = listable_families(lb);
  check_addresses(lb.addresses, "spec.addresses", families, why, complaints);
  if (!lb.sharing_key.empty()) complaints.not_supported("spec.sharingKey");
  check_forwarding("spec.forwarding", lb.forwarding, complaints);
  check_sources(lb.allowed_sources, "spec.allowedSources", complaints);
  if (lb.health_check) complaints.not_supported("spec.healthCheck");
  for (const resources::LoadBalancerPort& port : lb.ports) {
    check_protocol("spec.ports[" + port.name + "]", port.protocol, complaints);
    if (port.port == 0) complaints.invalid("InvalidPort", "spec.ports[" + port.name + "].port: must be 1 to 65535");
  }
  for (const resources::LoadBalancerBackend& backend : lb.backends) {
    if (const auto address = net::IpAddress::parse(backend.address); !backend.address.empty() && !address) {
      complaints.invalid("InvalidAddress", fmt::format("spec.backends[{}].address {}: {}", backend.name,
                                                       backend.address, address.error().reason));
    }
    for (const auto& [name, port] : backend.ports) {
      if (std::ranges::find(lb.ports, name, &resources::LoadBalancerPort::name) == lb.ports.end()) {
        complaints.invalid("InvalidPort", "spec.backends[" + backend.name + "].ports[" + name +
                                              "]: no port of this name in spec.ports");
      }
    }
  }
  return complaints.finding();
}

}  // namespace sluice::planner
