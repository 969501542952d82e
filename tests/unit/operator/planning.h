// What the planner's tests begin with.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/operator/world.h"

namespace sluice::planner {

// Two nodes, a pool, and one Service with two endpoints.
class Planning : public ::testing::Test {
 protected:
  Planning() {
    world_.put(test::pool("public", {"192.0.2.0/24"}));
    world_.put(test::name_space("shop"));
    world_.add_node("node1");
    world_.add_node("node2");
  }
  void add_web() {
    world_.put(test::service("shop", "web"));
    world_.put(test::slice("shop", "web", {"10.244.1.1", "10.244.1.2"}));
  }
  // Its claim is made again without anything on the nodes changing meanwhile.
  void expect_claimed_again() {
    const state::DesiredState before = world_.state;
    world_.erase("AddressClaim", "", "192.0.2.0");
    world_.round();
    EXPECT_EQ(world_.state, before);
    world_.settle();
    EXPECT_EQ(world_.state, before);
    EXPECT_TRUE(world_.has("AddressClaim", "", "192.0.2.0"));
  }

  test::World world_;
  const std::string web_ = "Service/shop/web/http";
};

}  // namespace sluice::planner
