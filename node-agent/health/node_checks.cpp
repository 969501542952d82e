#include "node-agent/health/node_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

namespace sluice::agent::health {
namespace {

constexpr PortRange kNodePorts = {30'000, 32'767};  // kube-apiserver's --service-node-port-range, by default

// Bytes of an IP packet that fit, with two VLAN tags, into one page of 4 KiB beside what native XDP and the kernel's
// buffers keep for themselves. ENA documents the same number.
constexpr uint32_t kOnePageMtu = 3'498;

// NETDEV_XDP_ACT_*, linux/netdev.h.
constexpr uint64_t kXdpBasic = 1U << 0;
constexpr uint64_t kXdpScatterGather = 1U << 5;

bool overlap(const PortRange& a, const PortRange& b) {
  return a.first <= b.last && b.first <= a.last;
}

// A device's name may have dots, which sysctl takes for its own.
std::string sysctl_of(const char* family, const std::string& device, const char* name) {
  if (device.find('.') == std::string::npos) return fmt::format("net.{}.conf.{}.{}", family, device, name);
  return fmt::format("net/{}/conf/{}/{}", family, device, name);
}

class Checks {
 public:
  Checks(const NodeFacts& facts, const NodeUse& use) : facts_(facts), use_(use) {}

  std::vector<Finding> run() {
    ipv4_forwarding();
    ipv6_forwarding();
    for (const ForwardChain& chain : facts_.forward_chains) forward_chain(chain);
    reverse_path();
    for (const NodeUse::Interface& interface : use_.interfaces) {
      const auto device = std::ranges::find(facts_.devices, interface.name, &DeviceFacts::name);
      if (device != facts_.devices.end()) this->device(interface, *device);
    }
    nat_ports();
    std::ranges::stable_sort(findings_, {}, &Finding::severity);
    return std::move(findings_);
  }

 private:
  void add(Severity severity, std::string reason, std::string message, std::string command) {
    findings_.push_back({severity, std::move(reason), std::move(message), std::move(command)});
  }

  void ipv4_forwarding() {
    if (!use_.delivers_ipv4) return;
    if (facts_.ip_forward == 0) {
      add(Severity::blocks, "IpForwardingOff",
          "net.ipv4.ip_forward is 0: the kernel drops what is for this node's pods", "sysctl -w net.ipv4.ip_forward=1");
      return;
    }
    for (const DeviceFacts& device : facts_.devices) {
      if (device.forwarding_ipv4 != 0) continue;
      add(Severity::blocks, "IpForwardingOff",
          fmt::format("{} is 0: the kernel drops what comes in there for this node's pods",
                      sysctl_of("ipv4", device.name, "forwarding")),
          fmt::format("sysctl -w {}=1", sysctl_of("ipv4", device.name, "forwarding")));
    }
  }

  void ipv6_forwarding() {
    if (!use_.delivers_ipv6 || facts_.ipv6_forwarding != 0) return;
    // A machine that forwards takes no routes from router advertisements any more, unless told to.
    std::string before;
    for (const DeviceFacts& device : facts_.devices) {
      if (device.accept_ra == 1) before += fmt::format("{}=2 ", sysctl_of("ipv6", device.name, "accept_ra"));
    }
    add(Severity::blocks, "Ipv6ForwardingOff",
        "net.ipv6.conf.all.forwarding is 0: the kernel drops what is for this node's pods",
        fmt::format("sysctl -w {}net.ipv6.conf.all.forwarding=1", before));
  }

  void forward_chain(const ForwardChain& chain) {
    const bool ipv4 = chain.family != "ip6" && use_.delivers_ipv4;
    const bool ipv6 = chain.family != "ip" && use_.delivers_ipv6;
    if (!chain.drops || (!ipv4 && !ipv6)) return;
    const std::string where =
        chain.legacy ? fmt::format("chain {} of {}", chain.name, iptables(chain))
                     : fmt::format("chain {} of nftables' table {} {}", chain.name, chain.family, chain.table);
    const std::string by = chain.dropping_rule == 0 ? "its policy" : fmt::format("its rule {}", chain.dropping_rule);
    const bool something_accepts = chain.rules > 0;
    add(something_accepts ? Severity::degrades : Severity::blocks, "ForwardPolicyDrop",
        fmt::format("{} drops forwarded packets by {}{}", where, by,
                    something_accepts ? ": also those for this node's pods, but for what a rule before it accepts"
                                      : ", so all that is for this node's pods"),
        mend(chain));
  }

