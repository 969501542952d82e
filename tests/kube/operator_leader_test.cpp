// Who leads, what a new leader continues from, and what is never written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "operator/certificates/keeper.h"
#include "tests/kube/operator_lab.h"

namespace sluice::test {
namespace {

using kube::kServices;
using testing::HasSubstr;

constexpr const char* kEpochPath = "/metadata/annotations/sluice.io~1epoch";

uint64_t lease_epoch(Lab& lab) {
  const auto text = lab.get(kube::kLeases, "sluice-operator").value(json::json_pointer(kEpochPath), "0");
  return std::stoull(text);
}

// Two Services with a pod each, known to all agents.
std::vector<std::string> make_two(Lab& lab) {
  std::vector<std::string> addresses;
  for (const std::string name : {"one", "two"}) {
    lab.make_service(name);
    lab.make_pod(name + "-1", name, 0, name == "one" ? "10.1.0.1" : "10.1.0.2");
    addresses.push_back(lab.wait_for_address(name));
  }
  for (const size_t node : {0U, 1U}) {
    lab.wait_for_backends(node, addresses[0], {"10.1.0.1:8080"});
    lab.wait_for_backends(node, addresses[1], {"10.1.0.2:8080"});
  }
  for (const std::string name : {"one", "two"}) {
    lab.wait_for_condition(kServices, name, "sluice.io/Programmed", "True");
    lab.wait_for_condition(kServices, name, "sluice.io/BackendsResolved", "True");
  }
  return addresses;
}

int pushes(Lab& lab) {
  int count = 0;
  for (const size_t node : {0U, 1U}) {
    count += lab.agent(node).seen().snapshots + lab.agent(node).seen().deltas;
  }
  return count;
}

bool sessions(Lab& lab, int each) {
  return eventually([&] { return lab.agent(0).seen().sessions >= each && lab.agent(1).seen().sessions >= each; });
}

TEST(OperatorRestart, MovesNoAddressAndPushesNothing) {
  Lab lab;
  lab.start();
  const auto addresses = make_two(lab);
  const auto state = *lab.agent(0).held();
  const auto pushed = pushes(lab);
  const auto met = lab.agent(0).seen().sessions;
  const auto epoch = lease_epoch(lab);
  lab.replace_operator();
  ASSERT_TRUE(sessions(lab, met + 1));
  EXPECT_EQ(lab.ingress("one"), (std::vector{addresses[0]}));
  EXPECT_EQ(lab.ingress("two"), (std::vector{addresses[1]}));
  EXPECT_GT(lease_epoch(lab), epoch);
  ASSERT_TRUE(lab.lease_renewed(3));
  EXPECT_EQ(pushes(lab), pushed) << "equal digests";
  // The next change goes out as two deltas, the pod's node knows it first, and one is enough for an agent that is slow.
  lab.make_pod("one-2", "one", 1, "10.1.1.1");
  lab.wait_for_backends(0, addresses[0], {"10.1.0.1:8080", "10.1.1.1:8080"});
  lab.wait_for_backends(1, addresses[0], {"10.1.0.1:8080", "10.1.1.1:8080"});
  EXPECT_GE(pushes(lab), pushed + 3);
  EXPECT_LE(pushes(lab), pushed + 4);
  EXPECT_EQ(lab.agent(0).held()->flow_hash_key, state.flow_hash_key);
  EXPECT_EQ(lab.agent(0).held()->announcements, state.announcements);
}

TEST(OperatorRestart, TakesUpWhatChangedWhileItWasAway) {
  Lab lab;
  lab.start();
  const auto addresses = make_two(lab);
  lab.stop_operator();
  lab.make_pod("one-2", "one", 1, "10.1.1.1");
  lab.remove_pod("two-1");
  lab.replace_operator();
  lab.wait_for_backends(0, addresses[0], {"10.1.0.1:8080", "10.1.1.1:8080"});
  lab.wait_for_backends(1, addresses[1], {});
  EXPECT_EQ(lab.ingress("one"), (std::vector{addresses[0]}));
  // The pod that left is history, not forgotten: its flows may still be there.
  const auto state = *lab.agent(0).held();
  const auto& two = state.services.at("Service/" + lab.ns() + "/two/http");
  ASSERT_EQ(two.backends.size(), 1U);
  EXPECT_NE(two.backends[0].left, 0U);
}

TEST(OperatorRestart, FindsTheFlowHashKeyAgainThoughNoAgentAnswers) {
  Lab lab;
  lab.start();
  make_two(lab);
  const auto key = lab.agent(0).held()->flow_hash_key;
  lab.stop_agent(0);
  lab.stop_agent(1);
  lab.set_node_ready(1, false);  // one that need not be waited for
  lab.replace_operator();
  lab.start_agent(0);
  ASSERT_TRUE(lab.agent(0).wait([&] { return lab.agent(0).held() && !lab.agent(0).held()->services.empty(); }));
  EXPECT_EQ(lab.agent(0).held()->flow_hash_key, key);
}

TEST(OperatorRestart, WaitsForAnAgentThatMayHoldTheStateBeforeItBeginsWithoutOne) {
  Lab lab;
  lab.start();
  const auto addresses = make_two(lab);
  // Only the state knows what is in force of this one.
  lab.patch(kServices, "one", {{"metadata", {{"annotations", {{"sluice.io/sharing-key", "web"}}}}}});
  lab.wait_for_condition(kServices, "one", "sluice.io/Accepted", "False", "NotSupported");
  const auto state = *lab.agent(1).held();
  lab.stop_agent(0);
  lab.stop_agent(1);
  lab.replace_operator();
  lab.start_agent(0);  // it holds nothing: its disk is new
  EXPECT_TRUE(
      eventually([&] { return lab.op().log().find("lab-node1: its agent does not answer yet") != std::string::npos; }));
  lab.start_agent(1);
  lab.agent(1).hold(state);
  lab.wait_for_backends(0, addresses[0], {"10.1.0.1:8080"});
  lab.wait_for_backends(0, addresses[1], {"10.1.0.2:8080"});
  EXPECT_EQ(lab.ingress("one"), (std::vector{addresses[0]}));
}

TEST(OperatorReplicas, OneLeadsAndAnotherTakesOverWhenItIsKilled) {
  Lab lab;
  lab.start();
  const auto standby = lab.start_operator("standby");
  const auto addresses = make_two(lab);
  int ready = 0;
  ASSERT_TRUE(eventually([&] {
    standby->http("/readyz", &ready);
    return ready == 200;
  }));
  EXPECT_FALSE(standby->leading());
  EXPECT_THAT(lab.get(kube::kLeases, "sluice-operator")["spec"]["holderIdentity"].get<std::string>(),
              testing::StartsWith("op_"));
  const auto pushed = pushes(lab);
  const auto epoch = lease_epoch(lab);
  const auto met = lab.agent(0).seen().sessions;
  lab.stop_operator();
  ASSERT_TRUE(eventually([&] { return standby->leading(); }, std::chrono::seconds(40)));
  ASSERT_TRUE(sessions(lab, met + 1));
  EXPECT_GT(lease_epoch(lab), epoch);
  EXPECT_EQ(pushes(lab), pushed);
  EXPECT_EQ(lab.ingress("one"), (std::vector{addresses[0]}));
  lab.make_pod("one-2", "one", 1, "10.1.1.1");
  lab.wait_for_backends(1, addresses[0], {"10.1.0.1:8080", "10.1.1.1:8080"});
}

TEST(OperatorReplicas, ALeaderThatWasAsleepDoesNotPushOrWriteWhenItWakes) {
  Lab lab;
  lab.start();
  const auto standby = lab.start_operator("standby");
  const auto addresses = make_two(lab);
  lab.op().process().signal(SIGSTOP);
  ASSERT_TRUE(eventually([&] { return standby->leading(); }, std::chrono::seconds(40)));
  lab.make_pod("one-2", "one", 1, "10.1.1.1");
  lab.wait_for_backends(0, addresses[0], {"10.1.0.1:8080", "10.1.1.1:8080"});
  const auto epoch = lab.agent(0).epoch();
  lab.op().process().signal(SIGCONT);
  ASSERT_TRUE(eventually([&] { return lab.op().metric("sluice_operator_leading") == 0; }));
  EXPECT_EQ(lab.op().metric("sluice_operator_agent_connected{node=\"lab-node0\"}"), -1)
      << "it has no sessions to judge";
  EXPECT_EQ(standby->metric("sluice_operator_agent_connected{node=\"lab-node0\"}"), 1);
  ASSERT_TRUE(lab.lease_renewed(2));
  EXPECT_TRUE(standby->leading());
  EXPECT_EQ(lab.agent(0).epoch(), epoch);
  EXPECT_EQ(lab.backends(0, addresses[0], 80), (std::vector<std::string>{"10.1.0.1:8080", "10.1.1.1:8080"}));
}

TEST(OperatorEpoch, RisesAboveWhatALateAgentKnows) {
  Lab lab;
  lab.start();
  const auto addresses = make_two(lab);
  lab.stop_agent(1);
  ASSERT_TRUE(eventually([&] { return lab.op().metric("sluice_operator_agent_connected{node=\"lab-node1\"}") == 0; }));
  lab.start_agent(1);
  lab.agent(1).set_epoch(50);
  lab.agent(1).end_sessions();
  lab.wait_for_backends(1, addresses[0], {"10.1.0.1:8080"});
  EXPECT_GE(lease_epoch(lab), 51U);
  EXPECT_GE(lab.agent(1).epoch(), 51U);
  EXPECT_TRUE(lab.agent(0).wait([&] { return lab.agent(0).epoch() >= 51; }));
}

// A rule of the API server's: no Lease may bear a higher epoch than this.
class EpochLimit {
 public:
  EpochLimit(Lab& lab, int limit) : lab_(lab) {
    const auto name = [](std::string_view kind) {
      return json{{"apiVersion", "admissionregistration.k8s.io/v1"}, {"kind", kind}, {"metadata", {{"name", kName}}}};
    };
    auto policy = name(kPolicies.kind);
    policy["spec"] = {{"matchConstraints",
                       {{"resourceRules",
                         {{{"apiGroups", {"coordination.k8s.io"}},
                           {"apiVersions", {"v1"}},
                           {"operations", {"UPDATE"}},
                           {"resources", {"leases"}}}}}}},
                      {"validations",
                       {{{"expression", "int(object.metadata.?annotations[?'sluice.io/epoch'].orValue('0')) <= " +
                                            std::to_string(limit)}}}}};
    auto binding = name(kBindings.kind);
    binding["spec"] = {{"policyName", kName}, {"validationActions", {"Deny"}}};
    make(kPolicies, policy);
    make(kBindings, binding);
    EXPECT_TRUE(eventually([&] { return !allows(limit + 1); })) << "the rule is never in force";
  }
  ~EpochLimit() { lift(); }
  EpochLimit(const EpochLimit&) = delete;
  EpochLimit& operator=(const EpochLimit&) = delete;

