// When the operator is told how many flows leaving backends have.
#include "node-agent/agent/drain_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/fixtures.h"

namespace sluice::agent {
namespace {

using std::chrono::seconds;
using testing::IsEmpty;
using Flows = std::vector<dataplane::LeavingFlows>;

class DrainReportTest : public testing::Test {
 protected:
  static Flows flows(uint64_t first) { return {{"s/http", ip("10.0.0.2"), 8080, first}}; }
  static Flows flows(uint64_t first, uint64_t second) {
    return {{"s/http", ip("10.0.0.2"), 8080, first}, {"s/http", ip("10.0.0.3"), 8080, second}};
  }
  DrainReport report_;
  DrainReport::Clock::time_point now_{seconds(1000)};
};

TEST_F(DrainReportTest, CountsAreToldEveryTenSeconds) {
  EXPECT_EQ(report_.take(flows(12), now_), flows(12));
  for (int second = 1; second < 10; ++second) {
    EXPECT_EQ(report_.take(flows(12 - second), now_ + seconds(second)), flows(12)) << second;
  }
  EXPECT_EQ(report_.take(flows(2), now_ + seconds(10)), flows(2));
  EXPECT_EQ(report_.take(flows(1), now_ + seconds(11)), flows(2));
}

TEST_F(DrainReportTest, BackendThatComesOrIsEmptyIsToldAtOnce) {
  EXPECT_THAT(report_.take({}, now_), IsEmpty());
  EXPECT_EQ(report_.take(flows(12), now_), flows(12));
  EXPECT_EQ(report_.take(flows(11, 5), now_ + seconds(1)), flows(11, 5));
  EXPECT_EQ(report_.take(flows(10), now_ + seconds(2)), flows(10));
  EXPECT_THAT(report_.take({}, now_ + seconds(3)), IsEmpty());
}

TEST_F(DrainReportTest, CountThatHasNotBeenToldForLongIsToldAtItsFirstChange) {
  report_.take(flows(12), now_);
  report_.take(flows(12), now_ + seconds(100));
  EXPECT_EQ(report_.take(flows(11), now_ + seconds(101)), flows(11));
}

}  // namespace
}  // namespace sluice::agent
