// One agent a network namespace: who is in, who waits, and whom nobody keeps out.
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "node-agent/agent/single_instance.h"
#include "tests/netns/standalone_fixture.h"

namespace sluice::lab {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class Instances : public Standalone {};

TEST_F(Instances, OneAgentANamespaceAndTheNextWaitsForIt) {
  auto first = started(file_text(backend(1)));
  auto second = start({"--metrics-listen", "127.0.0.1:9472"});
  EXPECT_FALSE(eventually([&] { return second->log().find("is up") != std::string::npos; }, milliseconds(500)));
  EXPECT_EQ(first->terminate(), 0);
  EXPECT_TRUE(second->wait_log("is up"));
}

// A socket that has the agent's name in this thread's namespace, which goes with the descriptor; nullopt: another has
// it.
std::optional<int> take_the_agents_name() {
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  const std::string text = "sluice-agent";
  text.copy(name.sun_path + 1, text.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  if (bind(fd, reinterpret_cast<const sockaddr*>(&name), length) == 0) return fd;
  close(fd);
  return std::nullopt;
}

TEST_F(Instances, OfThoseThatStartTogetherOneIsInAtOnceAndHasTheName) {
  constexpr int kStarters = 4;
  inside(lab_.ns("lb"), [this] {
    for (int round = 0; round < 300; ++round) {
      std::barrier together(kStarters);
      std::atomic<int> in{0};
      std::atomic<int> named{0};
      std::vector<std::jthread> starters;
      starters.reserve(kStarters);
      for (int i = 0; i < kStarters; ++i) {
        starters.emplace_back([&] {
          together.arrive_and_wait();
          const auto instance = agent::SingleInstance::acquire(lab_.file("state.json"), milliseconds(0));
          together.arrive_and_wait();
          in += instance ? 1 : 0;
          const auto free = instance ? take_the_agents_name() : std::nullopt;
          named += instance && !free ? 1 : 0;
          if (free) close(*free);
          together.arrive_and_wait();
        });
      }
      starters.clear();
      EXPECT_EQ(in, 1) << "round " << round;
      EXPECT_EQ(named, 1) << "round " << round;
    }
    return true;
  });
}

// Made by `uid` in the balancer's namespace.
int socket_with_the_agents_name(const Lab& lab, uid_t uid) {
  return inside(lab.ns("lb"), [uid] {
    // This thread alone: libc's call would change the user of all.
    EXPECT_EQ(syscall(SYS_setresuid, uid, uid, uid), 0);
    const auto taken = take_the_agents_name();
    EXPECT_TRUE(taken);
    return taken.value_or(-1);
  });
}

TEST_F(Instances, SomebodyWhoIsNotRootKeepsNoAgentOut) {
  const int squatter = socket_with_the_agents_name(lab_, 65534);
  auto first = started(file_text(backend(1)));
  EXPECT_THAT(first->log(), HasSubstr("somebody who is not root holds the socket name"));
  EXPECT_THAT(purge(lab_).output, HasSubstr("an agent is running"));
  auto second = start({"--metrics-listen", "127.0.0.1:9472"});
  EXPECT_FALSE(eventually([&] { return second->log().find("is up") != std::string::npos; }, milliseconds(500)));
  EXPECT_EQ(first->terminate(), 0);
  EXPECT_TRUE(second->wait_log("is up"));
  EXPECT_EQ(second->terminate(), 0);
  EXPECT_FALSE(std::filesystem::exists(lab_.file("state.json.lock")));
  close(squatter);
}

TEST_F(Instances, RootWhoHasTheNameIsAnAgentWhateverItsStateFile) {
  const int other = socket_with_the_agents_name(lab_, 0);
  EXPECT_THAT(purge(lab_).output, HasSubstr("an agent is running"));
  close(other);
  EXPECT_EQ(purge(lab_).exit_code, 0);
}

}  // namespace
}  // namespace sluice::lab
