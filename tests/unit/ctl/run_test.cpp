// What sluicectl does with an agent's answers, and with its silence.
#include "node-agent/ctl/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <sstream>
#include <vector>

namespace sluice::agent::ctl {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json draining(uint64_t flows, const std::string& counted = "here") {
  return {
      {"services",
       {{{"service", "s/http"},
         {"backends",
          {{{"address", "10.1.0.1:8080"}, {"node", "n2"}, {"way", "nat"}, {"flows", flows}, {"counted", counted}}}}}}}};
}

class RunTest : public testing::Test {
 protected:
  RunTest() {
    answers_["/v1/backends"] = {json{{"services", {{{"service", "s/http"}, {"backends", json::array()}}}}}};
    answers_["/v1/tunnels"] = {json{{"tunnels", json::array()}}};
  }
  int run(const Command& command) {
    const Edges edges{[this](const std::string& path) -> Result<json> {
                        asked_.push_back(path);
                        if (!answers_.contains(path)) {
                          return fail(ErrorKind::not_found, "ask the agent at", "/x", "there is no such socket");
                        }
                        auto& list = answers_[path];
                        json next = list.front();
                        if (list.size() > 1) list.pop_front();
                        return next;
                      },
                      [this](std::chrono::milliseconds) { ++pauses_; }};
    out_.str("");
    err_.str("");
    return ctl::run(command, edges, out_, err_);
  }
  static Command drain(bool wait) {
    Command command;
    command.kind = Command::Kind::drain;
    command.service = "s/http";
    command.wait = wait;
    return command;
  }
  std::map<std::string, std::deque<json>> answers_;  // the last one stays
  std::vector<std::string> asked_;
  int pauses_ = 0;
  std::ostringstream out_, err_;
};

TEST_F(RunTest, TablesGoOutAndTheExitCodeTellsWhetherAllIsWell) {
  EXPECT_EQ(run({}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("SERVICE"));
  EXPECT_EQ(err_.str(), "");
  Command tunnels;
  tunnels.kind = Command::Kind::tunnels;
  EXPECT_EQ(run(tunnels), 0);
  answers_["/v1/tunnels"] = {json{{"tunnels", {{{"node", "n2"}, {"proved", false}}}}}};
  EXPECT_EQ(run(tunnels), 1);
}

TEST_F(RunTest, JsonIsWhatTheAgentAnswersOfWhatWasAskedFor) {
  Command command;
  command.output = Command::Output::json;
  command.service = "http";
  EXPECT_EQ(run(command), 0);
  EXPECT_EQ(json::parse(out_.str()), answers_["/v1/backends"].front());
}

TEST_F(RunTest, NoAnswerIsAnErrorOnStderr) {
  answers_.clear();
  for (const auto kind : {Command::Kind::backends, Command::Kind::tunnels, Command::Kind::drain}) {
    Command command;
    command.kind = kind;
    command.service = "s/http";
    EXPECT_EQ(run(command), 1);
    EXPECT_EQ(out_.str(), "");
    EXPECT_EQ(err_.str(), "sluicectl: ask the agent at /x: there is no such socket\n");
  }
}

TEST_F(RunTest, ServiceThatIsNotThereIsToldWithThoseThatAre) {
  Command command;
  command.service = "other";
  EXPECT_EQ(run(command), 1);
  EXPECT_EQ(err_.str(), "sluicectl: this node has no service other\nIt has:\n  s/http\n");
  command.kind = Command::Kind::drain;
  EXPECT_EQ(run(command), 1);
}

TEST_F(RunTest, DrainTellsWhatIsLeft) {
  answers_["/v1/drains"] = {draining(3)};
  EXPECT_EQ(run(drain(false)), 1);
  EXPECT_THAT(out_.str(), HasSubstr("10.1.0.1:8080"));
  EXPECT_EQ(pauses_, 0);
  answers_["/v1/drains"] = {draining(0)};
  EXPECT_EQ(run(drain(false)), 0);
}

TEST_F(RunTest, DrainWaitsUntilNothingIsLeftAndSaysWhatChanges) {
  answers_["/v1/drains"] = {draining(3), draining(3), draining(1), draining(0)};
  EXPECT_EQ(run(drain(true)), 0);
  EXPECT_EQ(pauses_, 3);
  EXPECT_EQ(err_.str(), "waiting: 3 flows of 1 leaving backends\nwaiting: 1 flows of 1 leaving backends\n");
}

TEST_F(RunTest, DrainEndsWithItsTime) {
  answers_["/v1/drains"] = {draining(3)};
  Command command = drain(true);
  command.timeout = std::chrono::seconds(5);
  EXPECT_EQ(run(command), 1);
  EXPECT_EQ(pauses_, 5);
  EXPECT_THAT(err_.str(), HasSubstr("flows are left after 5 s\n"));
}

TEST_F(RunTest, DrainSaysWhereTheOthersAreCounted) {
  answers_["/v1/drains"] = {draining(0, "there")};
  EXPECT_EQ(run(drain(true)), 0);
  EXPECT_THAT(err_.str(), HasSubstr("ask on n2"));
}

TEST_F(RunTest, AgentThatGoesWhileItIsWaitedForIsAnError) {
  answers_["/v1/drains"] = {draining(3)};
  Command command = drain(true);
  const Edges edges{[this, count = 0](const std::string& path) mutable -> Result<json> {
                      if (++count > 3) return fail(ErrorKind::unavailable, "ask", "the agent", "gone");
                      return answers_[path].front();
                    },
                    [](std::chrono::milliseconds) {}};
  EXPECT_EQ(ctl::run(command, edges, out_, err_), 1);
  EXPECT_THAT(err_.str(), HasSubstr("gone"));
}

}  // namespace
}  // namespace sluice::agent::ctl
