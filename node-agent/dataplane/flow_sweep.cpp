#include "node-agent/dataplane/flow_sweep.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <type_traits>
#include <unordered_set>

#include "bpf/sluice.h"
#include "node-agent/dataplane/loader.h"
#include "node-agent/program/flow_place.h"
#include "node-agent/program/keys.h"

namespace sluice::agent::dataplane {
namespace {

using program::from_element;

net::IpAddress address_of(__be32 address) {
  return net::IpAddress::from_ipv4(address);
}
net::IpAddress address_of(const sluice_address& address) {
  return from_element(address, net::Family::ipv6).value_or(net::IpAddress());
}

// The outer destination of a peer's template.
std::optional<net::IpAddress> outer_address(const sluice_peer& peer) {
  sluice_address address{};
  const bool v6 = (SLUICE_PEER_FLAGS(peer.state) & SLUICE_PEER_OUTER_IPV6) != 0;
  constexpr size_t kDestination4 = 16;
  constexpr size_t kDestination6 = 24;
  std::copy_n(&peer.outer[v6 ? kDestination6 : kDestination4], v6 ? 16 : 4, std::begin(address.bytes));
  return from_element(address, v6 ? net::Family::ipv6 : net::Family::ipv4);
}

class Pass {
 public:
  // `hint`: the one of SLUICE_FLOW_HINTS that this pass sets.
  Pass(const Maps& maps, const program::Programmer& programmer, program::NatPorts ports, const IdleTimes& idle,
       uint32_t now, uint32_t hint)
      : image_(maps.view()),
        programmer_(programmer),
        ports_(ports),
        idle_(idle),
        now_(now),
        hint_(hint),
        key_{image_.config->flow_hash_key[0], image_.config->flow_hash_key[1]} {}

  template <typename Record>
  void look_through(program::FlowTable<Record>& table, FlowTableKind kind, program::FlowTable<Record>& established,
                    uint64_t& live, uint64_t& room) {
    room = SLUICE_FLOW_MOST(uint64_t{table.size()});
    table.for_each([&](uint32_t position, const Record& flow) {
      if ((flow.head.control & SLUICE_FLOW_DISPLACED) != 0) {
        const uint32_t ports = ports_.last - ports_.first + 1U;
        established.hint(program::first_tuple(flow, key_, ports_.first, ports), hint_);
      }
      const auto place = program::place_of(programmer_, image_, flow);
      if (expired(flow, place, kind) && table.remove(position, flow)) {
        ++outcome_.expired;
        return;
      }
      ++live;
      ++outcome_.live;
      count(flow, place, kind);
    });
  }

  SweepOutcome finish() {
    outcome_.services_with_old_flows.assign(old_.begin(), old_.end());
    for (const auto& [service, flows] : established_) {
      const FlowUse& use = service.second ? outcome_.ipv6 : outcome_.ipv4;
      const uint64_t left = use.established_room - std::min(use.established, use.established_room);
      const uint64_t most = SLUICE_SHARE_FACTOR * left;
      if (2 * flows >= most) {
        outcome_.shares.push_back({service.first, service.second, flows, most});
      }
    }
    for (const auto& [backend, flows] : leaving_) {
      outcome_.leaving.push_back({std::get<0>(backend), std::get<1>(backend), std::get<2>(backend), flows});
    }
    for (const auto& [backend, ports] : ports_used_) {
      const auto& [source, address, port, protocol] = backend;
      outcome_.nat_ports.push_back({source, address, port, protocol, static_cast<uint32_t>(ports.size()),
                                    static_cast<uint32_t>(ports_.last - ports_.first + 1)});
    }
    return std::move(outcome_);
  }

  SweepOutcome& outcome() { return outcome_; }

 private:
  template <typename Record>
  [[nodiscard]] bool expired(const Record& flow, const program::FlowPlace& place, FlowTableKind kind) const {
    uint32_t affinity = 0;
    if (SLUICE_FLOW_KIND(flow.tuple) == SLUICE_FLOW_AFFINITY && place.service != nullptr) {
      affinity = SLUICE_SETTINGS_AFFINITY(programmer_.programmed().at(*place.service).settings);
    }
    const auto idle = idle_time(idle_, kind, flow.tuple, flow.head.control, affinity).count();
    // One that was touched since `now` was taken is from the future, and alive.
    const auto age = static_cast<int32_t>(now_ - flow.head.seen);
    return age > 0 && age > idle * jiffies_per_second_;
  }

