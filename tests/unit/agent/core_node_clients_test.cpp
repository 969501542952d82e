// This machine's own clients: what is led to the programs for them, and the care for the node link.
#include <gmock/gmock.h>

#include "node-agent/agent/node_clients.h"
#include "tests/unit/agent/core_fixture.h"

namespace sluice::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

struct CoreNodeClients : CoreTest {
  // A service of one address that has a backend on each of these nodes.
  static state::Service service(const std::string& address, const std::vector<std::string>& nodes,
                                state::TrafficPolicy policy = state::TrafficPolicy::cluster) {
    state::Service made = small_state(1, 1).services.begin()->second;
    made.id = "s/" + address;
    made.addresses = {ip(address)};
    made.traffic_policy = policy;
    const state::Backend like = made.backends.front();
    made.backends.clear();
    for (const std::string& node : nodes) {
      made.backends.push_back(like);
      made.backends.back().node = node;
    }
    return made;
  }
  static state::DesiredState with(const std::vector<state::Service>& services) {
    state::DesiredState state = small_state(1, 1);
    state.services.clear();
    state.announcements.clear();
    for (const auto& one : services) state.services[one.id] = one;
    return state;
  }
  // As its timer has it a second later.
  static void begin(Core& core, const state::DesiredState& state) {
    core.apply(state);
    core.tend_node_clients();
  }
  static constexpr auto kLocal = state::TrafficPolicy::local;
};

TEST_F(CoreNodeClients, EveryServicesAddressIsLedOnEveryNode) {
  const auto state = with({service("192.0.2.10", {"node2"}), service("2001:db8::1", {}), service("192.0.2.11", {})});
  EXPECT_THAT(addresses_to_lead(state, "node1", {}),
              ElementsAre(ip("192.0.2.10"), ip("192.0.2.11"), ip("2001:db8::1")));
  EXPECT_THAT(addresses_to_lead(state, "node1", {ip("192.0.2.10")}), ElementsAre(ip("192.0.2.11"), ip("2001:db8::1")))
      << "this machine has it: the stack takes it";
}

TEST_F(CoreNodeClients, PolicyLocalLeadsWhereThereIsABackendOrTheAddressIsAnnounced) {
  auto state = with({service("192.0.2.10", {"node2"}, kLocal)});
  EXPECT_THAT(addresses_to_lead(state, "node1", {}), IsEmpty());
  EXPECT_THAT(addresses_to_lead(state, "node2", {}), ElementsAre(ip("192.0.2.10")));
  state.announcements[ip("192.0.2.10")] = {ip("192.0.2.10"), {"node1", "node2"}, {}};
  EXPECT_THAT(addresses_to_lead(state, "node1", {}), ElementsAre(ip("192.0.2.10")));
  EXPECT_THAT(addresses_to_lead(state, "node3", {}), IsEmpty());
  state.services.begin()->second.backends[0].left = 1;
  EXPECT_THAT(addresses_to_lead(state, "node2", {}), IsEmpty()) << "its backend has left";
}

TEST_F(CoreNodeClients, OneServiceThatNobodyHereServesKeepsItsAddressFromBeingLed) {
  auto other = service("192.0.2.10", {"node1"}, kLocal);
  other.id = "s/other port";
  const auto state = with({service("192.0.2.10", {"node2"}, kLocal), other});
  EXPECT_THAT(addresses_to_lead(state, "node1", {}), IsEmpty());
}

TEST_F(CoreNodeClients, TheLinkIsAmongTheWaysBeforeAddressesAreLed) {
  watcher_.view.links[2].mtu = 1450;
  kernel_.own_addresses = {{net::Family::ipv4, ip("10.0.0.1")}};
  Core core = make();
  core.set_watcher(&watcher_);
  begin(core, with({service("192.0.2.10", {}), service("2001:db8::1", {})}));
  const auto& far = kernel_.network.interfaces.at(71);
  EXPECT_TRUE(far.node_link);
  EXPECT_EQ(far.mtu, 1450);
  EXPECT_EQ(far.mac, kernel_.node_link->mac);
  EXPECT_EQ(far.sources, kernel_.node_link->sources);
  ASSERT_TRUE(kernel_.led);
  EXPECT_THAT(*kernel_.led,
              ElementsAre(Pair(ip("192.0.2.10"), ip("10.0.0.1")), Pair(ip("2001:db8::1"), net::IpAddress{})));
}

