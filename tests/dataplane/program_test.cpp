// Programming real maps, and coming back to them.
#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <random>

#include "bpf/sluice.h"
#include "node-agent/dataplane/bpffs.h"
#include "node-agent/dataplane/device.h"
#include "node-agent/dataplane/fd.h"
#include "node-agent/dataplane/grace.h"
#include "node-agent/dataplane/mapping.h"
#include "tests/dataplane/packet.h"
#include "tests/dataplane/sandbox.h"

namespace sluice::agent::dataplane::testing {
namespace {

using ::testing::IsEmpty;
using Clock = std::chrono::steady_clock;

class Program : public SandboxTest {};

TEST_F(Program, WritesReadsBackAndVerifies) {
  const auto dataplane = open();
  const auto state = some_state(20);
  const auto outcome = dataplane->program(state, "node0", ways_by(state, "near"));
  EXPECT_THAT(outcome.failures, IsEmpty());
  EXPECT_GT(outcome.writes, 20U);
  EXPECT_THAT(dataplane->verify().failures, IsEmpty());
  EXPECT_EQ(dataplane->program(state, "node0", ways_by(state, "near")).writes, 0U);
}

TEST_F(Program, VerifyNamesTheServiceThatSomebodyHasChangedAndTheNextProgramMendsIt) {
  const auto dataplane = open();
  const auto state = some_state(3);
  const auto ways = ways_by(state, "near");
  dataplane->program(state, "node0", ways);
  // A slot of the second service: it lies behind the first one's 256.
  table<uint16_t>("slots")[256 + 12] ^= 1;
  const auto failures = dataplane->verify().failures;
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_EQ(failures[0].reason, "ReadBackDiffers");
  EXPECT_THAT(dataplane->program(state, "node0", ways).failures, IsEmpty());
  EXPECT_THAT(dataplane->verify().failures, IsEmpty());
}

TEST_F(Program, APacketToAServiceLeavesForABackendThatWasProgrammed) {
  const auto dataplane = open();
  const auto state = some_state(2);
  dataplane->program(state, "node0", ways_by(state, "near"));
  ASSERT_TRUE(dataplane->attach({{"near", AttachMode::native}}));
  const auto out =
      run_packet(program_fd("near"), udp_packet(*device_by_name("near"), "203.0.113.9", 4711, "192.0.2.2", 80));
  EXPECT_EQ(out.verdict, 3) << "XDP_TX";
  EXPECT_EQ(out.destination.rfind("10.1.1.", 0), 0U) << out.destination;
  EXPECT_EQ(out.source, "10.0.0.1");
  const auto counters = dataplane->counters();
  ASSERT_TRUE(counters);
  for (const auto& service : counters->services) {
    EXPECT_EQ(service.packets, service.service == "web1" ? 1U : 0U) << service.service;
    EXPECT_EQ(service.flows, service.service == "web1" ? 1U : 0U) << service.service;
  }
  uint64_t packets = 0;
  for (const auto& backend : counters->backends) {
    packets += backend.packets;
    if (backend.packets != 0) {
      EXPECT_EQ(backend.service, "web1");
      EXPECT_EQ(backend.address.to_string(), out.destination);
      EXPECT_EQ(backend.port, 8080);
    }
  }
  EXPECT_EQ(packets, 1U);
  const auto reason = std::find_if(counters->reasons.begin(), counters->reasons.end(),
                                   [](const auto& one) { return one.reason == "forwarded_nat"; });
  ASSERT_NE(reason, counters->reasons.end());
  EXPECT_EQ(reason->packets, 1U);
  EXPECT_EQ(reason->kind, "forward");
}

TEST_F(Program, ABackendsCountsGoWithItAndANewServiceBeginsAtZero) {
  const auto dataplane = open();
  auto state = some_state(2, 2);
  dataplane->program(state, "node0", ways_by(state, "near"));
  ASSERT_TRUE(dataplane->attach({{"near", AttachMode::native}}));
  std::string backend;
  for (uint16_t port = 1; port <= 40; ++port) {
    backend = run_packet(program_fd("near"), udp_packet(*device_by_name("near"), "203.0.113.9", port, "192.0.2.1", 80))
                  .destination;
  }
  const auto count_of = [&](const std::string& service, const std::string& address) {
    const auto counters = dataplane->counters().value();
    uint64_t packets = 0;
    for (const auto& one : counters.backends) {
      packets += one.service == service && one.address.to_string() == address ? one.packets : 0;
    }
    return packets;
  };
  const uint64_t before = count_of("web0", backend);
  ASSERT_GT(before, 0U);
  // More backends than the range of records holds: all records move.
  auto grown = state;
  grown.services["web0"].backends = some_state(1, 9).services["web0"].backends;
  EXPECT_THAT(dataplane->program(grown, "node0", ways_by(grown, "near")).failures, IsEmpty());
  EXPECT_EQ(count_of("web0", backend), before);
  // The records' former indices, and the service's, go to others.
  grown.services.erase("web0");
  EXPECT_THAT(dataplane->program(grown, "node0", ways_by(grown, "near")).failures, IsEmpty());
  auto others = some_state(6, 2);
  others.services.erase("web0");
  EXPECT_THAT(dataplane->program(others, "node0", ways_by(others, "near")).failures, IsEmpty());
  const auto counters = dataplane->counters().value();
  for (const auto& service : counters.services) {
    EXPECT_EQ(service.packets, 0U) << service.service;
  }
  for (const auto& one : counters.backends) {
    EXPECT_EQ(one.packets, 0U) << one.service;
  }
}

TEST_F(Program, WhatFormerBackendsHaveCountedStaysInTheSums) {
  const auto dataplane = open();
  const auto state = some_state(1, 4);
  dataplane->program(state, "node0", ways_by(state, "near"));
  ASSERT_TRUE(dataplane->attach({{"near", AttachMode::native}}));
  for (uint16_t port = 1; port <= 40; ++port) {
    run_packet(program_fd("near"), udp_packet(*device_by_name("near"), "203.0.113.9", port, "192.0.2.1", 80));
  }
  const auto expect_forty = [&](const char* when) {
    const auto counters = dataplane->counters().value();
    ASSERT_EQ(counters.services.size(), 1U);
    EXPECT_EQ(counters.services[0].packets, 40U) << when;
    EXPECT_EQ(counters.services[0].flows, 40U) << when;
    const auto reason = std::find_if(counters.reasons.begin(), counters.reasons.end(),
                                     [](const auto& one) { return one.reason == "forwarded_nat"; });
    ASSERT_NE(reason, counters.reasons.end());
    EXPECT_EQ(reason->packets, 40U) << when;
  };
  expect_forty("before");
  auto fewer = state;
  fewer.services["web0"].backends.resize(1);
  EXPECT_THAT(dataplane->program(fewer, "node0", ways_by(fewer, "near")).failures, IsEmpty());
  expect_forty("after three have gone");
  EXPECT_THAT(dataplane->program(state, "node0", ways_by(state, "near")).failures, IsEmpty());
  expect_forty("after they have come back");
}

TEST_F(Program, DropsAreCountedByReasonAndService) {
  const auto dataplane = open();
  auto state = some_state(2);
  state.services["web1"].backends.clear();
  dataplane->program(state, "node0", ways_by(state, "near"));
  ASSERT_TRUE(dataplane->attach({{"near", AttachMode::native}}));
  const auto out =
      run_packet(program_fd("near"), udp_packet(*device_by_name("near"), "203.0.113.9", 4711, "192.0.2.2", 80));
  EXPECT_EQ(out.verdict, 3) << "dropped, and the client is told: XDP_TX";
  EXPECT_EQ(out.destination, "203.0.113.9");
  const auto counters = dataplane->counters().value();
  const auto of_service = std::find_if(counters.reasons.begin(), counters.reasons.end(),
                                       [](const auto& one) { return !one.service.empty(); });
  ASSERT_NE(of_service, counters.reasons.end());
  EXPECT_EQ(of_service->service, "web1");
  EXPECT_EQ(of_service->reason, "no_backend");
  EXPECT_EQ(of_service->kind, "drop");
  EXPECT_EQ(of_service->packets, 1U);
}

TEST_F(Program, AChangedWayReachesTheRecords) {
  const auto dataplane = open();
  const auto state = some_state(2);
  auto ways = ways_by(state, "near");
  dataplane->program(state, "node0", ways);
  for (auto& [address, way] : ways.next_hops) {
    way.mac = {2, 0, 0, 0, 0, 77};
  }
  EXPECT_TRUE(dataplane->update_ways(ways));
  EXPECT_THAT(dataplane->verify().failures, IsEmpty());
  EXPECT_EQ(SLUICE_NEXT_HOP_MAC(table<sluice_backend>("backends")[0].next_hop), 0x4d0000000002ULL);
}

TEST_F(Program, TwoThousandServicesStandWithinSeconds) {
  auto options = this->options();
  options.sizes.tables = program::Sizes{1U << 15, 1024, 4096, 1U << 22, 1U << 16};
  const auto dataplane = open(options);
  const auto state = some_state(2000, 5);
  const auto begin = Clock::now();
  const auto outcome = dataplane->program(state, "node0", ways_by(state, "near"));
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin).count();
  EXPECT_THAT(outcome.failures, IsEmpty());
  EXPECT_LT(took, 5000) << "ms";
  const auto verify_begin = Clock::now();
  EXPECT_THAT(dataplane->verify().failures, IsEmpty());
  const auto verify_took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - verify_begin).count();
  RecordProperty("program_ms", std::to_string(took));
  RecordProperty("verify_ms", std::to_string(verify_took));
  std::cout << "2,000 services x 5 backends: programmed in " << took << " ms, verified in " << verify_took << " ms\n";
}

