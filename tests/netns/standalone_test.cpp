// The load balancer from one YAML file: the real agent, the real kernel, real connections between namespaces.
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "bpf/sluice.h"
#include "tests/netns/standalone_fixture.h"

namespace sluice::lab {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

TEST_F(Standalone, SpreadFollowsWeightsAndTheirReload) {
  const auto agent = started(file_text(backend(1, 1) + "," + backend(2, 3)));
  auto answers = ask(600);
  EXPECT_EQ(answers.count(""), 0U);
  EXPECT_NEAR(answers["b1"], 150, 50);
  write(file_text(backend(1, 1) + "," + backend(2, 0)));
  ASSERT_TRUE(agent->wait_log("programmed revision 2"));
  answers = ask(50);
  EXPECT_EQ(answers["b1"], 50) << "weight 0 takes no new flows";
}

TEST_F(Standalone, BackendTakenOutKeepsItsConnectionsAndGetsNoNewOnes) {
  const auto agent = started(file_text(backend(1) + "," + backend(2)));
  auto busy = load({.connections = 100});
  ASSERT_TRUE(busy->run(500));
  write(file_text(backend(1)));
  ASSERT_TRUE(agent->wait_log("programmed revision 2"));
  const auto after = ask(50);
  EXPECT_EQ(after.count("b2"), 0U);
  EXPECT_EQ(after.at("b1"), 50);
  busy->run_for(seconds(1));
  const auto outcome = busy->stop();
  expect_smooth(outcome);
  EXPECT_GT(outcome.connections.at("b2"), 20U);
  EXPECT_EQ(outcome.connections.at("b1") + outcome.connections.at("b2"), 100U) << "nobody had to connect again";
}

TEST_F(Standalone, HistoryIsForgottenWhenNoFlowNeedsItAndTheDrainTimeIsOver) {
  const std::string short_drain = "  drain: {timeoutSeconds: 1}\n";
  const auto agent = started(file_text(backend(1) + "," + backend(2)) + short_drain);
  auto busy = load({.connections = 20});
  ASSERT_TRUE(busy->run(200));
  write(file_text(backend(1)) + short_drain);
  ASSERT_TRUE(agent->wait_log("programmed revision 2"));
  // That of web/dns, which has no flows; web/http's is needed.
  ASSERT_TRUE(agent->wait_log("programmed revision 3"));
  EXPECT_EQ(agent->metric("sluice_agent_services_with_old_flows"), 1);
  EXPECT_FALSE(eventually([&] { return agent->log().find("programmed revision 4") != std::string::npos; }, seconds(6)));
  expect_smooth(busy->stop());
  // Closed flows are swept some time after their FINs.
  EXPECT_TRUE(eventually([&] { return agent->log().find("programmed revision 4") != std::string::npos; }, seconds(60)));
}

TEST_F(Standalone, KilledAgentIsNotMissedAndItsReturnTouchesNoFlow) {
  auto agent = started(file_text(backend(1) + "," + backend(2)));
  auto busy = load();
  ASSERT_TRUE(busy->run(1000));
  agent->kill();
  ASSERT_TRUE(busy->run(1000));
  EXPECT_EQ(ask(20).count(""), 0U) << "new connections, too";
  agent = start();
  ASSERT_TRUE(agent->wait_ready(200, "forwarding"));
  busy->run_for(milliseconds(500));
  const auto outcome = busy->stop();
  expect_smooth(outcome);
  EXPECT_EQ(outcome.connections.at("b1") + outcome.connections.at("b2"), 100U);
}

TEST_F(Standalone, ChangeMadeWhileTheAgentIsAwayKeepsOldConnections) {
  auto agent = started(file_text(backend(1) + "," + backend(2)));
  auto busy = load({.connections = 50});
  ASSERT_TRUE(busy->run(500));
  agent->kill();
  write(file_text(backend(2)));
  agent = start();
  ASSERT_TRUE(agent->wait_ready(200, "forwarding"));
  EXPECT_EQ(ask(30).at("b2"), 30);
  ASSERT_TRUE(busy->run(500));
  const auto outcome = busy->stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
  EXPECT_GT(outcome.connections.at("b1"), 5U);
  EXPECT_EQ(outcome.connections.at("b1") + outcome.connections.at("b2"), 50U);
}

TEST_F(Standalone, LostStateFileCostsNoConnection) {
  auto agent = started(file_text(backend(1) + "," + backend(2)));
  auto busy = load();
  ASSERT_TRUE(busy->run(1000));
  for (const bool damaged : {false, true}) {
    agent->kill();
    ASSERT_TRUE(std::filesystem::remove(lab_.file("state.json")));
    if (damaged) std::ofstream(lab_.file("state.json")) << "{";
    agent = start();
    ASSERT_TRUE(agent->wait_ready(200, "forwarding"));
    EXPECT_THAT(agent->log(), HasSubstr("going on with the flow hash key in its maps"));
    busy->run_for(milliseconds(500));
  }
  // What is left in the kernel outlives a start that fails.
  agent->kill();
  ASSERT_TRUE(std::filesystem::remove(lab_.file("state.json")));
  std::filesystem::create_directory(lab_.file("state.json.new"));
  agent = start();
  EXPECT_EQ(agent->wait_exit(), 1);
  std::filesystem::remove(lab_.file("state.json.new"));
  busy->run_for(milliseconds(500));
  const auto outcome = busy->stop();
  expect_smooth(outcome);
  EXPECT_EQ(outcome.connections.at("b1") + outcome.connections.at("b2"), 100U);
}

TEST_F(Standalone, TerminationLeavesForwardingOnAndPurgeLeavesNothing) {
  auto agent = started(file_text(backend(1) + "," + backend(2)));
  auto busy = load();
  ASSERT_TRUE(busy->run(500));
  EXPECT_THAT(purge(lab_).output, HasSubstr("an agent is running")) << "not while one is at work";
  EXPECT_EQ(agent->terminate(), 0);
  busy->run_for(milliseconds(500));
  EXPECT_EQ(ask(20).count(""), 0U);
  expect_smooth(busy->stop());

  const auto purged = purge(lab_);
  EXPECT_EQ(purged.exit_code, 0) << purged.output;
  EXPECT_FALSE(std::filesystem::exists(lab_.bpffs()));
  EXPECT_FALSE(std::filesystem::exists(lab_.file("state.json")));
  EXPECT_FALSE(std::filesystem::exists(lab_.file("state.json.lock")));
  EXPECT_THAT(lab_.in("lb", "ip link show dev eth0").output, Not(HasSubstr("xdp")));
  EXPECT_EQ(lab_.in("lb", "tc qdisc show dev eth0 clsact").output, "");
  EXPECT_THAT(lab_.in("lb", "ip neigh show dev eth0").output, Not(HasSubstr("managed")));
  EXPECT_FALSE(ask_arp(lab_, kAddress, milliseconds(300)));
  EXPECT_EQ(purge(lab_).exit_code, 0) << "a second purge has nothing to do";
}

TEST_F(Standalone, PurgeTakesAlsoTheStateFileThatCouldNotBeUnderstood) {
  std::ofstream(lab_.file("state.json")) << "{";
  {
    const auto agent = started(file_text(backend(1)));
    EXPECT_THAT(agent->log(), HasSubstr("it is kept as " + lab_.file("state.json.unreadable")));
  }
  EXPECT_EQ(purge(lab_).exit_code, 0);
  EXPECT_FALSE(std::filesystem::exists(lab_.file("state.json.unreadable")));
  EXPECT_FALSE(std::filesystem::exists(lab_.file("state.json")));
}

TEST_F(Standalone, ProgramsThatSomebodyTakesOffArePutBack) {
  const auto agent = started(file_text(backend(1)));
  ASSERT_EQ(ask(5).at("b1"), 5);
  ASSERT_EQ(lab_.in("lb", "sh -c 'bpftool link detach pinned " + lab_.bpffs() + "/v*/links/xdp-eth0'").exit_code, 0);
  ASSERT_TRUE(agent->wait_log("somebody had taken the programs off: they are attached again"));
  EXPECT_TRUE(agent->wait_ready(200, "forwarding"));
  EXPECT_EQ(ask(5).at("b1"), 5);
}

TEST_F(Standalone, ClassifierThatSomebodyTakesOffIsPutBack) {
  const auto agent = started(file_text(backend(1)));
  ASSERT_TRUE(agent->wait_log("attached to the node link"));
  ASSERT_EQ(lab_.in("lb", "tc qdisc del dev eth0 clsact").exit_code, 0);
  ASSERT_TRUE(agent->wait_log("somebody has taken the programs off: attaching again"));
  EXPECT_TRUE(eventually([&] {
    return lab_.in("lb", "tc filter show dev eth0 egress").output.find("sluice_egress") != std::string::npos;
  }));
  EXPECT_TRUE(agent->wait_ready(200, "forwarding"));
}

TEST_F(Standalone, BrokenFileChangesNothingAndIsReportedWithItsPlace) {
  const auto agent = started(file_text(backend(1) + "," + backend(2)));
  auto busy = load({.connections = 20});
  ASSERT_TRUE(busy->run(200));
  write(
      "apiVersion: sluice.io/v1alpha1\nkind: StandaloneConfig\nloadBalancers:\n- name: web\n  weight: 3\n  adresses: "
      "[]\n");
  ASSERT_TRUE(agent->wait_log("lb.yaml:6:3: loadBalancers[0].adresses: no such field; is it addresses?"));
  EXPECT_TRUE(agent->wait_ready(200, "the configuration file is not in force")) << "and it stays ready";
  EXPECT_EQ(agent->metric("sluice_agent_config_last_reload_successful"), 0);
  EXPECT_EQ(agent->metric("sluice_agent_programmed_revision"), 1);
  ASSERT_TRUE(busy->run(200));
  write("apiVersion: sluice.io/v1alpha1\nkind: StandaloneConfig\nloadBalancers: [\n");
  EXPECT_TRUE(agent->wait_log("lb.yaml:4:1: not YAML"));
  EXPECT_EQ(agent->metric("sluice_agent_programmed_revision"), 1);
  write(file_text(backend(1)));
  ASSERT_TRUE(agent->wait_log("programmed revision 2"));
  EXPECT_TRUE(eventually([&] { return agent->metric("sluice_agent_config_last_reload_successful") == 1; }));
  EXPECT_EQ(busy->stop().failures, 0U);
}

TEST_F(Standalone, InterfaceThatDoesNotExistIsAnErrorThatChangesNothing) {
  write(file_text(backend(1), "eth9"));
  auto failed = start();
  EXPECT_EQ(failed->wait_exit(), 1);
  EXPECT_THAT(failed->log(), HasSubstr("eth9: no such interface"));
  EXPECT_FALSE(std::filesystem::exists(lab_.bpffs())) << "nothing is left of it";
  EXPECT_FALSE(std::filesystem::exists(lab_.file("state.json")));

  const auto agent = started(file_text(backend(1)));
  write(file_text(backend(2), "eth9"));
  ASSERT_TRUE(agent->wait_log("eth9: no such interface"));
  EXPECT_EQ(ask(10).at("b1"), 10) << "the file is taken whole or not at all";
}

TEST_F(Standalone, WithoutInterfacesTheDefaultRoutesDeviceIsUsed) {
  std::string text = file_text(backend(1));
  text.erase(text.find("interfaces"), text.find("loadBalancers") - text.find("interfaces"));
  const auto agent = started(text);
  EXPECT_EQ(ask(5).at("b1"), 5);
}

TEST_F(Standalone, PortsThatTheMachinesOwnConnectionsTakeAsWellAreWarnedOf) {
  ASSERT_EQ(lab_.in("lb", "sysctl -w net.ipv4.ip_local_port_range='15000 40000'").exit_code, 0);
  auto agent = started(file_text(backend(1)));
  EXPECT_TRUE(agent->wait_log("--nat-ports 10000-29999 overlap net.ipv4.ip_local_port_range 15000-40000"));
  EXPECT_EQ(agent->terminate(), 0);
  agent = started(file_text(backend(1)), {"--nat-ports", "10000-14999"});
  ASSERT_TRUE(agent->wait_log("is up on node"));
  EXPECT_THAT(agent->log(), Not(HasSubstr("overlap")));
}

TEST_F(Standalone, ForeignXdpProgramIsLeftAlone) {
  ASSERT_EQ(
      lab_.in("lb",
              "sh -c 'echo \"__attribute__((section(\\\"xdp\\\"),used)) int other(void *c) { return 2; }\" | clang -O2 "
              "-g "
              "-target bpf -x c -c - -o " +
                  lab_.file("other.o") + " && ip link set dev eth0 xdpdrv obj " + lab_.file("other.o") + " sec xdp'")
          .exit_code,
      0);
  const std::string before = lab_.in("lb", "ip link show dev eth0").output;
  write(file_text(backend(1)));
  auto failed = start();
  EXPECT_EQ(failed->wait_exit(), 1);
  EXPECT_THAT(failed->log(), HasSubstr("eth0"));
  EXPECT_EQ(lab_.in("lb", "ip link show dev eth0").output, before);
}

TEST_F(Standalone, ArpIsAnsweredAndStopsWithinTheGraceOfAnAgentThatIsGone) {
  auto agent = started(file_text(backend(1)), {"--announce-grace", "3s"});
  const auto answer = ask_arp(lab_, kAddress, seconds(2));
  ASSERT_TRUE(answer);
  EXPECT_FALSE(ask_arp(lab_, "10.77.0.51", milliseconds(300))) << "an address nobody has";
  agent->kill();
  const auto killed = Clock::now();
  EXPECT_TRUE(ask_arp(lab_, kAddress, seconds(1))) << "a restart may go unnoticed";
  EXPECT_TRUE(eventually([&] { return !ask_arp(lab_, kAddress, milliseconds(200)); }, seconds(5)));
  EXPECT_GT(Clock::now() - killed, seconds(1));
  agent = start({"--announce-grace", "3s"});
  EXPECT_TRUE(eventually([&] { return ask_arp(lab_, kAddress, milliseconds(200)) == answer; }));
}

TEST_F(Standalone, AddressThatIsTakenIsMadeKnownThreeTimes) {
  ArpListener listener(lab_, kAddress);
  const auto agent = started(file_text(backend(1)));
  EXPECT_TRUE(eventually([&] { return listener.seen().requests >= 3 && listener.seen().replies >= 3; }));
  // The renewals of the following seconds say nothing.
  EXPECT_FALSE(eventually([&] { return listener.seen().requests > 3; }, seconds(3)));
  ASSERT_EQ(lab_.in("lb", "ip link set eth0 down").exit_code, 0);
  ASSERT_EQ(lab_.in("lb", "ip link set eth0 up").exit_code, 0);
  EXPECT_TRUE(eventually([&] { return listener.seen().requests >= 6; })) << "again when the link has come up";
}

TEST_F(Standalone, AddressOfTheMachineItselfIsTheKernelsToAnswer) {
  ASSERT_EQ(lab_.in("lb", "ip addr add " + std::string(kAddress) + "/32 dev eth0").exit_code, 0);
  const auto agent = started(file_text(backend(1)));
  EXPECT_TRUE(ask_arp(lab_, kAddress, seconds(1)));
  EXPECT_EQ(agent->metric("sluice_agent_packets_total{reason=\"neighbour_reply\",kind=\"answer\"}"), 0);
  EXPECT_EQ(ask(5).at("b1"), 5);
}

TEST_F(Standalone, BackendBehindAnInterfaceWithoutSluiceIsNamed) {
  ASSERT_EQ(lab_.in("lb", "ip link add docker0 type bridge").exit_code, 0);
  ASSERT_EQ(lab_.in("lb", "ip addr add 10.99.0.1/24 dev docker0").exit_code, 0);
  ASSERT_EQ(lab_.in("lb", "ip link set docker0 up").exit_code, 0);
  const auto agent = started(file_text(backend(1) + ", {name: x, address: 10.99.0.2}"));
  const std::string why = "reached through docker0, where Sluice is not attached: add it to interfaces";
  EXPECT_TRUE(agent->wait_ready(200, why));
  EXPECT_THAT(agent->log(), HasSubstr(why));
  EXPECT_EQ(agent->metric("sluice_agent_next_hops_unresolved"), 1);
}

TEST_F(Standalone, BackendOnTheBalancerItselfSeesTheClientsAddress) {
  HttpServer own(lab_.ns("lb"), kBackendPort, "own");
  const auto agent = started(file_text(std::string("{name: own, address: ") + kBalancer + "}, " + backend(1)));
  const auto answers = ask(60);
  EXPECT_EQ(answers.count(""), 0U);
  EXPECT_GT(answers.at("own"), 10);
  EXPECT_EQ(own.peers(), std::set<std::string>{kClient});
}

TEST_F(Standalone, AffinityKeepsAClientWithItsServer) {
  const auto agent = started(file_text(backend(1) + "," + backend(2)) + "  sessionAffinity: {clientIP: {}}\n");
  const auto answers = ask(40);
  EXPECT_EQ(answers.size(), 1U) << "all connections of one client";
  EXPECT_EQ(answers.count(""), 0U);
}

TEST_F(Standalone, BackendThatGetsAnotherMacIsFollowed) {
  const auto agent = started(file_text(backend(1)));
  EXPECT_EQ(ask(5).at("b1"), 5);
  ASSERT_EQ(lab_.in("b1", "ip link set eth0 address 02:00:00:00:77:01").exit_code, 0);
  ASSERT_EQ(lab_.in("b1", "ip neigh flush all").exit_code, 0);
  // The backend speaks to the balancer, as any machine does now and then: that is how the kernel learns.
  ASSERT_EQ(lab_.in("b1", "ping -c 1 -W 2 " + std::string(kBalancer)).exit_code, 0);
  EXPECT_TRUE(
      eventually([&] { return ask_http(lab_.ns("client"), kAddress, kPort, 1, milliseconds(500)).contains("b1"); }));
}

// The ways out that stand in the map: one value, of which bpftool tells the bytes.
std::vector<sluice_egress> egress(const Lab& lab) {
  const std::string dump = lab.in("lb", "sh -c 'bpftool map dump pinned " + lab.bpffs() + "/v*/maps/egress'").output;
  std::istringstream words(dump.substr(std::min(dump.size(), dump.find("value:") + 6)));
  std::vector<unsigned char> bytes;
  for (std::string word; words >> word && word.size() == 2;) {
    bytes.push_back(static_cast<unsigned char>(std::stoi(word, nullptr, 16)));
  }
  std::vector<sluice_egress> out(bytes.size() / sizeof(sluice_egress));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), out.size() * sizeof(sluice_egress));
  std::erase_if(
      out, [](const sluice_egress& way) { return way.ifindex == 0 || (way.flags & SLUICE_EGRESS_NODE_LINK) != 0; });
  return out;
}