TEST_F(CoreNodeClients, NothingIsLedWhereTheProgramsDoNotStand) {
  kernel_.refuse_attach = [](const auto&) { return std::optional(Error{ErrorKind::internal, "attach", "eth0", "no"}); };
  Core core = make();
  core.set_watcher(&watcher_);
  begin(core, with({service("192.0.2.10", {})}));
  EXPECT_FALSE(kernel_.led);
  kernel_.refuse_attach = {};
  core.retry();
  core.tend_node_clients();
  ASSERT_TRUE(kernel_.led);
  EXPECT_EQ(kernel_.led->size(), 1U);
}

TEST_F(CoreNodeClients, ALinkThatCannotBeMadeKeepsNobodyElseFromBeingServed) {
  kernel_.refuse_node_link = Error{ErrorKind::conflict, "make the node link", "sluice0", "it is a bridge"};
  Core core = make();
  core.set_watcher(&watcher_);
  begin(core, with({service("192.0.2.10", {})}));
  EXPECT_TRUE(core.facts().ready);
  EXPECT_FALSE(kernel_.led);
  EXPECT_THAT(kernel_.network.interfaces, ElementsAre(testing::Key(2U)));
  kernel_.refuse_node_link.reset();
  core.retry();
  core.tend_node_clients();
  EXPECT_TRUE(kernel_.network.interfaces.contains(71));
  ASSERT_TRUE(kernel_.led);
}

TEST_F(CoreNodeClients, ProgramsOfAnEarlierProcessStayUntilTheStateIsServedAndAreReplacedThen) {
  kernel_.node_link_programs = dataplane::NodeLinkPrograms::of_an_earlier_process;
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(with({service("192.0.2.10", {})}));
  EXPECT_EQ(kernel_.node_link_programs, dataplane::NodeLinkPrograms::of_an_earlier_process);
  EXPECT_TRUE(kernel_.led) << "addresses that have come meanwhile are served by it";
  core.tend_node_clients();
  EXPECT_EQ(kernel_.node_link_programs, dataplane::NodeLinkPrograms::of_this_process);
}

TEST_F(CoreNodeClients, ProgramsTakenOffTheLinkArePutBack) {
  Core core = make();
  core.set_watcher(&watcher_);
  begin(core, with({service("192.0.2.10", {})}));
  kernel_.node_link_programs = dataplane::NodeLinkPrograms::none;
  core.tend_node_clients();
  EXPECT_EQ(kernel_.node_link_programs, dataplane::NodeLinkPrograms::of_this_process);
}

TEST_F(CoreNodeClients, NothingIsLedWhereTheProgramsAreRefusedOnTheLink) {
  kernel_.refuse_attach_node_link = Error{ErrorKind::internal, "attach", "sluice1", "no"};
  Core core = make();
  core.set_watcher(&watcher_);
  begin(core, with({service("192.0.2.10", {})}));
  EXPECT_TRUE(core.facts().ready);
  EXPECT_FALSE(kernel_.led);
  kernel_.refuse_attach_node_link.reset();
  core.tend_node_clients();
  EXPECT_TRUE(kernel_.led);
}

TEST_F(CoreNodeClients, EventsLookAtWhatIsToBeLedAndTheKernelIsAskedNowAndThen) {
  Core core = make();
  core.set_watcher(&watcher_);
  begin(core, with({service("192.0.2.10", {})}));
  const int before = kernel_.times_led;
  core.on_network();
  EXPECT_EQ(kernel_.times_led, before);
  watcher_.view.addresses = {ip("192.0.2.10")};
  core.on_network();
  EXPECT_EQ(kernel_.times_led, before + 1);
  EXPECT_THAT(*kernel_.led, IsEmpty());
  core.retry();
  EXPECT_EQ(kernel_.times_led, before + 2) << "somebody may have taken a route away";
}

}  // namespace
}  // namespace sluice::agent
