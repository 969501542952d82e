// Wires the operator together: watches, leader election, certificates, the publisher, and one loop thread that leads
// while it may.
#pragma once

#include <memory>
#include <string>

#include "operator/controller/options.h"
#include "operator/kube/transport.h"

namespace sluice::controller {

class Controller {
 public:
  // Starts at once. Never gives up: what fails is tried again, and a lost lease makes it a standby.
  static std::unique_ptr<Controller> start(const Options& options, std::shared_ptr<kube::Transport> transport);
  // Ends the sessions with the agents and releases the lease; forwarding goes on.
  virtual ~Controller() = default;

  // For probes: empty, or what is wrong. Healthy: the loop turns. Ready: everything has been read; a standby is ready,
  // too.
  [[nodiscard]] virtual std::string unhealthy() const = 0;
  [[nodiscard]] virtual std::string unready() const = 0;
  // Prometheus text format 0.0.4.
  [[nodiscard]] virtual std::string metrics() const = 0;
};

}  // namespace sluice::controller
