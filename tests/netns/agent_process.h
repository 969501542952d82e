// The real sluice-agent, as a child of the test, in the lab's load balancer.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "tests/netns/network.h"

namespace sluice::lab {

class AgentProcess {
 public:
  // `extra` comes after the lab's own --state, --bpffs and --metrics-listen.
  // `under`: a command that runs it, "setpriv --bounding-set -net_admin" by words.
  // `node`: its name, and where it runs.
  AgentProcess(const Lab& lab, std::vector<std::string> extra, std::vector<std::string> under = {},
               std::string node = "lb");
  AgentProcess(const AgentProcess&) = delete;
  AgentProcess& operator=(const AgentProcess&) = delete;
  ~AgentProcess();  // kill -9, where it still runs

  // The body of /readyz has this text, and the status is the one given.
  bool wait_ready(int status = 200, const std::string& text = "",
                  std::chrono::seconds deadline = std::chrono::seconds(30)) const;
  [[nodiscard]] std::string log() const;
  bool wait_log(const std::string& text) const;
  [[nodiscard]] std::string metrics() const;
  // The value of a metric, by its whole name with labels; -1: not there.
  [[nodiscard]] double metric(const std::string& name) const;
  void kill();      // -9
  int terminate();  // SIGTERM; the exit code
  int wait_exit();  // the exit code of one that ends by itself

 private:
  const Lab& lab_;
  std::string node_;
  std::string log_file_;
  pid_t pid_ = -1;
};

// Runs it to its end: exit code and what it said.
CommandOutcome run_agent(const Lab& lab, const std::string& arguments);
// Where the agent of a node answers sluicectl.
std::string socket_of(const Lab& lab, const std::string& node);
// sluicectl, asking the agent of a node.
CommandOutcome sluicectl(const Lab& lab, const std::string& node, const std::string& arguments);
// --purge for what AgentProcess ran.
CommandOutcome purge(const Lab& lab);

}  // namespace sluice::lab
