// The core's tunnels: what it asks of the network, sends, and tells the maps and people.
#include <gmock/gmock.h>

#include <cstring>

#include "bpf/sluice.h"
#include "tests/unit/agent/core_fixture.h"

namespace sluice::agent {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Two backends on node2, of which 172.30.0.2 is the underlay address.
state::DesiredState tunnelled(state::Forwarding forwarding = state::Forwarding::automatic) {
  state::DesiredState state = small_state(1, 1);
  state.tunnel.keys = {{1, {3, 4}}};
  state.nodes["node1"].addresses = {ip("10.0.0.1")};
  state.nodes["node2"] = {"node2", {ip("172.30.0.2")}, {}};
  state.services["s/http"].forwarding = forwarding;
  for (auto& backend : state.services["s/http"].backends) backend.node = "node2";
  return state;
}

class CoreTunnels : public CoreTest {
 protected:
  // The other end answers, or does not.
  void tend(Core& core, milliseconds time, bool answers = true) {
    for (const auto until = now_ + time; now_ < until; now_ += milliseconds(100)) {
      kernel_.probes.clear();
      core.tend_tunnels(now_);
      for (const tunnel::Frame& frame : kernel_.probes) {
        if (!answers) continue;
        dataplane::Proof& proof = kernel_.proofs["node2"];
        proof.bytes = static_cast<uint32_t>(frame.bytes.size() - 14);
        std::memcpy(&proof.nonce, &frame.bytes.at(14 + 20 + 8 + 8 + SLUICE_TUNNEL_OPTION), sizeof proof.nonce);
      }
    }
  }
  const dataplane::Peer& peer() { return kernel_.network.peers.at("node2"); }
  tunnel::Clock::time_point now_ = tunnel::Clock::now();
};

TEST_F(CoreTunnels, AreInTheMapsFromTheStartAndUsableOnceProved) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(tunnelled());
  EXPECT_TRUE(watcher_.targets().contains(ip("172.30.0.2"))) << "a way to the node is needed too";
  EXPECT_EQ(peer().address, ip("172.30.0.2"));
  EXPECT_EQ(peer().source, ip("10.0.0.1"));
  EXPECT_EQ(peer().way.ifindex, 2U);
  EXPECT_FALSE(peer().usable);
  kernel_.calls.clear();
  tend(core, milliseconds(300));
  EXPECT_TRUE(peer().usable);
  EXPECT_GT(peer().fits4, 1280);
  EXPECT_THAT(kernel_.calls, ElementsAre("update_ways")) << "told once";
  ASSERT_EQ(core.facts().tunnels.size(), 1U);
  EXPECT_TRUE(core.facts().tunnels[0].usable);
  EXPECT_EQ(core.facts().tunnels[0].node, "node2");
}

TEST_F(CoreTunnels, ThatAreAnsweredNoMoreAreNotUsedNorKeptFromComingBack) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(tunnelled());
  tend(core, milliseconds(300));
  ASSERT_TRUE(peer().usable);
  tend(core, std::chrono::seconds(3), false);
  EXPECT_FALSE(peer().usable);
  EXPECT_THAT(core.facts().tunnels.at(0).why, HasSubstr("probes come back no more"));
  EXPECT_EQ(condition(core, "TunnelsProved").reason, "NotProved");
  EXPECT_THAT(condition(core, "TunnelsProved").message, HasSubstr("to node2: probes come back no more"));
  tend(core, std::chrono::seconds(3));
  EXPECT_TRUE(peer().usable);
  EXPECT_EQ(condition(core, "TunnelsProved").reason, "Proved");
}

TEST_F(CoreTunnels, CarryWhatARouterSaysFromThenOn) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(tunnelled());
  tend(core, milliseconds(300));
  ASSERT_EQ(peer().fits4, 1500 - SLUICE_TUNNEL_OVERHEAD(false, false));
  kernel_.proofs["node2"].told_mtu = 1400;
  kernel_.proofs["node2"].told_seen = 1;
  kernel_.calls.clear();
  core.tend_tunnels(now_);
  EXPECT_TRUE(peer().usable);
  EXPECT_EQ(peer().fits4, 1400 - SLUICE_TUNNEL_OVERHEAD(false, false));
  EXPECT_EQ(peer().fits6, 1400 - SLUICE_TUNNEL_OVERHEAD(false, true));
  EXPECT_THAT(kernel_.calls, ElementsAre("update_ways")) << "told at once";
}

