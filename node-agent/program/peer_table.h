// The other nodes that tunnels lead to. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "node-agent/program/egress_table.h"
#include "node-agent/program/image.h"
#include "node-agent/program/ways.h"

namespace sluice::agent::program {

// The outer headers to a peer, as bpf/layout/node.h has them.
struct OuterTemplate {
  std::array<uint8_t, SLUICE_TUNNEL_TEMPLATE> bytes{};
  bool ipv6 = false;
  friend auto operator<=>(const OuterTemplate&, const OuterTemplate&) = default;
  friend bool operator==(const OuterTemplate&, const OuterTemplate&) = default;
};
OuterTemplate outer_template(const Peer& peer);
// The peers that an image's elements describe: ends, flags and sizes.
std::vector<Peer> peers_in(const ImageView& image);

// An element keeps its template as long as anything leads to it. A node whose template becomes another gets another
// element, to which the records are led one store each: a tunnel is never interrupted.
class PeerTable {
 public:
  PeerTable() : entries_(1) {}
  // Elements that hold a template; such as nothing turns out to need are free. `named`: those that keys lead to, of two
  // with one template the right one. Counts their words in `egress`.
  static PeerTable decode(const ImageView& image, const std::set<uint32_t>& named, EgressTable& egress);

  // Follows the ways: takes elements for nodes that have none, appends the stores of what has changed. Notes in
  // `touched` whose element differs from before.
  void start(const Ways& ways, EgressTable& egress, WriteList& writes, std::set<uint32_t>& touched);
  // The same where nothing differs from the last start().
  void start_unchanged();
  // The element of a node; 0: it is no peer, or there was none left.
  [[nodiscard]] uint16_t index_of(const std::string& node) const;
  // Elements whose node has another now, since start(): from -> to.
  [[nodiscard]] const std::map<uint16_t, uint16_t>& moved() const { return moved_; }
  // Nodes that have become peers or ceased to be, since start().
  [[nodiscard]] const std::set<std::string>& changed_nodes() const { return changed_nodes_; }

  // `by` records more, or fewer, lead to the element.
  void count(uint16_t index, int by);
  // Elements that no node has and no record leads to are free after the grace period.
  void retain(EgressTable& egress);
  void grace_over(WriteList& writes);
  [[nodiscard]] bool awaits_grace() const { return !retired_.empty(); }
  // Since start(): a node has found no element.
  [[nodiscard]] bool ran_out() const { return ran_out_; }

  [[nodiscard]] const std::map<std::string, uint16_t>& by_node() const { return by_node_; }
  // The elements that nodes have.
  [[nodiscard]] std::vector<uint32_t> in_use() const;
  // Whether an image has a node's element as the ways say.
  [[nodiscard]] bool stands(const ImageView& image, const std::string& node, const Ways& ways) const;

 private:
  enum class State : uint8_t { free, used, retired };
  struct Entry {
    sluice_peer element{};  // as it stands in the map
    State state = State::free;
    bool has_node = false;
    uint32_t records = 0;
  };
  uint16_t claim(const Peer& peer);
  uint16_t take();
  void settle(uint16_t index, const Peer& peer, EgressTable& egress, WriteList& writes, std::set<uint32_t>& touched);

  std::vector<Entry> entries_;  // by index, as far as any has been in use
  std::map<std::string, uint16_t> by_node_;
  std::map<OuterTemplate, uint16_t> unclaimed_;  // found by decode()
  std::map<uint16_t, uint16_t> moved_;
  std::set<std::string> changed_nodes_;
  std::vector<uint16_t> retired_;
  std::set<uint16_t> left_;  // used, without a node
  uint16_t last_taken_ = 0;
  bool ran_out_ = false;
};

}  // namespace sluice::agent::program
