// What has changed between two lists of failures.
#include "node-agent/agent/conditions.h"

#include <gmock/gmock.h>

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace sluice::agent {
namespace {

using testing::ElementsAre;
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
