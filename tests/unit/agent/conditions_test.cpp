// What is said of tunnels; what has changed between two lists of failures.
#include "node-agent/agent/conditions.h"

#include <gmock/gmock.h>

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/agent/fixtures.h"

namespace sluice::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(FailureChanges, AreWhatIsNewAndWhatIsGone) {
  const auto one = [](const char* service, const char* message) {
    return dataplane::ServiceFailure{service, "Unreachable", message};
  };
  const auto before = merge({one("a", "x"), one("b", "x"), one("c", "x"), one("c", "y")}, {});
  const auto now = merge({one("b", "y"), one("d", "x")}, {});
  const FailureChanges changes = failure_changes(before, now);
  ASSERT_EQ(changes.come.size(), 2U);
  EXPECT_EQ(changes.come[0].message, "y") << "b fails for another reason";
  EXPECT_EQ(changes.come[1].service, "d");
  EXPECT_THAT(changes.gone, ElementsAre("a", "c"));
  EXPECT_THAT(failure_changes(now, now).come, IsEmpty());
  EXPECT_THAT(failure_changes(now, now).gone, IsEmpty());
}

TEST(FailureChanges, ServiceWithAnotherFailureLeftDoesNotStandAgain) {
  const auto failures = [](std::initializer_list<std::pair<const char*, const char*>> rows) {
    std::vector<dataplane::ServiceFailure> out;
    for (const auto& [service, message] : rows) out.push_back({service, "Unreachable", message});
    return out;
  };
  const auto before = failures({{"a", "x"}, {"a", "y"}, {"b", "x"}, {"b", "y"}, {"c", "x"}, {"c", "y"}});
  const auto now = failures({{"a", "x"}, {"c", "z"}});
  const FailureChanges changes = failure_changes(before, now);
  EXPECT_THAT(changes.gone, ElementsAre("b")) << "once, whatever it had";
  ASSERT_EQ(changes.come.size(), 1U);
  EXPECT_EQ(changes.come[0].service, "c");
}

tunnel::TunnelFact fact(const std::string& node, bool usable, bool was_heard, std::chrono::seconds since) {
  tunnel::TunnelFact fact;
  fact.node = node;
  fact.address = ip("172.30.0.2");
  fact.usable = usable;
  fact.why = usable ? "" : "no probe has come back";
  fact.port = 6082;
  fact.since = tunnel::Clock::time_point(since);
  if (was_heard) fact.heard = fact.since;
  return fact;
}

TEST(TunnelsCondition, NamesWhatIsNotProvedAndWhatToCheck) {
  const tunnel::Clock::time_point now{std::chrono::seconds(1000)};
  const auto of = [&](const std::vector<tunnel::TunnelFact>& tunnels) { return tunnels_condition(tunnels, now); };
  EXPECT_EQ(of({}).reason, "NoneNeeded");
  EXPECT_TRUE(of({}).status);
  const auto good = fact("n2", true, true, std::chrono::seconds(10));
  EXPECT_EQ(of({good}), (health::Condition{"TunnelsProved", true, "Proved", "all 1 tunnels are proved"}));
  const auto bad = of({good, fact("n3", false, false, std::chrono::seconds(10))});
  EXPECT_FALSE(bad.status);
  EXPECT_EQ(bad.reason, "NotProved");
  EXPECT_THAT(bad.message, HasSubstr("1 of 2 tunnels are not proved: to n3: no probe has come back"));
  EXPECT_THAT(bad.message, HasSubstr("UDP port 6082"));
  EXPECT_THAT(bad.message, HasSubstr("packets of 1352 bytes"));
}

TEST(TunnelsCondition, WaitsForTunnelsThatHaveOnlyBegunButNotForThoseThatWereLost) {
  const tunnel::Clock::time_point now{std::chrono::seconds(1000)};
  const auto begun = fact("n2", false, false, std::chrono::seconds(996));
  const auto lost = fact("n3", false, true, std::chrono::seconds(996));
  EXPECT_TRUE(tunnels_condition({begun}, now).status);
  EXPECT_THAT(tunnels_condition({begun}, now).message, HasSubstr("0 of 1 tunnels are proved"));
  EXPECT_FALSE(tunnels_condition({begun}, now + std::chrono::seconds(2)).status);
  EXPECT_FALSE(tunnels_condition({lost}, now).status);
}

TEST(TunnelsCondition, OfManyAFewAreNamed) {
  std::vector<tunnel::TunnelFact> tunnels;
  for (int n = 2; n < 12; ++n) tunnels.push_back(fact("n" + std::to_string(n), false, true, std::chrono::seconds(1)));
  const auto condition = tunnels_condition(tunnels, tunnel::Clock::time_point(std::chrono::seconds(1000)));
  EXPECT_THAT(condition.message, HasSubstr("to n4: "));
  EXPECT_THAT(condition.message, testing::Not(HasSubstr("to n5: ")));
  EXPECT_THAT(condition.message, HasSubstr("and 7 more"));
}

TEST(FailureChanges, AreFoundAmongManyServices) {
  std::vector<dataplane::ServiceFailure> before;
  std::vector<dataplane::ServiceFailure> now;
  std::vector<std::string> come;
  std::vector<std::string> gone;
  for (int i = 10'000; i < 15'000; ++i) {
    const std::string service = "service-" + std::to_string(i);
    // By turns: it goes, it comes, it stays, it fails for another reason.
    if (i % 4 != 1) before.push_back({service, "Unreachable", "no way"});
    if (i % 4 != 0) now.push_back({service, i % 4 == 3 ? "TableFull" : "Unreachable", "no way"});
    if (i % 4 == 0) gone.push_back(service);
    if (i % 4 == 1 || i % 4 == 3) come.push_back(service);
  }
  const FailureChanges changes = failure_changes(before, now);
  EXPECT_EQ(changes.gone, gone);
  std::vector<std::string> named;
  for (const auto& failure : changes.come) named.push_back(failure.service);
  EXPECT_EQ(named, come);
}

}  // namespace
}  // namespace sluice::agent
