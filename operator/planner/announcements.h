// Which node announces an address, and why. Rendezvous hashing (Thaler and Ravishankar, 1998) ranks the eligible nodes
// per address, so that addresses spread evenly and a node that comes or goes moves only what must move.
#pragma once

#include "operator/planner/values.h"

namespace sluice::planner {

// Whether a node may announce anything at all.
NodePlan judge_node(const resources::Node& node, const Options& options);

// Whether a node that was chosen has to be replaced.
bool is_lost(const std::string& node, const resources::ClusterState& cluster, const Agents& agents,
             const Memory& memory, const Options& options, Time now);

class Announcer {
 public:
  struct Input {
    const state::DesiredState& previous;
    const resources::ClusterState& cluster;
    const Agents& agents;
    const Options& options;
    const Memory& memory;  // of this plan: `without_agent` is up to date
    const std::map<std::string, NodePlan>& nodes;
    Time now;
  };
  explicit Announcer(const Input& input) : input_(input) {}

  struct Choice {
    AddressPlan plan;
    std::optional<state::Announcement> announcement;
  };
  // `pool`: the name of the address's pool; empty or gone: every node may announce. `serving`: the nodes that can serve
  // it, where its services have the policy Local; nullptr: all can.
  Choice choose(const net::IpAddress& address, const std::string& pool, const std::set<std::string>* serving);

 private:
  struct Eligible {
    std::shared_ptr<const std::set<std::string>> nodes;
    std::vector<std::pair<uint64_t, const std::string*>> hashed;  // the same with their hashes
    std::vector<std::pair<uint64_t, const std::string*>> living;  // those that can take an address now
    std::string none_because;                                     // where `nodes` is empty: a reason and
    std::string message;                                          // what to do about it
  };
  const Eligible& eligible(const std::string& pool);
  [[nodiscard]] Eligible find_eligible(const std::string& pool) const;
  [[nodiscard]] Eligible only(const Eligible& of, const std::set<std::string>& nodes) const;
  void add_hashes(Eligible& eligible) const;
  [[nodiscard]] std::vector<std::string> interfaces(const std::string& pool, const std::string& node,
                                                    const net::IpAddress& address) const;
  [[nodiscard]] bool alive(const std::string& node) const;

  Input input_;
  std::map<std::string, Eligible> by_pool_;
};

}  // namespace sluice::planner
