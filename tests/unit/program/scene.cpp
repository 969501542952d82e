#include "tests/unit/program/scene.h"

#include <arpa/inet.h>

#include <set>

#include "common/maglev/maglev.h"
#include "common/maglev/service_table.h"

namespace sluice::agent::program::testing {
namespace {

bool runs_here(const state::Backend& backend, const Ways& ways) {
  const auto way = ways.next_hops.find(backend.address);
  return backend.node == kNode || (way != ways.next_hops.end() && way->second.local);
}

uint32_t expected_forwarding(const state::DesiredState& desired, const state::Service& service,
                             const state::Backend& backend, const Ways& ways) {
  if (runs_here(backend, ways)) {
    return SLUICE_FORWARD_LOCAL;
  }
  const bool peer = ways.peers.contains(backend.node);
  switch (service.forwarding) {
    case state::Forwarding::nat:
      return SLUICE_FORWARD_NAT;
    case state::Forwarding::direct:
      return SLUICE_FORWARD_DIRECT;
    case state::Forwarding::tunnel:
      return peer || desired.nodes.contains(backend.node) ? SLUICE_FORWARD_TUNNEL : SLUICE_FORWARD_IPIP;
    case state::Forwarding::automatic:
      break;
  }
  return peer ? SLUICE_FORWARD_TUNNEL : SLUICE_FORWARD_NAT;
}

FoundBackend expected_backend(const state::DesiredState& desired, const state::Service& service,
                              const state::Backend& backend, const Ways& ways) {
  FoundBackend found;
  found.address = raw(backend.address);
  found.port = htons(backend.port);
  found.forwarding = expected_forwarding(desired, service, backend, ways);
  if (found.forwarding == SLUICE_FORWARD_TUNNEL) {
    found.flags = service.forwarding == state::Forwarding::tunnel ? SLUICE_BACKEND_STRICT : 0;
    const auto peer = ways.peers.find(backend.node);
    found.peer = peer == ways.peers.end() ? "" : peer->second.address.to_string();
  }
  const bool stays = std::any_of(service.backends.begin(), service.backends.end(), [&](const auto& other) {
    return other.address == backend.address && other.port == backend.port && other.left == 0;
  });
  found.flags |= stays ? 0 : SLUICE_BACKEND_LEFT;
  return found;
}

// What is there of a service on this node.
state::Service seen(const state::Service& service, const Ways& ways) {
  state::Service here = service;
  if (service.traffic_policy == state::TrafficPolicy::local) {
    std::erase_if(here.backends, [&ways](const auto& backend) { return !runs_here(backend, ways); });
  }
  return here;
}

Found expected_service(const state::DesiredState& desired, const state::Service& whole, const Ways& ways) {
  const state::Service service = seen(whole, ways);
  Found found;
  const auto table = maglev::build_service_table(service);
  bool any = false;
  for (const auto& plane : table.planes) {
    auto& slots = found.planes.emplace_back();
    for (const uint16_t slot : plane) {
      if (slot == maglev::kNoBackend) {
        slots.emplace_back(std::nullopt);
        continue;
      }
      any = true;
      slots.emplace_back(expected_backend(desired, service, service.backends.at(slot), ways));
    }
  }
  if (!any) {
    return Found{};
  }
  found.log2 = table.log2;
  return found;
}

}  // namespace

std::map<WholeKey, Found> expected(const state::DesiredState& desired, const Ways& ways) {
  std::map<WholeKey, Found> keys;
  for (const auto& [id, service] : desired.services) {
    if (not_supported(service)) {
      continue;
    }
    for (size_t i = 0; i < service.addresses.size(); ++i) {
      keys[key_of(service, i)] = expected_service(desired, service, ways);
    }
  }
  return keys;
}

std::map<std::string, std::vector<FoundBackend>> expected_behind_tunnels(const state::DesiredState& desired,
                                                                         const Ways& ways) {
  std::map<std::string, std::vector<FoundBackend>> all;
  for (const auto& [id, service] : desired.services) {
    if (desired.tunnel.keys.empty() || not_supported(service) || service.addresses.empty()) {
      continue;
    }
    // Those in the table or its history, and those that are to come.
    std::set<std::pair<net::IpAddress, uint16_t>> named;
    const auto here = seen(service, ways);
    for (const auto& plane : maglev::build_service_table(here).planes) {
      for (const uint16_t slot : plane) {
        if (slot != maglev::kNoBackend) {
          named.emplace(here.backends.at(slot).address, here.backends.at(slot).port);
        }
      }
    }
    std::set<std::pair<net::IpAddress, uint16_t>> done;
    for (const auto& backend : here.backends) {
      const auto name = std::pair(backend.address, backend.port);
      if (runs_here(backend, ways) && (backend.joined == state::kNotYet || named.contains(name)) &&
          done.insert(name).second) {
        all[id].push_back(expected_backend(desired, service, backend, ways));
      }
    }
  }
  return all;
}

std::map<net::IpAddress, uint32_t> expected_addresses(const state::DesiredState& desired, const Ways& ways) {
  std::map<net::IpAddress, uint32_t> all;
  for (const auto& [key, found] : expected(desired, ways)) {
    all[key.address] |= SLUICE_ADDRESS_SERVICE;
  }
  for (const auto& address : ways.node_addresses) {
    all[address] |= SLUICE_ADDRESS_NODE;
  }
  for (const auto& [node, peer] : ways.peers) {
    all[peer.address] |= SLUICE_ADDRESS_PEER;
    for (const auto& address : peer.underlay) {
      all[address] |= SLUICE_ADDRESS_PEER;
    }
  }
  return all;
}

Plan Kernel::program(const state::DesiredState& desired, const Ways& ways) {
  Plan plan = programmer_.plan(image_.view(), desired, kNode, ways);
  follow(plan);
  make_stores(plan.writes);
  return plan;
}

void Kernel::follow(const Plan& plan) {
  for (const SourceSet& set : plan.source_sets_to_add) {
    if (!sets_.emplace(set.id, set).second) {
      throw std::logic_error("a set that is in use was added again");
    }
  }
  sets_to_remove_.insert(sets_to_remove_.end(), plan.source_sets_to_remove.begin(), plan.source_sets_to_remove.end());
}

// A killed process leaves what it had not taken out yet; the next one takes it out before anything else.
void Kernel::restart() {
  sets_to_remove_.clear();
  programmer_ = Programmer::decode(sizes_, NatPorts{}, image_.view());
  const auto named = programmer_.source_sets();
  std::erase_if(sets_, [&](const auto& set) { return !std::binary_search(named.begin(), named.end(), set.first); });
}

Plan Kernel::program_to_the_end(const state::DesiredState& desired, const Ways& ways) {
  Plan plan = program(desired, ways);
  grace_over();
  while (plan.retry_after_grace) {
    plan = program(desired, ways);
    grace_over();
  }
  return plan;
}

void Kernel::grace_over() {
  for (const uint32_t id : sets_to_remove_) {
    sets_.erase(id);
  }
  sets_to_remove_.clear();
  make_stores(programmer_.grace_over());
}

size_t Kernel::make_stores(const WriteList& writes, size_t count) {
  size_t done = 0;
  size_t all = 0;
  for (const Write& write : writes.writes()) {
    const auto now = static_cast<uint32_t>(std::min<size_t>(write.count, count - done));
    apply(Write{write.map, write.ordered, write.word, now, 0}, writes.values(write).first(now), image_.data(write.map));
    done += now;
    all += write.count;
  }
  return all;
}

namespace {

// A random subset of [first, first + count).
std::set<uint32_t> random_subset(uint32_t first, uint32_t count) {
  const auto bits = *rc::gen::inRange<uint32_t>(0, 1U << count);
  std::set<uint32_t> chosen;
  for (uint32_t n = 0; n < count; ++n) {
    if ((bits >> n & 1) != 0) {
      chosen.insert(first + n);
    }
  }
  return chosen;
}

}  // namespace

state::DesiredState random_desired() {
  std::vector<state::Service> services;
  std::set<uint32_t> addresses = random_subset(1, 8);
  const auto count = *rc::gen::inRange<uint32_t>(0, 6);
  for (uint32_t n = 0; n < count; ++n) {
    std::vector<uint32_t> own;
    while (!addresses.empty() && own.size() < 2 && (own.empty() || *rc::gen::inRange(0, 2) == 0)) {
      own.push_back(*addresses.begin());
      addresses.erase(addresses.begin());
    }
    const bool v6 = *rc::gen::inRange(0, 2) == 0;
    std::vector<state::Backend> backends;
    for (const uint32_t b : random_subset(0, 12)) {
      const auto joined =
          *rc::gen::weightedElement<state::Revision>({{2, 0}, {2, 1}, {2, 2}, {2, 3}, {1, state::kNotYet}});
      const auto left = joined == state::kNotYet ? state::Revision{0}
                                                 : *rc::gen::element<state::Revision>(0, 0, 0, joined + 1, joined + 2);
      backends.push_back(backend(b, joined, left, v6));
      if (*rc::gen::inRange(0, 8) == 0) {
        backends.back().node.clear();
      }
    }
    auto made = service("s" + std::to_string(n), own, backends, *rc::gen::inRange<uint8_t>(1, 6), v6);
    made.affinity = *rc::gen::element(state::Affinity::none, state::Affinity::client_ip);
    made.forwarding = *rc::gen::weightedElement<state::Forwarding>({{6, state::Forwarding::automatic},
                                                                    {1, state::Forwarding::nat},
                                                                    {2, state::Forwarding::tunnel},
                                                                    {1, state::Forwarding::direct}});
    made.traffic_policy = *rc::gen::weightedElement<state::TrafficPolicy>(
        {{4, state::TrafficPolicy::cluster}, {1, state::TrafficPolicy::local}});
    if (made.forwarding == state::Forwarding::direct) {
      made.port = 8080;
    }
    for (const uint32_t net : random_subset(0, 3)) {
      if (*rc::gen::inRange(0, 3) == 0) {
        made.allowed_sources.push_back(
            net::Prefix::parse(net == 2 ? "2001:db8:9::/48" : "203.0." + std::to_string(net) + ".0/24").value());
      }
    }
    services.push_back(made);
  }
  auto made = desired(services);
  made.revision = 10;
  if (*rc::gen::inRange(0, 3) != 0) {
    made = with_tunnels(made);
  }
  if (*rc::gen::inRange(0, 4) == 0) {
    made.nodes.erase(node_name(1));
  }
  return made;
}

Ways random_ways() {
  Ways made = ways();
  for (uint32_t n = 0; n < 12; ++n) {
    const net::IpAddress address = backend_ip(n, *rc::gen::inRange(0, 2) == 0);
    switch (*rc::gen::inRange(0, 8)) {
      case 0:
        made.next_hops.erase(address);
        break;
      case 1:
        made.next_hops[address].local = true;
        break;
      case 2:
        made.next_hops[address] = via(3, 77, address.is_ipv4() ? "10.0.3.1" : "2001:db8:3::1");
        break;
      case 3:
        made.next_hops[address].mac[0] = 66;
        break;
      default:
        break;
    }
  }
  if (*rc::gen::inRange(0, 4) == 0) {
    made.interfaces[2].mac[5] = 99;
  }
  if (*rc::gen::inRange(0, 4) == 0) {
    made.interfaces[5] = Interface{{5, 5, 5, 5, 5, 5}, 1496, 100, 2, false};
  }
  for (const uint32_t n : random_subset(1, 3)) {
    Peer one = peer(n);
    one.usable = *rc::gen::inRange(0, 2) == 0;
    one.token = *rc::gen::element<uint64_t>(1, 2);
    one.accepted = {*rc::gen::element<uint64_t>(1, 2), *rc::gen::element<uint64_t>(0, 3)};
    if (*rc::gen::inRange(0, 4) == 0) {
      one.address = ip("2001:db8::" + std::to_string(100 + n));
      one.source = ip("2001:db8::1");
    }
    made.peers[node_name(n)] = one;
  }
  return made;
}

}  // namespace sluice::agent::program::testing
