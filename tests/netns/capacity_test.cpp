// A real agent with little room says what runs short.
#include <gmock/gmock.h>

#include "tests/netns/standalone_fixture.h"

namespace sluice::lab {
namespace {

using testing::HasSubstr;

class Capacity : public Standalone {
 protected:
  Capacity() : Standalone(1) {}
  // As many connections that stay.
  [[nodiscard]] std::unique_ptr<HttpLoad> hold(int connections) const {
    auto busy = load({.connections = connections});
    EXPECT_TRUE(busy->run(static_cast<uint64_t>(4 * connections)));
    return busy;
  }
};

TEST_F(Capacity, SourcePortsTowardsABackendAreNamed) {
  const auto agent = started(file_text(backend(1)), {"--nat-ports", "20000-20063"});
  EXPECT_TRUE(agent->wait_ready(200, "CapacityLeft=True CapacityLeft"));
  const auto busy = hold(54);
  EXPECT_TRUE(agent->wait_ready(200,
                                "CapacityLeft=False SourcePortsNearlyUsed: source ports from 10.77.0.1 to "
                                "10.77.0.11:8080 (TCP): 80 % of 64 or more are in use: widen --nat-ports"));
  EXPECT_GE(agent->metric("sluice_agent_nat_source_ports_used_ratio{source=\"10.77.0.1\",backend=\"10.77.0.11:8080\","
                          "protocol=\"TCP\"}"),
            0.8);
  const auto outcome = busy->stop();
  // With so few left a flow may find all sixteen that it tries taken. None of those is refused silently.
  EXPECT_LE(static_cast<double>(outcome.failures),
            agent->metric("sluice_agent_packets_total{reason=\"ports_exhausted\",kind=\"drop\"}"))
      << outcome.first_failure;
}

TEST_F(Capacity, ServiceThatHasNearlyItsShareIsNamedBeforeItIsRefused) {
  const auto agent = started(file_text(backend(1)), {"--max-flows", "256"});
  EXPECT_TRUE(agent->wait_ready(200, "CapacityLeft=True"));
  // 192 records: alone it may have 128 of them.
  const auto busy = hold(122);
  EXPECT_TRUE(agent->wait_ready(200,
                                "CapacityLeft=False FlowShareNearlyUsed: the share of web/http in established "
                                "IPv4 flows: "));
  EXPECT_THAT(agent->log(), HasSubstr("the share of web/http in established IPv4 flows"));
  EXPECT_GE(agent->metric("sluice_agent_flow_share_used_ratio{service=\"web/http\"}"), 0.8);
  EXPECT_EQ(agent->metric("sluice_agent_packets_total{reason=\"flow_table_full\",kind=\"drop\"}"), 0);
  const auto outcome = busy->stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
}

}  // namespace
}  // namespace sluice::lab
