// Two CPUs see the first packets of the same flows at once: a home's lock lets one of them make the record.
#include <linux/bpf.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

constexpr uint32_t kFlows = 1500;

class ConcurrencyTest : public DataplaneTest, public ::testing::WithParamInterface<Family> {
 protected:
  ConcurrencyTest() : DataplaneTest(GetParam(), {.flow_entries = 16384, .several_threads = true}) {
    plane_.add_service(service_end_, kTcp, {nat_backend()});
    plane_.settings().nat_port_last = kNatFirst + 4 * kFlows;  // many flows meet in a tuple, none runs out of tries
  }
  [[nodiscard]] Packet nth(uint32_t i) const {
    return to_service(kSyn).from({.address = client_.address, .port = static_cast<uint16_t>(1024 + i)});
  }
  // As a client that sends again what is lost: a CPU that the machine takes away in the middle of making a record keeps
  // the other waiting, which drops the packet in the end and counts it.
  Outcome receive(const Frame& frame) {
    for (int attempt = 0;; attempt++) {
      const uint64_t busy = plane_.counted(SLUICE_REASON_FLOW_TABLE_BUSY);
      Outcome outcome = plane_.receive(frame);
      if (outcome.action != XDP_DROP || attempt == 10 || plane_.counted(SLUICE_REASON_FLOW_TABLE_BUSY) == busy)
        return outcome;
    }
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
        const Outcome outcome = receive(frame);
        mine.push_back(outcome.action == XDP_REDIRECT ? int{outcome.source().port} : -1);
      }
    };
    std::thread other(run, std::ref(ports[1]));
    run(ports[0]);
    other.join();
    return ports;
  }
};

INSTANTIATE_TEST_SUITE_P(Families, ConcurrencyTest, kFamilies, family_name);

TEST_P(ConcurrencyTest, AFlowSeenByTwoCpusAtOnceHasOneRecordAndOnePort) {
  const auto ports = ports_on_two_cpus();
  EXPECT_EQ(ports[0], ports[1]);
  std::set<int> distinct(ports[0].begin(), ports[0].end());
  EXPECT_EQ(distinct.size(), kFlows) << "two flows share a port";
  EXPECT_EQ(distinct.count(-1), 0U) << "refused: busy " << plane_.counted(SLUICE_REASON_FLOW_TABLE_BUSY) << ", full "
                                    << plane_.counted(SLUICE_REASON_FLOW_TABLE_FULL) << ", ports "
                                    << plane_.counted(SLUICE_REASON_PORTS_EXHAUSTED);
  EXPECT_EQ(plane_.flows().size(), kFlows);
  EXPECT_GT(plane_.counted(SLUICE_REASON_PORT_CHANGED), 100U);
}

TEST_P(ConcurrencyTest, TwoCpusDoNotGiveAnExpiredRecordToTwoFlows) {
  // Every tuple is taken by a record whose time is over; both CPUs bring flows of their own.
  constexpr uint16_t kPorts = 4000, kEach = 600;  // never so full that sixteen tries fail
  plane_.settings().nat_port_last = kNatFirst + kPorts - 1;
  Flow expired{.backend = nat_end_, .kind = SLUICE_FLOW_NAT, .client = at("198.51.100.200", 7)};
  expired.state = SLUICE_FLOW_RESET;
  expired.seen = plane_.jiffies() - 2 * SLUICE_IDLE_CLOSED * Dataplane::jiffies_per_second();
  for (uint16_t port = 0; port < kPorts; port++) {
    expired.source = at("10.9.0.1", static_cast<uint16_t>(kNatFirst + port));
    plane_.put_flow(expired);
  }

  std::array<std::vector<int>, 2> ports;
  std::atomic<int> ready{0};
  const auto run = [&](uint32_t host, std::vector<int>& mine) {
    ready++;
    while (ready < 2) std::this_thread::yield();
    for (uint16_t i = 0; i < kEach; i++) {
      const Endpoint client{.address = address("198.51.100.0") + host, .port = static_cast<uint16_t>(1024 + i)};
      const Outcome outcome = receive(to_service(kSyn).from(client).frame());
      mine.push_back(outcome.action == XDP_REDIRECT ? int{outcome.source().port} : -1);
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
