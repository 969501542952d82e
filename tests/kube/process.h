// Child processes of a test: killed when they go out of scope, and by the kernel when the test dies first.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace sluice::test {

class Process {
 public:
  Process() = default;
  // Output of both kinds goes to `log` (appended). Must be started from a thread that lives as long as the child is to
  // live: the kernel ties the child's life to it.
  static Process start(const std::vector<std::string>& command, const std::string& log);
  ~Process() { kill(); }
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;

  [[nodiscard]] bool running();
  [[nodiscard]] pid_t pid() const { return pid_; }
  // SIGTERM, and SIGKILL after `grace`.
  void terminate(std::chrono::milliseconds grace);
  void kill();
  void signal(int number) const;  // SIGSTOP, SIGCONT

 private:
  pid_t pid_ = -1;
};

struct CommandResult {
  int exit_code = -1;
  std::string out;  // stdout and stderr
};
// Runs to its end; killed after `timeout` (exit code -1).
CommandResult run_command(const std::vector<std::string>& command, const std::string& input = {},
                          std::chrono::milliseconds timeout = std::chrono::seconds(60));

// A TCP port of 127.0.0.1 that was free just now. Not the same one twice in a row.
uint16_t free_port();
bool listening(uint16_t port);

}  // namespace sluice::test
