#include "node-agent/tunnel/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/tunnel/token.h"
#include "tests/unit/tunnel/underlay.h"

namespace sluice::agent::tunnel {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Key;

state::Backend backend(const std::string& node, const std::string& address = "10.1.0.1") {
  state::Backend backend;
  backend.address = ip(address);
  backend.port = 80;
  backend.node = node;
  return backend;
}

// n1, n2, n3 with both families underneath, and one service.
state::DesiredState cluster(const std::vector<state::Backend>& backends,
                            state::Forwarding forwarding = state::Forwarding::automatic) {
  state::DesiredState state;
  state.tunnel.keys = {{1, {11, 12}}, {2, {21, 22}}};
  for (int n = 1; n <= 3; ++n) {
    const std::string name = "n" + std::to_string(n);
    state.nodes[name] = {name, {ip("fd00::" + std::to_string(n)), ip("10.0.0." + std::to_string(n))}, {}};
  }
  state::Service& service = state.services["s"];
  service.id = "s";
  service.forwarding = forwarding;
  service.backends = backends;
  return state;
}

TEST(TunnelToken, BelongsToOnePairInOneDirectionAndOneKey) {
  const state::TunnelKey one{1, {1, 2}};
  const auto token_of = [&](const char* from, const char* to) { return token(one, ip(from), ip(to)); };
  const uint64_t made = token_of("10.0.0.1", "10.0.0.2");
  EXPECT_EQ(made, token_of("10.0.0.1", "10.0.0.2"));
  EXPECT_NE(made, 0U);
  EXPECT_NE(made, token_of("10.0.0.2", "10.0.0.1"));
  EXPECT_NE(made, token_of("10.0.0.1", "10.0.0.3"));
  EXPECT_NE(made, token_of("10.0.0.3", "10.0.0.2"));
  EXPECT_NE(made, token({1, {1, 3}}, ip("10.0.0.1"), ip("10.0.0.2")));
  EXPECT_NE(made, token({1, {2, 2}}, ip("10.0.0.1"), ip("10.0.0.2")));
  EXPECT_EQ(made, token({9, {1, 2}}, ip("10.0.0.1"), ip("10.0.0.2"))) << "a key's name is not part of it";
}

// HMAC-SHA-256 by another hand (Python's hmac): every version of the agent must come to the same.
TEST(TunnelToken, IsTheSameForEveryVersion) {
  const state::TunnelKey key{1, {0x0001020304050607, 0x08090a0b0c0d0e0f}};
  const uint64_t made = token(key, ip("192.0.2.1"), ip("192.0.2.2"));
  EXPECT_EQ(__builtin_bswap64(made), 0x21b3341b8f86a111);
  EXPECT_EQ(__builtin_bswap64(token(key, ip("2001:db8::1"), ip("2001:db8::2"))), 0x1709c9e498bcd0e3);
}

TEST(TunnelPlan, LeadsToNodesWithBackends) {
  const auto planned = plan_tunnels(cluster({backend("n2")}), "n1");
  ASSERT_THAT(planned, ElementsAre(Key("n2")));
  const PlannedTunnel& to = planned.at("n2");
  EXPECT_TRUE(to.carries);
  EXPECT_EQ(to.source, ip("10.0.0.1"));
  EXPECT_EQ(to.address, ip("10.0.0.2"));
  EXPECT_EQ(to.port, 6082);
  EXPECT_THAT(to.underlay, ElementsAre(ip("fd00::2")));
}

TEST(TunnelPlan, BothEndsComeToTheSamePairAndTokens) {
  const auto state = cluster({backend("n2")});
  const auto there = plan_tunnels(state, "n1").at("n2");
  const auto back = plan_tunnels(state, "n2").at("n1");
  EXPECT_FALSE(back.carries) << "nothing is sent there, so nothing is to be proved";
  EXPECT_EQ(there.source, back.address);
  EXPECT_EQ(there.address, back.source);
  EXPECT_EQ(there.token, back.accepted[0]);
  EXPECT_EQ(back.token, there.accepted[0]);
  EXPECT_NE(there.token, back.token);
  EXPECT_NE(there.accepted[1], 0U) << "a second key is accepted";
}

TEST(TunnelPlan, KeysMayChangeOneAfterTheOtherWithoutAGap) {
  auto state = cluster({backend("n2")});
  const std::vector<state::TunnelKey> a_then_b = {{1, {11, 12}}, {2, {21, 22}}};
  const std::vector<std::vector<state::TunnelKey>> steps = {
      {{1, {11, 12}}}, a_then_b, {a_then_b[1], a_then_b[0]}, {a_then_b[1]}};
  // Nodes follow at their own pace: of each two neighbouring steps one end may have the one, the other the other.
  for (size_t i = 0; i < steps.size(); ++i) {
    for (size_t j = i == 0 ? 0 : i - 1; j < std::min(i + 2, steps.size()); ++j) {
      state.tunnel.keys = steps[i];
      const auto sender = plan_tunnels(state, "n1").at("n2");
      state.tunnel.keys = steps[j];
      const auto receiver = plan_tunnels(state, "n2").at("n1");
      EXPECT_TRUE(sender.token == receiver.accepted[0] || sender.token == receiver.accepted[1]) << i << ' ' << j;
    }
  }
}

TEST(TunnelPlan, NodesWithoutBackendsHaveNoTunnelsAmongThem) {
  EXPECT_THAT(plan_tunnels(cluster({backend("n2")}), "n3"), ElementsAre(Key("n2")));
  EXPECT_THAT(plan_tunnels(cluster({backend("n2")}), "n2"), ElementsAre(Key("n1"), Key("n3")));
  EXPECT_THAT(plan_tunnels(cluster({}), "n1"), IsEmpty());
}

TEST(TunnelPlan, BackendThatHasNotJoinedIsReadiedFor) {
  auto ahead = backend("n2");
  ahead.joined = state::kNotYet;
  EXPECT_THAT(plan_tunnels(cluster({ahead}), "n1"), ElementsAre(Key("n2")));
}

TEST(TunnelPlan, ServicesThatNameAnotherWayNeedNone) {
  EXPECT_THAT(plan_tunnels(cluster({backend("n2")}, state::Forwarding::nat), "n1"), IsEmpty());
  EXPECT_THAT(plan_tunnels(cluster({backend("n2")}, state::Forwarding::direct), "n1"), IsEmpty());
  EXPECT_THAT(plan_tunnels(cluster({backend("n2")}, state::Forwarding::tunnel), "n1"), ElementsAre(Key("n2")));
}

TEST(TunnelPlan, WithoutKeysOrWithoutThisNodeThereIsNone) {
  auto state = cluster({backend("n2")});
  EXPECT_THAT(plan_tunnels(state, "stranger"), IsEmpty());
  state.tunnel.keys.clear();
  EXPECT_THAT(plan_tunnels(state, "n1"), IsEmpty());
}

TEST(TunnelPlan, NodesWithoutACommonFamilyHaveNoTunnel) {
  auto state = cluster({backend("n2"), backend("n3")});
  state.nodes["n1"].addresses = {ip("fd00::1")};
  state.nodes["n2"].addresses = {ip("10.0.0.2")};
  const auto planned = plan_tunnels(state, "n1");
  ASSERT_THAT(planned, ElementsAre(Key("n3")));
  EXPECT_EQ(planned.at("n3").address, ip("fd00::3"));
  EXPECT_THAT(planned.at("n3").underlay, ElementsAre(ip("10.0.0.3")));
}

}  // namespace
}  // namespace sluice::agent::tunnel
