// The Programmer's part that follows ways: next-hop words and the egress entries that they name.
#include <algorithm>
#include <set>

#include "node-agent/program/work.h"

namespace sluice::agent::program {

WayChange compare(const Ways& before, const Ways& now) {
  WayChange change;
  change.any = before.interfaces != now.interfaces;
  change.all = change.any;
  const auto note = [&change](const net::IpAddress& address, bool moved) {
    change.any = true;
    if (address.is_ipv4()) {
      change.others.insert(address.ipv4());
      if (moved) {
        change.moved.insert(address.ipv4());
      }
    }
  };
  auto old_way = before.next_hops.begin();
  auto new_way = now.next_hops.begin();
  while (old_way != before.next_hops.end() || new_way != now.next_hops.end()) {
    if (new_way == now.next_hops.end() || (old_way != before.next_hops.end() && old_way->first < new_way->first)) {
      note(old_way->first, old_way->second.local);
      ++old_way;
    } else if (old_way == before.next_hops.end() || new_way->first < old_way->first) {
      note(new_way->first, new_way->second.local);
      ++new_way;
    } else {
      if (old_way->second != new_way->second) {
        note(new_way->first, old_way->second.local != new_way->second.local);
      }
      ++old_way;
      ++new_way;
    }
  }
  return change;
}

void Programmer::refresh_ways(Work& work) {
  const WayChange& change = work.way_change;
  if (!change.all && change.others.empty()) {
    return;
  }
  const NextHopWord next_hop = work.next_hop(egress_);
  for (auto& [id, service] : programmed_) {
    const auto concerns = [&change](const Record& record) {
      return change.all || change.others.contains(record.identity.address);
    };
    if (work.wanted.contains(id) && refresh_next_hops(service, concerns, next_hop, work.plan.writes)) {
      work.touched.insert(id);
    }
  }
}

void Programmer::retain_egress() {
  std::set<uint32_t> used;
  for (const auto& [id, service] : programmed_) {
    for (const Record& record : service.records) {
      if (record.state == Record::State::used && record.next_hop != 0) {
        used.insert(SLUICE_NEXT_HOP_EGRESS(record.next_hop));
      }
    }
  }
  egress_.retain(used);
}

// A way that is known but finds no room. Ways that are not known (yet) are whoever's who looks for them.
void Programmer::report_ways(Work& work) const {
  if (!egress_.ran_out()) {
    return;
  }
  for (const auto& [id, service] : programmed_) {
    const auto refused = std::find_if(service.records.begin(), service.records.end(), [this](const Record& record) {
      return record.state == Record::State::used && record.identity.forwarding == SLUICE_FORWARD_NAT &&
             record.next_hop == 0 && egress_.ran_out(record.identity.address);
    });
    if (refused != service.records.end() && work.wanted.contains(id)) {
      work.plan.failures.push_back(
          dataplane::ServiceFailure{id, kTableFull,
                                    "no room for the interface or source address that leads to " +
                                        net::IpAddress::from_ipv4(refused->identity.address).to_string()});
    }
  }
}

}  // namespace sluice::agent::program
