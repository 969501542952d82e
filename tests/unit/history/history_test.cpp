// The rule by which services move on: who joins, who leaves, when tables change their size, and what is forgotten.
#include "common/state/history.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "common/maglev/maglev.h"
#include "common/maglev/service_table.h"

namespace sluice::state {
namespace {

net::IpAddress ip(const std::string& text) {
  return net::IpAddress::parse(text).value();
}

Backend member(int host, uint32_t group = 0, uint16_t port = 8080) {
  Backend backend;
  backend.address = ip("10.0." + std::to_string(host / 250) + "." + std::to_string(host % 250 + 1));
  backend.port = port;
  backend.group = group;
  return backend;
}

Service service(std::vector<Group> groups, std::vector<Backend> members) {
  Service wanted;
  wanted.id = "web/http";
  wanted.addresses = {ip("192.0.2.10")};
  wanted.port = 80;
  wanted.groups = std::move(groups);
  wanted.backends = std::move(members);
  return wanted;
}

Service members(int count) {
  std::vector<Backend> all;
  all.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) all.push_back(member(i));
  return service({{"web", 1}}, all);
}

TEST(Evolve, NewServiceHasNoHistory) {
  const Service now = evolve(nullptr, members(2), 7);
  ASSERT_EQ(now.backends.size(), 2U);
  EXPECT_EQ(now.backends[0].joined, 0U);
  EXPECT_EQ(now.backends[1].left, 0U);
  EXPECT_EQ(now.sizes, (std::vector<TableSize>{{0, maglev::wanted_log2(2)}}));
  EXPECT_TRUE(maglev::boundaries(now).empty());
}

TEST(Evolve, NothingChangedGivesThePreviousBack) {
  Service now = evolve(nullptr, members(3), 1);
  now = evolve(&now, members(2), 2);
  now = evolve(&now, members(4), 3);
  EXPECT_EQ(evolve(&now, members(4), 4), now);
}

TEST(Evolve, OrderOfTheInputDoesNotMatterToThePrevious) {
  const Service before = evolve(nullptr, members(3), 1);
  EXPECT_EQ(evolve(&before, service({{"web", 1}}, {member(2), member(0), member(1)}), 2), before);
}

TEST(Evolve, SettingsAreTakenWithoutABoundary) {
  const Service before = evolve(nullptr, members(2), 1);
  Service wanted = members(2);
  wanted.drain_seconds = 5;
  wanted.affinity = Affinity::client_ip;
  wanted.addresses.push_back(ip("192.0.2.11"));
  const Service now = evolve(&before, wanted, 2);
  EXPECT_EQ(now.drain_seconds, 5U);
  EXPECT_EQ(now.affinity, Affinity::client_ip);
  EXPECT_EQ(now.addresses.size(), 2U);
  EXPECT_TRUE(maglev::boundaries(now).empty());
}

TEST(Evolve, WhoIsMissingLeftAndWhoIsNewJoined) {
  const Service before = evolve(nullptr, members(2), 1);
  const Service now = evolve(&before, service({{"web", 1}}, {member(1), member(2)}), 5);
  ASSERT_EQ(now.backends.size(), 3U);
  EXPECT_EQ(now.backends[0].left, 5U) << "member 0 left";
  EXPECT_EQ(now.backends[1].left, 0U) << "member 1 stays";
  EXPECT_EQ(now.backends[1].joined, 0U);
  EXPECT_EQ(now.backends[2].joined, 5U) << "member 2 joined";
}

TEST(Evolve, WhoComesBackBeginsAnotherStay) {
  Service now = evolve(nullptr, members(2), 1);
  now = evolve(&now, members(1), 2);
  now = evolve(&now, members(2), 3);
  ASSERT_EQ(now.backends.size(), 3U);
  EXPECT_EQ(now.backends[1].left, 2U);
  EXPECT_EQ(now.backends[2].address, now.backends[1].address);
  EXPECT_EQ(now.backends[2].joined, 3U);
  EXPECT_EQ(now.backends[2].left, 0U);
}

TEST(Evolve, ChangedWeightMovesItsMembersToAnotherGroupAtOneRevision) {
  const std::vector<Backend> both = {member(0, 0), member(1, 1)};
  const Service before = evolve(nullptr, service({{"v1", 90}, {"v2", 10}}, both), 1);
  const Service now = evolve(&before, service({{"v1", 90}, {"v2", 50}}, both), 2);
  EXPECT_EQ(now.groups, (std::vector<Group>{{"v1", 90}, {"v2", 10}, {"v2", 50}}));
  ASSERT_EQ(now.backends.size(), 3U);
  EXPECT_EQ(now.backends[0], before.backends[0]);
  EXPECT_EQ(now.backends[1].left, 2U);
  EXPECT_EQ(now.backends[2].group, 2U);
  EXPECT_EQ(now.backends[2].joined, 2U);
  EXPECT_EQ(maglev::boundaries(now), std::vector<Revision>{2});
}

TEST(Evolve, WeightThatComesBackUsesItsGroupAgain) {
  const std::vector<Backend> both = {member(0, 0), member(1, 1)};
  Service now = evolve(nullptr, service({{"v1", 1}, {"v2", 1}}, both), 1);
  now = evolve(&now, service({{"v1", 1}, {"v2", 3}}, both), 2);
  now = evolve(&now, service({{"v1", 1}, {"v2", 1}}, both), 3);
  EXPECT_EQ(now.groups, (std::vector<Group>{{"v1", 1}, {"v2", 1}, {"v2", 3}}));
  EXPECT_EQ(now.backends.back().group, 1U);
  EXPECT_EQ(now.backends.back().joined, 3U);
}

TEST(Evolve, GroupsInAnotherOrderChangeNothing) {
  const Service before = evolve(nullptr, service({{"v1", 9}, {"v2", 1}}, {member(0, 0), member(1, 1)}), 1);
  EXPECT_EQ(evolve(&before, service({{"v2", 1}, {"v1", 9}}, {member(1, 0), member(0, 1)}), 2), before);
}

TEST(Evolve, GroupsWithoutMembersAreNotListed) {
  const Service now = evolve(nullptr, service({{"empty", 5}, {"v1", 1}}, {member(0, 1)}), 1);
  EXPECT_EQ(now.groups, (std::vector<Group>{{"v1", 1}}));
  EXPECT_EQ(now.backends[0].group, 0U);
}

TEST(Evolve, OneEndpointInTwoGroupsKeepsBothAndARepeatCountsOnce) {
  const Service now = evolve(nullptr, service({{"v1", 1}, {"v2", 1}}, {member(0, 0), member(0, 1), member(0, 1)}), 1);
  EXPECT_EQ(now.backends.size(), 2U);
}

TEST(Evolve, NodeAndZoneFollowWithoutABoundary) {
  const Service before = evolve(nullptr, members(1), 1);
  Service wanted = members(1);
  wanted.backends[0].node = "node2";
  wanted.backends[0].zone = "b";
  const Service now = evolve(&before, wanted, 2);
  ASSERT_EQ(now.backends.size(), 1U);
  EXPECT_EQ(now.backends[0].node, "node2");
  EXPECT_EQ(now.backends[0].zone, "b");
  EXPECT_TRUE(maglev::boundaries(now).empty());
}

TEST(Evolve, TableGrowsWithItsMembersAtTheSameRevision) {
  Service now = evolve(nullptr, members(1), 1);
  EXPECT_EQ(now.sizes.back().log2, maglev::wanted_log2(1));
  now = evolve(&now, members(2), 2);
  ASSERT_EQ(now.sizes.size(), 2U);
  EXPECT_EQ(now.sizes.back(), (TableSize{2, maglev::wanted_log2(2)}));
  EXPECT_EQ(maglev::boundaries(now), std::vector<Revision>{2});
}

TEST(Evolve, TableShrinksOnlyWhenTwiceTheMembersWouldFitTheSmaller) {
  Service now = evolve(nullptr, members(200), 1);
  const uint8_t large = now.sizes.back().log2;
  now = evolve(&now, members(100), 2);
  EXPECT_EQ(now.sizes.back().log2, large) << "100 may soon be 200 again";
  now = evolve(&now, members(60), 3);
  EXPECT_EQ(now.sizes.back(), (TableSize{3, maglev::wanted_log2(60)}));
  EXPECT_LT(now.sizes.back().log2, large);
}

TEST(Evolve, LastMemberGoneLeavesTheTableItsSize) {
  Service now = evolve(nullptr, members(4), 1);
  now = evolve(&now, members(0), 2);
  EXPECT_EQ(now.sizes.size(), 1U);
  now = evolve(&now, members(4), 3);
  EXPECT_EQ(now.sizes.size(), 1U);
}

TEST(Evolve, OldestBoundaryIsForgottenBeyondTheBound) {
  Service now = evolve(nullptr, members(20), 1);
  for (Revision revision = 2; revision <= 2 + 2 * kMaxBoundaries; ++revision) {
    now = evolve(&now, members(revision % 2 == 0 ? 21 : 20), revision);
    const auto changes = maglev::boundaries(now);
    ASSERT_LE(changes.size(), kMaxBoundaries);
    ASSERT_EQ(changes.front(), revision);
  }
  EXPECT_EQ(maglev::boundaries(now).size(), kMaxBoundaries);
  // Each second change begins a stay of the 21st member: about half the boundaries.
  EXPECT_LE(now.backends.size(), 20 + kMaxBoundaries / 2 + 1);
}

TEST(Evolve, OldestStaysAreForgottenWhereThereAreTooMany) {
  // Each revision replaces 20,000 members by others.
  const auto generation = [](int number) {
    std::vector<Backend> all;
    all.reserve(20'000);
    for (int i = 0; i < 20'000; ++i) all.push_back(member(i, 0, static_cast<uint16_t>(8000 + number)));
    return service({{"web", 1}}, all);
  };
  Service now = evolve(nullptr, generation(1), 1);
  for (int number = 2; number <= 5; ++number) now = evolve(&now, generation(number), static_cast<Revision>(number));
  EXPECT_EQ(now.backends.size(), 60'000U);
  EXPECT_EQ(maglev::boundaries(now), (std::vector<Revision>{5, 4}));
}

// Pods replaced one by one, each new one before an old one leaves, faster than history is forgotten: wherever a flow
// began, and whenever, its backend is still named. Each slot is a few thousandths of a service's flows.
TEST(Evolve, ARolloutOneByOneLosesNoCandidate) {
  size_t slots = 0;
  size_t lost = 0;
  for (int deployment = 0; deployment < 20; ++deployment) {
    constexpr int kPods = 4;
    const int first = deployment * 2 * kPods;
    std::vector<Backend> pods;
    pods.reserve(kPods);
    for (int i = 0; i < kPods; ++i) pods.push_back(member(first + i));
    Service now = evolve(nullptr, service({{"web", 1}}, pods), 1);
    std::vector<std::vector<uint16_t>> tables{maglev::table_at(now, 1)};
    Revision revision = 1;
    const auto change = [&] {
      now = evolve(&now, service({{"web", 1}}, pods), ++revision);
      tables.push_back(maglev::table_at(now, revision));
    };
    for (int i = 0; i < kPods; ++i) {
      pods.push_back(member(first + kPods + i));
      change();
      pods.erase(pods.begin());
      change();
    }
    const maglev::ServiceTable table = maglev::build_service_table(now);
    for (const auto& began : tables) {
      for (size_t slot = 0; slot < began.size(); ++slot) {
        const auto names = [&](const auto& plane) { return plane[slot] == began[slot]; };
        ++slots;
        if (std::ranges::none_of(table.planes, names)) ++lost;
      }
    }
  }
  EXPECT_EQ(lost, 0U) << "of " << slots;
}

TEST(Forget, ForgettingAllLeavesThePresentOnly) {
  const std::vector<Backend> both = {member(0, 0), member(1, 1)};
  Service now = evolve(nullptr, service({{"v1", 1}, {"v2", 1}}, both), 1);
  now = evolve(&now, service({{"v1", 1}, {"v2", 3}}, both), 2);
  const auto table = maglev::build_service_table(now).planes.at(0);
  now = forget(now, UINT64_MAX);
  EXPECT_EQ(now.groups, (std::vector<Group>{{"v1", 1}, {"v2", 3}}));
  ASSERT_EQ(now.backends.size(), 2U);
  EXPECT_EQ(now.backends[1].group, 1U);
  EXPECT_EQ(now.backends[1].joined, 0U);
  EXPECT_TRUE(maglev::boundaries(now).empty());
  EXPECT_EQ(maglev::build_service_table(now).planes.at(0).size(), table.size());
}

Backend not_yet(Backend backend) {
  backend.joined = kNotYet;
  return backend;
}

TEST(EvolveAhead, MemberIsListedWithoutABoundaryAndJoinsWhenItNeedNotWaitAnyMore) {
  const Service before = evolve(nullptr, members(1), 1);
  const Service waiting = evolve(&before, service({{"web", 1}}, {member(0), not_yet(member(1))}), 2);
  ASSERT_EQ(waiting.backends.size(), 2U);
  EXPECT_EQ(waiting.backends[1].joined, kNotYet);
  EXPECT_EQ(waiting.sizes, before.sizes) << "the table grows when it joins";
  EXPECT_TRUE(maglev::boundaries(waiting).empty());
  EXPECT_EQ(evolve(&waiting, service({{"web", 1}}, {member(0), not_yet(member(1))}), 3), waiting);

  const Service joined = evolve(&waiting, members(2), 4);
  ASSERT_EQ(joined.backends.size(), 2U);
  EXPECT_EQ(joined.backends[1].joined, 4U);
  EXPECT_EQ(joined.sizes.back(), (TableSize{4, maglev::wanted_log2(2)}));
  EXPECT_EQ(maglev::boundaries(joined), std::vector<Revision>{4});
}

TEST(EvolveAhead, MemberThatIsNotWantedAnyMoreIsGoneWithoutATrace) {
  const Service before = evolve(nullptr, members(1), 1);
  const Service waiting = evolve(&before, service({{"web", 1}}, {member(0), not_yet(member(1))}), 2);
  EXPECT_EQ(evolve(&waiting, members(1), 3), before);
}

TEST(EvolveAhead, MemberThatHasJoinedIsNotConcerned) {
  const Service before = evolve(nullptr, members(2), 1);
  EXPECT_EQ(evolve(&before, service({{"web", 1}}, {member(0), not_yet(member(1))}), 2), before);
}

TEST(EvolveAhead, FirstMembersOfANewServiceAreThereSinceEver) {
  const Service now = evolve(nullptr, service({{"web", 1}}, {not_yet(member(0)), not_yet(member(1))}), 1);
  EXPECT_EQ(now, evolve(nullptr, members(2), 1));
}

TEST(EvolveAhead, AnEmptyChoiceIsJoinedAtOnce) {
  Service now = evolve(nullptr, members(1), 1);
  now = evolve(&now, members(0), 2);
  now = evolve(&now, service({{"web", 1}}, {not_yet(member(1)), not_yet(member(2))}), 3);
  ASSERT_EQ(now.backends.size(), 3U);
  EXPECT_EQ(now.backends[1].joined, 3U);
  EXPECT_EQ(now.backends[2].joined, 3U);
}

TEST(EvolveAhead, ThoseThatWaitJoinWhenTheLastOfTheChoiceLeaves) {
  Service now = evolve(nullptr, members(1), 1);
  now = evolve(&now, service({{"web", 1}}, {member(0), not_yet(member(1))}), 2);
  now = evolve(&now, service({{"web", 1}}, {not_yet(member(1))}), 3);
  ASSERT_EQ(now.backends.size(), 2U);
  EXPECT_EQ(now.backends[0].left, 3U);
  EXPECT_EQ(now.backends[1].joined, 3U);
}

TEST(EvolveAhead, ChoiceOfMembersWithoutWeightIsAnEmptyOne) {
  Service now = evolve(nullptr, service({{"old", 0}}, {member(0)}), 1);
  now = evolve(&now, service({{"old", 0}, {"new", 1}}, {member(0), not_yet(member(1, 1))}), 2);
  EXPECT_EQ(now.backends.back().joined, 2U);
}

TEST(EvolveAhead, AgainAfterAnEarlierStay) {
  Service now = evolve(nullptr, members(2), 1);
  now = evolve(&now, members(1), 2);
  now = evolve(&now, service({{"web", 1}}, {member(0), not_yet(member(1))}), 3);
  ASSERT_EQ(now.backends.size(), 3U);
  EXPECT_EQ(now.backends[1].left, 2U);
  EXPECT_EQ(now.backends[2].joined, kNotYet);
  EXPECT_EQ(forget(now, UINT64_MAX).backends.size(), 2U);
  EXPECT_EQ(forget(now, UINT64_MAX).backends[1].joined, kNotYet);
}

}  // namespace
}  // namespace sluice::state
