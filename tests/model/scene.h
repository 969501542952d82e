// What a node has been told and where it stands, as the model reads it. Nothing of how the product keeps it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "common/net/address.h"
#include "common/state/desired_state.h"
#include "node-agent/dataplane/network.h"
#include "tests/model/bytes.h"

namespace sluice::model {

// By an interface to a neighbour.
struct Way {
  uint32_t interface = 0;
  Mac mac{};
  friend bool operator==(const Way&, const Way&) = default;
};

// The kernel's routes, which are asked where the agent has said nothing: for ways back to clients.
struct Routes {
  struct Route {
    net::Prefix to;
    uint32_t interface = 0;
    std::optional<Mac> mac;  // of the neighbour; nullopt: it is not known
  };
  bool forwarding = false;  // net.ipv4.ip_forward and its like
  std::vector<Route> routes;
};

struct Scene {
  state::DesiredState desired;
  std::string node = "self";
  agent::dataplane::Network network;
  Routes routes;
  uint32_t ingress = 0;            // the interface that packets come in by
  std::set<net::IpAddress> owned;  // answered for there
  uint16_t nat_first = 10000, nat_last = 29999;
};

enum class Kind : uint8_t { local, nat, tunnel, direct, ipip };
const char* to_string(Kind kind);

// A backend of one service, as seen from the node.
struct Endpoint {
  net::IpAddress address;
  uint16_t port = 0;
  Kind kind = Kind::nat;
  std::string node;     // tunnel: whose
  bool left = false;    // no stay of it goes on or is to come
  bool strict = false;  // a tunnel by name: nothing stands in for it
};

struct Service {
  std::string id;
  bool affinity = false;
  bool affinity_changed = false;                    // it was the other once
  std::optional<std::vector<net::Prefix>> allowed;  // nullopt: everybody
  std::vector<Endpoint> endpoints;
  // Slot -> index into `endpoints`, or none. The first is in force; the others name earlier candidates, newest first.
  std::vector<std::vector<std::optional<size_t>>> planes;
};

using ServiceKey = std::tuple<net::IpAddress, uint16_t, uint8_t>;  // address, port, protocol

// The scene, looked up.
class Prospect {
 public:
  Prospect() = default;
  // `before`: what was in force until now; nullptr: nothing was.
  explicit Prospect(Scene scene, const Prospect* before = nullptr);

  [[nodiscard]] const Scene& scene() const { return scene_; }
  // The services at this address, port and protocol; nullptr: none.
  [[nodiscard]] const Service* service(const net::IpAddress& address, uint16_t port, uint8_t protocol) const;
  [[nodiscard]] const Service* service(const std::string& id) const;
  [[nodiscard]] bool is_service_address(const net::IpAddress& address) const { return addresses_.contains(address); }
  [[nodiscard]] bool is_node_address(const net::IpAddress& address) const {
    return scene_.network.node_addresses.contains(address);
  }
  [[nodiscard]] bool is_nat_source(const net::IpAddress& address) const { return nat_sources_.contains(address); }
  // The node of ours that an underlay address belongs to; nullptr: none.
  [[nodiscard]] const agent::dataplane::Peer* peer_at(const net::IpAddress& address) const;
  // nullptr: there is no such node, or no tunnel to it.
  [[nodiscard]] const agent::dataplane::Peer* peer(const std::string& node) const;
  // nullptr: unknown.
  [[nodiscard]] const agent::dataplane::Interface* interface(uint32_t ifindex) const;
  [[nodiscard]] const agent::dataplane::Interface& ingress() const { return *interface(scene_.ingress); }

  // The way to an address as the agent knows it.
  [[nodiscard]] std::optional<Way> known_way(const net::IpAddress& to) const;
  // The kernel's. `sender`: the way that the packet came by, for where the kernel does not know the neighbour there, or
  // does not forward.
  [[nodiscard]] std::optional<Way> kernel_way(const net::IpAddress& to, const std::optional<Way>& sender) const;
  // The interface that a packet with these VLAN tags came in by; nullopt: none that we know.
  [[nodiscard]] std::optional<uint32_t> arrival(const std::vector<uint16_t>& vlans) const;
  // nat's source address towards a backend that is reached by this way.
  [[nodiscard]] std::optional<net::IpAddress> nat_source(const net::IpAddress& to, const Way& way) const;

 private:
  void add(const state::Service& service);

  Scene scene_;
  std::map<std::string, Service> services_;
  std::map<ServiceKey, std::string> keys_;
  std::set<net::IpAddress> addresses_;
  std::set<net::IpAddress> nat_sources_;
};

}  // namespace sluice::model
