// The services that are asked for, and who of them has which key. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/state/desired_state.h"
#include "node-agent/program/keys.h"

namespace sluice::agent::program {

// Which services have a backend at an address. By a hash of it: there may be others among them.
class BackendIndex {
 public:
  void add(const net::IpAddress& address, uint32_t handle);
  void remove(const net::IpAddress& address, uint32_t handle);
  void for_each(const net::IpAddress& address, const std::function<void(uint32_t handle)>& visit) const;

 private:
  struct Node {
    uint32_t hash = 0;
    uint32_t handle = 0;
    uint32_t next = 0;  // 1 + index, 0: the last
  };
  void grow();
  [[nodiscard]] uint32_t& head(uint32_t hash) { return heads_[hash & (heads_.size() - 1)]; }

  std::vector<uint32_t> heads_;  // a power of two of them, 1 + index into nodes_
  std::vector<Node> nodes_;
  uint32_t free_ = 0;  // 1 + index of the first, linked by `next`
  size_t count_ = 0;
};

class Roster {
 public:
  using Services = std::map<std::string, state::Service>;

  // Takes over what is desired now; `only` (nullptr: all) bounds what may differ from before. Returns the ids of those
  // that have come, changed or gone, and of those that another's keys have let in or kept out thereby; ascending.
  std::vector<std::string> take(const Services& desired, const std::set<std::string>* only);

  // A service to be programmed; nullptr: it is not asked for, or refused.
  [[nodiscard]] const state::Service* find(const std::string& id) const;
  // Everything that is to be programmed, ascending.
  void for_each(const std::function<void(const std::string& id, const state::Service& service)>& visit) const;
  // Those with a backend at the address, once for each, and perhaps others.
  void for_each_at(const net::IpAddress& address, const std::function<void(const std::string& id)>& visit) const;
  // What no node can do, or collides with another, and why.
  [[nodiscard]] const std::map<std::string, std::string>& refused() const { return refused_; }

 private:
  struct Entry {
    state::Service service;
    uint32_t handle = 0;
  };
  struct Owner {
    WholeKey key;
    uint32_t handle = 0;
  };
  void add(const std::string& id, const state::Service& service);
  void remove(std::map<std::string, Entry>::iterator entry);
  // Gives the service its keys. False, with the reason noted: another has one of them.
  bool own_keys(const std::string& id, const Entry& entry);
  void disown_keys(const Entry& entry);
  void settle_all(std::set<std::string>& changed);

  std::map<std::string, Entry> entries_;
  std::vector<std::string> ids_;  // by handle
  std::vector<uint32_t> free_handles_;
  BackendIndex index_;
  std::unordered_map<uint64_t, Owner> owners_;  // by the key's word
  std::map<std::string, std::string> refused_;
  std::set<std::string> kept_out_;  // of the refused, those that another's keys keep out
};

}  // namespace sluice::agent::program
