// What to write back to the API server, and which events to tell: from a round's outcome and how far the agents are.
// Pure. Only what differs is written, only what is ours, and each write is conditional on the version it was made from;
// on a conflict the next round makes it anew.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "operator/kube/object.h"
#include "operator/kube/resource.h"
#include "operator/planner/planner.h"

namespace sluice::status {

struct Event {
  kube::Object about;
  bool warning = false;
  std::string reason;
  std::string message;
};

enum class Verb : uint8_t {
  merge_patch,      // `body` is an RFC 7386 patch with metadata.resourceVersion
  strategic_patch,  // `body` is a strategic merge patch with metadata.resourceVersion
  create,           // `body` is the object
  remove,           // `body` is empty
};

struct Write {
  kube::Resource resource;
  resources::ObjectKey key;
  Verb verb = Verb::merge_patch;
  std::string subresource;  // "" or "status"
  kube::Object body;
  std::vector<Event> events;  // to be told when the write has succeeded
  bool only_counts = false;   // nothing has changed but numbers that do so all the time
};

struct Input {
  const resources::ClusterState& cluster;
  const planner::Round& round;
  const planner::Agents& agents;
  const planner::Options& options;
  planner::Time now;
  std::chrono::system_clock::time_point wall;  // for lastTransitionTime
};

struct Output {
  std::vector<Write> writes;
  std::optional<planner::Time> again_at;  // a judgement changes then though nothing else does
};

// Endpoints that come and go do not make an object un-Programmed unless a node lags this long.
constexpr std::chrono::seconds kLag{5};

Output status(const Input& input);

}  // namespace sluice::status
