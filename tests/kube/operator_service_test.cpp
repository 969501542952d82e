// Services of type LoadBalancer, from `kubectl apply` to the state that the agents hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/kube/operator_lab.h"

namespace sluice::test {
namespace {

using kube::kServices;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(OperatorService, GetsAnAddressOnceTheAnnouncingNodeHasProgrammedIt) {
  Lab lab;
  lab.start();
  lab.make_service("web");
  lab.make_pod("web-1", "web", 0, "10.1.0.1");
  lab.make_pod("web-2", "web", 1, "10.1.1.1");
  const auto address = lab.wait_for_address("web");
  EXPECT_EQ(address, "192.0.2.0");
  for (size_t node : {0U, 1U}) {
    EXPECT_TRUE(eventually([&] {
      return lab.backends(node, address, 80) == std::vector<std::string>{"10.1.0.1:8080", "10.1.1.1:8080"};
    })) << node;
  }
  for (const char* type : {"Accepted", "AddressesAllocated", "BackendsResolved", "Programmed", "Announced"}) {
    EXPECT_TRUE(eventually([&] {
      return lab.condition(kServices, "web", std::string("sluice.io/") + type).status == "True";
    })) << type
        << ": " << lab.condition(kServices, "web", std::string("sluice.io/") + type).message;
  }
  const auto claim = lab.get(kube::kAddressClaims, address);
  EXPECT_EQ(claim.value("/spec/owners/0/name"_json_pointer, ""), "web");
  EXPECT_EQ(claim.value("/spec/pool"_json_pointer, ""), "public");
  EXPECT_THAT(lab.get(kServices, "web")["metadata"]["finalizers"], ElementsAre("sluice.io/cleanup"));
  EXPECT_EQ(lab.get(kServices, "web")["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
  EXPECT_TRUE(eventually([&] {
    const auto reasons = lab.event_reasons("Service", "web");
    return std::ranges::find(reasons, "EnsuredLoadBalancer") != reasons.end();
  }));
}

}  // namespace
}  // namespace sluice::test
