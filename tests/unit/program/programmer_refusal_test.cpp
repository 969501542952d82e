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

TEST(Programmer, MoreInterfacesAndSourcesThanThereIsRoomForAreRefusedForTheServicesThatNeedThem) {
  Kernel kernel;
  Ways now = ways();
  std::vector<state::Backend> backends;
  const auto source = [](uint32_t n) { return "10.9." + std::to_string(n / 200) + "." + std::to_string(n % 200 + 1); };
  state::Service many = service("many", {1}, {}, 9);
  for (uint32_t n = 0; n < SLUICE_MAX_EGRESS - 3; ++n) {
    state::Backend one = backend(1);
    one.address = ip("10.2." + std::to_string(n / 200) + "." + std::to_string(n % 200 + 1));
    now.next_hops[one.address] = via(2, 1, source(n));
    many.backends.push_back(one);
  }
  Sizes sizes = small_sizes();
  sizes.backends = 1024;
  kernel = Kernel(sizes);
  now.next_hops[backend_ip(1)] = via(2, 1, source(999));
  const auto one = service("one", {2}, {backend(1)});
  EXPECT_THAT(kernel.program_to_the_end(desired({many}), now).failures, IsEmpty());
  EXPECT_THAT(kernel.program_to_the_end(desired({many, one}), now).failures, ElementsAre(Failure("one", "TableFull")));
  EXPECT_THAT(kernel.programmer_.check(kernel.image_.view(), nullptr), IsEmpty());
  many.backends.pop_back();
  EXPECT_THAT(kernel.program_to_the_end(desired({many, one}), now).failures, IsEmpty());
  EXPECT_NE(record_of(kernel, "one", 1).next_hop, 0U);
}

TEST(Programmer, WhatNoNodeCanDoIsRefusedWholeAndOthersGoOn) {
  Kernel kernel;
  auto dual = service("dual", {5}, {backend(1)});
  dual.addresses.push_back(ip("2001:db8::1"));
  auto v6_backend = service("v6", {6}, {backend(1)});
  v6_backend.backends[0].address = ip("2001:db8::2");
  auto direct = service("direct", {2}, {backend(1)});  // 80 -> 8080
  direct.forwarding = state::Forwarding::direct;
  auto ipip = service("ipip", {3}, {backend(1)});
  ipip.forwarding = state::Forwarding::tunnel;
  ipip.backends[0].node.clear();
  const auto state = desired({dual, v6_backend, direct, ipip, service("web", {7}, {backend(1)})});
  const Plan plan = kernel.program(state, ways());
  EXPECT_EQ(plan.failures.size(), 4U);
  for (const auto& failure : plan.failures) {
    EXPECT_EQ(failure.reason, "NotSupported") << failure.service << failure.message;
  }
  EXPECT_EQ(kernel.programmer_.programmed().size(), 1U);
  EXPECT_EQ(kernel.program(state, ways()).failures.size(), 4U) << "every plan says so";
  expect_as(kernel, state, ways());
}

TEST(Programmer, AServiceThatAsksForWhatNoNodeCanDoIsTakenOut) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1)})});
  kernel.program(state, ways());
  state.services["web"].forwarding = state::Forwarding::direct;
  EXPECT_THAT(kernel.program(state, ways()).failures, ElementsAre(Failure("web", "NotSupported")));
  EXPECT_FALSE(kernel.read(key_of(state.services["web"])));
  EXPECT_EQ(kernel.address(service_ip(1)), 0U);
}

TEST(Programmer, OfTwoServicesThatWantOneKeyTheFirstByIdHasItAsLongAsItIsThere) {
  Kernel kernel;
  auto state = desired({service("b", {1}, {backend(1)})});
  EXPECT_THAT(kernel.program(state, ways()).failures, IsEmpty());
  state.services["a"] = service("a", {1}, {backend(2)});
  EXPECT_THAT(kernel.program(state, ways()).failures, ElementsAre(Failure("b", "NotSupported")));
  EXPECT_EQ(kernel.read(key_of(state.services["a"])), expected(desired({state.services["a"]}), ways()).begin()->second);
  kernel.grace_over();
  state.services.erase("a");
  EXPECT_THAT(kernel.program(state, ways()).failures, IsEmpty());
  expect_as(kernel, state, ways());
}

