#include <fmt/format.h>

#include <variant>

#include "common/log/log.h"
#include "common/log/spdlog.h"
#include "common/process/termination.h"
#include "common/telemetry/http_server.h"
#include "common/version.h"
#include "operator/controller/cleanup.h"
#include "operator/controller/controller.h"
#include "operator/kube/config.h"

namespace {

using sluice::Result;
using sluice::Status;
using sluice::controller::Options;

constexpr int kUsage = 2;

Result<std::shared_ptr<sluice::kube::Transport>> connect(const Options& options) {
  const auto config = sluice::kube::load_config(options.kubeconfig);
  if (!config) {
    return tl::unexpected(config.error());
  }
  return sluice::kube::make_transport(*config, fmt::format("sluice-operator/{}", sluice::version()));
}

sluice::telemetry::HttpReply probe(const std::string& problem) {
  constexpr int kUnavailable = 503;
  sluice::telemetry::HttpReply reply;
  reply.status = problem.empty() ? reply.status : kUnavailable;
  reply.body = (problem.empty() ? "ok" : problem) + "\n";
  return reply;
}

Status serve(const Options& options, std::shared_ptr<sluice::kube::Transport> transport) {
  const auto controller = sluice::controller::Controller::start(options, std::move(transport));
  const auto listen =
      std::get<sluice::controller::ListenAddress>(sluice::controller::parse_listen(options.metrics_listen));
  const auto http = sluice::telemetry::HttpServer::start(listen.host, listen.port,
                                                         {{"/healthz", [&] { return probe(controller->unhealthy()); }},
                                                          {"/readyz", [&] { return probe(controller->unready()); }},
                                                          {"/metrics", [&] {
                                                             sluice::telemetry::HttpReply reply;
                                                             reply.content_type =
                                                                 "text/plain; version=0.0.4; charset=utf-8";
                                                             reply.body = controller->metrics();
                                                             return reply;
                                                           }}});
  if (!http) {
    return tl::unexpected(http.error());
  }
  spdlog::info("sluice-operator {} ({}) as {}, metrics on {}:{}", sluice::version(), sluice::git_revision(),
               options.identity, listen.host, (*http)->port());
  const auto signal = sluice::process::wait_for_termination();
  if (!signal) {
    return tl::unexpected(signal.error());
  }
  spdlog::info("ending on signal {}; the nodes go on forwarding", *signal);
  return {};
}

Status run(const Options& options) {
  auto transport = connect(options);
  if (!transport) {
    return tl::unexpected(transport.error());
  }
  return options.cleanup ? sluice::controller::clean_up(options, *transport) : serve(options, *transport);
}

}  // namespace

int main(int argc, char** argv) {
  if (const auto prepared = sluice::process::prepare_signals(); !prepared) {
    fmt::print(stderr, "{}\n", prepared.error().message());
    return 1;
  }
  const auto parsed =
      sluice::controller::parse_options(argc, argv, fmt::format("{} ({})", sluice::version(), sluice::git_revision()));
  if (const auto* exit = std::get_if<sluice::controller::Exit>(&parsed)) {
    return exit->code;
  }
  const auto& options = std::get<Options>(parsed);
  if (const auto logging = sluice::log::setup(options.log_level, options.log_format); !logging) {
    fmt::print(stderr, "{}\n", logging.error().message());
    return kUsage;
  }
  if (const auto done = run(options); !done) {
    spdlog::error("{}", done.error().message());
    return 1;
  }
  return 0;
}
