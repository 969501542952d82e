// The agent's metrics, text format 0.0.4. All names begin with sluice_agent_.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/health/facts.h"

namespace sluice::agent::health {

// Safe from several threads.
class Metrics {
 public:
  // Only with a file to follow is there anything to say of one.
  enum class Mode : uint8_t { standalone, cluster };
  Metrics(const std::string& version, const std::string& git_revision, Mode mode);
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;
  ~Metrics();

  // A desired state that was brought into the maps (or refused), and how long that took.
  void pushed(std::chrono::duration<double> took, bool accepted);
  // The standalone file was read again. Without effect in a cluster.
  void reloaded(bool accepted, std::chrono::system_clock::time_point now);
  // What happened so far, and what stands now.
  [[nodiscard]] std::string render(const Facts& facts, const dataplane::Counters& counters) const;

 private:
  struct Events;
  struct Reloads;
  std::unique_ptr<Events> events_;
  std::unique_ptr<Reloads> reloads_;  // nullptr in a cluster
};

}  // namespace sluice::agent::health
