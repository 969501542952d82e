// What is resolved once and kept.
#include <gtest/gtest.h>

#include "operator/planner/resolve.h"
#include "tests/unit/operator/builders.h"

namespace sluice::planner {
namespace {

class Resolving : public ::testing::Test {
 protected:
  Resolving() {
    put(test::node("node1", "172.30.0.1"));
    for (const char* name : {"one", "two"}) {
      put(test::service("shop", name, {{"spec", {{"selector", nullptr}}}}));
      put(test::slice("shop", name, {"10.244.1.1"}));
    }
  }
  void put(test::Json object) { ASSERT_TRUE(cluster_.upsert(test::shared(std::move(object)))); }
  ResolveCache::Guard guard() { return cache_.guard(resources::make_guard(cluster_)); }
  ResolveCache::Value get(const std::string& name, const ResolveCache::Guard& guard) {
    const auto owner = test::service_owner("shop", name);
    return cache_.get(owner, cluster_.services.at(owner.key), {net::Family::ipv4}, cluster_, guard);
  }

  resources::ClusterState cluster_;
  ResolveCache cache_;
};

TEST_F(Resolving, KeepsOneGuardForAllUntilItForbidsSomethingElse) {
  const auto first = guard();
  const long unused = first.use_count();
  const auto one = get("one", first);
  const auto two = get("two", first);
  EXPECT_EQ(first.use_count(), unused + 2) << "each has a copy of its own";
  EXPECT_EQ(guard(), first);
  EXPECT_EQ(get("one", guard()), one);
  EXPECT_EQ(get("two", guard()), two);

  put(test::node("node2", "10.244.1.1"));
  EXPECT_NE(guard(), first);
  EXPECT_TRUE(get("one", guard())->services.at(0).backends.empty());
  EXPECT_TRUE(get("two", guard())->services.at(0).backends.empty());
  EXPECT_EQ(first.use_count(), 1) << "what nothing depends on any more is let go";
}

TEST_F(Resolving, WhatTheControllerVouchesForDoesNotDependOnTheGuard) {
  put(test::service("shop", "one"));
  const auto one = get("one", guard());
  put(test::node("node2", "10.244.1.1"));
  EXPECT_EQ(get("one", guard()), one);
}

}  // namespace
}  // namespace sluice::planner
