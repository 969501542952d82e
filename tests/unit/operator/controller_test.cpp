// What the operator tells of itself: its metrics and its help.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "operator/controller/exposition.h"
#include "operator/controller/options.h"

namespace sluice::controller {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Exposition, OnlyTheLeaderSpeaksOfAgents) {
  Figures figures;
  figures.agents["node1"].info.failures.resize(2);
  figures.leading = true;
  const std::string leader = expose(figures);
  EXPECT_THAT(leader, HasSubstr("sluice_operator_agent_connected{node=\"node1\"} 0\n"));
  EXPECT_THAT(leader, HasSubstr("sluice_operator_agent_failed_services{node=\"node1\"} 2\n"));
  figures.leading = false;
  EXPECT_THAT(expose(figures), Not(HasSubstr("node=\"node1\""))) << "others have no session to any of them";
}

TEST(Help, SaysInWhichOrderTheApiServerIsLookedFor) {
  testing::internal::CaptureStdout();
  const std::array<const char*, 2> argv = {"sluice-operator", "--help"};
  const auto parsed = parse_options(argv.size(), argv.data(), "1");
  std::string help;
  bool blank = false;
  for (const char c : testing::internal::GetCapturedStdout()) {  // lines are broken somewhere
    const bool space = c == ' ' || c == '\n';
    if (!space || !blank) help += space ? ' ' : c;
    blank = space;
  }
  EXPECT_EQ(std::get<Exit>(parsed).code, 0);
  EXPECT_THAT(help, HasSubstr("default: $KUBECONFIG, then the pod's service account, then ~/.kube/config"));
}

}  // namespace
}  // namespace sluice::controller
