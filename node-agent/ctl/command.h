// What people type after sluicectl.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "node-agent/inspect/socket.h"

namespace sluice::agent::ctl {

constexpr int kFinding = 1;  // exit code: something is not as it should be, or there is no answer
constexpr int kUsage = 2;

struct Command {
  enum class Kind : uint8_t { backends, tunnels, drain };
  enum class Output : uint8_t { table, wide, json };
  Kind kind = Kind::backends;
  Output output = Output::table;
  std::string service;              // empty: all
  bool wait = false;                // drain: until no flow is left
  std::chrono::seconds timeout{0};  // of waiting; 0: for ever
  std::string socket = inspect::kSocket;
};

// The exit code where there is nothing more to do: 0 after --help and --version, 2 where what was typed makes no sense
// (it has been said on stderr).
struct ParsedCommand {
  Command command;
  std::optional<int> exit_code;
};
ParsedCommand parse_command(int argc, const char* const* argv);

}  // namespace sluice::agent::ctl
