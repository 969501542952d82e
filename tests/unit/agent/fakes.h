// The kernel's two edges as values, so that the agent's own rules can be tested without one, and with its faults.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "node-agent/agent/core.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/nexthop/network_watcher.h"

namespace sluice::agent {

// What a FakeDataplane was told, and what it shall answer. Outlives it.
struct FakeKernel {
  std::optional<Error> refuse_open;
  std::function<std::optional<Error>(const std::vector<dataplane::InterfaceRequest>&)> refuse_attach;
  std::vector<dataplane::ServiceFailure> program_failures;
  std::vector<dataplane::ServiceFailure> verify_failures;
  std::vector<std::string> old_flows;
  dataplane::SweepOutcome swept;  // but for old_flows and nat_behind
  std::vector<dataplane::TableUse> tables;
  std::vector<dataplane::BackendRecord> records;

  std::vector<std::string> calls;  // "open", "program", "attach", ... in order
  std::optional<state::DesiredState> programmed;
  std::vector<dataplane::InterfaceRequest> attached;
  std::vector<std::string> without_egress;
  std::vector<dataplane::OwnedAddress> owned;
  std::chrono::nanoseconds owned_for{};
  size_t owned_room = SIZE_MAX;
  std::vector<dataplane::Peer> peers_left;  // by an earlier process
  std::map<std::string, dataplane::Proof> proofs;
  std::vector<tunnel::Frame> probes;    // sent
  dataplane::Network network;           // as told last
  std::set<net::IpAddress> nat_behind;  // what a sweep finds
  std::optional<Error> refuse_probe;
  std::optional<health::NodeFacts> node;         // nullopt: nobody looks
  std::optional<dataplane::NodeLink> node_link;  // that there is
  dataplane::NodeLinkPrograms node_link_programs = dataplane::NodeLinkPrograms::none;
  std::optional<Error> refuse_attach_node_link;
  std::optional<Error> refuse_node_link;
  std::optional<dataplane::LedAddresses> led;
  int times_led = 0;
  std::map<net::Family, net::IpAddress> own_addresses;
};

class FakeDataplane final : public dataplane::Dataplane {
 public:
  explicit FakeDataplane(FakeKernel& kernel) : kernel_(kernel) {}
  dataplane::ProgramOutcome program(const state::DesiredState& desired, const std::string& /*node*/,
                                    const dataplane::Network& network) override {
    kernel_.calls.emplace_back("program");
    kernel_.programmed = desired;
    kernel_.network = network;
    return {kernel_.program_failures, 1};
  }
  Status update_ways(const dataplane::Network& network) override {
    kernel_.calls.emplace_back("update_ways");
    kernel_.network = network;
    return {};
  }
  dataplane::ProgramOutcome verify() override { return {kernel_.verify_failures, 0}; }
  Result<std::vector<dataplane::AttachedInterface>> attach(
      const std::vector<dataplane::InterfaceRequest>& interfaces) override {
    kernel_.calls.emplace_back("attach");
    if (kernel_.refuse_attach) {
      if (auto refused = kernel_.refuse_attach(interfaces)) return tl::unexpected(*refused);
    }
    kernel_.attached = interfaces;
    kernel_.without_egress.clear();
    return attached();
  }
  [[nodiscard]] std::vector<dataplane::AttachedInterface> attached() const override {
    std::vector<dataplane::AttachedInterface> out;
    for (const auto& request : kernel_.attached) {
      out.push_back({request.name, request.name == "eth0" ? 2U : 3U, request.mode, "fake"});
    }
    return out;
  }
  [[nodiscard]] std::vector<std::string> without_egress() const override { return kernel_.without_egress; }
  Result<dataplane::NodeLink> keep_node_link(uint16_t mtu) override {
    if (kernel_.refuse_node_link) return tl::unexpected(*kernel_.refuse_node_link);
    if (!kernel_.node_link) kernel_.node_link = dataplane::NodeLink{70, 71, {2, 0, 0, 0, 0, 7}, mtu, {}};
    kernel_.node_link->mtu = mtu;
    return *kernel_.node_link;
  }
  Status attach_node_link() override {
    if (kernel_.refuse_attach_node_link) return tl::unexpected(*kernel_.refuse_attach_node_link);
    kernel_.node_link_programs = dataplane::NodeLinkPrograms::of_this_process;
    return {};
  }
  [[nodiscard]] dataplane::NodeLinkPrograms node_link_programs() const override { return kernel_.node_link_programs; }
  Status lead_into_node_link(const dataplane::NodeLink& /*link*/, const dataplane::LedAddresses& addresses) override {
    kernel_.led = addresses;
    ++kernel_.times_led;
    return {};
  }
  [[nodiscard]] Result<net::IpAddress> own_address_towards(const net::IpAddress& to) const override {
    const auto found = kernel_.own_addresses.find(to.family());
    return found == kernel_.own_addresses.end() ? net::IpAddress{} : found->second;
  }
  dataplane::OwnedOutcome set_owned(const std::vector<dataplane::OwnedAddress>& owned,
                                    std::chrono::nanoseconds valid_for) override {
    kernel_.owned = owned;
    kernel_.owned_for = valid_for;
    if (owned.size() <= kernel_.owned_room) return {owned, std::nullopt};
    kernel_.owned.resize(kernel_.owned_room);
    return {kernel_.owned, fail_errno(E2BIG, "answer ARP for", owned[kernel_.owned_room].address.to_string()).value()};
  }
  [[nodiscard]] Result<std::vector<dataplane::OwnedAddress>> owned() const override { return kernel_.owned; }
  [[nodiscard]] std::optional<std::array<uint64_t, 2>> flow_hash_key() const override { return std::nullopt; }
  [[nodiscard]] std::vector<dataplane::Peer> peers() const override { return kernel_.peers_left; }
  [[nodiscard]] std::map<std::string, dataplane::Proof> proofs() const override { return kernel_.proofs; }
  Result<dataplane::SweepOutcome> sweep(const dataplane::IdleTimes& /*idle*/) override {
    dataplane::SweepOutcome outcome = kernel_.swept;
    outcome.services_with_old_flows = kernel_.old_flows;
    outcome.peers_with_nat_flows = kernel_.nat_behind;
    return outcome;
  }
  [[nodiscard]] std::vector<dataplane::TableUse> tables() const override { return kernel_.tables; }
  [[nodiscard]] std::vector<dataplane::BackendRecord> backends() const override { return kernel_.records; }
  [[nodiscard]] Result<dataplane::Counters> counters() const override { return dataplane::Counters{}; }
  Status purge() override {
    kernel_.calls.emplace_back("purge");
    kernel_.programmed.reset();
    kernel_.attached.clear();
    return {};
  }

