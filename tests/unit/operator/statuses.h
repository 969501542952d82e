// What the tests of statuses begin with.
#pragma once

#include <string>

#include "tests/unit/operator/two_nodes.h"

namespace sluice::status {

class Statuses : public test::TwoNodes {
 protected:
  Statuses() { add_web(); }
  const test::Json& web() { return world_.object("Service", "shop", "web"); }
  const test::Json& lb() { return world_.object("LoadBalancer", "shop", "lb"); }
  test::Json ingress() { return web().value("/status/loadBalancer/ingress"_json_pointer, test::Json()); }
  std::string on_web(const std::string& type) {
    return world_.condition("Service", "shop", "web", "sluice.io/" + type);
  }
  std::string on_lb(const std::string& type) { return world_.condition("LoadBalancer", "shop", "lb", type); }
  std::string on_node(const std::string& type) { return world_.condition("LoadBalancerNode", "", "node1", type); }
  // Rounds without acknowledgements, until nothing is written any more.
  void rounds() {
    for (int i = 0; i < 6; ++i) world_.round();
  }
};

}  // namespace sluice::status
