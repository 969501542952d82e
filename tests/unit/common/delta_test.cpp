#include "common/state/delta.h"

#include <gtest/gtest.h>

#include "random_state.h"

namespace sluice::state {
namespace {

using sluice::testing::random_state;

TEST(Delta, LeadsFromAnyStateToAnyOther) {
  EXPECT_TRUE(rc::check("apply(make(a, b), a) == b", [] {
    const DesiredState a = random_state();
    const DesiredState b = random_state();
    const auto delta = make_delta(a, b);
    RC_ASSERT(delta.has_value());
    const auto outcome = apply_delta(a, *delta);
    RC_ASSERT(outcome.has_value());
    RC_ASSERT(*outcome == b);
    RC_ASSERT(digest(*outcome) == digest(b));
    RC_ASSERT(delta->empty() == (digest(a) == digest(b)));
  }));
}

TEST(Delta, BetweenEqualContentsIsEmptyAndCarriesEpochAndRevision) {
  DesiredState a;
  a.cluster_id = "c";
  a.nodes["n"] = {.name = "n"};
  DesiredState b = a;
  b.epoch = 4;
  b.revision = 5;
  const auto delta = make_delta(a, b);
  ASSERT_TRUE(delta);
  EXPECT_TRUE(delta->empty());
  EXPECT_EQ(delta->from, delta->to);
  EXPECT_EQ(apply_delta(a, *delta).value(), b);
}

TEST(Delta, HoldsOnlyWhatChanged) {
  DesiredState a;
  a.cluster_id = "c";
  for (const char* name : {"a", "b", "c", "d"}) a.nodes[name] = {.name = name};
  DesiredState b = a;
  b.nodes.erase("a");
  b.nodes.erase("d");
  b.nodes["c"].addresses = {net::IpAddress::parse("10.0.0.1").value()};
  b.nodes["e"] = {.name = "e"};
  const auto delta = make_delta(a, b);
  ASSERT_TRUE(delta);
  EXPECT_EQ(delta->delete_nodes, (std::vector<std::string>{"a", "d"}));
  EXPECT_EQ(delta->upsert_nodes, (std::vector<Node>{b.nodes["c"], b.nodes["e"]}));
  EXPECT_TRUE(delta->upsert_services.empty());
}

TEST(Delta, HoldsTheTunnelOnlyWhereItChanged) {
  DesiredState a;
  a.cluster_id = "c";
  a.tunnel.keys = {{1, {1, 1}}};
  DesiredState b = a;
  b.nodes["n"] = {.name = "n"};
  EXPECT_EQ(make_delta(a, b)->tunnel, std::nullopt);
  b.tunnel.keys.push_back({2, {2, 2}});
  const auto delta = make_delta(a, b);
  EXPECT_EQ(delta->tunnel, b.tunnel);
  EXPECT_EQ(apply_delta(a, *delta).value(), b);
}

TEST(Delta, DoesNotCrossClustersOrFlowHashKeys) {
  DesiredState a;
  a.cluster_id = "c";
  DesiredState b = a;
  b.cluster_id = "d";
  EXPECT_FALSE(make_delta(a, b));
  b = a;
  b.flow_hash_key[1] = 1;
  EXPECT_FALSE(make_delta(a, b));
}

TEST(Delta, IsRefusedOnAnotherBaseAndWithAnotherOutcome) {
  DesiredState a;
  a.cluster_id = "c";
  DesiredState b = a;
  b.nodes["n"] = {.name = "n"};
  auto delta = make_delta(a, b).value();
  EXPECT_EQ(apply_delta(b, delta).error().kind, ErrorKind::invalid);
  delta.upsert_nodes[0].name = "m";
  EXPECT_EQ(apply_delta(a, delta).error().kind, ErrorKind::invalid);
}

}  // namespace
}  // namespace sluice::state
