#include "tests/netns/agent_process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "tests/netns/traffic.h"

namespace sluice::lab {
namespace {

constexpr uint16_t kMetricsPort = 9471;

std::vector<std::string> arguments_of(const Lab& lab, const std::string& node = "lb") {
  const std::string state = lab.file(node == "lb" ? "state.json" : "state-" + node + ".json");
  return {SLUICE_AGENT_BINARY,  "--state",      state, "--bpffs", lab.bpffs(node), "--node-name", node, "--socket",
          socket_of(lab, node), "--log-format", "text"};
}

}  // namespace

std::string socket_of(const Lab& lab, const std::string& node) {
  return lab.file("agent-" + node + ".sock");
}

CommandOutcome sluicectl(const Lab& lab, const std::string& node, const std::string& arguments) {
  return command(std::string(SLUICE_CTL_BINARY) + " --socket " + socket_of(lab, node) + " " + arguments);
}

AgentProcess::AgentProcess(const Lab& lab, std::vector<std::string> extra, std::vector<std::string> under,
                           std::string node)
    : lab_(lab), node_(std::move(node)) {
  static std::atomic<int> count{0};
  log_file_ = lab.file("agent-" + std::to_string(++count) + ".log");
  std::vector<std::string> arguments = std::move(under);
  for (std::string& argument : arguments_of(lab, node_)) arguments.push_back(std::move(argument));
  arguments.insert(arguments.end(), extra.begin(), extra.end());
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const std::string ns = lab.ns(node_);
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ > 0) return;
  const int log = open(log_file_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  enter(ns);
  execvp(argv[0], argv.data());
  _exit(127);
}

AgentProcess::~AgentProcess() {
  kill();
  // The log is what a person asks for first when a test has failed.
  if (std::getenv("SLUICE_SHOW_AGENT_LOG") != nullptr) std::cerr << log();
}

bool AgentProcess::wait_ready(int status, const std::string& text, std::chrono::seconds deadline) const {
  const bool good = eventually(
      [&] {
        const auto [code, body] = get_http(lab_.ns(node_), kMetricsPort, "/readyz");
        return code == status && body.find(text) != std::string::npos;
      },
      deadline);
  if (!good)
    std::cerr << "not ready (" << status << ' ' << text
              << "): " << get_http(lab_.ns(node_), kMetricsPort, "/readyz").second << log();
  return good;
}

std::string AgentProcess::log() const {
  std::ifstream file(log_file_);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

bool AgentProcess::wait_log(const std::string& text) const {
  return eventually([&] { return log().find(text) != std::string::npos; });
}

std::string AgentProcess::metrics() const {
  return get_http(lab_.ns(node_), kMetricsPort, "/metrics").second;
}

double AgentProcess::metric(const std::string& name) const {
  const std::string page = "\n" + metrics();
  const auto found = page.find("\n" + name + " ");
  return found == std::string::npos ? -1 : std::atof(page.c_str() + found + name.size() + 2);
}

void AgentProcess::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

int AgentProcess::terminate() {
  ::kill(pid_, SIGTERM);
  return wait_exit();
}

int AgentProcess::wait_exit() {
  int status = 0;
  const bool ended = eventually([&] { return waitpid(pid_, &status, WNOHANG) == pid_; }, std::chrono::seconds(30));
  if (!ended) return -1;
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

CommandOutcome run_agent(const Lab& lab, const std::string& arguments) {
  std::string line;
  for (const std::string& argument : arguments_of(lab)) line += argument + " ";
  return lab.in("lb", line + arguments);
}

CommandOutcome purge(const Lab& lab) {
  return run_agent(lab, "--purge");
}

}  // namespace sluice::lab
