// Flags and their names in the environment; devices from names and patterns.
#include "node-agent/agent/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "node-agent/agent/interfaces.h"

namespace sluice::agent {
namespace {

using config::InterfaceMode;
using testing::ElementsAre;

Parsed parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "sluice-agent");
  return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

TEST(Options, DefaultsAreThoseOfTheDocumentation) {
  const auto parsed = parse({"--listen", "192.0.2.7:9470"});
  ASSERT_FALSE(parsed.exit_code);
  const Options& options = parsed.options;
  EXPECT_EQ(options.listen->text(), "192.0.2.7:9470");
  EXPECT_EQ(options.metrics_listen->text(), "127.0.0.1:9471");
  EXPECT_EQ(options.state_file, "/var/lib/sluice/state.json");
  EXPECT_EQ(options.announce_grace, std::chrono::seconds(30));
  EXPECT_EQ(options.nat_port_first, 10'000);
  EXPECT_EQ(options.nat_port_last, 29'999);
  EXPECT_EQ(options.interface_mode, InterfaceMode::native);
  EXPECT_TRUE(options.interfaces.empty());
  EXPECT_FALSE(options.node_name.empty());
}

TEST(Options, EachFlagCountsAndTheEnvironmentBehindIt) {
  setenv("SLUICE_INTERFACES", "eth0,en*", 1);
  setenv("SLUICE_ANNOUNCE_GRACE", "2m", 1);
  setenv("SLUICE_NODE_NAME", "from-environment", 1);
  const auto parsed = parse({"--config", "lb.yaml", "--node-name", "from-flag", "--nat-ports", "2000-3000",
                             "--metrics-listen", "", "--interface-mode", "auto"});
  unsetenv("SLUICE_INTERFACES");
  unsetenv("SLUICE_ANNOUNCE_GRACE");
  unsetenv("SLUICE_NODE_NAME");
  ASSERT_FALSE(parsed.exit_code);
  const Options& options = parsed.options;
  EXPECT_EQ(options.node_name, "from-flag");
  EXPECT_EQ(options.announce_grace, std::chrono::seconds(120));
  EXPECT_THAT(options.interfaces, ElementsAre(config::Interface{"eth0"}, config::Interface{"en*"}));
  EXPECT_EQ(options.nat_port_first, 2000);
  EXPECT_FALSE(options.metrics_listen);
  EXPECT_EQ(options.interface_mode, InterfaceMode::automatic);
}

TEST(Options, HelpAndVersionEndWellAndNonsenseWithTwo) {
  EXPECT_EQ(parse({"--help"}).exit_code, 0);
  EXPECT_EQ(parse({"--version"}).exit_code, 0);
  for (const auto& arguments : std::vector<std::vector<const char*>>{
           {},
           {"--listen", "1.2.3.4"},
           {"--listen", "1.2.3.4:99999"},
           {"--listen", "1.2.3.4:1", "--config", "x"},
           {"--config", "x", "--nat-ports", "100-200"},
           {"--config", "x", "--nat-ports", "3000-3010"},
           {"--config", "x", "--announce-grace", "1s"},
           {"--config", "x", "--announce-grace", "soon"},
           {"--config", "x", "--interface-mode", "fast"},
           {"--config", "x", "--max-flows", "many"},
           {"--check"},
           {"--no-such-flag"},
       }) {
    EXPECT_EQ(parse(arguments).exit_code, 2) << testing::PrintToString(arguments);
  }
}

class Interfaces : public testing::Test {
 protected:
  Interfaces() {
    view_.links[1] = {1, "lo", "", {}, true, false};
    view_.links[2] = {2, "eth0", "", {}, true, true};
    view_.links[3] = {3, "eth1", "", {}, true, true};
    view_.links[4] = {4, "wg0", "wireguard", {}, true, false};
    view_.default_devices = {3};
  }
  std::vector<std::string> names(const std::vector<config::Interface>& wanted) {
    std::vector<std::string> out;
    for (const auto& request : choose_interfaces(wanted, InterfaceMode::native, view_).requests)
      out.push_back(request.name);
    return out;
  }
  nexthop::NetworkView view_;
};

TEST_F(Interfaces, DefaultIsTheDefaultRoutesDevice) {
  EXPECT_THAT(names({}), ElementsAre("eth1"));
}

TEST_F(Interfaces, PatternsChooseEthernetDevicesEachOnce) {
  EXPECT_THAT(names({{"*"}}), ElementsAre("eth0", "eth1"));
  EXPECT_THAT(names({{"eth1"}, {"eth*"}}), ElementsAre("eth0", "eth1"));
}

TEST_F(Interfaces, MissingOnesAreNamed) {
  const auto chosen = choose_interfaces({{"eth9"}, {"en*"}, {"eth0"}}, InterfaceMode::native, view_);
  EXPECT_THAT(chosen.missing, ElementsAre("eth9: no such interface", "en*: no such interface (a pattern)"));
  EXPECT_EQ(chosen.indices, std::set<uint32_t>{2});
  view_.default_devices.clear();
  EXPECT_THAT(choose_interfaces({}, InterfaceMode::native, view_).missing,
              ElementsAre("there is no default route over an Ethernet device: name interfaces"));
}

TEST_F(Interfaces, OwnModeBeforeTheGeneralOne) {
  const auto chosen = choose_interfaces({{"eth0", InterfaceMode::native}, {"eth1"}}, InterfaceMode::generic, view_);
  EXPECT_EQ(chosen.requests[0].mode, dataplane::AttachMode::native);
  EXPECT_EQ(chosen.requests[1].mode, dataplane::AttachMode::generic);
}

TEST_F(Interfaces, OnlyAutomaticOnesFallBackAndOnlyForWantOfNativeMode) {
  const auto chosen = choose_interfaces({{"eth0", InterfaceMode::automatic}, {"eth1"}}, InterfaceMode::native, view_);
  const Error refused =
      because("NativeModeNotSupported", fail(ErrorKind::not_supported, "attach to", "eth0", "no")).value();
  const auto next = fall_back(chosen, refused);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->requests[0].mode, dataplane::AttachMode::generic);
  EXPECT_EQ(next->requests[1].mode, dataplane::AttachMode::native);
  EXPECT_FALSE(fall_back(*next, refused)) << "tried already";
  EXPECT_FALSE(fall_back(chosen, because("NotEthernet", fail(ErrorKind::not_supported, "", "eth0", "")).value()));
}

}  // namespace
}  // namespace sluice::agent
