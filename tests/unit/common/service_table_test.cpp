#include "common/maglev/service_table.h"

#include <gtest/gtest.h>
// rapidcheck's headers want gtest's first.
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <set>

#include "common/maglev/maglev.h"

namespace sluice::maglev {
namespace {

using state::Backend;
using state::Revision;
using state::Service;

net::IpAddress ip(uint32_t host) {
  return net::IpAddress::from_ipv4(__builtin_bswap32(0x0a000000 + host));
}

Backend stay(uint32_t host, Revision joined, Revision left = 0, uint32_t group = 0) {
  return {.address = ip(host), .port = 80, .group = group, .joined = joined, .left = left};
}

Service service(std::vector<Backend> backends, uint8_t log2 = 10) {
  Service result;
  result.id = "s";
  result.port = 80;
  result.groups = {{"a", 1}};
  result.backends = std::move(backends);
  result.sizes = {{0, log2}};
  return result;
}

using Endpoint = std::pair<net::IpAddress, uint16_t>;
Endpoint endpoint(const Service& service, uint16_t index) {
  const Backend& backend = service.backends.at(index);
  return {backend.address, backend.port};
}

std::map<Endpoint, size_t> shares(const Service& service, const std::vector<uint16_t>& table) {
  std::map<Endpoint, size_t> counts;
  for (const uint16_t index : table) {
    if (index != kNoBackend) ++counts[endpoint(service, index)];
  }
  return counts;
}

// Up to eight endpoints that come and go between revisions 1 and 12, in two groups, through up to two table sizes.
Service random_service() {
  Service result = service({}, *rc::gen::inRange<uint8_t>(3, 8));
  result.groups = {{"a", *rc::gen::inRange<uint32_t>(0, 11)}, {"b", *rc::gen::inRange<uint32_t>(1, 11)}};
  for (uint32_t host = 1; host <= 8; ++host) {
    for (uint32_t group = 0; group < 2; ++group) {
      Revision from = *rc::gen::inRange<Revision>(0, 6);
      for (int stays = *rc::gen::inRange(0, 3); stays > 0; --stays) {
        const Revision left = *rc::gen::arbitrary<bool>() ? from + *rc::gen::inRange<Revision>(1, 4) : 0;
        result.backends.push_back(stay(host, from, left, group));
        if (left == 0) break;
        from = left + *rc::gen::inRange<Revision>(0, 2);
      }
    }
  }
  if (*rc::gen::arbitrary<bool>()) {
    result.sizes.push_back({*rc::gen::inRange<Revision>(1, 12), *rc::gen::inRange<uint8_t>(3, 8)});
  }
  return result;
}

TEST(ServiceTable, WithoutHistoryHasOnePlane) {
  const Service steady = service({stay(1, 0), stay(2, 0), stay(3, 0)});
  const ServiceTable table = build_service_table(steady);
  ASSERT_EQ(table.planes.size(), 1U);
  EXPECT_EQ(table.log2, 10);
  EXPECT_EQ(table.planes[0], table_at(steady, UINT64_MAX));
  for (const auto& [name, slots] : shares(steady, table.planes[0])) EXPECT_NEAR(static_cast<double>(slots), 341.3, 1);
}

TEST(ServiceTable, WithoutBackendsHasOnePlaneOfNobody) {
  const ServiceTable table = build_service_table(service({}, 4));
  ASSERT_EQ(table.planes.size(), 1U);
  EXPECT_EQ(table.planes[0], std::vector<uint16_t>(16, kNoBackend));
}

TEST(ServiceTable, AllWeightsZeroIsNobody) {
  Service nothing = service({stay(1, 0)}, 4);
  nothing.groups[0].weight = 0;
  EXPECT_EQ(build_service_table(nothing).planes[0], std::vector<uint16_t>(16, kNoBackend));
}

TEST(ServiceTable, TheLastThatLeftIsAnEarlierCandidateOfNobody) {
  const ServiceTable table = build_service_table(service({stay(1, 0, 5)}, 4));
  ASSERT_EQ(table.planes.size(), 2U);
  EXPECT_EQ(table.planes[0], std::vector<uint16_t>(16, kNoBackend));
  EXPECT_EQ(table.planes[1], std::vector<uint16_t>(16, 0));
}

TEST(ServiceTable, AJoinMovesAboutOneInNAndRemembersWhoseTheSlotWas) {
  std::vector<Backend> backends;
  for (uint32_t host = 1; host <= 19; ++host) backends.push_back(stay(host, 0));
  backends.push_back(stay(20, 7));
  const Service grown = service(backends, 14);
  const ServiceTable table = build_service_table(grown);
  ASSERT_EQ(table.planes.size(), 2U);
  const auto before = table_at(grown, 6);
  size_t moved = 0;
  for (size_t slot = 0; slot < before.size(); ++slot) {
    if (before[slot] == table.planes[0][slot]) {
      EXPECT_EQ(table.planes[1][slot], kNoBackend);
    } else {
      EXPECT_EQ(table.planes[1][slot], before[slot]);
      ++moved;
    }
  }
  EXPECT_NEAR(static_cast<double>(moved) / 16384, 1.0 / 20, 0.03);
  EXPECT_GE(moved, 16384U / 20);
}

TEST(ServiceTable, AGroupsWeightIsDividedOverItsMembersOfThatRevision) {
  Service split = service({stay(1, 0), stay(2, 0, 0, 1), stay(3, 0, 0, 1), stay(4, 9, 0, 1)}, 12);
  split.groups = {{"a", 90}, {"b", 10}};
  const auto share = [&](Revision revision, uint32_t host) {
    return static_cast<double>(shares(split, table_at(split, revision))[{ip(host), 80}]) / 4096;
  };
  EXPECT_NEAR(share(8, 1), 0.90, 0.001);
  EXPECT_NEAR(share(8, 2), 0.05, 0.001);
  EXPECT_NEAR(share(9, 1), 0.90, 0.001);
  EXPECT_NEAR(share(9, 4), 0.0333, 0.001);
  EXPECT_EQ(share(8, 4), 0);
}

TEST(ServiceTable, AnEmptyGroupLeavesItsShareToTheOthers) {
  Service split = service({stay(1, 0), stay(2, 0, 4, 1)}, 10);
  split.groups = {{"a", 10}, {"b", 90}};
  EXPECT_EQ((shares(split, table_at(split, 4))[{ip(1), 80}]), 1024U);
}

TEST(ServiceTable, AnEndpointInTwoGroupsHasBothShares) {
  Service split = service({stay(1, 0), stay(2, 0), stay(2, 0, 0, 1)}, 10);
  split.groups = {{"a", 50}, {"b", 50}};
  const auto counts = shares(split, table_at(split, 1));
  EXPECT_NEAR(static_cast<double>(counts.at({ip(2), 80})), 768, 1);
  EXPECT_EQ(counts.size(), 2U);
}

TEST(ServiceTable, AStayInANewGroupIsTheSameBackendUnderItsNewestIndex) {
  Service reweighted = service({stay(1, 0, 5, 0), stay(2, 0, 5, 0), stay(1, 5, 0, 1), stay(2, 5, 0, 1)}, 10);
  reweighted.groups = {{"a", 90}, {"a", 80}};
  const ServiceTable table = build_service_table(reweighted);
  EXPECT_EQ(table.planes.size(), 1U);
  EXPECT_EQ(table_at(reweighted, 4), table.planes[0]);
  EXPECT_EQ(*std::ranges::min_element(table.planes[0]), 2);
}

TEST(ServiceTable, AnEarlierLargerTableKeepsItsResolution) {
  Service shrunk = service({stay(1, 0), stay(2, 0), stay(3, 0, 5)}, 12);
  shrunk.sizes.push_back({6, 10});
  const ServiceTable table = build_service_table(shrunk);
  EXPECT_EQ(table.log2, 12);
  const auto now = table_at(shrunk, UINT64_MAX);
  ASSERT_EQ(now.size(), 1024U);
  for (size_t slot = 0; slot < 4096; ++slot) ASSERT_EQ(table.planes[0][slot], now[slot & 1023]);
}

TEST(ServiceTable, LooksBackOverABoundedNumberOfBoundaries) {
  std::vector<Backend> backends = {stay(1, 0)};
  // 40 backends that were each the only other for one revision.
  for (uint32_t i = 1; i <= 40; ++i) backends.push_back(stay(100 + i, Revision{2} * i, Revision{2} * i + 1));
  const Service busy = service(backends, 10);
  EXPECT_EQ(boundaries(busy).size(), 80U);
  const ServiceTable table = build_service_table(busy);
  std::set<uint16_t> named;
  for (const auto& plane : table.planes) named.insert(plane.begin(), plane.end());
  EXPECT_TRUE(named.contains(40));       // of the newest boundaries
  EXPECT_TRUE(named.contains(40 - 15));  // the 32nd newest boundary is this one's coming
  EXPECT_FALSE(named.contains(40 - 16));
}

TEST(ServiceTable, IdentityIsFixedAcrossMachines) {
  EXPECT_NE(identity(ip(1), 80), identity(ip(1), 81));
  EXPECT_NE(identity(ip(1), 80), identity(ip(2), 80));
  EXPECT_NE(identity(net::IpAddress::parse("0.0.0.0").value(), 80), identity(net::IpAddress::parse("::").value(), 80));
  EXPECT_EQ(identity(net::IpAddress::parse("10.0.0.1").value(), 80), 0x65276b498752c101ULL);
}

TEST(Boundaries, AreTheDistinctRevisionsNewestFirstWithoutZero) {
  Service changed = service({stay(1, 0, 4), stay(2, 4), stay(3, 9)});
  changed.sizes.push_back({7, 11});
  EXPECT_EQ(boundaries(changed), (std::vector<Revision>{9, 7, 4}));
  EXPECT_TRUE(boundaries(service({stay(1, 0)})).empty());
}

TEST(ServiceTable, PlaneZeroIsTheTableInForceForAnyHistory) {
  EXPECT_TRUE(rc::check("planes[0] expands table_at(now)", [] {
    const Service any = random_service();
    const ServiceTable table = build_service_table(any);
    const auto now = table_at(any, UINT64_MAX);
    RC_ASSERT(table.planes.size() >= 1U);
    RC_ASSERT(table.planes.size() <= kMaxPlanes);
    for (const auto& plane : table.planes) RC_ASSERT(plane.size() == size_t{1} << table.log2);
    for (size_t slot = 0; slot < table.planes[0].size(); ++slot) {
      RC_ASSERT(table.planes[0][slot] == now[slot & (now.size() - 1)]);
    }
  }));
}

// The reference is the definition itself: all earlier tables of a slot, newest first, distinct by endpoint.
TEST(ServiceTable, EarlierPlanesNameTheDistinctEarlierCandidatesNewestFirst) {
  EXPECT_TRUE(rc::check("planes[1..] by definition", [] {
    const Service any = random_service();
    const ServiceTable table = build_service_table(any);
    std::vector<std::vector<uint16_t>> tables;
    for (Revision revision = 20; revision-- > 0;) tables.push_back(table_at(any, revision));
    for (size_t slot = 0; slot < table.planes[0].size(); ++slot) {
      std::vector<Endpoint> expected;
      const uint16_t now = table.planes[0][slot];
      for (const auto& at : tables) {
        const uint16_t index = at[slot & (at.size() - 1)];
        if (index == kNoBackend || (now != kNoBackend && endpoint(any, now) == endpoint(any, index))) continue;
        if (std::ranges::find(expected, endpoint(any, index)) == expected.end()) {
          expected.push_back(endpoint(any, index));
        }
      }
      expected.resize(std::min<size_t>(expected.size(), kMaxPlanes - 1));
      std::vector<Endpoint> found;
      for (size_t plane = 1; plane < table.planes.size(); ++plane) {
        if (table.planes[plane][slot] != kNoBackend) found.push_back(endpoint(any, table.planes[plane][slot]));
      }
      RC_ASSERT(found == expected);
    }
  }));
}

TEST(ForgetHistory, KeepsEveryTableFromThenOn) {
  EXPECT_TRUE(rc::check("tables from keep_from on are unchanged", [] {
    const Service any = random_service();
    const auto keep_from = *rc::gen::inRange<Revision>(0, 14);
    const Service kept = forget_history(any, keep_from);
    for (const Revision boundary : boundaries(kept)) RC_ASSERT(boundary > keep_from);
    for (Revision revision = keep_from; revision < 16; ++revision) {
      const auto before = table_at(any, revision);
      const auto after = table_at(kept, revision);
      RC_ASSERT(before.size() == after.size());
      for (size_t slot = 0; slot < before.size(); ++slot) {
        RC_ASSERT((before[slot] == kNoBackend) == (after[slot] == kNoBackend));
        if (before[slot] != kNoBackend) RC_ASSERT(endpoint(any, before[slot]) == endpoint(kept, after[slot]));
      }
    }
  }));
}

TEST(ForgetHistory, OfEverythingLeavesOnePlane) {
  EXPECT_TRUE(rc::check("forgotten wholly: one plane, all since ever", [] {
    const Service kept = forget_history(random_service(), UINT64_MAX);
    RC_ASSERT(boundaries(kept).empty());
    RC_ASSERT(kept.sizes.size() == 1U);
    RC_ASSERT(build_service_table(kept).planes.size() == 1U);
    for (const Backend& backend : kept.backends) RC_ASSERT((backend.joined == 0 && backend.left == 0));
  }));
}

TEST(ServiceTable, AStayThatIsYetToComeIsInNoTableAndNoBoundary) {
  const Service before = service({stay(1, 0), stay(2, 3), stay(3, 0, 5)});
  Service ahead = before;
  ahead.backends.push_back(stay(3, state::kNotYet));
  ahead.backends.push_back(stay(4, state::kNotYet));
  EXPECT_EQ(build_service_table(ahead), build_service_table(before));
  EXPECT_EQ(boundaries(ahead), boundaries(before));
  for (const Revision revision : {Revision{0}, Revision{3}, Revision{5}, UINT64_MAX}) {
    EXPECT_EQ(table_at(ahead, revision), table_at(before, revision)) << revision;
  }
}

TEST(ServiceTable, ForgettingAllLetsNobodyJoin) {
  const Service kept = forget_history(service({stay(1, 2), stay(2, state::kNotYet)}), UINT64_MAX);
  ASSERT_EQ(kept.backends.size(), 2U);
  EXPECT_EQ(kept.backends[0].joined, 0U);
  EXPECT_EQ(kept.backends[1].joined, state::kNotYet);
}

}  // namespace
}  // namespace sluice::maglev
