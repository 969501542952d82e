// The agent's metrics, text format 0.0.4. All names begin with sluice_agent_.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/health/facts.h"

namespace sluice::agent::health {

// Safe from several threads.
class Metrics {
 public:
  Metrics(const std::string& version, const std::string& git_revision);
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;
  ~Metrics();

  // A desired state that was brought into the maps (or refused), and how long that took.
  void pushed(std::chrono::duration<double> took, bool accepted);
  // The standalone file was read again.
  void reloaded(bool accepted, std::chrono::system_clock::time_point now);
  // What happened so far, and what stands now.
  [[nodiscard]] std::string render(const Facts& facts, const dataplane::Counters& counters) const;

 private:
  struct Events;
  std::unique_ptr<Events> events_;
};

}  // namespace sluice::agent::health