TEST_F(Program, AGracePeriodCanBeWaitedForBothWays) {
  EXPECT_TRUE(grace_by_membarrier());
  EXPECT_TRUE(grace_by_map_of_maps());
}

class Reopen : public SandboxTest {};

TEST_F(Reopen, CostsNoWriteAndKeepsTheLink) {
  const auto state = some_state(10);
  const auto ways = ways_by(state, "near");
  uint32_t link = 0;
  {
    const auto dataplane = open();
    dataplane->program(state, "node0", ways);
    ASSERT_TRUE(dataplane->attach({{"near", AttachMode::native}}));
    link = link_id("near");
    ASSERT_NE(link, 0U);
  }
  EXPECT_NE(program_on("near"), 0U) << "an agent that is away leaves forwarding on";
  const auto dataplane = open();
  ASSERT_EQ(dataplane->attached().size(), 1U);
  EXPECT_EQ(dataplane->attached()[0].name, "near");
  const auto outcome = dataplane->program(state, "node0", ways);
  EXPECT_EQ(outcome.writes, 0U);
  EXPECT_THAT(outcome.failures, IsEmpty());
  EXPECT_THAT(dataplane->verify().failures, IsEmpty());
  ASSERT_TRUE(dataplane->attach({{"near", AttachMode::native}}));
  EXPECT_EQ(link_id("near"), link) << "updated in place";
  EXPECT_EQ(
      run_packet(program_fd("near"), udp_packet(*device_by_name("near"), "203.0.113.9", 1, "192.0.2.1", 80)).verdict,
      3);
}

