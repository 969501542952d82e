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
    plane_.settings().nat_port_last = kNatFirst + 2 * kFlows;  // crowded: many flows meet in a tuple
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

}  // namespace
}  // namespace sluice::packets
