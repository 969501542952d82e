// Two CPUs see the first packets of the same flows at once: "must not exist" is the lock.
#include <linux/bpf.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

constexpr uint32_t kFlows = 1500;

class ConcurrencyTest : public DataplaneTest {
 protected:
  ConcurrencyTest() : DataplaneTest({.flow_entries = 16384}) {
    plane_.add_service(service_end_, kTcp, {nat_backend()});
    plane_.settings().nat_port_last = kNatFirst + 4 * kFlows;  // many flows meet in a tuple, none runs out of tries
    plane_.write_settings();
  }
  [[nodiscard]] Packet nth(uint32_t i) const {
    return to_service(kSyn).from({.address = client_.address, .port = static_cast<uint16_t>(1024 + i)});
  }
  // Source ports that each of two threads gets for the flows, both in the same order at the same time. -1: dropped.
  std::array<std::vector<int>, 2> ports_on_two_cpus() {
    std::array<std::vector<int>, 2> ports;
    std::atomic<uint32_t> arrived{0};
    const auto run = [&](std::vector<int>& mine) {
      for (uint32_t i = 0; i < kFlows; i++) {
        const Frame frame = nth(i).frame();
        arrived++;
        while (arrived < 2 * (i + 1)) std::this_thread::yield();  // both at this flow
        const Outcome outcome = plane_.receive(frame);
        mine.push_back(outcome.action == XDP_REDIRECT ? outcome.frame[34] << 8 | outcome.frame[35] : -1);
      }
    };
    std::thread other(run, std::ref(ports[1]));
    run(ports[0]);
    other.join();
    return ports;
  }
};

TEST_F(ConcurrencyTest, AFlowSeenByTwoCpusAtOnceHasOneRecordAndOnePort) {
  const auto ports = ports_on_two_cpus();
  EXPECT_EQ(ports[0], ports[1]);
  std::set<int> distinct(ports[0].begin(), ports[0].end());
  EXPECT_EQ(distinct.size(), kFlows) << "two flows share a port";
  EXPECT_EQ(distinct.count(-1), 0U);
  EXPECT_EQ(plane_.flows().size(), kFlows);
  EXPECT_GT(plane_.counted(SLUICE_REASON_PORT_CHANGED), 100U);
}

TEST_F(ConcurrencyTest, TwoCpusDoNotGiveAnExpiredRecordToTwoFlows) {
  // Every tuple is taken by a record whose time is over; both CPUs bring flows of their own.
  constexpr uint16_t kPorts = 4000, kEach = 600;  // never so full that sixteen tries fail
  plane_.settings().nat_port_last = kNatFirst + kPorts - 1;
  plane_.write_settings();
  sluice_flow expired{};
  expired.forwarding = SLUICE_FORWARD_NAT;
  expired.state = SLUICE_FLOW_RESET;
  expired.last_seen = monotonic_now() - uint64_t{2} * SLUICE_IDLE_CLOSED * 1'000'000'000;
  for (uint16_t port = 0; port < kPorts; port++)
    plane_.put_flow(
        flow_key(nat_end_, {.address = ip("10.9.0.1"), .port = static_cast<uint16_t>(kNatFirst + port)}, kTcp),
        expired);

  std::array<std::vector<int>, 2> ports;
  std::atomic<int> ready{0};
  const auto run = [&](uint32_t host, std::vector<int>& mine) {
    ready++;
    while (ready < 2) std::this_thread::yield();
    for (uint16_t i = 0; i < kEach; i++) {
      const Endpoint client{.address = ip("198.51.100.0") + host, .port = static_cast<uint16_t>(1024 + i)};
      const Outcome outcome = plane_.receive(to_service(kSyn).from(client));
      mine.push_back(outcome.action == XDP_REDIRECT ? outcome.frame[34] << 8 | outcome.frame[35] : -1);
    }
  };
  std::thread other(run, 2, std::ref(ports[1]));
  run(1, ports[0]);
  other.join();

  std::set<int> distinct(ports[0].begin(), ports[0].end());
  distinct.insert(ports[1].begin(), ports[1].end());
  EXPECT_EQ(plane_.counted(SLUICE_REASON_PORTS_EXHAUSTED), 0U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FLOW_TABLE_FULL), 0U);
  EXPECT_EQ(distinct.size(), 2U * kEach) << "two flows share a port";
  EXPECT_EQ(plane_.flows().size(), kPorts);
}

}  // namespace
}  // namespace sluice::packets
