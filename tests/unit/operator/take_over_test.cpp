// How a replica comes to lead: what it continues from, what it waits for, and how it spares the API server.
#include <gtest/gtest.h>

#include <atomic>

#include "operator/controller/controller.h"
#include "operator/controller/succession.h"
#include "operator/controller/watches.h"
#include "operator/controller/writer.h"
#include "tests/unit/operator/eventually.h"
#include "tests/unit/operator/fake_api.h"

namespace sluice::controller {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;
using test::eventually;
using test::FakeApi;

json meta(const std::string& ns, const std::string& name, uint64_t version) {
  return {{"namespace", ns}, {"name", name}, {"uid", "uid-" + name}, {"resourceVersion", std::to_string(version)}};
}
json object(const std::string& ns, const std::string& name, uint64_t version) {
  return {{"metadata", meta(ns, name, version)}};
}

// Secrets cannot be written here, which fails every take-over at its first write.
class WithoutSecrets {
 public:
  explicit WithoutSecrets(kube::Response refusal) : refusal_(std::move(refusal)) {}

  // Waits for so many attempts to take over while a Service changes all the time, and returns when they were.
  std::vector<Clock::time_point> attempts(size_t count) {
    const auto api = FakeApi::make([this](const kube::Request& request) { return answer(request); });
    Options options;
    options.ns = "sluice-system";
    options.identity = "test";
    const auto controller = Controller::start(options, api);
    uint64_t version = 1;
    EXPECT_TRUE(eventually([&] {
      api->tell("/api/v1/services?", "MODIFIED",
                {{"apiVersion", "v1"},
                 {"kind", "Service"},
                 {"metadata", meta("default", "web", ++version)},
                 {"spec", {{"type", "ClusterIP"}}}});
      const std::lock_guard lock(mutex_);
      return attempts_.size() >= count;
    }));
    const std::lock_guard lock(mutex_);
    attempts_.resize(count);
    return attempts_;
  }

 private:
  kube::Response answer(const kube::Request& request) {
    const std::lock_guard lock(mutex_);
    if (request.path.find("/leases/") != std::string::npos) {
      if (request.method == "PUT") lease_ = json::parse(request.body);
      return {200, lease_.dump(), {}};
    }
    if (request.method == "PUT") {
      attempts_.push_back(Clock::now());
      return refusal_;
    }
    if (request.path.starts_with("/api/v1/namespaces?")) return FakeApi::list_of({object("", "kube-system", 1)});
    const std::string by_name = "metadata.name%3D";
    const auto at = request.path.find(by_name);
    if (at == std::string::npos) return FakeApi::list_of({});
    return FakeApi::list_of({object("sluice-system", request.path.substr(at + by_name.size()), 1)});
  }

