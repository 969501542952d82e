// Keeps a copy of all objects of one resource, by LIST and WATCH, from its own thread. What to do after each outcome is
// decided in watch_rules.h; here is the I/O and the store.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "operator/kube/object.h"
#include "operator/kube/resource.h"
#include "operator/kube/transport.h"
#include "operator/kube/watch_rules.h"

namespace sluice::kube {

// Called from the reflector's thread, one call at a time, with the store already changed. Must not block for long (the
// server waits meanwhile) and must not destroy the Reflector.
class ReflectorHandler {
 public:
  virtual ~ReflectorHandler() = default;
  // After a LIST: everything there is, and what was known before and is gone (or was made anew under its old name: then
  // the old object is in `vanished` and the new one in `all`).
  virtual void replaced(const std::vector<Object>& all, const std::vector<Object>& vanished) = 0;
  virtual void upserted(const Object& object) = 0;
  // An object made anew under its old name is deleted() first, then upserted().
  virtual void deleted(const ObjectKey& key, const Object& last_known) = 0;
};

struct ReflectorOptions {
  std::string ns;  // empty: all
  std::string label_selector;
  std::string field_selector;
  bool streaming_lists = true;  // where the server has them (else LIST)
  WatchTuning tuning;
};

class Reflector {
 public:
  // `handler` may be null: then only the store is kept. Must outlive the Reflector. Starts at once.
  static std::unique_ptr<Reflector> start(std::shared_ptr<Transport> transport, const Resource& resource,
                                          ReflectorOptions options, ReflectorHandler* handler);
  virtual ~Reflector() = default;  // cancels and joins

  // True once the first complete list has been handed over, and for ever after. A resource that the server does not
  // know (404) counts as an empty one.
  [[nodiscard]] virtual bool synced() const = 0;
  virtual bool wait_synced(std::chrono::milliseconds timeout) const = 0;
  [[nodiscard]] virtual std::vector<Object> objects() const = 0;      // in no order
  [[nodiscard]] virtual Object find(const ObjectKey& key) const = 0;  // null: not there

  struct Stats {
    uint64_t lists = 0;                              // complete lists, streamed ones too
    uint64_t events = 0;                             // ADDED, MODIFIED, DELETED
    std::map<std::string, uint64_t> watch_restarts;  // by reason: "clean", "expired", "broken", ...
    std::map<std::string, uint64_t> list_failures;   // by reason
    std::size_t objects = 0;
    std::string resource_version;
    std::string last_error;                              // empty: in order
    std::chrono::steady_clock::time_point last_heard{};  // last sign of life of list or watch
  };
  [[nodiscard]] virtual Stats stats() const = 0;
};

}  // namespace sluice::kube