TEST_F(CoreTunnels, AServiceThatAsksForThemByNameStandsOnceTheyDo) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(tunnelled(state::Forwarding::tunnel));
  EXPECT_EQ(condition(core, "Programmed").reason, "Unreachable");
  EXPECT_THAT(condition(core, "Programmed").message, HasSubstr("no tunnel to node node2"));
  tend(core, milliseconds(300));
  EXPECT_TRUE(condition(core, "Programmed").status);
  tend(core, std::chrono::seconds(3), false);
  EXPECT_EQ(condition(core, "Programmed").reason, "Unreachable");
}

TEST_F(CoreTunnels, ReachBackendsThatThereIsNoOtherWayTo) {
  watcher_.unresolved[ip("10.0.0.2")] = watcher_.unresolved[ip("10.0.0.3")] = "no route";
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(tunnelled());
  EXPECT_EQ(condition(core, "Programmed").reason, "Unreachable");
  tend(core, milliseconds(300));
  EXPECT_TRUE(condition(core, "Programmed").status);
}

TEST_F(CoreTunnels, OfAnEarlierProcessAreUsableFromTheFirstStoreOn) {
  {
    Core core = make();
    core.set_watcher(&watcher_);
    core.apply(tunnelled());
    tend(core, milliseconds(300));
  }
  kernel_.peers_left = {peer()};
  kernel_.network = {};
  Core core = make();
  core.set_watcher(&watcher_);
  ASSERT_TRUE(core.load());
  core.restore();
  EXPECT_TRUE(peer().usable);
}

TEST_F(CoreTunnels, FlowsByNatBehindThemAreAskedForUntilSweepsFindNone) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(tunnelled());
  tend(core, milliseconds(300));
  kernel_.nat_behind = {ip("172.30.0.2")};
  core.sweep();
  core.sweep();
  EXPECT_TRUE(peer().has_nat);
  kernel_.nat_behind.clear();
  core.sweep();
  EXPECT_TRUE(peer().has_nat);
  core.sweep();
  EXPECT_FALSE(peer().has_nat);
}

TEST_F(CoreTunnels, AreNotWhereXdpCannotTransmit) {
  watcher_.unresolved[ip("172.30.0.2")] = "reached through wg0";
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(tunnelled());
  tend(core, milliseconds(300));
  EXPECT_THAT(kernel_.probes, IsEmpty());
  EXPECT_FALSE(peer().usable);
  EXPECT_THAT(core.facts().tunnels.at(0).why, HasSubstr("no way to 172.30.0.2"));
  watcher_.unresolved.clear();
  core.on_network();
  tend(core, milliseconds(300));
  EXPECT_TRUE(peer().usable);
}

TEST_F(CoreTunnels, ProbesThatCannotBeSentStopNothingElse) {
  kernel_.refuse_probe = fail_errno(ENETDOWN, "send a probe", "eth0").value();
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(tunnelled());
  tend(core, std::chrono::seconds(2));
  EXPECT_FALSE(peer().usable);
  EXPECT_TRUE(core.facts().ready);
  kernel_.refuse_probe.reset();
  tend(core, std::chrono::seconds(2));
  EXPECT_TRUE(peer().usable);
}

TEST_F(CoreTunnels, GoWithTheStateThatNamesThem) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(tunnelled());
  tend(core, milliseconds(300));
  auto without = tunnelled();
  without.revision = 2;
  without.tunnel.keys.clear();
  core.apply(without);
  EXPECT_THAT(kernel_.network.peers, IsEmpty());
  EXPECT_FALSE(watcher_.targets().contains(ip("172.30.0.2")));
  tend(core, std::chrono::seconds(1));
  EXPECT_THAT(kernel_.probes, IsEmpty());
  EXPECT_THAT(core.facts().tunnels, IsEmpty());
}

TEST_F(CoreTunnels, GoWithAPurge) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(tunnelled());
  ASSERT_TRUE(core.purge());
  tend(core, std::chrono::seconds(1));
  EXPECT_THAT(kernel_.probes, IsEmpty());
  EXPECT_THAT(core.facts().tunnels, IsEmpty());
}

}  // namespace
}  // namespace sluice::agent
