// The agent's heart: owns the dataplane and what is remembered, and brings the maps, links and announcements to what
// the desired state and the network say. Every method is called on one thread (loop.h) only; it blocks for as long as
// the kernel takes.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "node-agent/agent/conditions.h"
#include "node-agent/agent/interfaces.h"
#include "node-agent/agent/state_file.h"
#include "node-agent/announce/heralds.h"
#include "node-agent/announce/memberships.h"
#include "node-agent/announce/ownership.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/health/capacity.h"
#include "node-agent/health/facts.h"
#include "node-agent/health/node_checks.h"
#include "node-agent/inspect/view.h"
#include "node-agent/nexthop/network_watcher.h"
#include "node-agent/tunnel/tunnels.h"

namespace sluice::agent {

struct CoreOptions {
  std::string node;
  std::vector<config::Interface> interfaces;  // empty: the devices of the default routes
  config::InterfaceMode mode = config::InterfaceMode::native;
  std::chrono::seconds announce_grace{30};
  std::chrono::milliseconds resolve_patience{500};  // how long a new state waits for its backends' neighbours
  dataplane::IdleTimes idle;
  nexthop::Abilities can;  // of the XDP program
  health::PortRange nat_ports;
  bool node_ports = false;    // a cluster's node
  uint64_t probe_secret = 0;  // drawn at random: where the nonces of tunnel probes begin
  tunnel::Times tunnel_times;
};

// The way to the kernel, or to a test's idea of one.
struct Kernel {
  std::function<Result<std::unique_ptr<dataplane::Dataplane>>()> open;
  std::function<Status()> purge;  // also of what cannot be opened
  // What would make `open` fail, found out without leaving anything behind.
  std::function<Status()> probe;
  // Of these interfaces and the node; empty: nobody looks.
  std::function<health::NodeFacts(const std::vector<std::string>&)> read_node;
  std::function<Status(const tunnel::Frame&)> send_probe;  // empty: nobody can
};

class Core {
 public:
  // After every change of what `facts` gives. On the owner's thread.
  using Listener = std::function<void(const health::Facts&)>;

  Core(CoreOptions options, StateFile file, Kernel kernel);

  // The network's side. Before anything else.
  void set_watcher(nexthop::NetworkWatcher* watcher);
  void set_listener(Listener listener) { listener_ = std::move(listener); }

  // Loads what is remembered. Fails where the file cannot be understood; nothing is remembered then.
  Status load();
  // Brings maps, links and announcements to what is remembered; where nothing is, only looks whether it could.
  void restore();

  // Remembers `next` and brings everything to it. `next` is valid. What does not stand in the maps then is in
  // facts().failures.
  void apply(state::DesiredState next);
  // Before `apply`: other interfaces. Fails, with nothing changed, where one is missing or refuses.
  Status change_interfaces(const std::vector<config::Interface>& interfaces);
  // Remembers an epoch, on disk too before anything of it is used. A disk that does not take it (Troubles::state_file,
  // tried again) lets an older leader in after a restart only.
  void remember_epoch(const std::string& cluster_id, state::Epoch epoch);

  void on_network();                                 // the watcher has something new
  void announce();                                   // every second: renews what this node answers for
  void sweep();                                      // every few seconds
  void tend_tunnels(tunnel::Clock::time_point now);  // every tenth of a second
  void verify();                                     // every minute or so
  void retry();                                      // every few seconds: what could not be opened or attached
  void tend_node_clients();                          // every second: this machine's own clients
  void check_node();                                 // every ten seconds or so: what the node lacks

  // Detaches and removes everything, also from disk, and forgets it. The highest epochs stay in this process.
  Status purge();

  [[nodiscard]] const std::optional<state::DesiredState>& state() const { return memory_.state; }
  // Whether there was something to remember that could not be understood: what stands in the kernel may be in use.
  [[nodiscard]] bool memory_lost() const { return memory_lost_; }
  // What an earlier run has left in the kernel. Opens the dataplane; fails where that does.
  struct Left {
    bool attached = false;
    std::optional<std::array<uint64_t, 2>> flow_hash_key;  // by which its flows have found their backends
  };
  Result<Left> left_by_an_earlier_run();
  [[nodiscard]] state::Epoch epoch_of(const std::string& cluster_id) const;
  // Whether the state is known to hold: somebody has said so since this process started, or this node never stopped
  // answering for what the state gives it. Until then only what it never stopped answering for is announced.
  [[nodiscard]] bool confirmed() const { return confirmed_; }
  [[nodiscard]] const health::Facts& facts() const { return facts_; }
  // What people may ask for. Refers to the core.
  [[nodiscard]] inspect::View view(tunnel::Clock::time_point now) const;
  [[nodiscard]] const Troubles& troubles() const { return troubles_; }
  [[nodiscard]] Result<dataplane::Counters> counters() const;
  void set_config_error(std::string error);

