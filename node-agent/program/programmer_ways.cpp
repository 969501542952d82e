// The Programmer's part that follows ways: next-hop words, the peers of records, and what addresses are to this node.
#include <algorithm>

#include "node-agent/program/work.h"

namespace sluice::agent::program {

uint64_t Programmer::next_hop_word(const RecordIdentity& identity, const dataplane::NextHop* way, uint64_t current,
                                   WriteList& writes) {
  if (identity.forwarding == SLUICE_FORWARD_LOCAL || way == nullptr) {
    return 0;
  }
  return egress_.word_for(*way, identity.address.family(), true, current, writes);
}

// Of one service, the records at `addresses` (nullptr: all), and those whose peer has moved.
void Programmer::refresh_records_of(Programmed& service, const std::set<net::IpAddress>* addresses, Work& work,
                                    const std::string& id) {
  const auto& moved = peers_.moved();
  const auto concerns = [&](const Record& record) {
    return addresses == nullptr || addresses->contains(record.identity.address) || moved.contains(record.flags.peer);
  };
  const auto now = [&](const Record& record) {
    Record fresh = record;
    fresh.next_hop =
        next_hop_word(record.identity, ways_.find(record.identity.address), record.next_hop, work.plan.writes);
    const auto to = moved.find(record.flags.peer);
    fresh.flags.peer = to == moved.end() ? record.flags.peer : to->second;
    return fresh;
  };
  const auto changed = [&](const Record& before, const Record& after) {
    egress_.count(before.next_hop, -1);
    egress_.count(after.next_hop, 1);
    peers_.count(before.flags.peer, -1);
    peers_.count(after.flags.peer, 1);
  };
  if (refresh_records(service, concerns, now, work.plan.writes, changed)) {
    work.touched.insert(id);
  }
}

// Services that are not changed otherwise.
void Programmer::refresh_ways(Work& work) {
  const WayChange& change = work.way_change;
  const bool most = change.all || change.others.size() * 4 > ways_.next_hops().size();
  const bool all = most || !peers_.moved().empty();
  if ((!all && change.others.empty()) || work.changes.size() == programmed_.size()) {
    return;
  }
  std::set<net::IpAddress> others;
  if (!most) {
    others.insert(change.others.begin(), change.others.end());
  }
  std::set<std::string> concerned = unsettled_;  // may have records that nobody asks for any more
  if (!all) {
    for (const net::IpAddress& address : others) {
      roster_.for_each_at(address, [&concerned](const std::string& id) { concerned.insert(id); });
    }
  }
  for (auto& [id, service] : programmed_) {
    if ((all || concerned.contains(id)) && !work.changes.contains(id)) {
      refresh_records_of(service, most ? nullptr : &others, work, id);
    }
  }
}

AddressBook::Flags Programmer::standing_addresses(const std::set<net::IpAddress>& nat_sources) const {
  AddressBook::Flags flags;
  for (const net::IpAddress& address : ways_.rest().node_addresses) {
    flags[address] |= SLUICE_ADDRESS_NODE;
  }
  for (const net::IpAddress& address : nat_sources) {
    flags[address] |= SLUICE_ADDRESS_NAT;
  }
  for (const auto& [node, peer] : ways_.rest().peers) {
    const uint16_t index = peers_.index_of(node);
    const auto add = [&flags, index](const net::IpAddress& address) {
      uint32_t& value = flags[address];
      if ((value & SLUICE_ADDRESS_PEER) == 0) {
        value |= SLUICE_ADDRESS_PEER | index;
      }
    };
    if (index != 0) {
      add(peer.address);
      std::for_each(peer.underlay.begin(), peer.underlay.end(), add);
    }
  }
  return flags;
}

// A way that is known but finds no room. Ways that are not known (yet) are whoever's who looks for them.
void Programmer::report_ways(Work& work) const {
  if (!egress_.ran_out()) {
    return;
  }
  for (const auto& [id, service] : programmed_) {
    const auto refused = std::find_if(service.records.begin(), service.records.end(), [this](const Record& record) {
      const dataplane::NextHop* way = ways_.find(record.identity.address);
      return record.state == Record::State::used && record.identity.forwarding != SLUICE_FORWARD_LOCAL &&
             record.next_hop == 0 && way != nullptr && EgressTable::usable(*way, ways_.rest());
    });
    if (refused != service.records.end() && roster_.find(id) != nullptr) {
      work.plan.failures.push_back(dataplane::ServiceFailure{
          id, kTableFull,
          "no room for the interface or source address that leads to " + refused->identity.address.to_string()});
    }
  }
}

}  // namespace sluice::agent::program