TEST_F(Standalone, MacAndMtuOfTheBalancersDeviceAreFollowed) {
  const auto agent = started(file_text(backend(1)));
  ASSERT_EQ(egress(lab_).size(), 1U);
  ASSERT_EQ(lab_.in("lb", "ip link set eth0 mtu 1400").exit_code, 0);
  EXPECT_TRUE(eventually([&] { return egress(lab_).at(0).mtu == 1400; }));
  ASSERT_EQ(lab_.in("lb", "ip link set eth0 address 02:00:00:00:77:02").exit_code, 0);
  constexpr std::array<uint8_t, 6> kMac{2, 0, 0, 0, 0x77, 2};
  EXPECT_TRUE(eventually([&] { return std::ranges::equal(egress(lab_).at(0).mac, kMac); }));
  EXPECT_EQ(ask(5).at("b1"), 5);
}

TEST_F(Standalone, RemovedServiceIsNotServedAndTheAddressNotAnswered) {
  const auto agent = started(file_text(backend(1)));
  EXPECT_EQ(ask(2).at("b1"), 2);
  write("apiVersion: sluice.io/v1alpha1\nkind: StandaloneConfig\ninterfaces: [eth0]\nloadBalancers: []\n");
  ASSERT_TRUE(agent->wait_log("programmed revision 2"));
  EXPECT_TRUE(eventually([&] { return !ask_arp(lab_, kAddress, milliseconds(200)); }));
}

