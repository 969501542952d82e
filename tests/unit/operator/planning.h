// What the planner's tests begin with.
#pragma once

#include <string>

#include "tests/unit/operator/two_nodes.h"

namespace sluice::planner {

class Planning : public test::TwoNodes {
 protected:
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

  const std::string web_ = "Service/shop/web/http";
};

}  // namespace sluice::planner
