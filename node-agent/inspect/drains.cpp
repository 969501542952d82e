#include <algorithm>
#include <map>
#include <tuple>

#include "node-agent/inspect/text.h"
#include "node-agent/inspect/view.h"

namespace sluice::agent::inspect {
namespace {

using dataplane::Forward;

const char* counted(Forward way) {
  if (way == Forward::tunnel) return "there";
  return way == Forward::direct || way == Forward::ipip ? "idle" : "here";
}

uint64_t flows_of(const View& view, const dataplane::BackendRecord& record) {
  const auto& leaving = view.facts.leaving;
  const auto found = std::ranges::find_if(leaving, [&](const dataplane::LeavingFlows& one) {
    return std::tie(one.service, one.address, one.port) == std::tie(record.service, record.address, record.port);
  });
  return found == leaving.end() ? 0 : found->flows;
}

std::string node_of(const View& view, const dataplane::BackendRecord& record) {
  if (view.state == nullptr) return "";
  const auto service = view.state->services.find(record.service);
  if (service == view.state->services.end()) return "";
  const auto backend = std::ranges::find_if(service->second.backends, [&](const state::Backend& one) {
    return one.address == record.address && one.port == record.port;
  });
  return backend == service->second.backends.end() ? "" : backend->node;
}

}  // namespace

Json drains(const View& view) {
  std::map<std::string, Json> services;
  for (const dataplane::BackendRecord& record : view.records) {
    if (!record.left) continue;
    Json one = {{"address", health::endpoint_text(record.address, record.port)},
                {"way", text_of(record.way)},
                {"flows", flows_of(view, record)},
                {"counted", counted(record.way)}};
    if (const std::string node = node_of(view, record); !node.empty()) one["node"] = node;
    services.try_emplace(record.service, Json::array()).first->second.push_back(std::move(one));
  }
  Json list = Json::array();
  for (auto& [id, backends] : services) list.push_back({{"service", id}, {"backends", std::move(backends)}});
  return {{"node", view.node}, {"services", std::move(list)}};
}

}  // namespace sluice::agent::inspect
