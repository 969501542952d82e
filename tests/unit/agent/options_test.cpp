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
           {"--config", "x", "--max-flows", "4194305"},
           {"--config", "x", "--max-flows", "4294967295"},
           {"--config", "x", "--max-slots", "134217729"},
           {"--config", "x", "--max-backends", "16777217"},
           {"--config", "x", "--max-services", "1048577"},
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

constexpr auto kNative = dataplane::AttachMode::native;
constexpr auto kGeneric = dataplane::AttachMode::generic;

std::vector<dataplane::AttachMode> modes(const ChosenInterfaces& chosen) {
  std::vector<dataplane::AttachMode> out;
  for (const auto& request : chosen.requests) out.push_back(request.mode);
  return out;
}

Error refused_by(const std::string& interface) {
  return because("NativeModeNotSupported", fail(ErrorKind::not_supported, "attach to", interface, "no")).value();
}

TEST_F(Interfaces, OnlyAutomaticOnesFallBackAndOnlyForWantOfNativeMode) {
  const auto chosen = choose_interfaces({{"eth0", InterfaceMode::automatic}, {"eth1"}}, InterfaceMode::native, view_);
  const auto next = fall_back(chosen, refused_by("eth0"));
  ASSERT_TRUE(next);
  EXPECT_THAT(modes(*next), ElementsAre(kGeneric, kNative));
  EXPECT_FALSE(fall_back(*next, refused_by("eth0"))) << "tried already";
  EXPECT_FALSE(fall_back(chosen, refused_by("eth1"))) << "native by name: nothing that others do changes that";
  EXPECT_FALSE(fall_back(chosen, because("NotEthernet", fail(ErrorKind::not_supported, "", "eth0", "")).value()));
}

TEST_F(Interfaces, AllThatMayFallBackDoSoTogether) {
  view_.links[5] = {5, "eth2", "", {}, true, true};
  const auto chosen = choose_interfaces({{"eth0", InterfaceMode::native}, {"eth*"}}, InterfaceMode::automatic, view_);
  const auto next = fall_back(chosen, refused_by("eth2"));
  ASSERT_TRUE(next);
  EXPECT_THAT(modes(*next), ElementsAre(kNative, kGeneric, kGeneric));
  EXPECT_EQ(next->generic_because.text, "eth2: no");
}

TEST_F(Interfaces, BesideOneThatIsGenericByNameAutomaticIsGeneric) {
  const auto chosen = choose_interfaces({{"eth0", InterfaceMode::generic}, {"eth1"}}, InterfaceMode::automatic, view_);
  EXPECT_THAT(modes(chosen), ElementsAre(kGeneric, kGeneric));
}

TEST_F(Interfaces, WhatIsInGenericModeAndMayBeStaysSoAndTheOthersWithIt) {
  const std::vector<dataplane::AttachedInterface> attached = {{"eth0", 2, kGeneric, ""}, {"eth9", 9, kNative, ""}};
  const auto automatic = choose_interfaces({{"eth*"}}, InterfaceMode::automatic, view_);
  const auto kept = stay_generic(automatic, attached);
  EXPECT_THAT(modes(kept), ElementsAre(kGeneric, kGeneric));
  EXPECT_FALSE(fall_back(kept, refused_by("eth0")));
  EXPECT_THAT(modes(stay_generic(automatic, {{"eth0", 2, kNative, ""}, {"eth9", 9, kGeneric, ""}})),
              ElementsAre(kNative, kNative))
      << "one that is not chosen does not count";
  const auto named = choose_interfaces({{"eth0", InterfaceMode::native}, {"eth1"}}, InterfaceMode::automatic, view_);
  EXPECT_THAT(modes(stay_generic(named, attached)), ElementsAre(kNative, kNative)) << "as asked for by name";
}

}  // namespace
}  // namespace sluice::agent
