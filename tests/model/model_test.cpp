// Packets at random through the programs and through the model: they must agree in verdict, in every byte, and in what
// is counted.
//
//   SLUICE_MODEL_SEED=n      another seed than the usual; `random`: any. A disagreement names its round: with that
//                            as the seed it is the first.
//   SLUICE_MODEL_PACKETS=n   so many packets for each test, however long it takes
#include <gtest/gtest.h>
#include <net/if.h>

#include <cstdlib>
#include <iostream>

#include "node-agent/dataplane/device.h"
#include "tests/dataplane/sandbox.h"
#include "tests/model/duel.h"

namespace sluice::model {
namespace {

using agent::dataplane::testing::must;
using std::chrono::steady_clock;

constexpr uint64_t kUsualSeed = 20'251'122;
constexpr std::chrono::milliseconds kUsualTime{3000};  // for one test
constexpr size_t kMostDisagreements = 3;

uint64_t seed_of_this_run() {
  const char* const wanted = std::getenv("SLUICE_MODEL_SEED");
  if (wanted == nullptr) return kUsualSeed;
  return std::string(wanted) == "random" ? std::random_device()() : std::strtoull(wanted, nullptr, 10);
}

// 0: as many as there is time for.
uint64_t packets_of_this_run() {
  const char* const wanted = std::getenv("SLUICE_MODEL_PACKETS");
  return wanted == nullptr ? 0 : std::strtoull(wanted, nullptr, 10);
}

class ModelTest : public agent::dataplane::testing::SandboxTest {
 protected:
  void SetUp() override {
    SandboxTest::SetUp();
    must("ip link add other type veth peer name beyond");
    // Nothing but the test's packets.
    must("sysctl -qw net.ipv6.conf.far.disable_ipv6=1 net.ipv6.conf.beyond.disable_ipv6=1");
    must("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
    must("ip link set other up && ip link set beyond up");
    site_ = {.near = if_nametoindex("near"), .other = if_nametoindex("other")};
    site_.near_mac = agent::dataplane::device_by_index(site_.near)->mac;
    site_.other_mac = agent::dataplane::device_by_index(site_.other)->mac;
  }
  void TearDown() override {
    SandboxTest::TearDown();
    agent::dataplane::testing::run("ip link del other");
  }

  // Routes and neighbours as routes_of() says.
  void forward() {
    site_.forwarding = true;
    must("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    must("ip route add 198.18.0.0/16 dev near && ip -6 route add 2001:db8:c::/48 dev near");
    must("ip route add 10.2.0.9/32 dev other && ip route add 198.19.0.0/16 via 10.2.0.9 dev other");
    must("ip -6 route add fd00:2::9/128 dev other && ip -6 route add 2001:db8:d::/48 via fd00:2::9 dev other");
    must("ip neigh add 10.2.0.9 lladdr 02:00:00:00:01:09 dev other nud permanent");
    must("ip neigh add fd00:2::9 lladdr 02:00:00:00:01:09 dev other nud permanent");
  }

  void agree(const Theme& theme) {
    auto options = this->options();
    options.sizes.flows4 = options.sizes.half_open4 = options.sizes.flows6 = options.sizes.half_open6 = 1U << 14;
    options.nat_ports = {.first = 10000, .last = static_cast<uint16_t>(9999 + theme.nat_ports)};
    Rig rig(options, "near");
    Duel duel(theme, site_, rig);
    const uint64_t first = seed_of_this_run();
    duel.prepare();
    const uint64_t packets = packets_of_this_run();
    const auto end = steady_clock::now() + kUsualTime;
    size_t disagreements = 0;
    uint64_t round = 0;
    for (; packets == 0 ? steady_clock::now() < end : duel.packets() < packets; ++round) {
      const auto difference = duel.round(first + round);
      if (!difference) continue;
      ADD_FAILURE() << theme.name << ": " << *difference;
      if (++disagreements == kMostDisagreements) break;
    }
    std::cout << theme.name << ": " << duel.packets() << " packets in " << round << " rounds from seed " << first
              << "\n";
    if (std::getenv("SLUICE_MODEL_OUTCOMES") != nullptr)
      for (const auto& [outcome, times] : duel.outcomes()) std::cout << "  " << times << " " << outcome << "\n";
  }

  Site site_;
};

TEST_F(ModelTest, LocalIpv4) {
  agree({.name = "local IPv4", .kinds = {Kind::local}});
}
TEST_F(ModelTest, LocalIpv6) {
  agree({.name = "local IPv6", .v6 = true, .kinds = {Kind::local}});
}
TEST_F(ModelTest, NatIpv4) {
  agree({.name = "nat IPv4", .kinds = {Kind::nat}});
}
TEST_F(ModelTest, NatIpv6) {
  agree({.name = "nat IPv6", .v6 = true, .kinds = {Kind::nat}});
}
TEST_F(ModelTest, NatByTheKernelsRoutesIpv4) {
  forward();
  agree({.name = "nat by routes IPv4", .kinds = {Kind::nat, Kind::local}});
}
TEST_F(ModelTest, NatByTheKernelsRoutesIpv6) {
  forward();
  agree({.name = "nat by routes IPv6", .v6 = true, .kinds = {Kind::nat, Kind::local}});
}
TEST_F(ModelTest, FewPortsForNatIpv4) {
  agree({.name = "few ports IPv4", .kinds = {Kind::nat}, .nat_ports = 24});
}
TEST_F(ModelTest, FewPortsForNatIpv6) {
  agree({.name = "few ports IPv6", .v6 = true, .kinds = {Kind::nat}, .nat_ports = 24});
}

}  // namespace
}  // namespace sluice::model