  static std::string iptables(const ForwardChain& chain) {
    return fmt::format("{}-{}", chain.family == "ip6" ? "ip6tables" : "iptables", chain.legacy ? "legacy" : "nft");
  }

  static std::string mend(const ForwardChain& chain) {
    const bool iptables_made =
        chain.legacy || (chain.family != "inet" && chain.table == "filter" && chain.name == "FORWARD");
    if (iptables_made) {
      if (chain.dropping_rule == 0) return fmt::format("{} -P {} ACCEPT", iptables(chain), chain.name);
      return fmt::format("{} -D {} {}", iptables(chain), chain.name, chain.dropping_rule);
    }
    if (chain.dropping_rule == 0) {
      return fmt::format("nft 'chain {} {} {} {{ policy accept; }}'", chain.family, chain.table, chain.name);
    }
    return fmt::format("nft delete rule {} {} {} handle {}", chain.family, chain.table, chain.name, chain.handle);
  }

  // Strict, a node drops what comes by another device than the one it would answer by. With one device for all no
  // client's packet comes so.
  void reverse_path() {
    const bool one_for_all = use_.interfaces.size() == 1 && use_.interfaces.front().default_route;
    const bool drops_clients = use_.delivers_ipv4 && !one_for_all;
    if (!drops_clients && !use_.tunnels_answer_ipv4) return;
    for (const DeviceFacts& device : facts_.devices) {
      // RFC 3704's modes: 1 strict, 2 loose. The larger of the two counts.
      const int effective = std::max(facts_.rp_filter_all.value_or(0), device.rp_filter.value_or(0));
      if (effective != 1) continue;
      const std::string who = drops_clients ? "clients that this node would answer by another device are not served "
                                              "through it"
                                            : "clients on this node do not get what backends behind tunnels answer";
      add(Severity::degrades, "ReversePathFilter",
          fmt::format("the reverse path filter of {} is strict: {}", device.name, who),
          fmt::format("sysctl -w {}=2", sysctl_of("ipv4", device.name, "rp_filter")));
    }
  }

  void device(const NodeUse::Interface& interface, const DeviceFacts& device) {
    offloads(interface, device);
    const bool native_lacks = interface.native_wanted && !interface.attached_native;
    if (!native_lacks) return;
    if ((device.driver == "ena" || device.driver == "gve") && device.channels &&
        device.channels->combined * 2 > device.channels->most_combined) {
      const uint32_t half = std::max(1U, device.channels->most_combined / 2);
      add(Severity::degrades, "TooManyChannels",
          fmt::format("{} uses {} of {} channels: its driver, {}, has native XDP with at most half of them",
                      device.name, device.channels->combined, device.channels->most_combined, device.driver),
          fmt::format("ethtool -L {} combined {}", device.name, half));
    }
    const uint64_t can = device.xdp_features.value_or(kXdpBasic);
    if (device.mtu > kOnePageMtu && (can & kXdpBasic) != 0 && (can & kXdpScatterGather) == 0) {
      add(Severity::degrades, "MtuTooLarge",
          fmt::format("{} has an MTU of {}: its driver, {}, has native XDP for packets of one buffer only", device.name,
                      device.mtu, device.driver),
          fmt::format("ip link set dev {} mtu {}", device.name, kOnePageMtu));
    }
  }

  void offload(const std::string& device, const std::optional<Feature>& feature, const char* name, Severity severity,
               const char* reason, const std::string& what) {
    if (!feature || !feature->on) return;
    add(severity, reason, fmt::format("{} {}", device, what),
        feature->fixed ? "" : fmt::format("ethtool -K {} {} off", device, name));
  }

