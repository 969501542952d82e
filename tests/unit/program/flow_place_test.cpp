#include "node-agent/program/flow_place.h"

#include <gtest/gtest.h>

#include "tests/unit/program/scene.h"

namespace sluice::agent::program::testing {
namespace {

class FlowPlaceTest : public ::testing::Test {
 protected:
  // The record of a flow that a slot's backend was chosen for.
  static std::pair<sluice_flow_key, sluice_flow> flow(uint32_t service_number, uint32_t backend_number, uint32_t hash) {
    sluice_flow_key key{};
    key.backend = backend_ip(backend_number).ipv4();
    key.backend_port = __builtin_bswap16(8080);
    key.protocol = 6;
    sluice_flow record{};
    record.address = service_ip(service_number).ipv4();
    record.port = __builtin_bswap16(80);
    record.hash = hash;
    return {key, record};
  }
  FlowPlace place(const std::pair<sluice_flow_key, sluice_flow>& flow) {
    return place_of(kernel_.programmer_, kernel_.image_.view(), flow.first, flow.second);
  }

  Kernel kernel_;
};

TEST_F(FlowPlaceTest, IsCurrentExactlyWhereTheSlotInForceLeadsToTheFlowsBackend) {
  const auto web = service("web", {1}, {backend(1), backend(2, 0, 5), backend(3, 5)});
  kernel_.program(desired({web}), ways());
  const auto found = expected(desired({web}), ways()).begin()->second;
  for (uint32_t hash = 0; hash < 64; ++hash) {
    for (const uint32_t n : {1U, 2U, 3U}) {
      const auto at = place(flow(1, n, hash));
      ASSERT_NE(at.service, nullptr);
      EXPECT_EQ(*at.service, "web");
      EXPECT_EQ(at.current, found.planes[0][hash % 16]->address == backend_ip(n).ipv4());
    }
  }
}

TEST_F(FlowPlaceTest, OfAnAddressWithoutServiceIsNone) {
  kernel_.program(desired({service("web", {1}, {backend(1)})}), ways());
  EXPECT_EQ(place(flow(2, 1, 0)).service, nullptr);
}

TEST_F(FlowPlaceTest, IsOldWhereTheServiceHasNoBackendsLeft) {
  kernel_.program(desired({service("web", {1}, {})}), ways());
  EXPECT_FALSE(place(flow(1, 1, 0)).current);
  EXPECT_NE(place(flow(1, 1, 0)).service, nullptr);
}

}  // namespace
}  // namespace sluice::agent::program::testing
