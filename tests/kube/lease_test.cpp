// Leader election on a real Lease.
#include <gmock/gmock.h>

#include "operator/kube/lease.h"
#include "tests/kube/client.h"
#include "tests/kube/fake_server.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using kube::LeaderElector;
using test::Cluster;
using test::eventually;

class LeaseTest : public testing::Test {
 protected:
  static constexpr auto kDuration = 3s;

  kube::LeaseOptions options(const std::string& identity) const {
    kube::LeaseOptions out;
    out.ns = ns_->name();
    out.identity = identity;
    out.lease_duration = kDuration;
    out.renew_deadline = 2s;
    out.retry_period = 300ms;
    return out;
  }
  struct Contender {
    std::atomic<int> started = 0;
    std::atomic<int> stopped = 0;
    std::unique_ptr<LeaderElector> elector;
  };
  std::unique_ptr<Contender> contend(const std::string& identity, const std::string& kubeconfig = {}) {
    auto contender = std::make_unique<Contender>();
    Contender* raw = contender.get();
    contender->elector =
        LeaderElector::start(test::connect(kubeconfig.empty() ? cluster_.kubeconfig() : kubeconfig), options(identity),
                             {[raw] { ++raw->started; }, [raw] { ++raw->stopped; }, {}});
    return contender;
  }
  std::string field(const std::string& path) {
    return cluster_.get({"lease", "-n", ns_->name(), "sluice-operator", "-o", "jsonpath={" + path + "}"});
  }

  Cluster& cluster_ = Cluster::shared();
  std::unique_ptr<Cluster::Namespace> ns_ = cluster_.make_namespace("lease");
};

TEST_F(LeaseTest, OneOfTwoLeadsAndTheOtherFollowsWhenItStops) {
  auto first = contend("first");
  ASSERT_TRUE(eventually([&] { return first->started == 1; }));
  EXPECT_TRUE(first->elector->leading());
  EXPECT_GT(first->elector->remaining(), 1s);
  EXPECT_EQ(field(".spec.holderIdentity"), "first");

  auto second = contend("second");
  ASSERT_TRUE(eventually([&] { return second->elector->holder() == "first"; }));
  EXPECT_FALSE(second->elector->leading());
  EXPECT_EQ(second->elector->remaining(), 0ms);

  const auto stopped_at = std::chrono::steady_clock::now();
  first->elector.reset();
  EXPECT_EQ(first->stopped, 1);
  ASSERT_TRUE(eventually([&] { return second->started == 1; }));
  EXPECT_LT(std::chrono::steady_clock::now() - stopped_at, kDuration) << "a released lease need not expire";
  EXPECT_EQ(field(".spec.leaseTransitions"), "2");
}

TEST_F(LeaseTest, ALeaseMadeEmptyByTheChartIsTakenAndItsLabelsStay) {
  cluster_.apply("apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata:\n  name: sluice-operator\n  namespace: " +
                 ns_->name() + "\n  labels: {app.kubernetes.io/managed-by: Helm}\n");
  auto only = contend("only");
  ASSERT_TRUE(eventually([&] { return only->started == 1; }));
  EXPECT_EQ(field(".metadata.labels.app\\.kubernetes\\.io/managed-by"), "Helm");
  EXPECT_EQ(field(".spec.holderIdentity"), "only");
}

TEST_F(LeaseTest, ASilentHolderIsReplacedWhenItsTimeIsUpAndStepsDownBeforeThat) {
  test::FaultProxy proxy(cluster_.api_port());
  auto first = contend("first", cluster_.kubeconfig_as(Cluster::kAdminToken, proxy.port()));
  ASSERT_TRUE(eventually([&] { return first->started == 1; }));
  auto second = contend("second");
  ASSERT_TRUE(eventually([&] { return second->elector->holder() == "first"; }));
  proxy.freeze(true);
  bool both = false;
  ASSERT_TRUE(eventually([&] {
    both = both || (first->elector->leading() && second->elector->leading());
    return second->started == 1;
  }));
  EXPECT_FALSE(both);
  EXPECT_EQ(first->stopped, 1);
  // It comes back, sees the other, and stays behind.
  proxy.cut();
  proxy.freeze(false);
  EXPECT_TRUE(eventually([&] { return first->elector->holder() == "second"; }));
  EXPECT_FALSE(first->elector->leading());
}

TEST_F(LeaseTest, ALeaseTakenByForceEndsLeadingAtTheNextRenewal) {
  auto first = contend("first");
  ASSERT_TRUE(eventually([&] { return first->started == 1; }));
  const auto done = cluster_.kubectl({"patch", "lease", "-n", ns_->name(), "sluice-operator", "--type=merge", "-p",
                                      R"({"spec":{"holderIdentity":"usurper","leaseDurationSeconds":3600}})"});
  ASSERT_EQ(done.exit_code, 0) << done.out;
  EXPECT_TRUE(eventually([&] { return first->stopped == 1; }, 2s));
  EXPECT_EQ(field(".spec.holderIdentity"), "usurper") << "it must not be written over";
}

TEST_F(LeaseTest, TheEpochRisesWithEachLeaderAndOnlyALeaderWritesIt) {
  auto first = contend("first");
  ASSERT_TRUE(eventually([&] { return first->started == 1; }));
  EXPECT_EQ(first->elector->epoch(), 0U);
  ASSERT_TRUE(first->elector->set_epoch(7));
  EXPECT_EQ(field(".metadata.annotations.sluice\\.io/epoch"), "7");
  EXPECT_EQ(first->elector->set_epoch(7).error().kind, ErrorKind::invalid);

  auto second = contend("second");
  ASSERT_TRUE(eventually([&] { return second->elector->epoch() == 7; }));
  EXPECT_EQ(second->elector->set_epoch(8).error().kind, ErrorKind::conflict);
  first->elector.reset();
  ASSERT_TRUE(eventually([&] { return second->started == 1; }));
  EXPECT_EQ(second->elector->epoch(), 7U) << "it outlives its writer";
  ASSERT_TRUE(second->elector->set_epoch(8));
  EXPECT_EQ(field(".metadata.annotations.sluice\\.io/epoch"), "8");
}

TEST_F(LeaseTest, AnEpochCannotBeWrittenOverALeaseThatWasTaken) {
  auto first = contend("first");
  ASSERT_TRUE(eventually([&] { return first->started == 1; }));
  const auto done = cluster_.kubectl({"patch", "lease", "-n", ns_->name(), "sluice-operator", "--type=merge", "-p",
                                      R"({"spec":{"holderIdentity":"usurper","leaseDurationSeconds":3600}})"});
  ASSERT_EQ(done.exit_code, 0) << done.out;
  const auto written = first->elector->set_epoch(9);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind, ErrorKind::conflict);
  EXPECT_EQ(field(".metadata.annotations.sluice\\.io/epoch"), "");
}

TEST_F(LeaseTest, AnOutageOfTheApiServerEndsLeadingAndItsReturnBeginsItAgain) {
  auto only = contend("only");
  ASSERT_TRUE(eventually([&] { return only->started == 1; }));
  cluster_.kill_api_server();
  EXPECT_TRUE(eventually([&] { return only->stopped == 1; }, 5s));
  cluster_.start_api_server();
  EXPECT_TRUE(eventually([&] { return only->started == 2; }));
}

}  // namespace
}  // namespace sluice