  template <typename Record>
  void count(const Record& flow, const program::FlowPlace& place, FlowTableKind table) {
    const uint8_t kind = SLUICE_FLOW_KIND(flow.tuple);
    if (kind == SLUICE_FLOW_NAT) {
      ports_used_[{address_of(flow.source), address_of(flow.backend),
                   __builtin_bswap16(SLUICE_FLOW_BACKEND_PORT(flow.tuple)), SLUICE_FLOW_PROTOCOL(flow.tuple)}]
          .insert(SLUICE_FLOW_SOURCE_PORT(flow.tuple));
    }
    if (place.service == nullptr) {
      return;
    }
    ++outcome_.live_by_service[*place.service];
    if (table == FlowTableKind::established) {
      ++established_[{*place.service, std::is_same_v<Record, sluice_flow6>}];
    }
    if (!place.current && !SLUICE_FLOW_CLOSED(flow.head.control)) {
      old_.insert(*place.service);
    }
    if (place.record == nullptr) {
      return;
    }
    const program::RecordIdentity& backend = place.record->identity;
    if (place.left && kind != SLUICE_FLOW_AFFINITY) {
      ++leaving_[{*place.service, backend.address, __builtin_bswap16(backend.port)}];
    }
    if (kind == SLUICE_FLOW_NAT && backend.forwarding == SLUICE_FORWARD_TUNNEL &&
        place.record->flags.peer < image_.peers.size()) {
      if (const auto node = outer_address(image_.peers[place.record->flags.peer]); node) {
        outcome_.peers_with_nat_flows.insert(*node);
      }
    }
  }

  program::ImageView image_;
  const program::Programmer& programmer_;
  program::NatPorts ports_;
  const IdleTimes& idle_;
  uint32_t now_;
  uint32_t hint_;
  std::array<uint64_t, 2> key_;
  int64_t jiffies_per_second_ = jiffies_per_second();
  SweepOutcome outcome_;
  std::set<std::string> old_;
  std::map<std::pair<std::string, bool>, uint64_t> established_;  // by service and whether its flows are of IPv6
  std::map<std::tuple<std::string, net::IpAddress, uint16_t>, uint64_t> leaving_;
  std::map<std::tuple<net::IpAddress, net::IpAddress, uint16_t, uint8_t>, std::unordered_set<uint16_t>> ports_used_;
};

}  // namespace

std::chrono::seconds idle_time(const IdleTimes& idle, FlowTableKind table, uint64_t tuple, uint64_t control,
                               uint32_t affinity) {
  if (SLUICE_FLOW_KIND(tuple) == SLUICE_FLOW_AFFINITY) {
    return std::chrono::seconds(affinity);
  }
  const bool established = table == FlowTableKind::established;
  if (SLUICE_FLOW_PROTOCOL(tuple) == static_cast<uint8_t>(state::Protocol::udp)) {
    return established ? idle.udp_established : idle.udp_new;
  }
  if (SLUICE_FLOW_CLOSED(control)) {
    return (control & SLUICE_FLOW_BACKEND_FIRST) != 0 ? idle.tcp_closed_by_backend : idle.tcp_closed;
  }
  return established ? idle.tcp_established : idle.tcp_new;
}

SweepOutcome FlowSweeper::sweep(const Maps& maps, const program::Programmer& programmer, program::NatPorts ports,
                                const IdleTimes& idle, uint32_t now) {
  FlowTables tables = maps.flow_tables();
  const uint32_t hint = SLUICE_FLOW_HINT(passes_++);
  Pass pass(maps, programmer, ports, idle, now, hint);
  SweepOutcome& outcome = pass.outcome();
  const auto mend = [&](auto& table, size_t which) {
    outcome.mended += table.reclaim(leftovers_.at(which)) + table.mend_shares(drift_.at(which));
  };
  FlowUse& ipv4 = outcome.ipv4;
  FlowUse& ipv6 = outcome.ipv6;
  // Half-open ones first: one that is promoted meanwhile is seen among the established.
  pass.look_through(tables.half_open4, FlowTableKind::half_open, tables.flows4, ipv4.half_open, ipv4.half_open_room);
  pass.look_through(tables.flows4, FlowTableKind::established, tables.flows4, ipv4.established, ipv4.established_room);
  pass.look_through(tables.half_open6, FlowTableKind::half_open, tables.flows6, ipv6.half_open, ipv6.half_open_room);
  pass.look_through(tables.flows6, FlowTableKind::established, tables.flows6, ipv6.established, ipv6.established_room);
  tables.flows4.take_hints(SLUICE_FLOW_HINTS & ~hint);
  tables.flows6.take_hints(SLUICE_FLOW_HINTS & ~hint);
  mend(tables.flows4, 0);
  mend(tables.half_open4, 1);
  mend(tables.flows6, 2);
  mend(tables.half_open6, 3);
  return pass.finish();
}

}  // namespace sluice::agent::dataplane