  const kube::Response refusal_;
  std::mutex mutex_;
  json lease_ = object("sluice-system", "sluice-operator", 1);
  std::vector<Clock::time_point> attempts_;
};

TEST(TakeOver, ThatFailsIsNotRepeatedForEveryChangeInTheCluster) {
  const auto at = WithoutSecrets({500, "{}", {}}).attempts(4);
  EXPECT_GE(at[1] - at[0], milliseconds(100));
  EXPECT_GE(at[2] - at[1], milliseconds(200));
  EXPECT_GE(at[3] - at[2], milliseconds(400));
}

TEST(TakeOver, ThatTheServerPutsOffWaitsForAsLongAsItSays) {
  const auto at = WithoutSecrets({429, "{}", seconds(2)}).attempts(2);
  EXPECT_GE(at[1] - at[0], seconds(2));
}

TEST(Watches, HaveCaughtUpWithAListWhenTheyKnowAllOfItAtLeastAsNew) {
  const auto api = FakeApi::make([](const kube::Request& request) {
    if (!request.path.starts_with("/api/v1/services?")) return FakeApi::list_of({});
    return FakeApi::list_of({object("default", "a", 10), object("default", "b", 20)});
  });
  const Watches watches(api, EndpointsSource::endpoint_slices, [] {});
  ASSERT_TRUE(eventually([&] { return watches.synced(); }));
  const auto caught_up = [&](const kube::Resource& resource, const std::map<std::string, uint64_t>& listed) {
    kube::ObjectList list;
    for (const auto& [name, version] : listed) {
      list.items.push_back(std::make_shared<const json>(object("default", name, version)));
    }
    return watches.caught_up(resource, list);
  };
  EXPECT_TRUE(caught_up(kube::kServices, {}));
  EXPECT_TRUE(caught_up(kube::kServices, {{"a", 10}, {"b", 20}}));
  EXPECT_TRUE(caught_up(kube::kServices, {{"a", 9}})) << "the watch is ahead of the list";
  EXPECT_TRUE(caught_up(kube::kServices, {{"b", 9}})) << "as numbers, not as texts";
  EXPECT_FALSE(caught_up(kube::kServices, {{"a", 11}})) << "changed since";
  EXPECT_FALSE(caught_up(kube::kServices, {{"b", 100}})) << "as numbers, not as texts";
  EXPECT_FALSE(caught_up(kube::kServices, {{"a", 10}, {"c", 5}})) << "not seen yet";
  EXPECT_FALSE(caught_up(kube::kPods, {})) << "nobody watches them";

  api->tell("/api/v1/services?", "MODIFIED",
            {{"apiVersion", "v1"}, {"kind", "Service"}, {"metadata", meta("default", "a", 30)}});
  EXPECT_TRUE(eventually([&] { return caught_up(kube::kServices, {{"a", 11}}); }));
}

publish::AgentInfo agent(const std::string& cluster, state::Epoch epoch, state::Revision revision, bool holds,
                         uint32_t contract = state::kContract) {
  publish::AgentInfo info;
  info.cluster_id = cluster;
  info.epoch = epoch;
  info.revision = revision;
  info.contract = contract;
  if (holds) info.digest.emplace();
  return info;
}

TEST(Succession, GoesAboveEveryEpochAndRevisionAndContinuesTheLatestState) {
  using Answers = std::map<std::string, Result<publish::AgentInfo>>;
  const Error silent{ErrorKind::unavailable, "ask", "node", "no answer"};
  struct Case {
    const char* rule;
    Answers answers;
    state::Epoch lease;
    state::Epoch epoch;
    state::Revision revision;
    std::optional<std::string> from;
  };
  const Case cases[] = {
      {"a new cluster begins at one", {}, 0, 1, 0, {}},
      {"above the Lease's", {}, 7, 8, 0, {}},
      {"above an agent's, which the Lease has lost", {{"a", agent("c", 9, 3, true)}}, 0, 10, 3, "a"},
      {"an agent without a state counts for its epoch", {{"a", agent("c", 9, 0, false)}}, 4, 10, 0, {}},
      {"a silent agent does not count", {{"a", tl::unexpected(silent)}, {"b", agent("c", 2, 5, true)}}, 2, 3, 5, "b"},
      {"another cluster's agent does not count", {{"a", agent("other", 50, 99, true)}}, 2, 3, 0, {}},
      {"of equal ones that of an agent which knows all fields",
       {{"a", agent("c", 2, 5, true, 0)}, {"b", agent("c", 2, 5, true)}},
       2,
       3,
       5,
       "b"},
      {"the higher revision of one epoch",
       {{"a", agent("c", 2, 5, true)}, {"b", agent("c", 2, 6, true)}},
       2,
       3,
       6,
       "b"},
      {"the higher epoch, whatever its revision; the next one is above both",
       {{"a", agent("c", 2, 9, true)}, {"b", agent("c", 3, 4, true)}},
       3,
       4,
       9,
       "b"},
      {"the latest that is held, not that is known of",
       {{"a", agent("c", 3, 9, false)}, {"b", agent("c", 3, 4, true)}},
       3,
       4,
       9,
       "b"},
  };
  for (const auto& c : cases) {
    const auto got = succeed(c.answers, c.lease, "c");
    EXPECT_EQ(got.epoch, c.epoch) << c.rule;
    EXPECT_EQ(got.revision, c.revision) << c.rule;
    EXPECT_EQ(got.from, c.from) << c.rule;
  }
}

TEST(Missed, AreTheReadyNodesThatHaveHadAnAgentAndDidNotAnswer) {
  const Error silent{ErrorKind::unavailable, "ask", "node", "no answer"};
  resources::ClusterState cluster;
  const auto add = [&cluster](const std::string& name, bool ready, bool reached_before) {
    resources::Node node;
    node.ready = ready;
    cluster.nodes[name] = std::make_shared<const resources::Node>(std::move(node));
    if (reached_before) cluster.load_balancer_nodes[name] = std::make_shared<const resources::LoadBalancerNode>();
  };
  add("answers", true, true);
  add("silent", true, true);
  add("down", false, true);
  add("agentless", true, false);
  EXPECT_EQ(missed({{"answers", agent("c", 1, 1, false)},
                    {"silent", tl::unexpected(silent)},
                    {"down", tl::unexpected(silent)},
                    {"agentless", tl::unexpected(silent)},
                    {"gone", tl::unexpected(silent)}},
                   cluster),
            std::vector<std::string>{"silent"});
}

TEST(Patience, EndsAMinuteAfterItWasFirstAskedFor) {
  Patience patience;
  const Clock::time_point start{std::chrono::hours(1)};
  EXPECT_FALSE(patience.spent(start));
  EXPECT_FALSE(patience.spent(start + seconds(59)));
  EXPECT_TRUE(patience.spent(start + seconds(60)));
  EXPECT_TRUE(patience.spent(start + seconds(61))) << "it does not begin anew";
}

}  // namespace
}  // namespace sluice::controller
