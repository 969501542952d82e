// From {what stands in the maps, the desired state as seen from one node, the ways from it} to the stores that make the
// one the other, in an order in which no reader is ever between two states of a service. Pure: the caller makes the
// stores, waits out grace periods and reads back.
//
// How readers stay right:
//  - Backend records and slots are written where no word leads; then one 64-bit store of sluice_service.table switches;
//    keys come last, and go first. What the old word led to is retired, and used again only after grace_over().
//  - What is in use follows from the maps alone, by references from the key table in force: decode() after a restart
//    finds it, and what an interrupted plan had written without leading to it is free.
//  - A service that cannot be programmed for want of room keeps what it had; others go on.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "node-agent/program/address_book.h"
#include "node-agent/program/egress_table.h"
#include "node-agent/program/key_table.h"
#include "node-agent/program/peer_table.h"
#include "node-agent/program/roster.h"
#include "node-agent/program/service_change.h"
#include "node-agent/program/source_sets.h"
#include "node-agent/program/way_book.h"
#include "node-agent/program/whole_keys.h"

namespace sluice::agent::program {

// The source ports for nat, in host order, both inclusive.
struct NatPorts {
  uint16_t first = 10000;
  uint16_t last = 29999;
};

// What a plan changes: to be read back.
struct Touched {
  std::vector<std::string> services;
  std::vector<uint64_t> keys;          // not services': addresses, backends
  std::vector<uint64_t> removed_keys;  // of any kind
  std::vector<uint32_t> peers;         // indices
};

// An index of the maps of counters that stands for another service or backend from now on: to be set, before the stores
// are made, to what stood at `from`, where the same backend had its record, or to nothing.
struct CounterMove {
  uint32_t to = 0;
  std::optional<uint32_t> from;
};

struct Plan {
  // Sets that the stores lead to: to be in `sources4` or `sources6` before the first store is made. A prefix that finds
  // no room there leaves its clients out.
  std::vector<SourceSet> source_sets_to_add;
  WriteList writes;
  // Sets that no service names any more once the stores are made: their prefixes are to be taken out after the grace
  // period.
  std::vector<uint32_t> source_sets_to_remove;
  std::vector<dataplane::ServiceFailure> failures;
  Touched touched;
  std::vector<uint32_t> new_services;  // indices whose counters begin
  std::vector<CounterMove> backend_counters;
  bool retry_after_grace = false;  // more may be done, and failures pass, when planned again after grace_over()
};

// What may differ from what the last plan was made for. All that is not named is the same: nobody compares it.
// Interfaces, peers and this machine's addresses are few and always compared.
struct Changes {
  std::set<std::string> services;      // ids, also of those that have gone
  std::set<net::IpAddress> next_hops;  // addresses whose way is another, has come or has gone
};

// A part of a map: `count` elements from `first`.
struct Region {
  MapId map = MapId::config;
  uint32_t first = 0;
  uint32_t count = 0;
};

class Programmer {
 public:
  // Nothing is programmed: fresh maps.
  Programmer(const Sizes& sizes, NatPorts ports);
  // What an image holds, whoever wrote it. The caller makes sure that a grace period has passed since it was written.
  // What is inconsistent in it is treated as not there, to be written anew. Before the first plan the caller takes
  // every set out of `sources4` and `sources6` that source_sets() does not name: an interrupted process has left it,
  // and its id may be given again.
  static Programmer decode(const Sizes& sizes, NatPorts ports, const ImageView& image);

  // Takes over what was desired last, so that plan_ways() brings the maps to it.
  void remember(const Programmer& before);

  // `image` is what the maps hold now, that is what decode() saw plus every store planned since. The stores planned are
  // taken as made. `changes` (nullptr: whatever) bounds what has to be looked at.
  Plan plan(const ImageView& image, const state::DesiredState& desired, const std::string& node, const Ways& ways,
            const Changes* changes = nullptr);
  // The same desired state as last time, other ways.
  Plan plan_ways(const ImageView& image, const Ways& ways, const Changes* changes = nullptr);

  // No reader is left that saw the maps as they were before the last plan's stores. Gives what is to be cleared now;
  // empty as a rule.
  WriteList grace_over();
  // Something waits for that.
  [[nodiscard]] bool awaits_grace() const;

  // Where everything lies that these, or all services (nullptr), consist of. With it check() needs nothing else of an
  // image.
  [[nodiscard]] std::vector<Region> regions(const Touched* touched) const;
  // Compares what an image leads to, read as the XDP program reads it, with what is desired: one failure for each of
  // the services (all: nullptr) that differs, and for keys that should lead nowhere. Services that stand as they did
  // for want of room are left out.
  [[nodiscard]] std::vector<dataplane::ServiceFailure> check(const ImageView& image, const Touched* touched) const;

