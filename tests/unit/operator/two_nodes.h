// What tests of the operator's rounds begin with.
#pragma once

#include <gtest/gtest.h>

#include "tests/unit/operator/world.h"

namespace sluice::test {

// Two nodes, a pool and a namespace; a Service with two endpoints where the test adds it.
class TwoNodes : public ::testing::Test {
 protected:
  TwoNodes() {
    world_.put(pool("public", {"192.0.2.0/24"}));
    world_.put(name_space("shop"));
    world_.add_node("node1");
    world_.add_node("node2");
  }
  void add_web() {
    world_.put(service("shop", "web"));
    world_.put(slice("shop", "web", {"10.244.1.1", "10.244.1.2"}));
  }
  World world_;
};

}  // namespace sluice::test
