// `sluice-operator --cleanup`, as `helm uninstall` runs it while the operator is still there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "operator/controller/cleanup.h"
#include "tests/kube/operator_lab.h"
#include "tests/unit/operator/fake_api.h"

namespace sluice::test {
namespace {

using kube::kServices;
using testing::HasSubstr;

TEST(OperatorCleanup, LeavesNothingButTheClaims) {
  Lab lab;
  lab.start();
  lab.make_service("web");
  lab.make_service("foreign", {{"loadBalancerClass", "example.com/other"}}, {{"finalizers", {"example.com/keep"}}});
  const auto address = lab.wait_for_address("web");
  const auto done = lab.run_operator({"--cleanup"});
  EXPECT_EQ(done.exit_code, 0) << done.out;
  for (const size_t node : {0U, 1U}) {
    EXPECT_EQ(lab.agent(node).seen().purges, 1) << node;
    EXPECT_FALSE(lab.agent(node).held()) << node;
  }
  const auto service = lab.get(kServices, "web");
  EXPECT_FALSE(service["metadata"].contains("finalizers"));
  EXPECT_EQ(service["status"], json({{"loadBalancer", json::object()}}));
  EXPECT_EQ(lab.get(kServices, "foreign")["metadata"]["finalizers"], json({"example.com/keep"}));
  EXPECT_FALSE(lab.get(kube::kAddressClaims, address).is_null());
  EXPECT_TRUE(lab.list(kube::kLoadBalancerNodes).empty());
  // The operator that still runs has stepped down, and nothing it does brings anything back.
  EXPECT_TRUE(eventually([&] { return !lab.op().leading(); }));
  const auto lease = lab.get(kube::kLeases, "sluice-operator")["spec"];
  EXPECT_EQ(lease["holderIdentity"], "sluice-cleanup");
  EXPECT_EQ(lease["leaseDurationSeconds"], 300);
  EXPECT_FALSE(lab.agent(0).held());
  EXPECT_FALSE(lab.get(kServices, "web")["metadata"].contains("finalizers"));
}

const json kLoadBalancer = {{"ports", {{{"name", "http"}, {"port", 80}}}},
                            {"backends", {{{"name", "web"}, {"service", {{"name", "web"}}}}}}};

TEST(OperatorCleanup, StatusesSayThatNothingIsTrueAnyMore) {
  Lab lab;
  lab.start();
  lab.make_service("first");
  const auto first = lab.wait_for_address("first");
  lab.make_backend_service("web");
  lab.make_load_balancer("shop", kLoadBalancer);
  lab.wait_for_condition(kube::kLoadBalancers, "shop", "Announced", "True");
  const auto address = lab.get(kube::kLoadBalancers, "shop")["status"]["addresses"][0]["address"].get<std::string>();
  lab.remove(kServices, "first");
  ASSERT_TRUE(lab.gone(kube::kAddressClaims, first)) << "else the free address before it proves nothing";
  ASSERT_EQ(lab.run_operator({"--cleanup"}).exit_code, 0);
  auto status = lab.get(kube::kLoadBalancers, "shop")["status"];
  EXPECT_EQ(lab.condition(kube::kLoadBalancers, "shop", "Programmed").status, "False");
  EXPECT_EQ(lab.condition(kube::kLoadBalancers, "shop", "Programmed").reason, "Uninstalled");
  EXPECT_EQ(lab.condition(kube::kLoadBalancers, "shop", "Announced").reason, "Uninstalled");
  EXPECT_EQ(status["conditions"].size(), 2U) << "nobody judges the spec any more: " << status;
  status.erase("conditions");
  EXPECT_EQ(status, json::object()) << "no address leads to it any more";
  EXPECT_EQ(lab.condition(kube::kAddressPools, "public", "Ready").status, "False");
  EXPECT_EQ(lab.condition(kube::kAddressPools, "public", "Ready").reason, "Uninstalled");
  // A second install judges anew, and the claim has kept the address.
  lab.stop_operator();
  lab.patch(kube::kLeases, "sluice-operator", {{"spec", nullptr}, {"metadata", {{"annotations", nullptr}}}});
  lab.replace_operator();
  lab.wait_for_condition(kube::kLoadBalancers, "shop", "Announced", "True");
  EXPECT_EQ(lab.get(kube::kLoadBalancers, "shop")["status"]["addresses"][0]["address"], address);
  lab.wait_for_condition(kube::kAddressPools, "public", "Ready", "True");
}

TEST(OperatorCleanup, ASecondInstallFindsTheAddressesAsTheyWere) {
  Lab lab;
  lab.start();
  lab.make_service("first");
  lab.make_service("second");
  const auto first = lab.wait_for_address("first");
  const auto second = lab.wait_for_address("second");
  lab.remove(kServices, "first");
  ASSERT_TRUE(lab.gone(kube::kAddressClaims, first));
  ASSERT_EQ(lab.run_operator({"--cleanup"}).exit_code, 0);
  lab.stop_operator();
  lab.patch(kube::kLeases, "sluice-operator", {{"spec", nullptr}, {"metadata", {{"annotations", nullptr}}}});
  lab.replace_operator();
  EXPECT_EQ(lab.wait_for_address("second"), second);
}

TEST(OperatorCleanup, NamesNodesItCannotReachAndFails) {
  Lab lab;
  lab.start();
  lab.make_service("web");
  lab.wait_for_address("web");
  lab.stop_agent(1);
  const auto failed = lab.run_operator({"--cleanup"});
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_THAT(failed.out, HasSubstr("lab-node1"));
  EXPECT_EQ(lab.agent(0).seen().purges, 1);
  EXPECT_FALSE(lab.get(kServices, "web")["metadata"].contains("finalizers")) << "what could be done was done";
  // A node that is down cannot be helped: it is told of, and the rest is a success.
  EXPECT_FALSE(lab.get(kube::kLoadBalancerNodes, "lab-node1").is_null()) << "the next attempt must know of it";
  EXPECT_TRUE(lab.get(kube::kLoadBalancerNodes, "lab-node0").is_null());
  EXPECT_EQ(lab.run_operator({"--cleanup"}).exit_code, 1) << "a second attempt does not make it a success";
  lab.set_node_ready(1, false);
  const auto done = lab.run_operator({"--cleanup"});
  EXPECT_EQ(done.exit_code, 0) << done.out;
  EXPECT_THAT(done.out, HasSubstr("lab-node1"));
}

TEST(OperatorCleanup, AnAgentThatCouldNotPurgeIsAFailureAndNodesThatAreDownAreNotForgottenForIt) {
  Lab lab;
  lab.start();
  lab.make_service("web");
  lab.wait_for_address("web");
  lab.stop_operator();
  lab.stop_agent(0);
  lab.set_node_ready(0, false);
  lab.agent(1).refuse_purges(true);
  lab.remove(kube::kLoadBalancerNodes, "lab-node1");  // though nobody knows that it was reached before
  const auto failed = lab.run_operator({"--cleanup"});
  EXPECT_EQ(failed.exit_code, 1) << failed.out;
  EXPECT_THAT(failed.out, HasSubstr("purge node lab-node1: detach XDP program from eth0: no"));
  EXPECT_FALSE(lab.get(kube::kLoadBalancerNodes, "lab-node0").is_null()) << "it may be back for the next attempt";
  lab.agent(1).refuse_purges(false);
  EXPECT_EQ(lab.run_operator({"--cleanup"}).exit_code, 0);
  EXPECT_TRUE(lab.get(kube::kLoadBalancerNodes, "lab-node0").is_null());
}

TEST(OperatorCleanup, ANodeThatNeverHadAnAgentIsNoFailure) {
  Lab lab;
  lab.start();
  lab.make_service("web");
  lab.wait_for_address("web");
  lab.make_node(7);  // Ready, with an address: the chart's nodeSelector leaves it out
  const auto done = lab.run_operator({"--cleanup"});
  EXPECT_EQ(done.exit_code, 0) << done.out;
  EXPECT_EQ(lab.agent(0).seen().purges, 1);
  EXPECT_EQ(lab.agent(1).seen().purges, 1);
}

TEST(OperatorCleanup, AReleaseThatNeverLedHasNothingToPurge) {
  Lab lab;
  const auto done = lab.run_operator({"--cleanup"});
  EXPECT_EQ(done.exit_code, 0) << done.out;
}

TEST(OperatorCleanup, GoesOnWhereTheLeaseIsGone) {
  Lab lab;
  lab.start();
  lab.make_service("web");
  lab.wait_for_address("web");
  lab.stop_operator();
  lab.remove(kube::kLeases, "sluice-operator");
  const auto done = lab.run_operator({"--cleanup"});
  EXPECT_EQ(done.exit_code, 0) << done.out;
  EXPECT_EQ(lab.agent(0).seen().purges, 1);
  EXPECT_FALSE(lab.get(kServices, "web")["metadata"].contains("finalizers"));
  EXPECT_EQ(lab.get(kube::kLeases, "sluice-operator")["spec"]["holderIdentity"], "sluice-cleanup") << "made anew";
}

TEST(OperatorCleanup, GoesOnWhereTheLeaseIsGoneAndMayNotBeMade) {
  std::atomic<int> asked = 0;
  const auto api = FakeApi::make([&asked](const kube::Request& request) -> kube::Response {
    const std::string reason = R"({"kind":"Status","reason":"Forbidden","message":"may not"})";
    if (request.method == "POST") return {403, reason, {}};
    if (request.path.find("/leases/") != std::string::npos)
      return {404, R"({"kind":"Status","reason":"NotFound"})", {}};
    if (request.path.ends_with("/namespaces/kube-system"))
      return {200, R"({"metadata":{"name":"kube-system","uid":"c"}})", {}};
    if (request.path.find("/secrets/") != std::string::npos)
      return {404, R"({"kind":"Status","reason":"NotFound"})", {}};
    ++asked;
    return FakeApi::list_of({});
  });
  controller::Options options;
  options.ns = "sluice-system";
  const auto cleaned = controller::clean_up(options, api);
  EXPECT_TRUE(cleaned) << cleaned.error().message();
  EXPECT_GE(asked, 5) << "nodes, claims, Services, LoadBalancers and pools";
}

TEST(OperatorCleanup, LetsGoOfWhatItServedWhenItWasTheDefaultClass) {
  Lab lab;
  lab.start({"--default-class"});
  lab.make_service("plain", {{"loadBalancerClass", nullptr}}, {{"finalizers", {"example.com/keep"}}});
  const auto ours = lab.wait_for_address("plain");
  lab.stop_operator();
  const json others = {{"ip", "203.0.113.9"}, {"ipMode", "VIP"}};
  lab.patch(kServices, "plain", {{"status", {{"loadBalancer", {{"ingress", {others, {{"ip", ours}}}}}}}}}, "status");
  ASSERT_EQ(lab.run_operator({"--cleanup"}).exit_code, 0);  // the flag is not given any more
  const auto left = lab.get(kServices, "plain");
  EXPECT_EQ(left["metadata"]["finalizers"], json({"example.com/keep"}));
  EXPECT_EQ(left["status"], json({{"loadBalancer", {{"ingress", {others}}}}})) << "somebody serves it already";
  lab.patch(kServices, "plain", {{"metadata", {{"finalizers", nullptr}}}});
}

}  // namespace
}  // namespace sluice::test
