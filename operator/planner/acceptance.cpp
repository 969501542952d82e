#include "operator/planner/acceptance.h"

#include <fmt/format.h>

#include <algorithm>

namespace sluice::planner {
namespace {

constexpr const char* kAddresses = "sluice.io/addresses";
constexpr const char* kPools = "sluice.io/address-pools";
constexpr const char* kForwarding = "sluice.io/forwarding";
constexpr const char* kSharingKey = "sluice.io/sharing-key";
constexpr const char* kSourceRanges = "service.beta.kubernetes.io/load-balancer-source-ranges";
constexpr size_t kFamilies = 2;
constexpr size_t kMaxPorts = 128;            // of one owner in an AddressClaim
constexpr int64_t kAffinitySeconds = 10800;  // what the API server fills in

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

void check_addresses(const std::vector<std::string>& texts, const std::string& field, Complaints& complaints) {
  for (const std::string& text : texts) {
    const auto address = net::IpAddress::parse(text);
    if (!address)
      complaints.invalid("InvalidAddress",
                         std::string(field).append(" ").append(text).append(": ").append(address.error().reason));
    else if (!address->is_ipv4())
      complaints.not_supported(std::string(field).append(" ").append(text).append(" (IPv6)"));
  }
}

void check_families(const std::vector<std::string>& families, Complaints& complaints) {
  if (std::ranges::find(families, "IPv6") != families.end()) complaints.not_supported("spec.ipFamilies IPv6");
}

void check_protocol(const std::string& field, const std::string& protocol, Complaints& complaints) {
  if (protocol != "TCP" && protocol != "UDP") complaints.not_supported(field + ".protocol " + protocol);
}

// `field` is where it was written, `value` what.
void check_forwarding(const std::string& field, const std::string& value, Complaints& complaints) {
  if (value.empty() || value == "Auto" || value == "NAT") return;
  if (value == "Tunnel" || value == "Direct")
    complaints.not_supported(field + " " + value);
  else
    complaints.invalid("InvalidAnnotation", field + " " + value + ": must be Auto, NAT, Tunnel or Direct");
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
  check_addresses(annotated, annotation, complaints);
  if (!service.load_balancer_ip.empty()) {
    check_addresses({service.load_balancer_ip}, "spec.loadBalancerIP", complaints);
    if (!annotated.empty() && std::ranges::find(annotated, service.load_balancer_ip) == annotated.end()) {
      complaints.invalid("AddressesDiffer", "spec.loadBalancerIP " + service.load_balancer_ip + " and " + annotation +
                                                " " + service.meta.annotation(kAddresses) +
                                                " differ; keep one of them");
    }
  }
  const auto v4 =
      std::ranges::count_if(annotated, [](const std::string& a) { return a.find(':') == std::string::npos; });
  if (v4 > 1 || annotated.size() > kFamilies) {
    complaints.invalid("InvalidAnnotation",
                       annotation + ": at most one address per family; a LoadBalancer resource may have more");
  }
  if (wanted_pools(service).size() > kFamilies) {
    complaints.invalid("InvalidAnnotation", place_of(kPools) + ": at most one pool per family");
  }
  check_forwarding(place_of(kForwarding), service.meta.annotation(kForwarding), complaints);
  if (!service.meta.annotation(kSharingKey).empty()) complaints.not_supported(place_of(kSharingKey));
  check_families(service.ip_families, complaints);
  if (service.external_traffic_policy == "Local") complaints.not_supported("spec.externalTrafficPolicy Local");
  // A preference, which implementations may leave out. Under Layer2 it would send everything to the announcer's zone.
  if (!service.traffic_distribution.empty()) {
    complaints.not_followed("spec.trafficDistribution " + service.traffic_distribution);
  }
  if (service.session_affinity == "ClientIP" && service.affinity_seconds != 0 &&
      service.affinity_seconds != kAffinitySeconds) {
    complaints.not_followed("spec.sessionAffinityConfig.clientIP.timeoutSeconds " +
                            std::to_string(service.affinity_seconds));
  }
  if (service.ports.size() > kMaxPorts) {
    complaints.not_supported("spec.ports (" + std::to_string(service.ports.size()) + ", at most " +
                             std::to_string(kMaxPorts) + ")");
  }
  if (!service.source_ranges.empty()) complaints.not_supported("spec.loadBalancerSourceRanges");
  if (!service.meta.annotation(kSourceRanges).empty()) complaints.not_supported(place_of(kSourceRanges));
  for (const resources::ServicePort& port : service.ports) {
    check_protocol("spec.ports[" + std::to_string(port.port) + "]", port.protocol, complaints);
  }
  return complaints.finding();
}

Finding accept(const resources::LoadBalancer& lb) {
  Complaints complaints;
  check_addresses(lb.addresses, "spec.addresses", complaints);
  check_families(lb.ip_families, complaints);
  if (lb.ip_family_policy != "SingleStack") complaints.not_supported("spec.ipFamilyPolicy " + lb.ip_family_policy);
  if (!lb.sharing_key.empty()) complaints.not_supported("spec.sharingKey");
  check_forwarding("spec.forwarding", lb.forwarding, complaints);
  if (lb.external_traffic_policy == "Local") complaints.not_supported("spec.externalTrafficPolicy Local");
  if (!lb.allowed_sources.empty()) complaints.not_supported("spec.allowedSources");
  if (lb.health_check) complaints.not_supported("spec.healthCheck");
  for (const resources::LoadBalancerPort& port : lb.ports) {
    check_protocol("spec.ports[" + port.name + "]", port.protocol, complaints);
    if (port.port == 0) complaints.invalid("InvalidPort", "spec.ports[" + port.name + "].port: must be 1 to 65535");
  }
  for (const resources::LoadBalancerBackend& backend : lb.backends) {
    if (!backend.address.empty()) complaints.not_supported("spec.backends[" + backend.name + "].address");
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
