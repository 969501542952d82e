// The agent as its own planner: revisions, the key, and when history is forgotten.
#include "node-agent/config/standalone_state.h"

#include <gtest/gtest.h>

#include "common/maglev/service_table.h"
#include "node-agent/config/standalone.h"

namespace sluice::agent::config {
namespace {

using std::chrono::seconds;
constexpr std::array<uint64_t, 2> kKey = {11, 22};

std::vector<state::Service> services(const std::string& backends, int drain = 300) {
  const auto config = parse_standalone(
      "apiVersion: sluice.io/v1alpha1\nkind: StandaloneConfig\nloadBalancers:\n- name: web\n  addresses: [192.0.2.10]\n"
      "  ports: [{name: http, port: 80}]\n  backends: [" +
      backends + "]\n  drain: {timeoutSeconds: " + std::to_string(drain) + "}\n");
  EXPECT_TRUE(config.has_value());
  return config ? config->services : std::vector<state::Service>{};
}

const std::string kA = "{name: a, address: 10.0.0.1}";
const std::string kB = "{name: b, address: 10.0.0.2}";

TEST(PlanStandalone, FirstStateHasRevisionOneTheKeyAndThisNodeAsAnnouncer) {
  const auto state = plan_standalone(nullptr, services(kA + "," + kB), "lb1", kKey);
  EXPECT_TRUE(state::validate(state).has_value());
  EXPECT_EQ(state.cluster_id, kStandaloneCluster);
  EXPECT_EQ(state.revision, 1U);
  EXPECT_EQ(state.flow_hash_key, kKey);
  ASSERT_EQ(state.announcements.size(), 1U);
  EXPECT_EQ(state.announcements.begin()->second.nodes, std::vector<std::string>{"lb1"});
}

TEST(PlanStandalone, SameFileGivesTheSameState) {
  const auto before = plan_standalone(nullptr, services(kA + "," + kB), "lb1", kKey);
  EXPECT_EQ(plan_standalone(&before, services(kA + "," + kB), "lb1", {1, 2}), before);
  EXPECT_EQ(plan_standalone(&before, services(kB + "," + kA), "lb1", {1, 2}), before) << "the order says nothing";
}

TEST(PlanStandalone, ChangeKeepsKeyAndHistoryAndHasTheNextRevision) {
  const auto before = plan_standalone(nullptr, services(kA + "," + kB), "lb1", kKey);
  const auto state = plan_standalone(&before, services(kA), "lb1", {1, 2});
  EXPECT_EQ(state.revision, 2U);
  EXPECT_EQ(state.flow_hash_key, kKey);
  const auto& service = state.services.at("web/http");
  ASSERT_EQ(service.backends.size(), 2U);
  EXPECT_EQ(service.backends[1].left, 2U);
}

TEST(PlanStandalone, ServiceThatIsGoneIsGone) {
  const auto before = plan_standalone(nullptr, services(kA), "lb1", kKey);
  const auto state = plan_standalone(&before, {}, "lb1", kKey);
  EXPECT_TRUE(state.services.empty());
  EXPECT_TRUE(state.announcements.empty());
  EXPECT_EQ(state.revision, 2U);
}

class RetirementTest : public testing::Test {
 protected:
  RetirementTest() {
    const auto before = plan_standalone(nullptr, services(kA + "," + kB, 60), "lb1", kKey);
    state_ = plan_standalone(&before, services(kA, 60), "lb1", kKey);
    retirement_.observe(state_, start_);
  }
  static size_t history(const state::DesiredState& state) {
    return maglev::boundaries(state.services.at("web/http")).size();
  }
  state::DesiredState state_;
  Retirement retirement_;
  Retirement::Clock::time_point start_{seconds(1000)};
};

TEST_F(RetirementTest, HistoryIsKeptForTheDrainTime) {
  EXPECT_FALSE(retirement_.retire(state_, {}, start_ + seconds(59)));
  const auto next = retirement_.retire(state_, {}, start_ + seconds(60));
  ASSERT_TRUE(next);
  EXPECT_EQ(history(*next), 0U);
  EXPECT_EQ(next->services.at("web/http").backends.size(), 1U);
  EXPECT_EQ(next->revision, state_.revision + 1);
}

TEST_F(RetirementTest, HistoryIsKeptAsLongAsAFlowNeedsIt) {
  EXPECT_FALSE(retirement_.retire(state_, {"web/http"}, start_ + seconds(6000)));
  EXPECT_TRUE(retirement_.retire(state_, {"another"}, start_ + seconds(6000)));
}

TEST_F(RetirementTest, OnlyBoundariesWhoseDrainTimeHasPassedAreForgotten) {
  const auto later = plan_standalone(&state_, services(kA + "," + kB, 60), "lb1", kKey);
  retirement_.observe(later, start_ + seconds(30));
  ASSERT_EQ(history(later), 2U);
  const auto next = retirement_.retire(later, {}, start_ + seconds(61));
  ASSERT_TRUE(next);
  EXPECT_EQ(history(*next), 1U);
}

TEST_F(RetirementTest, WithoutHistoryThereIsNothingToForget) {
  const auto next = retirement_.retire(state_, {}, start_ + seconds(60));
  ASSERT_TRUE(next);
  retirement_.observe(*next, start_ + seconds(61));
  EXPECT_FALSE(retirement_.retire(*next, {}, start_ + seconds(6000)));
}

}  // namespace
}  // namespace sluice::agent::config
