#include "node-agent/program/flow_place.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/unit/program/scene.h"

namespace sluice::agent::program::testing {
namespace {

// A flow from client N, which is also its source port, to port 80 of a service, and on to a backend.
sluice_flow4 flow4(uint32_t service_number, uint32_t backend_number, uint16_t client,
                   uint8_t kind = SLUICE_FLOW_LOCAL) {
  sluice_flow4 flow{};
  flow.backend = backend_ip(backend_number).ipv4();
  flow.tuple = SLUICE_FLOW_TUPLE(__builtin_bswap16(8080), client, 6, kind);
  flow.client = 0x01020304U * client;
  flow.source = flow.client;
  flow.client_port = client;
  flow.address = service_ip(service_number).ipv4();
  flow.port = __builtin_bswap16(80);
  return flow;
}

sluice_flow6 flow6(uint32_t service_number, uint32_t backend_number, uint16_t client) {
  sluice_flow6 flow{};
  flow.backend = raw(backend_ip(backend_number, true));
  flow.tuple = SLUICE_FLOW_TUPLE(__builtin_bswap16(8080), client, 6, SLUICE_FLOW_LOCAL);
  flow.client.words[1] = 0x0102030405060708ULL * client;
  flow.source = flow.client;
  flow.client_port = client;
  flow.address = raw(service_ip(service_number, true));
  flow.port = __builtin_bswap16(80);
  return flow;
}

// The slot's hash, as bpf/layout/base.h tells it.
uint64_t hash4(const sluice_flow4& flow, bool by_client) {
  return by_client ? sluice_flow_hash(flow.client, flow.address, 0, 0, 0, 11, 12)
                   : sluice_flow_hash(flow.client, flow.address, flow.client_port, flow.port, 6, 11, 12);
}
uint64_t hash6(const sluice_flow6& flow, bool by_client) {
  const uint64_t print =
      sluice_key_ipv6(flow.address.words[0], flow.address.words[1], by_client ? 0 : flow.port, by_client ? 0 : 6);
  return sluice_flow_hash6(flow.client.words[0], flow.client.words[1], print, by_client ? 0 : flow.client_port, 11, 12);
}

class FlowPlaceTest : public ::testing::Test {
 protected:
  template <typename Record>
  FlowPlace place(const Record& flow) {
    return place_of(kernel_.programmer_, kernel_.image_.view(), flow);
  }

  Kernel kernel_;
};

TEST_F(FlowPlaceTest, IsCurrentExactlyWhereTheSlotInForceLeadsToTheFlowsBackend) {
  for (const bool by_client : {false, true}) {
    for (const bool v6 : {false, true}) {
      auto web = service("web", {1}, {backend(1, 0, 0, v6), backend(2, 0, 5, v6), backend(3, 5, 0, v6)}, 4, v6);
      web.affinity = by_client ? state::Affinity::client_ip : state::Affinity::none;
      kernel_.program_to_the_end(desired({web}), ways());
      const auto found = expected(desired({web}), ways()).begin()->second;
      for (uint16_t client = 1; client < 64; ++client) {
        for (const uint32_t n : {1U, 2U, 3U}) {
          const auto at = v6 ? place(flow6(1, n, client)) : place(flow4(1, n, client));
          const uint64_t hash = v6 ? hash6(flow6(1, n, client), by_client) : hash4(flow4(1, n, client), by_client);
          ASSERT_NE(at.service, nullptr);
          EXPECT_EQ(*at.service, "web");
          const auto wanted = raw(backend_ip(n, v6));
          const auto chosen = found.planes[0][hash % 16]->address;
          EXPECT_EQ(at.current, std::memcmp(&chosen, &wanted, sizeof wanted) == 0);
          EXPECT_EQ(at.left, n == 2);
        }
      }
    }
  }
}

TEST_F(FlowPlaceTest, OfAnAddressWithoutServiceIsNone) {
  kernel_.program(desired({service("web", {1}, {backend(1)})}), ways());
  EXPECT_EQ(place(flow4(2, 1, 7)).service, nullptr);
  EXPECT_EQ(place(flow6(1, 1, 7)).service, nullptr);
}

TEST_F(FlowPlaceTest, IsOldWhereTheServiceHasNoBackendsLeft) {
  kernel_.program(desired({service("web", {1}, {})}), ways());
  EXPECT_FALSE(place(flow4(1, 1, 7)).current);
  EXPECT_TRUE(place(flow4(1, 1, 7)).left);
  EXPECT_NE(place(flow4(1, 1, 7)).service, nullptr);
}

TEST_F(FlowPlaceTest, APinnedFlowIsWhereItsBackendIndexSays) {
  const auto web = service("web", {1}, {backend(1), backend(2, 0, 5)});
  kernel_.program(desired({web}), ways());
  const auto& programmed = kernel_.programmer_.programmed().at("web");
  for (uint32_t i = 0; i < 2; ++i) {
    auto flow = flow4(1, 9, 7, SLUICE_FLOW_PIN);
    flow.backend = flow.address;
    flow.head.backend = programmed.backends->first + i;
    const bool first = programmed.records[i].identity.address == backend_ip(1);
    EXPECT_EQ(place(flow).left, !first);
    EXPECT_EQ(place(flow).current, first);
    flow.head.backend = 99;
    EXPECT_TRUE(place(flow).left);
  }
}

}  // namespace
}  // namespace sluice::agent::program::testing
