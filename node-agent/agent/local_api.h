// What this machine's root may ask the agent: HTTP over a unix socket, GET only, answers in JSON
// (node-agent/inspect/view.h). It changes nothing but what a sweep of the flows does, a few seconds earlier.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/telemetry/http_server.h"
#include "node-agent/agent/core.h"
#include "node-agent/agent/loop.h"

namespace sluice::agent {

class LocalApi {
 public:
  // Both outlive it.
  LocalApi(Loop& loop, Core& core) : loop_(loop), core_(core) {}
  // /v1/backends, /v1/tunnels, /v1/drains, which counts the flows anew. The server ends before this does.
  Result<std::unique_ptr<telemetry::HttpServer>> serve(const std::string& path);

 private:
  telemetry::HttpReply on_loop(const std::function<std::string()>& work);

  Loop& loop_;
  Core& core_;
};

}  // namespace sluice::agent
