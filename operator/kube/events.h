// Events on what users touch. Recording never blocks and never fails: events are aggregated (same object, type, reason
// and message within ten minutes: one event with a count), limited in rate per object, sent from a thread of their own,
// and dropped and counted when the API server cannot take them.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "operator/kube/api.h"

namespace sluice::kube {

struct ObjectRef {
  std::string api_version;
  std::string kind;
  ObjectKey key;
  std::string uid;
  std::string resource_version;  // may be empty
};
// From an object's own apiVersion, kind and metadata.
ObjectRef ref_of(const nlohmann::json& object);

enum class EventType { normal, warning };

class EventRecorder {
 public:
  // `component`: "sluice-operator"; `instance`: this pod's name.
  static std::unique_ptr<EventRecorder> start(std::shared_ptr<Transport> transport, std::string component,
                                              std::string instance);
  virtual ~EventRecorder() = default;  // sends for at most a second more, then drops the rest

  // `reason`: UpperCamelCase, at most 128 characters; `message`: at most 1,024 (cut).
  virtual void record(const ObjectRef& about, EventType type, const std::string& reason,
                      const std::string& message) = 0;

  struct Stats {
    uint64_t sent = 0;        // written to the server, repetitions too
    uint64_t aggregated = 0;  // merged into an event that waited
    uint64_t dropped = 0;     // by rate, by a full queue or by refusal
  };
  [[nodiscard]] virtual Stats stats() const = 0;
};

}  // namespace sluice::kube
