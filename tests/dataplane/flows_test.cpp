// Addresses answered for, and the flow table's sweep.
#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>

#include <ctime>
#include <set>

#include "bpf/sluice.h"
#include "node-agent/dataplane/clock.h"
#include "node-agent/dataplane/device.h"
#include "node-agent/dataplane/flow_sweep.h"
#include "node-agent/program/keys.h"
#include "tests/dataplane/packet.h"
#include "tests/dataplane/sandbox.h"

namespace sluice::agent::dataplane::testing {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr int kPass = 2;
constexpr int kTransmit = 3;

uint64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(time.tv_nsec);
}

class Owned : public SandboxTest {
 protected:
  void SetUp() override {
    SandboxTest::SetUp();
    dataplane_ = open();
    ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
    near_ = if_nametoindex("near");
  }
  void TearDown() override {
    dataplane_.reset();
    SandboxTest::TearDown();
  }
  void must_own(const std::vector<OwnedAddress>& owned, seconds valid_for) {
    const auto outcome = dataplane_->set_owned(owned, valid_for);
    ASSERT_FALSE(outcome.trouble) << outcome.trouble->message();
    EXPECT_EQ(outcome.answered, owned);
  }
  // 192.0.2.FIRST and those that follow, ascending.
  [[nodiscard]] std::vector<OwnedAddress> addresses(uint32_t first, uint32_t count) const {
    std::vector<OwnedAddress> many;
    for (uint32_t n = first; n < first + count; ++n) {
      many.push_back({net::IpAddress::from_ipv4(__builtin_bswap32(0xc0000200U + n)), near_});
    }
    return many;
  }
  uint64_t deadline_of(const OwnedAddress& one) {
    const sluice_owned_key key = key_of(one);
    sluice_owned value{};
    return bpf_map_lookup_elem(pinned_map("owned_addresses"), &key, &value) == 0 ? value.deadline : 0;
  }
  int answer_for(const std::string& address) {
    return run_packet(program_fd("near"), arp_request("203.0.113.9", address)).verdict;
  }
  static sluice_owned_key key_of(const OwnedAddress& one) {
    sluice_owned_key key{};
    key.address = program::to_element(one.address);
    key.ifindex = one.ifindex;
    key.vlan = one.vlan;
    key.family = one.address.is_ipv4() ? 4 : 6;
    return key;
  }
  std::set<std::string> in_map() {
    std::set<std::string> addresses;
    sluice_owned_key key{};
    const void* before = nullptr;
    while (bpf_map_get_next_key(pinned_map("owned_addresses"), before, &key) == 0) {
      before = &key;
      addresses.insert(program::from_element(key.address, static_cast<net::Family>(key.family))->to_string());
    }
    return addresses;
  }

  std::unique_ptr<Dataplane> dataplane_;
  uint32_t near_ = 0;
};

TEST_F(Owned, AreAnsweredForOnTheirInterfaceUntilTheDeadline) {
  must_own({{ip("192.0.2.1"), near_}, {ip("192.0.2.2"), near_ + 1000}}, seconds(60));
  EXPECT_EQ(answer_for("192.0.2.1"), kTransmit);
  EXPECT_EQ(answer_for("192.0.2.2"), kPass) << "another interface's";
  EXPECT_EQ(answer_for("192.0.2.3"), kPass);
  must_own({{ip("192.0.2.1"), near_}}, seconds(0));
  // The program's clock is a coarse one, some milliseconds behind.
  const uint64_t give_up = now_ns() + 5'000'000'000U;
  while (answer_for("192.0.2.1") != kPass && now_ns() < give_up) {
  }
  EXPECT_EQ(answer_for("192.0.2.1"), kPass) << "past the deadline the node is silent by itself";
}

