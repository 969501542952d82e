#include "node-agent/tunnel/tunnels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "bpf/sluice.h"
#include "tests/unit/tunnel/underlay.h"

namespace sluice::agent::tunnel {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::IsEmpty;

class TunnelsTest : public testing::Test {
 protected:
  TunnelsTest() {
    state_.tunnel.keys = {{1, {1, 2}}};
    for (int n = 1; n <= 3; ++n) {
      const std::string name = "n" + std::to_string(n);
      state_.nodes[name] = {name, {ip("10.0.0." + std::to_string(n))}, {}};
    }
    state::Service& service = state_.services["s"];
    service.id = "s";
    state::Backend backend;
    backend.address = ip("10.1.0.1");
    backend.node = "n2";
    service.backends = {backend};
    ways_[ip("10.0.0.2")] = {{false, 2, {2, 0, 0, 0, 0, 2}, ip("10.0.0.1")}, {2, 0, 0, 0, 0, 1}, 1500};
  }
  void follow(Tunnels& tunnels) {
    tunnels.follow_state(state_, "n1");
    tunnels.follow_ways(ways_, now_);
  }
  // The other end answers, or does not.
  void run(Tunnels& tunnels, milliseconds time, bool answers = true) {
    for (const auto until = now_ + time; now_ < until; now_ += milliseconds(100)) {
      for (const Frame& frame : tunnels.tick(now_, proofs_)) {
        if (!answers) continue;
        Proof proof{0, static_cast<uint32_t>(frame.bytes.size() - 14)};
        std::memcpy(&proof.nonce, &frame.bytes.at(14 + 20 + 8 + 8 + SLUICE_TUNNEL_OPTION), sizeof proof.nonce);
        proofs_["n2"] = proof;
      }
    }
  }
  state::DesiredState state_;
  std::map<net::IpAddress, Tunnels::Way> ways_;
  std::map<std::string, Proof> proofs_;
  Clock::time_point now_{std::chrono::hours(1)};
};

TEST_F(TunnelsTest, PeerIsToldWithWhatIsProved) {
  Tunnels tunnels(7);
  follow(tunnels);
  EXPECT_THAT(tunnels.addresses(), testing::ElementsAre(ip("10.0.0.2")));
  EXPECT_FALSE(tunnels.peers().at("n2").usable);
  EXPECT_THAT(tunnels.facts().at(0).why, HasSubstr("no probe has come back from 10.0.0.1 to 10.0.0.2 port 6082"));
  run(tunnels, milliseconds(300));
  const auto peer = tunnels.peers().at("n2");
  EXPECT_TRUE(peer.usable);
  EXPECT_EQ(peer.fits4, 1440);
  EXPECT_EQ(peer.fits6, 1428);
  EXPECT_EQ(peer.way.ifindex, 2U);
  EXPECT_EQ(peer.source, ip("10.0.0.1"));
  EXPECT_NE(peer.token, 0U);
  EXPECT_EQ(tunnels.facts().at(0).why, "");
}

TEST_F(TunnelsTest, WithoutAWayNothingIsSentAndTheReasonIsSaid) {
  ways_.clear();
  Tunnels tunnels(7);
  follow(tunnels);
  EXPECT_THAT(tunnels.tick(now_, {}), IsEmpty());
  EXPECT_THAT(tunnels.facts().at(0).why, HasSubstr("no way to 10.0.0.2"));
}

TEST_F(TunnelsTest, FlowsMadeByNatAreRememberedUntilTwoPassesHaveSeenNone) {
  Tunnels tunnels(7);
  follow(tunnels);
  tunnels.swept({});
  tunnels.swept({});
  EXPECT_TRUE(tunnels.peers().at("n2").has_nat) << "while it is not usable such flows are made";
  run(tunnels, milliseconds(300));
  tunnels.swept({ip("10.0.0.2")});
  tunnels.swept({});
  EXPECT_TRUE(tunnels.peers().at("n2").has_nat);
  tunnels.swept({ip("10.0.0.3")});
  EXPECT_FALSE(tunnels.peers().at("n2").has_nat);
  run(tunnels, std::chrono::seconds(3), false);
  EXPECT_FALSE(tunnels.peers().at("n2").usable);
  EXPECT_TRUE(tunnels.peers().at("n2").has_nat) << "and again";
}

TEST_F(TunnelsTest, StandsOverARestartOfTheAgent) {
  Tunnels before(7);
  follow(before);
  run(before, milliseconds(300));
  before.swept({});
  before.swept({});
  const auto left = before.peers().at("n2");
  Tunnels after(9999);
  after.found({left});
  follow(after);
  EXPECT_EQ(after.peers().at("n2"), left);
}

TEST_F(TunnelsTest, WhatIsFoundWaitsForAWay) {
  Tunnels before(7);
  follow(before);
  run(before, milliseconds(300));
  Tunnels after(9999);
  after.found({before.peers().at("n2")});
  after.follow_state(state_, "n1");
  after.follow_ways({}, now_);
  EXPECT_FALSE(after.peers().at("n2").usable);
  after.follow_ways(ways_, now_);
  EXPECT_TRUE(after.peers().at("n2").usable);
}

TEST_F(TunnelsTest, OtherEndIsProvedAnew) {
  Tunnels tunnels(7);
  follow(tunnels);
  run(tunnels, milliseconds(300));
  state_.nodes["n2"].addresses = {ip("10.0.0.22")};
  ways_[ip("10.0.0.22")] = ways_[ip("10.0.0.2")];
  follow(tunnels);
  EXPECT_FALSE(tunnels.peers().at("n2").usable);
  run(tunnels, milliseconds(300));
  EXPECT_TRUE(tunnels.peers().at("n2").usable);
}

TEST_F(TunnelsTest, OtherKeysInterruptNothing) {
  Tunnels tunnels(7);
  follow(tunnels);
  run(tunnels, milliseconds(300));
  const uint64_t token = tunnels.peers().at("n2").token;
  state_.tunnel.keys = {{2, {5, 6}}, {1, {1, 2}}};
  follow(tunnels);
  EXPECT_TRUE(tunnels.peers().at("n2").usable);
  EXPECT_NE(tunnels.peers().at("n2").token, token);
}

}  // namespace
}  // namespace sluice::agent::tunnel
