// sluicectl: see --help.
#include <iostream>

#include "node-agent/ctl/client.h"
#include "node-agent/ctl/command.h"
#include "node-agent/ctl/run.h"

int main(int argc, char** argv) {
  namespace ctl = sluice::agent::ctl;
  const auto parsed = ctl::parse_command(argc, argv);
  if (parsed.exit_code) return *parsed.exit_code;
  const ctl::Command& command = parsed.command;
  const ctl::Ask ask = [&command](const std::string& path) { return ctl::ask(command.socket, path); };
  return ctl::run(command, {ask, ctl::wait_a_moment}, std::cout, std::cerr);
}
