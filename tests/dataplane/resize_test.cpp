// Flows when their tables get another size: the agent is started anew with it, and none is lost that there is room for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "bpf/sluice.h"
#include "node-agent/dataplane/device.h"
#include "tests/dataplane/packet.h"
#include "tests/dataplane/sandbox.h"

namespace sluice::agent::dataplane::testing {
namespace {

using ::testing::IsEmpty;

constexpr int kTransmit = 3;

class Resize : public SandboxTest {
 protected:
  void SetUp() override {
    SandboxTest::SetUp();
    state_ = some_state(1);
    state_.services.merge(some_state6(1).services);
    begin(options());
  }
  void TearDown() override {
    dataplane_.reset();
    SandboxTest::TearDown();
  }
  // An agent with these sizes, up to where the new tables are filled; swap() lets programs use them.
  void open_and_program(const Options& options) {
    dataplane_.reset();
    dataplane_ = open(options);
    ASSERT_NE(dataplane_, nullptr);
    EXPECT_THAT(dataplane_->program(state_, "node0", ways_by(state_, "near")).failures, IsEmpty());
  }
  void swap() { ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}})); }
  void begin(const Options& options) {
    open_and_program(options);
    swap();
  }
  PacketOut send(bool ipv6, uint16_t client_port) {
    return run_packet(program_fd("near"), udp_packet(*device_by_name("near"), ipv6 ? "2001:db8:1::9" : "203.0.113.9",
                                                     client_port, ipv6 ? "2001:db8::1" : "192.0.2.1", 80));
  }
  // The backend's answer.
  void answer(const PacketOut& sent) {
    const auto out = run_packet(
        program_fd("near"), udp_packet(*device_by_name("near"), sent.destination, 8080, sent.source, sent.source_port));
    EXPECT_EQ(out.source_port, 80) << "translated back";
  }
  // Flows of a family's client ports 1 to `count`; every other one is answered and goes on, which establishes it.
  std::map<uint16_t, PacketOut> make_flows(bool ipv6, uint16_t count) {
    std::map<uint16_t, PacketOut> flows;
    for (uint16_t port = 1; port <= count; ++port) {
      flows[port] = send(ipv6, port);
      EXPECT_EQ(flows[port].verdict, kTransmit);
      if (port % 2 == 0) {
        answer(flows[port]);
        send(ipv6, port);
      }
    }
    return flows;
  }
  void expect_same(bool ipv6, const std::map<uint16_t, PacketOut>& flows) {
    for (const auto& [port, before] : flows) {
      const auto now = send(ipv6, port);
      EXPECT_EQ(now.verdict, kTransmit);
      EXPECT_EQ(now.destination, before.destination) << port;
      EXPECT_EQ(now.source_port, before.source_port) << port;
    }
  }
  uint64_t flows_made() {
    uint64_t made = 0;
    for (const auto& service : dataplane_->counters()->services) made += service.flows;
    return made;
  }

  std::unique_ptr<Dataplane> dataplane_;
  state::DesiredState state_;
};

void expect_use(const FlowUse& use, uint64_t established, uint64_t half_open, const char* when) {
  EXPECT_EQ(use.established, established) << when;
  EXPECT_EQ(use.half_open, half_open) << when;
}

TEST_F(Resize, LargerTablesTakeOverFlowsOfBothFamilies) {
  const auto four = make_flows(false, 20);
  const auto six = make_flows(true, 40);
  const auto before = dataplane_->sweep({}).value();
  expect_use(before.ipv4, 10, 10, "before");
  expect_use(before.ipv6, 20, 20, "before");
  auto larger = options();
  larger.sizes.flows6 *= 4;
  larger.sizes.half_open6 *= 2;
  open_and_program(larger);
  const auto late = send(true, 99);  // into the old table: programs change over when they are attached anew
  swap();
  const auto after = dataplane_->sweep({}).value();
  expect_use(after.ipv4, 10, 10, "after: their tables are as large as they were");
  expect_use(after.ipv6, 20, 21, "after");
  EXPECT_EQ(after.ipv6.established_room, before.ipv6.established_room * 4);
  EXPECT_EQ(after.live_by_service.at("web0/IPv6"), 41U);
  const uint64_t made = flows_made();
  EXPECT_EQ(made, 61U);
  expect_same(false, four);
  expect_same(true, six);
  EXPECT_EQ(send(true, 99).source_port, late.source_port);
  EXPECT_EQ(flows_made(), made) << "all were known";
  // Shares were counted with what was copied.
  EXPECT_EQ(table<sluice_shares>("shares")[0].flows6, 20U);
  EXPECT_EQ(table<sluice_shares>("shares")[0].half_open6, 21U);
}

TEST_F(Resize, SmallerTablesTakeAsManyAsFitAndTheOthersAreRefusedAndCounted) {
  const auto six = make_flows(true, 200);
  auto smaller = options();
  smaller.sizes.flows6 = 64;
  smaller.sizes.half_open6 = 4096;
  begin(smaller);
  const auto after = dataplane_->sweep({}).value();
  EXPECT_LE(after.ipv6.established, after.ipv6.established_room);
  EXPECT_GT(after.ipv6.established, after.ipv6.established_room / 2);
  EXPECT_EQ(after.ipv6.half_open, 100U);
  uint64_t refused = 0;
  for (const auto& [port, before] : six) {
    const auto now = send(true, port);
    if (now.verdict != kTransmit) {
      ++refused;
      continue;
    }
    EXPECT_EQ(now.destination, before.destination) << port;
    EXPECT_EQ(now.source_port, before.source_port) << port;
  }
  EXPECT_EQ(refused, 100 - after.ipv6.established);
  uint64_t counted = 0;
  for (const auto& one : dataplane_->counters()->reasons) {
    counted += one.reason == "flow_table_full" && one.service == "web0/IPv6" ? one.packets : 0;
  }
  EXPECT_EQ(counted, refused);
}

TEST_F(Resize, ThatIsInterruptedBeforeTheProgramsChangeOverLosesNothing) {
  const auto six = make_flows(true, 40);
  auto larger = options();
  larger.sizes.flows6 *= 2;
  open_and_program(larger);
  const auto late = send(true, 99);
  begin(larger);  // the agent before had come no further
  expect_use(dataplane_->sweep({})->ipv6, 20, 21, "after");
  expect_same(true, six);
  EXPECT_EQ(send(true, 99).source_port, late.source_port);
}

}  // namespace
}  // namespace sluice::agent::dataplane::testing