  void lift() {
    (void)lab_.api().remove(kBindings, {"", kName});
    (void)lab_.api().remove(kPolicies, {"", kName});
  }

 private:
  static constexpr const char* kName = "sluice-test-epoch-limit";
  static constexpr kube::Resource kPolicies{"admissionregistration.k8s.io", "v1", "validatingadmissionpolicies",
                                            "ValidatingAdmissionPolicy", false};
  static constexpr kube::Resource kBindings{"admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings",
                                            "ValidatingAdmissionPolicyBinding", false};

  void make(const kube::Resource& resource, const json& object) {
    const auto made = lab_.api().create(resource, "", object);
    if (!made) throw std::runtime_error(made.error().message());
  }
  // Of another Lease than the operator's.
  bool allows(int epoch) {
    const json lease = {{"apiVersion", "coordination.k8s.io/v1"},
                        {"kind", "Lease"},
                        {"metadata", {{"name", kName}, {"namespace", lab_.ns()}}}};
    (void)lab_.api().create(kube::kLeases, lab_.ns(), lease);
    const json patch = {{"metadata", {{"annotations", {{"sluice.io/epoch", std::to_string(epoch)}}}}}};
    return lab_.api().patch(kube::kLeases, {lab_.ns(), kName}, kube::PatchType::merge, patch).has_value();
  }