TEST_F(Owned, HaveTheDeadlineThatWasAskedFor) {
  const uint64_t before = now_ns();
  must_own({{ip("192.0.2.1"), near_}}, seconds(30));
  const sluice_owned_key key = key_of({ip("192.0.2.1"), near_});
  sluice_owned value{};
  ASSERT_EQ(bpf_map_lookup_elem(pinned_map("owned_addresses"), &key, &value), 0);
  EXPECT_GE(value.deadline, before + 30'000'000'000U);
  EXPECT_LE(value.deadline, now_ns() + 30'000'000'000U);
}

TEST_F(Owned, LeaveTheMapWhenTheyAreNotOwnedAnyMore) {
  must_own({{ip("192.0.2.1"), near_}, {ip("192.0.2.2"), near_}}, seconds(60));
  must_own({{ip("192.0.2.2"), near_}}, seconds(60));
  EXPECT_THAT(in_map(), ElementsAre("192.0.2.2"));
}

TEST_F(Owned, OfAnEarlierProcessLeaveTheMapToo) {
  must_own({{ip("192.0.2.1"), near_}, {ip("192.0.2.2"), near_}}, seconds(60));
  dataplane_.reset();
  dataplane_ = open();
  EXPECT_EQ(in_map().size(), 2U) << "an agent that restarts goes on owning";
  must_own({{ip("192.0.2.2"), near_}}, seconds(60));
  EXPECT_THAT(in_map(), ElementsAre("192.0.2.2"));
}

TEST_F(Owned, MoreThanFitAreToldAndThoseThatAreThereAreRenewed) {
  const auto there = addresses(100, 60);
  must_own(there, seconds(5));
  const uint64_t before = now_ns();
  auto wanted = addresses(0, 100);  // sorted before what is there, and more than there is room for
  wanted.insert(wanted.end(), there.begin(), there.end());
  const auto outcome = dataplane_->set_owned(wanted, seconds(60));
  ASSERT_TRUE(outcome.trouble);
  EXPECT_EQ(outcome.trouble->kind, ErrorKind::exhausted);
  EXPECT_EQ(outcome.answered.size(), 64U);
  for (const OwnedAddress& one : there) {
    EXPECT_GE(deadline_of(one), before + 60'000'000'000U) << one.address.to_string();
  }
  for (const OwnedAddress& one : outcome.answered) {
    EXPECT_NE(deadline_of(one), 0U) << one.address.to_string();
  }
}

TEST_F(Owned, AreOfEitherFamilyAndOfAVlan) {
  const std::vector<OwnedAddress> both = {
      {ip("192.0.2.1"), near_}, {ip("192.0.2.1"), near_, 100}, {ip("2001:db8::1"), near_}};
  must_own(both, seconds(60));
  EXPECT_THAT(in_map(), ElementsAre("192.0.2.1", "2001:db8::1"));
  dataplane_.reset();
  dataplane_ = open();
  EXPECT_THAT(dataplane_->owned().value(), ::testing::UnorderedElementsAreArray(both));
}

TEST_F(Owned, OfAnEarlierProcessWithAnotherRoomAreKnown) {
  must_own(addresses(1, 3), seconds(60));
  dataplane_.reset();
  auto roomier = options();
  roomier.sizes.owned_addresses = 128;
  dataplane_ = open(roomier);
  ASSERT_NE(dataplane_, nullptr);
  EXPECT_EQ(dataplane_->owned()->size(), 3U);
}

TEST(OwnedRoom, IsForAnAddressOfItsOwnForEachServiceOnFourInterfaces) {
  EXPECT_EQ(MapSizes{}.owned_addresses, 4 * MapSizes{}.tables.services);
  EXPECT_EQ(owned_room(100'000), 400'000U);
  EXPECT_EQ(owned_room(1), 4096U);
}

TEST(IdleTime, FollowsTableProtocolAndState) {
  const IdleTimes idle;
  const auto of = [&idle](FlowTableKind table, uint8_t protocol, uint64_t state, uint8_t kind = SLUICE_FLOW_NAT) {
    return idle_time(idle, table, SLUICE_FLOW_TUPLE(0, 0, protocol, kind), state, 300);
  };
  constexpr auto kHalfOpen = FlowTableKind::half_open;
  constexpr auto kEstablished = FlowTableKind::established;
  EXPECT_EQ(of(kHalfOpen, 6, 0), idle.tcp_new);
  EXPECT_EQ(of(kHalfOpen, 6, SLUICE_FLOW_REPLIED), idle.tcp_new) << "the handshake's last ACK promotes";
  EXPECT_EQ(of(kHalfOpen, 6, SLUICE_FLOW_RESET), idle.tcp_closed);
  EXPECT_EQ(of(kEstablished, 6, SLUICE_FLOW_REPLIED), idle.tcp_established);
  EXPECT_EQ(of(kEstablished, 6, SLUICE_FLOW_REPLIED | SLUICE_FLOW_CLIENT_FIN), idle.tcp_established);
  EXPECT_EQ(of(kEstablished, 6, SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN), idle.tcp_closed);
  EXPECT_EQ(of(kEstablished, 6, SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN | SLUICE_FLOW_BACKEND_FIRST),
            idle.tcp_closed_by_backend);
  EXPECT_EQ(of(kHalfOpen, 17, 0), idle.udp_new);
  EXPECT_EQ(of(kEstablished, 17, 0), idle.udp_established);
  EXPECT_EQ(of(kEstablished, 6, 0, SLUICE_FLOW_AFFINITY), seconds(300));
}

class Sweep : public SandboxTest {
 protected:
  void SetUp() override {
    SandboxTest::SetUp();
    auto options = this->options();
    options.sizes.flows4 = 65536;
    dataplane_ = open(options);
    state_ = some_state(2, 2);
    program();
    ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  }
  void TearDown() override {
    dataplane_.reset();
    SandboxTest::TearDown();
  }
  void program() { EXPECT_THAT(dataplane_->program(state_, "node0", ways_by(state_, "near")).failures, IsEmpty()); }
  void send(uint16_t port, const std::string& address = "192.0.2.1") {
    ASSERT_EQ(
        run_packet(program_fd("near"), udp_packet(*device_by_name("near"), "203.0.113.9", port, address, 80)).verdict,
        kTransmit);
  }
  // Makes every flow of a client's port look as if it had been idle for so long.
  void age(uint16_t client_port, seconds idle) {
    const uint32_t now = Clock::open()->now().value();
    for (const char* name : {"flows4", "half_open4"}) {
      for (sluice_flow4& flow : table<sluice_flow4>(name)) {
        if (SLUICE_FLOW_STATUS(flow.head.control) == SLUICE_FLOW_LIVE &&
            flow.client_port == __builtin_bswap16(client_port)) {
          flow.head.seen = now - static_cast<uint32_t>(idle.count()) * jiffies_per_second();
        }
      }
    }
  }

  std::unique_ptr<Dataplane> dataplane_;
  state::DesiredState state_;
};

TEST_F(Sweep, CountsLiveFlowsByServiceAndDeletesThoseThatWereIdleForTooLong) {
  for (uint16_t port = 1; port <= 5; ++port) {
    send(port);
  }
  send(9, "192.0.2.2");
  age(3, seconds(61));
  age(4, seconds(59));
  const auto outcome = dataplane_->sweep({});
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->expired, 1U);
  EXPECT_EQ(outcome->live, 5U);
  EXPECT_THAT(outcome->live_by_service, ElementsAre(Pair("web0", 4), Pair("web1", 1)));
  EXPECT_THAT(outcome->services_with_old_flows, IsEmpty());
  EXPECT_EQ(dataplane_->sweep({})->expired, 0U);
}

TEST_F(Sweep, FollowsTheIdleTimesThatItIsGiven) {
  send(1);
  IdleTimes idle;
  idle.udp_new = seconds(5);
  age(1, seconds(6));
  EXPECT_EQ(dataplane_->sweep({})->expired, 0U);
  EXPECT_EQ(dataplane_->sweep(idle)->expired, 1U);
}

TEST_F(Sweep, NamesServicesWithFlowsThatOnlyTheHistoryKeeps) {
  for (uint16_t port = 1; port <= 20; ++port) {
    send(port);
  }
  // The first backend leaves; the table keeps it as an earlier candidate.
  state_.services["web0"].backends[0].left = 2;
  state_.revision = 2;
  program();
  auto outcome = dataplane_->sweep({});
  EXPECT_THAT(outcome->services_with_old_flows, ElementsAre("web0"));
  EXPECT_EQ(outcome->live, 20U);
  // They end; those of the backend that stays do not need history.
  for (uint16_t port = 1; port <= 20; ++port) {
    age(port, seconds(100));
  }
  outcome = dataplane_->sweep({});
  EXPECT_EQ(outcome->live, 0U);
  EXPECT_THAT(outcome->services_with_old_flows, IsEmpty());
}

TEST_F(Sweep, FlowsOfAServiceThatIsGoneCountForNone) {
  send(1);
  state_.services.erase("web0");
  program();
  const auto outcome = dataplane_->sweep({});
  EXPECT_EQ(outcome->live, 1U);
  EXPECT_THAT(outcome->live_by_service, IsEmpty());
  EXPECT_THAT(outcome->services_with_old_flows, IsEmpty());
}

TEST_F(Sweep, TellsHowManyFlowsALeavingBackendHasAndTheUseOfPorts) {
  for (uint16_t port = 1; port <= 20; ++port) {
    send(port);
  }
  const auto leaver = state_.services["web0"].backends[0];
  state_.services["web0"].backends[0].left = 2;
  state_.revision = 2;
  program();
  const auto outcome = dataplane_->sweep({});
  ASSERT_TRUE(outcome);
  ASSERT_EQ(outcome->leaving.size(), 1U);
  EXPECT_EQ(outcome->leaving[0].service, "web0");
  EXPECT_EQ(outcome->leaving[0].address, leaver.address);
  EXPECT_EQ(outcome->leaving[0].port, leaver.port);
  EXPECT_GT(outcome->leaving[0].flows, 0U);
  EXPECT_LT(outcome->leaving[0].flows, 20U);
  ASSERT_EQ(outcome->nat_ports.size(), 2U);
  EXPECT_EQ(outcome->nat_ports[0].ports + outcome->nat_ports[1].ports, 20U);
  for (const PortUse& use : outcome->nat_ports) {
    EXPECT_GT(use.ports, 0U);
    EXPECT_EQ(use.room, 20000U);
    EXPECT_EQ(use.source, ip("10.0.0.1"));
  }
  EXPECT_EQ(outcome->ipv4.half_open, 20U) << "nobody has answered";
  EXPECT_EQ(outcome->ipv4.established_room, 65536U / 4 * 3);
  EXPECT_EQ(outcome->ipv6.half_open + outcome->ipv6.established, 0U);
}

TEST_F(Sweep, PutsInOrderWhatAKilledWriterHasLeft) {
  auto& left = table<sluice_flow4>("flows4")[7].head;
  left.homes |= SLUICE_FLOW_LOCK;
  left.control = SLUICE_FLOW_CONTROL(SLUICE_FLOW_BUSY, 0, 3, 0);
  EXPECT_EQ(dataplane_->sweep({})->mended, 0U) << "somebody may be at it";
  EXPECT_EQ(dataplane_->sweep({})->mended, 2U);
  EXPECT_EQ(SLUICE_FLOW_STATUS(left.control), SLUICE_FLOW_FREE);
  EXPECT_EQ(left.homes & SLUICE_FLOW_LOCK, 0U);
}

}  // namespace
}  // namespace sluice::agent::dataplane::testing
