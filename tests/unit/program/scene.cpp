#include "tests/unit/program/scene.h"

#include <arpa/inet.h>

#include <set>

#include "common/maglev/maglev.h"
#include "common/maglev/service_table.h"

namespace sluice::agent::program::testing {
namespace {

Found expected_service(const state::Service& service, const Ways& ways) {
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
      const auto& backend = service.backends.at(slot);
      const auto way = ways.next_hops.find(backend.address);
      const bool local = backend.node == kNode || (way != ways.next_hops.end() && way->second.local);
      slots.emplace_back(FoundBackend{backend.address.ipv4(), htons(backend.port),
                                      static_cast<uint8_t>(local ? SLUICE_FORWARD_LOCAL : SLUICE_FORWARD_NAT)});
    }
  }
  if (!any) {
    return Found{};
  }
  found.log2 = table.log2;
  return found;
}

}  // namespace

std::map<uint64_t, Found> expected(const state::DesiredState& desired, const Ways& ways) {
  std::map<uint64_t, Found> keys;
  for (const auto& [id, service] : desired.services) {
    if (not_supported(service)) {
      continue;
    }
    for (size_t i = 0; i < service.addresses.size(); ++i) {
      keys[key_of(service, i)] = expected_service(service, ways);
    }
  }
  return keys;
}

Plan Kernel::program(const state::DesiredState& desired, const Ways& ways) {
  Plan plan = programmer_.plan(image_.view(), desired, kNode, ways);
  make_stores(plan.writes);
  return plan;
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
    std::vector<state::Backend> backends;
    for (const uint32_t b : random_subset(0, 12)) {
      const auto joined = *rc::gen::inRange<state::Revision>(0, 4);
      const auto left = *rc::gen::element<state::Revision>(0, 0, 0, joined + 1, joined + 2);
      backends.push_back(backend(b, joined, left));
    }
    auto made = service("s" + std::to_string(n), own, backends, *rc::gen::inRange<uint8_t>(1, 6));
    made.affinity = *rc::gen::element(state::Affinity::none, state::Affinity::client_ip);
    made.forwarding = *rc::gen::weightedElement<state::Forwarding>(
        {{8, state::Forwarding::automatic}, {1, state::Forwarding::nat}, {1, state::Forwarding::tunnel}});
    services.push_back(made);
  }
  auto made = desired(services);
  made.revision = 10;
  return made;
}

Ways random_ways() {
  Ways made = ways();
  for (uint32_t n = 0; n < 12; ++n) {
    switch (*rc::gen::inRange(0, 8)) {
      case 0:
        made.next_hops.erase(backend_ip(n));
        break;
      case 1:
        made.next_hops[backend_ip(n)].local = true;
        break;
      case 2:
        made.next_hops[backend_ip(n)] = via(3, 77, "10.0.3.1");
        break;
      case 3:
        made.next_hops[backend_ip(n)].mac[0] = 66;
        break;
      default:
        break;
    }
  }
  if (*rc::gen::inRange(0, 4) == 0) {
    made.interfaces[2].mac[5] = 99;
  }
  return made;
}

}  // namespace sluice::agent::program::testing