  Lab& lab_;
};

TEST(OperatorEpoch, ThatCouldNotBeRaisedIsRaisedLater) {
  Lab lab;
  lab.start();
  const auto addresses = make_two(lab);
  EpochLimit limit(lab, 50);
  lab.agent(1).set_epoch(50);
  lab.agent(1).end_sessions();
  ASSERT_TRUE(eventually([&] { return lab.op().log().find("an agent knows of epoch 50: ") != std::string::npos; }));
  // What else there is to do about an agent that is away has been done by then: nothing wakes the operator any more.
  ASSERT_TRUE(lab.lease_renewed(5));
  EXPECT_TRUE(lab.op().leading()) << "the attempts leave no room for a renewal";
  limit.lift();
  EXPECT_TRUE(eventually([&] { return lease_epoch(lab) >= 51; }, std::chrono::seconds(15)));
  lab.wait_for_backends(1, addresses[0], {"10.1.0.1:8080"});
}

TEST(OperatorAtRest, NothingIsWrittenOrPushed) {
  Lab lab;
  lab.start();
  make_two(lab);
  // Until the last of the statuses has settled.
  auto before = lab.versions();
  ASSERT_TRUE(eventually(
      [&] {
        const auto earlier = std::exchange(before, {});
        if (!lab.lease_renewed(2)) {
          return false;
        }
        before = lab.versions();
        return before == earlier;
      },
      std::chrono::seconds(60)));
  const auto pushed = pushes(lab);
  const auto rounds = lab.op().metric("sluice_operator_rounds_total");
  ASSERT_TRUE(lab.lease_renewed(6));
  EXPECT_EQ(lab.versions(), before);
  EXPECT_EQ(pushes(lab), pushed);
  EXPECT_LE(lab.op().metric("sluice_operator_rounds_total"), rounds + 5) << "rounds without a reason";
}

TEST(OperatorNode, HasAnObjectThatSaysHowItIs) {
  Lab lab;
  lab.start();
  lab.wait_for_condition(kube::kLoadBalancerNodes, "lab-node0", "Ready", "True");
  lab.wait_for_condition(kube::kLoadBalancerNodes, "lab-node0", "Programmed", "True");
  EXPECT_TRUE(eventually([&] {
    const auto status = lab.get(kube::kLoadBalancerNodes, "lab-node0")["status"];
    return status["interfaces"] == json({{{"name", "eth0"}, {"mode", "Native"}, {"driver", "fake"}}});
  }));
  lab.stop_agent(0);
  lab.wait_for_condition(kube::kLoadBalancerNodes, "lab-node0", "Ready", "False", "AgentUnreachable");
  lab.remove(kube::kNodes, "lab-node0");
  EXPECT_TRUE(lab.gone(kube::kLoadBalancerNodes, "lab-node0"));
}

TEST(OperatorNode, ThatIsLostLosesItsAddressesToAnother) {
  Lab lab;
  lab.start();
  lab.make_service("web");
  const auto address = *net::IpAddress::parse(lab.wait_for_address("web"));
  const auto owner_in = [&](size_t agent) { return lab.agent(agent).held()->announcements.at(address).nodes.front(); };
  const size_t owner = owner_in(0) == Lab::node_name(0) ? 0 : 1;
  const size_t other = 1 - owner;
  lab.stop_agent(owner);
  lab.set_node_ready(owner, false);
  EXPECT_TRUE(eventually([&] { return owner_in(other) == Lab::node_name(other); }));
  // It does not move back for its own sake.
  lab.set_node_ready(owner, true);
  lab.start_agent(owner);
  ASSERT_TRUE(lab.agent(owner).wait([&] { return lab.agent(owner).held().has_value(); }));
  EXPECT_EQ(owner_in(owner), Lab::node_name(other));
}

TEST(OperatorNode, ThatIsExcludedByLabelAnnouncesNothing) {
  Lab lab;
  for (const size_t node : {0U, 1U}) {
    lab.patch(kube::kNodes, Lab::node_name(node),
              {{"metadata", {{"labels", {{"node.kubernetes.io/exclude-from-external-load-balancers", ""}}}}}});
  }
  lab.start();
  lab.make_service("web");
  EXPECT_TRUE(eventually([&] {
    const auto announced = lab.condition(kServices, "web", "sluice.io/Announced");
    return announced.status == "False" &&
           announced.message.find("exclude-from-external-load-balancers") != std::string::npos;
  })) << lab.condition(kServices, "web", "sluice.io/Announced").message;
  lab.patch(kube::kNodes, Lab::node_name(0),
            {{"metadata", {{"labels", {{"node.kubernetes.io/exclude-from-external-load-balancers", nullptr}}}}}});
  lab.wait_for_address("web");
}

TEST(OperatorCertificates, AreMadeAgainWhenTheirSecretsAreDamaged) {
  Lab lab;
  lab.start();
  const auto good = [&](const char* name, const char* who) {
    return eventually([&] {
      const auto secret = lab.get(kube::kSecrets, name);
      return certificates::usable(certificates::read_leaf(&secret), who, certificates::Clock::now());
    });
  };
  ASSERT_TRUE(good("sluice-agent-tls", "sluice-agent"));
  lab.patch(kube::kSecrets, "sluice-agent-tls", {{"data", {{"tls.crt", "Z2FyYmFnZQ=="}}}});
  EXPECT_TRUE(good("sluice-agent-tls", "sluice-agent"));
  lab.patch(kube::kSecrets, "sluice-operator-tls", {{"data", nullptr}});
  EXPECT_TRUE(good("sluice-operator-tls", "sluice-operator"));
  lab.patch(kube::kSecrets, "sluice-ca", {{"data", {{"ca.key", ""}}}});
  EXPECT_TRUE(eventually([&] {
    const auto secret = lab.get(kube::kSecrets, "sluice-ca");
    return !certificates::read_ca(&secret).key.empty();
  }));
  // Both sides still trust each other: an agent that restarts with its old certificate is found again.
  lab.stop_agent(0);
  lab.start_agent(0);
  EXPECT_TRUE(lab.agent(0).wait([&] { return lab.agent(0).seen().sessions > 0; }));
}

TEST(OperatorCommandLine, RefusesWhatItCannotDo) {
  Lab lab;
  EXPECT_EQ(lab.run_operator({"--endpoints-source=both"}).exit_code, 2);
  EXPECT_EQ(lab.run_operator({"--metrics-listen=9472"}).exit_code, 2);
  const auto refused = lab.run_operator({"--allowed-static-backends=198.51.100.0/24,198.51.101.1/24"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.out, HasSubstr("198.51.101.1/24: host bits are set"));
  EXPECT_EQ(lab.run_operator({"--tunnel-key-rotation=soon"}).exit_code, 2);
  EXPECT_EQ(lab.run_operator({"--version"}).exit_code, 0);
  EXPECT_EQ(lab.run_operator({"--kubeconfig=/nonexistent"}).exit_code, 1);
}

}  // namespace
}  // namespace sluice::test
