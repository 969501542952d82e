#include "node-agent/ctl/command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>

#include "common/version.h"

namespace sluice::agent::ctl {
namespace {

using Kind = Command::Kind;
using Output = Command::Output;

constexpr const char* kService =
    "A service's id, or a part of it: shop/web is Service/shop/web/http and each other port";

void declare(CLI::App& app, Command& command) {
  static const std::map<std::string, Output> outputs = {
      {"table", Output::table}, {"wide", Output::wide}, {"json", Output::json}};
  app.add_option("-o,--output", command.output, "table, wide (more columns) or json (what the agent answers)")
      ->transform(CLI::CheckedTransformer(outputs, CLI::ignore_case).description(""))
      ->type_name("FORMAT");
  app.add_option("--socket", command.socket, "Where the agent answers")
      ->envname("SLUICE_SOCKET")
      ->capture_default_str()
      ->type_name("FILE");
  app.fallthrough();
  app.require_subcommand(1);
  auto* backends = app.add_subcommand("backends", "Where packets of each service go from this node, and why that way");
  backends->add_option("SERVICE", command.service, kService);
  backends->callback([&command] { command.kind = Kind::backends; });
  auto* tunnels = app.add_subcommand("tunnels", "The tunnels to other nodes: proved or not, since when, what fits");
  tunnels->callback([&command] { command.kind = Kind::tunnels; });
  auto* drain = app.add_subcommand("drain", "Leaving backends and the flows that they still have here");
  drain->add_option("SERVICE", command.service, kService)->required();
  drain->add_flag("--wait", command.wait, "Until no flow is left");
  drain->add_option("--timeout", command.timeout, "How long to wait, in seconds; 0: for ever")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, int64_t>{{"s", 1}, {"m", 60}, {"h", 3600}},
                                        CLI::AsNumberWithUnit::CASE_SENSITIVE, "")
                      .description(""))
      ->type_name("DURATION");
  drain->callback([&command] { command.kind = Kind::drain; });
}

}  // namespace

ParsedCommand parse_command(int argc, const char* const* argv) {
  ParsedCommand parsed;
  CLI::App app(
      "sluicectl: asks the agent of this machine what it does.\n"
      "In a cluster: kubectl -n sluice-system exec POD -- sluicectl ...\n"
      "Exit codes: 0 all is well, 1 something is not (or there is no answer), 2 usage.");
  app.set_version_flag("--version", fmt::format("sluicectl {} ({})", version(), git_revision()));
  declare(app, parsed.command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    parsed.exit_code = app.exit(error) == 0 ? 0 : kUsage;
  }
  return parsed;
}

}  // namespace sluice::agent::ctl