TEST(Check, AcceptsEveryExample) {
  int found = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(std::string(SLUICE_SOURCE_DIR) + "/examples/standalone")) {
    const auto outcome = command(std::string(SLUICE_AGENT_BINARY) + " --check --config " + entry.path().string());
    EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("good"));
    ++found;
  }
  EXPECT_GE(found, 4);
}

TEST(Check, NamesEveryMistakeAndChangesNothing) {
  const std::string file =
      (std::filesystem::temp_directory_path() / ("slag-check-" + std::to_string(getpid()) + ".yaml")).string();
  std::ofstream(file) << "apiVersion: sluice.io/v1alpha1\nkind: StandaloneConfig\nloadBalancers:\n- name: web\n  "
                         "addresses: [x]\n  ports: []\n  "
                         "backends:\n  - {name: a, address: 10.0.0.1, wieght: 2}\n";
  const auto outcome = command(std::string(SLUICE_AGENT_BINARY) + " --check --config " + file);
  std::filesystem::remove(file);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.output, HasSubstr(file + ":5:15: loadBalancers[0].addresses[0]: must be an address, is \"x\""));
  EXPECT_THAT(outcome.output, HasSubstr(file + ":6:10: loadBalancers[0].ports: must have 1..64 entries, has 0"));
  EXPECT_THAT(outcome.output,
              HasSubstr(file + ":8:34: loadBalancers[0].backends[0].wieght: no such field; is it weight?"));
}

}  // namespace
}  // namespace sluice::lab