 private:
  FakeKernel& kernel_;
};

inline Kernel to_kernel(FakeKernel& kernel) {
  std::function<health::NodeFacts(const std::vector<std::string>&)> read_node;
  if (kernel.node) read_node = [&kernel](const std::vector<std::string>&) { return *kernel.node; };
  return {[&kernel]() -> Result<std::unique_ptr<dataplane::Dataplane>> {
            kernel.calls.emplace_back("open");
            if (kernel.refuse_open) return tl::unexpected(*kernel.refuse_open);
            return std::unique_ptr<dataplane::Dataplane>(std::make_unique<FakeDataplane>(kernel));
          },
          [&kernel]() -> Status {
            kernel.calls.emplace_back("purge");
            return {};
          },
          [&kernel]() -> Status {
            if (kernel.refuse_open) return tl::unexpected(*kernel.refuse_open);
            return {};
          },
          read_node,
          [&kernel](const tunnel::Frame& frame) -> Status {
            if (kernel.refuse_probe) return tl::unexpected(*kernel.refuse_probe);
            kernel.probes.push_back(frame);
            return {};
          }};
}

// A network with eth0 (the default route's) and eth1; every target is behind eth0 and resolved at once.
class FakeWatcher final : public nexthop::NetworkWatcher {
 public:
  FakeWatcher() {
    view.links[2] = {2, "eth0", "", {2, 0, 0, 0, 0, 2}, true, true};
    view.links[3] = {3, "eth1", "", {2, 0, 0, 0, 0, 3}, true, true};
    view.default_devices = {2};
  }
  void set_targets(nexthop::Targets targets, std::set<uint32_t> usable) override {
    targets_ = std::move(targets);
    usable_ = std::move(usable);
  }
  Update wait(std::chrono::milliseconds /*patience*/) override {
    Update update{view, {}};
    for (const auto& [address, on_this_node] : targets_) {
      if (unresolved.contains(address)) {
        update.ways.unresolved[address] = unresolved[address];
      } else if (usable_.contains(2)) {
        const auto source = net::IpAddress::parse(address.is_ipv4() ? "10.0.0.1" : "fd00::1").value();
        update.ways.next_hops[address] = {on_this_node, 2, {2, 0, 0, 0, 0, 9}, source};
        nexthop::Way& way = update.ways.every[address];
        way.local = on_this_node;
        way.ifindex = way.transmit_by = 2;
        way.source = source;
        way.own = {2, 0, 0, 0, 0, 2};
        way.mtu = 1500;
      }
    }
    return update;
  }
  nexthop::NetworkView view;
  std::map<net::IpAddress, std::string> unresolved;
  [[nodiscard]] const nexthop::Targets& targets() const { return targets_; }

 private:
  nexthop::Targets targets_;
  std::set<uint32_t> usable_;
};

}  // namespace sluice::agent