TEST_F(Reopen, IsRefusedWhileAnotherHasTheDirectory) {
  const auto dataplane = open();
  const auto second = KernelDataplane::open(options());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::conflict);
  const auto purged = KernelDataplane::purge(directory_);
  ASSERT_FALSE(purged);
  EXPECT_EQ(purged.error().kind, ErrorKind::conflict);
}

std::set<uint32_t> maps_of_program(int fd) {
  std::vector<__u32> ids(64);
  bpf_prog_info info{};
  info.nr_map_ids = static_cast<__u32>(ids.size());
  info.map_ids = reinterpret_cast<__u64>(ids.data());
  __u32 length = sizeof info;
  EXPECT_EQ(bpf_obj_get_info_by_fd(fd, &info, &length), 0);
  return {ids.begin(), ids.begin() + info.nr_map_ids};
}

bpf_map_info info_of(int fd) {
  bpf_map_info info{};
  __u32 length = sizeof info;
  EXPECT_EQ(bpf_obj_get_info_by_fd(fd, &info, &length), 0);
  return info;
}

TEST_F(Reopen, WithOtherSizesForwardsByTheOldTablesUntilTheNewOnesStand) {
  const auto state = some_state(10);
  const auto ways = ways_by(state, "near");
  {
    const auto dataplane = open();
    dataplane->program(state, "node0", ways);
    ASSERT_TRUE(dataplane->attach({{"near", AttachMode::native}}));
  }
  const auto packet = udp_packet(*device_by_name("near"), "203.0.113.9", 99, "192.0.2.1", 80);
  const std::string backend = run_packet(program_fd("near"), packet).destination;
  const uint32_t link = link_id("near");
  const uint32_t old_slots = info_of(pinned_map("slots")).id;
  const uint32_t old_flows = info_of(pinned_map("flows4")).id;
  auto larger = options();
  larger.sizes.tables.slots *= 2;
  larger.sizes.flows4 *= 2;
  const auto dataplane = open(larger);
  EXPECT_EQ(info_of(pinned_map("slots")).id, old_slots) << "pins stay with what is attached";
  EXPECT_GT(dataplane->program(state, "node0", ways).writes, 0U);
  EXPECT_TRUE(maps_of_program(program_fd("near")).contains(old_slots));
  EXPECT_EQ(
      run_packet(program_fd("near"), udp_packet(*device_by_name("near"), "203.0.113.9", 98, "192.0.2.1", 80)).verdict,
      3);
  ASSERT_TRUE(dataplane->attach({{"near", AttachMode::native}}));
  EXPECT_EQ(link_id("near"), link);
  const auto slots = info_of(pinned_map("slots"));
  EXPECT_NE(slots.id, old_slots);
  EXPECT_EQ(slots.value_size, larger.sizes.tables.slots * sizeof(uint16_t));
  const auto now = maps_of_program(program_fd("near"));
  EXPECT_TRUE(now.contains(slots.id));
  EXPECT_FALSE(now.contains(old_slots));
  // Both flows have moved into the larger table, the one made in between too.
  EXPECT_NE(info_of(pinned_map("flows4")).id, old_flows);
  const auto swept = dataplane->sweep({});
  ASSERT_TRUE(swept);
  EXPECT_EQ(swept->live, 2U);
  EXPECT_EQ(run_packet(program_fd("near"), packet).destination, backend);
  EXPECT_EQ(dataplane->counters()->services[0].flows, 0U) << "the flow was known";
}

