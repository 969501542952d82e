#include "node-agent/agent/local_api.h"

#include <future>
#include <utility>

#include "node-agent/inspect/view.h"

namespace sluice::agent {
namespace {

// The largest states take the owner's thread seconds; people wait.
constexpr std::chrono::seconds kPatience{10};

std::string text_of(const inspect::Json& json) {
  return json.dump(-1, ' ', false, inspect::Json::error_handler_t::replace) + "\n";
}

}  // namespace

telemetry::HttpReply LocalApi::on_loop(const std::function<std::string()>& work) {
  // Shared with the work: it may still run when nobody waits for it any more.
  auto answer = std::make_shared<std::promise<std::string>>();
  auto future = answer->get_future();
  loop_.post([answer, work] { answer->set_value(work()); });
  telemetry::HttpReply reply;
  if (future.wait_for(kPatience) != std::future_status::ready) {
    reply.status = 503;
    reply.body = "the agent is busy; ask again\n";
    return reply;
  }
  reply.content_type = "application/json";
  reply.body = future.get();
  return reply;
}

Result<std::unique_ptr<telemetry::HttpServer>> LocalApi::serve(const std::string& path) {
  return telemetry::HttpServer::start_local(
      path,
      {{"/v1/backends",
        [this] { return on_loop([this] { return text_of(inspect::backends(core_.view(tunnel::Clock::now()))); }); }},
       {"/v1/tunnels",
        [this] { return on_loop([this] { return text_of(inspect::tunnels(core_.view(tunnel::Clock::now()))); }); }},
       {"/v1/drains", [this] {
          return on_loop([this] {
            // Who waits for the last flow must not be told of an earlier count.
            core_.sweep();
            return text_of(inspect::drains(core_.view(tunnel::Clock::now())));
          });
        }}});
}

}  // namespace sluice::agent
