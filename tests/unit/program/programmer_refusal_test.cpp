// What is refused, for whom, and how all others go on: what this node cannot do, and what there is no room for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <arpa/inet.h>

#include "tests/unit/program/expectations.h"

namespace sluice::agent::program::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Programmer, MoreThanFourNatSourcesAreRefusedForTheServicesThatNeedThem) {
  Kernel kernel;
  Ways now = ways();
  std::vector<state::Service> services;
  for (uint32_t n = 1; n <= 5; ++n) {
    now.next_hops[backend_ip(n * 4 + 1)].source = ip("10.0.0." + std::to_string(n));
    services.push_back(service("s" + std::to_string(n), {n}, {backend(n * 4 + 1)}));
  }
  EXPECT_THAT(kernel.program(desired(services), now).failures, ElementsAre(Failure("s5", "TableFull")));
  services.erase(services.begin());
  EXPECT_THAT(kernel.program_to_the_end(desired(services), now).failures, IsEmpty());
}

TEST(Programmer, WhatThisNodeCannotDoIsRefusedWholeAndOthersGoOn) {
  Kernel kernel;
  auto tunnel = service("tunnel", {1}, {backend(1)});
  tunnel.forwarding = state::Forwarding::tunnel;
  auto direct = service("direct", {2}, {backend(1)});
  direct.forwarding = state::Forwarding::direct;
  auto sources = service("sources", {3}, {backend(1)});
  sources.allowed_sources = {net::Prefix::parse("203.0.113.0/24").value()};
  auto local = service("local", {4}, {backend(1)});
  local.traffic_policy = state::TrafficPolicy::local;
  auto dual = service("dual", {5}, {backend(1)});
  dual.addresses.push_back(ip("2001:db8::1"));
  auto v6_backend = service("v6", {6}, {backend(1)});
  v6_backend.backends[0].address = ip("2001:db8::2");
  const auto state = desired({tunnel, direct, sources, local, dual, v6_backend, service("web", {7}, {backend(1)})});
  const Plan plan = kernel.program(state, ways());
  EXPECT_EQ(plan.failures.size(), 6U);
  for (const auto& failure : plan.failures) {
    EXPECT_EQ(failure.reason, "NotSupported") << failure.service << failure.message;
  }
  EXPECT_EQ(kernel.programmer_.programmed().size(), 1U);
  expect_as(kernel, state, ways());
}

TEST(Programmer, AServiceThatAsksForWhatThisNodeCannotDoIsTakenOut) {
  // To go on without its source ranges would let in whom it wants to keep out.
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1)})});
  kernel.program(state, ways());
  state.services["web"].allowed_sources = {net::Prefix::parse("203.0.113.0/24").value()};
  EXPECT_THAT(kernel.program(state, ways()).failures, ElementsAre(Failure("web", "NotSupported")));
  EXPECT_FALSE(kernel.read(sluice_key_ipv4(service_ip(1).ipv4(), htons(80), 6)));
}

struct FullCase {
  const char* map;
  Sizes sizes;
};

class Full : public ::testing::TestWithParam<FullCase> {};

TEST_P(Full, AServiceWithoutRoomFailsKeepsWhatItHadAndOthersGoOn) {
  Kernel kernel(GetParam().sizes);
  std::vector<state::Service> services;
  for (uint32_t n = 0; n < 3; ++n) {
    services.push_back(service("a" + std::to_string(n), {n + 1}, {backend(1), backend(2)}));
  }
  EXPECT_THAT(kernel.program_to_the_end(desired(services), ways()).failures, IsEmpty());
  // Each grows at once, and many more come: only some find room.
  for (auto& service : services) {
    service.addresses.push_back(service_ip(static_cast<uint32_t>(200 + service.id[1] - '0')));
    service.backends.push_back(backend(3));
  }
  for (uint32_t n = 0; n < 60; ++n) {
    services.push_back(service("b" + std::to_string(n), {n + 10}, {backend(1), backend(2), backend(5)}));
  }
  const auto state = desired(services);
  const Plan plan = kernel.program_to_the_end(state, ways());
  ASSERT_FALSE(plan.failures.empty());
  std::map<std::string, std::string> failed;
  for (const auto& failure : plan.failures) {
    EXPECT_EQ(failure.reason, "TableFull");
    EXPECT_THAT(failure.message, HasSubstr(GetParam().map));
    failed[failure.service] = failure.message;
  }
  size_t programmed = 0;
  for (const auto& [id, service] : state.services) {
    auto whole = expected(desired({service}), ways());
    if (!failed.contains(id)) {
      ++programmed;
    } else if (id[0] == 'a') {
      auto before = service;
      before.addresses.pop_back();
      before.backends.pop_back();
      whole = expected(desired({before}), ways());
      EXPECT_FALSE(kernel.read(key_of(service, 1))) << "half programmed";
    } else {
      EXPECT_FALSE(kernel.read(key_of(service)));
      continue;
    }
    for (const auto& [key, found] : whole) {
      EXPECT_EQ(kernel.read(key), found) << id;
    }
  }
  EXPECT_GT(programmed, 3U);
  // Room comes back with what goes.
  for (uint32_t n = 10; n < 70; ++n) {
    services.pop_back();
  }
  EXPECT_THAT(kernel.program_to_the_end(desired(services), ways()).failures, IsEmpty());
  expect_as(kernel, desired(services), ways());
}

INSTANTIATE_TEST_SUITE_P(Maps, Full,
                         ::testing::Values(FullCase{"service_keys", {128, 64, 1U << 20, 4096}},
                                           FullCase{"services", {1024, 16, 1U << 20, 4096}},
                                           FullCase{"slots", {1024, 64, 256, 4096}},
                                           FullCase{"backends", {1024, 64, 1U << 20, 64}}),
                         [](const auto& full) { return std::string(full.param.map); });

TEST(Programmer, WhatAllServicesNeedAtOnceIsMadeInSeveralRounds) {
  // The slots hold all services once, and not twice: tables switch as others are freed.
  Sizes sizes = small_sizes();
  sizes.slots = 16 * 10;
  Kernel kernel(sizes);
  std::vector<state::Service> services;
  for (uint32_t n = 0; n < 8; ++n) {
    services.push_back(service("s" + std::to_string(n), {n + 1}, {backend(1), backend(2)}));
  }
  kernel.program(desired(services), ways());
  for (auto& service : services) {
    service.backends.push_back(backend(3));
  }
  EXPECT_THAT(kernel.program_to_the_end(desired(services), ways()).failures, IsEmpty());
  expect_as(kernel, desired(services), ways());
}

}  // namespace
}  // namespace sluice::agent::program::testing