// An IPv6 address whose keys have the same print as those of `like`.
net::IpAddress colliding(const net::IpAddress& like) {
  sluice_address element = raw(like);
  const auto first = [](uint64_t word, uint16_t port, uint8_t protocol) {
    const uint64_t h = (word ^ (uint64_t{port} << 8 | protocol)) * 0x9e3779b97f4a7c15ULL;
    return h ^ (h >> 32);
  };
  const uint16_t port = htons(80);
  const uint64_t other = element.words[0] ^ 0x0100000000000000ULL;
  element.words[1] ^= first(element.words[0], port, 6) ^ first(other, port, 6);
  element.words[0] = other;
  return *from_element(element, net::Family::ipv6);
}

TEST(Programmer, AnIpv6KeyWithThePrintOfAnotherIsRefusedForTheLater) {
  Kernel kernel;
  auto a = service("a", {1}, {backend(1, 0, 0, true)}, 4, true);
  auto b = service("b", {2}, {backend(2, 0, 0, true)}, 4, true);
  b.addresses[0] = colliding(a.addresses[0]);
  ASSERT_EQ(key_of(a).word(), key_of(b).word());
  const auto plan = kernel.program(desired({a, b}), ways());
  EXPECT_THAT(plan.failures, ElementsAre(Failure("b", "NotSupported")));
  EXPECT_THAT(plan.failures[0].message, HasSubstr("print"));
  expect_as(kernel, desired({a}), ways());
  EXPECT_FALSE(kernel.read(key_of(b)));
  // Once the other has gone there is room for it.
  kernel.grace_over();
  kernel.program_to_the_end(desired({b}), ways());
  EXPECT_THAT(kernel.program_to_the_end(desired({b}), ways()).failures, IsEmpty());
  expect_as(kernel, desired({b}), ways());
}

struct FullCase {
  const char* map;
  Sizes sizes;
  bool v6;
};

class Full : public ::testing::TestWithParam<FullCase> {};

TEST_P(Full, AServiceWithoutRoomFailsKeepsWhatItHadAndOthersGoOn) {
  Kernel kernel(GetParam().sizes);
  const bool v6 = GetParam().v6;
  const auto members = [v6](std::initializer_list<uint32_t> numbers) {
    std::vector<state::Backend> backends;
    for (const uint32_t n : numbers) {
      backends.push_back(backend(n, 0, 0, v6));
    }
    return backends;
  };
  std::vector<state::Service> services;
  for (uint32_t n = 0; n < 3; ++n) {
    services.push_back(service("a" + std::to_string(n), {n + 1}, members({1, 2}), 4, v6));
  }
  EXPECT_THAT(kernel.program_to_the_end(desired(services), ways()).failures, IsEmpty());
  // Each grows at once, and many more come: only some find room.
  for (auto& service : services) {
    service.addresses.push_back(service_ip(static_cast<uint32_t>(200 + service.id[1] - '0'), v6));
    service.backends.push_back(backend(3, 0, 0, v6));
  }
  for (uint32_t n = 0; n < 60; ++n) {
    services.push_back(service("b" + std::to_string(n), {n + 10}, members({1, 2, 5}), 4, v6));
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
                         ::testing::Values(FullCase{"keys", {128, 64, 64, 1U << 20, 4096}, false},
                                           FullCase{"keys6", {1024, 16, 64, 1U << 20, 4096}, true},
                                           FullCase{"services", {1024, 256, 16, 1U << 20, 4096}, false},
                                           FullCase{"slots", {1024, 256, 64, 256, 4096}, true},
                                           FullCase{"backends", {1024, 256, 64, 1U << 20, 64}, false}),
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