 private:
  void learn_what_is_answered();
  void program();
  void attach_if_changed();
  [[nodiscard]] bool still_attached(const ChosenInterfaces& chosen) const;
  bool put_back_links();  // whether it tried
  bool attach_or_say(const ChosenInterfaces& chosen);
  Status attach(const ChosenInterfaces& chosen);
  bool open();
  void take_network(std::chrono::milliseconds patience);
  [[nodiscard]] ChosenInterfaces choose() const;
  [[nodiscard]] nexthop::Targets targets() const;
  [[nodiscard]] dataplane::NextHops next_hops() const;
  [[nodiscard]] dataplane::Network ways(const ChosenInterfaces& chosen);
  void keep_node_link(const ChosenInterfaces& chosen);
  void describe_node_link(dataplane::Network& ways) const;
  void note_node_clients(const Status& outcome);
  enum class Look : uint8_t { at_what_changed, at_the_kernel };
  void lead_node_clients(Look look);
  void follow_ways(const ChosenInterfaces& chosen);
  void follow_tunnel_ways();
  void tell_tunnels();
  void save();
  void release_neighbours();
  void report();  // to the listener, with the links back that somebody has taken off
  void refresh_facts();
  void note_shortages();
  [[nodiscard]] health::NodeUse node_use() const;
  void make_known(const dataplane::OwnedAddress& owned);
  void join_groups();
  [[nodiscard]] std::vector<announce::VlanDevice> vlans() const;

  struct AttachedAs {
    dataplane::AttachMode mode = dataplane::AttachMode::native;
    bool may_fall_back = false;
    uint32_t ifindex = 0;
    dataplane::Mac mac{};
    friend bool operator==(const AttachedAs&, const AttachedAs&) = default;
  };
  [[nodiscard]] std::map<std::string, AttachedAs> described(const ChosenInterfaces& chosen) const;
  // What the answer to an attempt depends on, as far as is known.
  struct Attempt {
    std::map<std::string, AttachedAs> asked;
    std::map<std::string, uint32_t> mtus;  // many drivers have no native mode above some
    std::set<std::string> attached;
    friend bool operator==(const Attempt&, const Attempt&) = default;
  };
  [[nodiscard]] Attempt attempt(const ChosenInterfaces& chosen) const;
  // Of native mode, by a driver; the attempt has detached an interface, and the next one would.
  struct Refusal {
    Attempt of;
    std::vector<std::string> without_egress;
    Error error;
  };

  CoreOptions options_;
  StateFile file_;
  Kernel kernel_;
  Listener listener_;
  nexthop::NetworkWatcher* watcher_ = nullptr;
  nexthop::NetworkWatcher::Update network_;
  std::set<uint32_t> defaults_seen_;  // a default route that goes away for a moment must not detach anything

  std::unique_ptr<dataplane::Dataplane> dataplane_;
  Memory memory_;
  state::Digest digest_;
  bool memory_lost_ = false;
  bool confirmed_ = false;
  std::set<net::IpAddress> answered_;  // while not confirmed: the addresses that were still answered for at the start
  bool programmed_ = false;            // by this process
  dataplane::Network programmed_ways_;
  tunnel::Tunnels tunnels_;
  std::optional<Error> probe_trouble_;
  std::optional<dataplane::NodeLink> node_link_;                                // nullopt: there is none, or not yet
  std::optional<std::pair<dataplane::NodeLink, dataplane::LedAddresses>> led_;  // as it was done last
  std::optional<Error> node_clients_trouble_;
  std::vector<dataplane::ServiceFailure> program_failures_;  // as the last program or verify told
  Troubles troubles_;
  // What the last successful attach was made for: a device that is another now, or has another MAC, is attached again.
  std::map<std::string, AttachedAs> attached_as_;
  std::optional<Refusal> refusal_;  // the answer to the last attempt, and to each that is like it
  std::vector<dataplane::OwnedAddress> owned_;
  announce::Memberships memberships_;
  std::optional<Error> membership_trouble_;
  announce::Heralds heralds_;
  std::optional<std::vector<health::Finding>> findings_;  // nullopt: nobody has looked yet
  std::vector<health::Shortage> shortages_;
  health::Facts facts_;
};

}  // namespace sluice::agent
