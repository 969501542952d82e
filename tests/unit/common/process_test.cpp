#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "common/process/termination.h"
#include "common/version.h"

namespace sluice::process {
namespace {

// Runs `body` in a child, whose exit status is what it returns: signals must not reach the test itself.
template <typename Body>
int exit_status_of(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    _exit(body());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int wait_in_child_for(int signal) {
  return exit_status_of([signal] {
    if (!prepare_signals()) return 100;
    // To the process, as a kubelet or a terminal sends it; a thread that was started meanwhile must not die of it.
    std::thread sender([signal] { kill(getpid(), signal); });
    const auto received = wait_for_termination();
    sender.join();
    return received ? *received : 101;
  });
}

TEST(Termination, SigtermAndSigintAreReceived) {
  EXPECT_EQ(wait_in_child_for(SIGTERM), SIGTERM);
  EXPECT_EQ(wait_in_child_for(SIGINT), SIGINT);
}

TEST(Termination, OtherSignalsKeepTheirMeaning) {
  EXPECT_EQ(wait_in_child_for(SIGQUIT), 1000 + SIGQUIT);
}

TEST(Termination, APartOfTheProcessCanRequestIt) {
  EXPECT_EQ(exit_status_of([] {
              if (!prepare_signals()) return 100;
              std::thread part([] { request_termination(); });
              const auto received = wait_for_termination();
              part.join();
              return received ? *received : 101;
            }),
            SIGTERM);
}

TEST(Termination, WritingToAClosedPipeIsAnErrorNotTheEnd) {
  EXPECT_EQ(exit_status_of([] {
              if (!prepare_signals()) return 100;
              int ends[2];
              if (pipe(ends) != 0) return 101;
              close(ends[0]);
              return write(ends[1], "x", 1) == -1 && errno == EPIPE ? 0 : 102;
            }),
            0);
}

TEST(Version, IsTheProjectsAndTheTrees) {
  EXPECT_THAT(version(), ::testing::MatchesRegex("[0-9]+[.][0-9]+[.][0-9]+"));
  EXPECT_FALSE(std::string(git_revision()).empty());
}

}  // namespace
}  // namespace sluice::process