  // What is programmed, by id.
  [[nodiscard]] const std::map<std::string, Programmed>& programmed() const { return programmed_; }
  [[nodiscard]] const KeyTable& keys() const { return keys_; }
  [[nodiscard]] const Arenas& arenas() const { return arenas_; }
  // The service that a key leads to; nullptr: none.
  [[nodiscard]] const Programmed* service_of(const WholeKey& key) const;
  // The id of the service at an index of `services`; nullptr where there is none.
  [[nodiscard]] const std::string* id_at(uint32_t index) const;
  // The element of `egress` that an interface of the last plan's ways has as long as it is among them; 0: there was no
  // room for it.
  [[nodiscard]] uint32_t interface_element(uint32_t ifindex) const { return egress_.interface_element(ifindex); }
  // The element of `peers` that each node has, by its name.
  [[nodiscard]] const std::map<std::string, uint16_t>& peers() const { return peers_.by_node(); }
  // The sets of allowed sources that services name, ascending; after the last plan's grace period.
  [[nodiscard]] std::vector<uint32_t> source_sets() const;
  // What is to be in those of them that this process has made, ascending by id.
  [[nodiscard]] std::vector<SourceSet> source_set_contents() const { return sources_.known_in_use(); }

 private:
  struct Work;
  Plan run(Work& work);
  [[nodiscard]] Standpoint here() const { return {node_, tunnels_, ways_, peers_, nodes_}; }

  // decode.cpp
  void decode_service(const ImageView& image, Programmed& service);
  // programmer.cpp
  void take_underlay(const state::DesiredState& desired);
  void store_settings(Work& work) const;
  void take_out_damaged(Work& work);
  void find_dirty(Work& work);
  void claim(Work& work);
  void plan_changes(Work& work);
  void make_changes(Work& work);
  static void note_counters(const ServiceChange& change, Plan& plan);
  void remove_unwanted(Work& work);
  void count_records(const Programmed& service, int by);
  void report_refused(Work& work) const;
  // programmer_keys.cpp
  void reject(Work& work, const std::string& id, const std::string& reason, const std::string& message);
  void reject_for_room(Work& work, const std::string& id, const std::string& map);
  void reject_beyond_room(Work& work);
  void reject_new_keys(Work& work);
  void wish_for_keys(Work& work);
  void wish_away(const Programmed& service, Work& work) const;
  void wish_for_address(const net::IpAddress& address, int more, Work& work);
  [[nodiscard]] std::optional<KeyValue> value_of(const WholeKey& key, uint32_t value);
  [[nodiscard]] KeyTable::Delta delta_of(const Work& work) const;
  void admit_keys(Work& work);
  void change_keys(Work& work);
  void commit_keys(const KeyTable::Delta& delta, KeyTable::Change change, Work& work);
  void stand_addresses(Work& work);
  void wish_away_strangers(Work& work) const;
  // programmer_ways.cpp
  [[nodiscard]] uint64_t next_hop_word(const RecordIdentity& identity, const dataplane::NextHop* way, uint64_t current,
                                       WriteList& writes);
  void refresh_records_of(Programmed& service, const std::set<net::IpAddress>* addresses, Work& work,
                          const std::string& id);
  void refresh_ways(Work& work);
  [[nodiscard]] AddressBook::Flags standing_addresses(const std::set<net::IpAddress>& nat_sources) const;
  void report_ways(Work& work) const;
  // check.cpp
  [[nodiscard]] std::optional<std::string> difference(const ImageView& image, const Programmed& programmed,
                                                      const state::Service& service) const;
  [[nodiscard]] std::optional<std::string> keys_difference(const ImageView& image, const Programmed& programmed,
                                                           const Projection& projection) const;
  [[nodiscard]] std::optional<std::string> ahead_difference(const ImageView& image, const Programmed& programmed,
                                                            const Projection& projection) const;
  [[nodiscard]] std::optional<std::string> record_difference(const ImageView& image, uint32_t index, uint32_t record,
                                                             const ProjectedBackend& backend) const;
  void check_keys(const ImageView& image, const Touched* touched,
                  std::vector<dataplane::ServiceFailure>& failures) const;

  Sizes sizes_;
  NatPorts ports_;
  KeyTable keys_;
  WholeKeys whole_keys_;
  AddressBook addresses_;
  Arenas arenas_;
  EgressTable egress_;
  PeerTable peers_;
  SourceSets sources_;
  std::map<std::string, Programmed> programmed_;
  std::vector<Programmed> unclaimed_;  // found by decode(), not yet known by a service's id
  std::vector<std::string> ids_;       // by index; empty: none

  // What was asked for last.
  Roster roster_;
  WayBook ways_;
  std::array<uint64_t, 2> flow_hash_key_{};
  std::string node_;
  std::set<std::string> nodes_;
  bool tunnels_ = false;
  uint16_t tunnel_port_ = 0;  // host order
  net::IpAddress underlay4_;  // this node's in tunnels; 0.0.0.0: none of this family
  net::IpAddress underlay6_;

  bool everything_ = true;              // each service is to be looked at: nobody has before
  bool strangers_ = false;              // the key table may hold keys that nobody wants
  bool ways_incomplete_ = false;        // words are to be compared although the ways are the same
  std::set<std::string> unsettled_;     // do not stand as desired
  std::set<std::string> left_records_;  // services with records that await the grace period
  std::set<net::IpAddress> nat_sources_;
  std::set<net::IpAddress> pending_addresses_;  // whose keys have found no room
};

}  // namespace sluice::agent::program
