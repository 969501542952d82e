// What the tests of statuses begin with.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/operator/world.h"

namespace sluice::status {

// Two nodes, a pool, and one Service with two endpoints.
class Statuses : public ::testing::Test {
 protected:
  Statuses() {
    world_.put(test::pool("public", {"192.0.2.0/24"}));
    world_.put(test::name_space("shop"));
    world_.add_node("node1");
    world_.add_node("node2");
    world_.put(test::service("shop", "web"));
    world_.put(test::slice("shop", "web", {"10.244.1.1", "10.244.1.2"}));
  }
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
  test::World world_;
};

}  // namespace sluice::status