  // Not the filter of VLANs (rx-vlan-filter): every VLAN device enters its own there.
  void offloads(const NodeUse::Interface& interface, const DeviceFacts& device) {
    if (interface.has_vlans) {
      offload(device.name, device.vlan_stripping, "rxvlan", Severity::degrades, "VlanOffload",
              "takes VLAN tags off frames before XDP sees them, and has VLANs: it cannot tell whose they are");
    }
    if (interface.native_wanted) {
      const auto severity = interface.attached_native ? Severity::degrades : Severity::blocks;
      offload(device.name, device.lro, "lro", severity, "LargeReceiveOffload",
              "merges received packets (LRO): native XDP is refused, or sees packets that nobody sent");
      offload(device.name, device.gro_hw, "rx-gro-hw", severity, "LargeReceiveOffload",
              "merges received packets (hardware GRO): native XDP is refused, or sees packets that nobody sent");
    }
    if (interface.attached && !interface.attached_native) {
      offload(device.name, device.gro, "gro", Severity::degrades, "GenericReceiveOffload",
              "merges received packets (GRO) before generic XDP sees them: copied as a whole, and larger than any MTU");
    }
  }

  void nat_ports() {
    const PortRange& ours = use_.nat_ports;
    if (facts_.local_ports && overlap(ours, *facts_.local_ports) && !all_reserved(shared(ours, *facts_.local_ports))) {
      add(Severity::degrades, "NatPortsOverlap",
          fmt::format(
              "--nat-ports {}-{} overlap net.ipv4.ip_local_port_range {}-{}: connections of this machine's own may "
              "be mistaken for balanced ones",
              ours.first, ours.last, facts_.local_ports->first, facts_.local_ports->last),
          fmt::format("sysctl -w net.ipv4.ip_local_reserved_ports={}", with_ours()));
    }
    if (use_.node_ports && overlap(ours, kNodePorts)) {
      add(Severity::degrades, "NatPortsOverlap",
          fmt::format(
              "--nat-ports {}-{} overlap the cluster's node ports {}-{}: connections to them may be mistaken for "
              "replies; give the agent another range",
              ours.first, ours.last, kNodePorts.first, kNodePorts.last),
          "");
    }
  }

  static PortRange shared(const PortRange& a, const PortRange& b) {
    return {std::max(a.first, b.first), std::min(a.last, b.last)};
  }

  [[nodiscard]] bool all_reserved(const PortRange& range) const {
    for (uint32_t port = range.first; port <= range.last; ++port) {
      const bool reserved = std::ranges::any_of(
          facts_.reserved_ports, [port](const PortRange& one) { return one.first <= port && port <= one.last; });
      if (!reserved) return false;
    }
    return true;
  }

  // The list that replaces the one there is.
  [[nodiscard]] std::string with_ours() const {
    std::string out;
    for (const PortRange& one : facts_.reserved_ports) {
      out += one.first == one.last ? fmt::format("{},", one.first) : fmt::format("{}-{},", one.first, one.last);
    }
    return out + fmt::format("{}-{}", use_.nat_ports.first, use_.nat_ports.last);
  }

  const NodeFacts& facts_;
  const NodeUse& use_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> check_node(const NodeFacts& facts, const NodeUse& use) {
  return Checks(facts, use).run();
}

std::string text_of(const Finding& finding) {
  if (finding.command.empty()) return finding.message;
  return fmt::format("{}; mend it with: {}", finding.message, finding.command);
}

Condition node_prepared_condition(const std::vector<Finding>& findings) {
  if (findings.empty()) return {"NodePrepared", true, "Prepared", "this node has what Sluice needs"};
  std::vector<std::string> texts;
  std::ranges::transform(findings, std::back_inserter(texts), text_of);
  return {"NodePrepared", false, findings.front().reason, fmt::format("{}", fmt::join(texts, ". "))};
}

}  // namespace sluice::agent::health