// A process that programs one random state after the other until it is killed.
pid_t start_programming(const Options& options, uint32_t seed) {
  const pid_t child = fork();
  if (child == 0) {
    auto dataplane = KernelDataplane::open(options);
    std::mt19937 random(seed);
    const auto below = [&random](uint32_t limit) { return static_cast<uint32_t>(random() % limit); };
    while (dataplane) {
      auto state = some_state(8 + below(24), 1 + below(9));
      for (auto& [id, service] : state.services) {
        service.backends.resize(below(static_cast<uint32_t>(service.backends.size()) + 1));
        if (below(4) == 0) {
          service.sizes = {{0, static_cast<uint8_t>(4 + below(8))}};
        }
      }
      (*dataplane)->program(state, "node0", ways_by(state, "near"));
    }
    _exit(1);
  }
  return child;
}

uint64_t table_word(const std::string& directory, uint32_t service) {
  const Fd map(bpf_obj_get((layout_directory(directory) + "/maps/services").c_str()));
  if (!map) {
    return 0;
  }
  const auto memory = Mapping::of(map.get(), info_of(map.get()).value_size, Access::read, "services");
  const auto services = memory ? memory->elements<sluice_service>() : std::span<sluice_service>();
  return service < services.size() ? __atomic_load_n(&services[service].table, __ATOMIC_ACQUIRE) : 0;
}

// Waits until a service's table has been switched so many times, beginning at `last`. False: it took too long.
bool wait_for_switches(const std::string& directory, uint32_t service, uint64_t last, uint32_t times) {
  const auto deadline = Clock::now() + std::chrono::seconds(20);
  while (times > 0 && Clock::now() < deadline) {
    const uint64_t now = table_word(directory, service);
    times -= now != last ? 1 : 0;
    last = now;
  }
  return times == 0;
}

TEST_F(Reopen, AfterAKillBetweenTwoWritesEverythingIsBroughtToTheDesiredState) {
  std::mt19937 random(42);
  for (uint32_t round = 0; round < 12; ++round) {
    const uint64_t word = table_word(directory_, round % 8);
    const pid_t child = start_programming(options(), round);
    ASSERT_GT(child, 0);
    // Killed when a service, another each time, has been switched: in the middle of the stores of one state.
    const bool begun = wait_for_switches(directory_, round % 8, word, 1 + static_cast<uint32_t>(random() % 5));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it ended by itself";
    ASSERT_TRUE(begun);
    const auto dataplane = open();
    ASSERT_NE(dataplane, nullptr);
    const auto state = some_state(30, 4);
    const auto ways = ways_by(state, "near");
    const auto outcome = dataplane->program(state, "node0", ways);
    EXPECT_THAT(outcome.failures, IsEmpty());
    EXPECT_GT(outcome.writes, 0U);
    EXPECT_THAT(dataplane->verify().failures, IsEmpty());
    EXPECT_EQ(dataplane->program(state, "node0", ways).writes, 0U);
  }
}

}  // namespace
}  // namespace sluice::agent::dataplane::testing
