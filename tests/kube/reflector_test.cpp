// Reflectors against a real API server: whatever happens in between, the store is the server's truth in the end.
#include <gmock/gmock.h>

#include <map>
#include <set>

#include "operator/kube/reflector.h"
#include "tests/kube/client.h"
#include "tests/kube/fake_server.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using kube::Api;
using kube::kConfigMaps;
using kube::Object;
using kube::ObjectKey;
using kube::Reflector;
using kube::ReflectorOptions;
using test::Cluster;
using test::config_map;
using test::eventually;

// Rebuilds the state from the calls alone, as a consumer does.
class Mirror final : public kube::ReflectorHandler {
 public:
  void replaced(const std::vector<Object>& all, const std::vector<Object>& vanished) override {
    const std::lock_guard lock(mutex_);
    for (const auto& object : vanished) {
      if (state_.erase(kube::key_of(*object).text()) == 0) ++surprises_;
    }
    std::map<std::string, Object> next;
    for (const auto& object : all) next[kube::key_of(*object).text()] = object;
    for (const auto& [key, object] : state_) {
      if (!next.contains(key)) ++surprises_;  // should have been among the vanished
    }
    state_ = std::move(next);
    ++replaced_;
    vanished_ += vanished.size();
  }
  void upserted(const Object& object) override {
    const std::lock_guard lock(mutex_);
    auto& slot = state_[kube::key_of(*object).text()];
    if (slot && kube::uid_of(*slot) != kube::uid_of(*object)) ++surprises_;  // should have been deleted first
    slot = object;
  }
  void deleted(const ObjectKey& key, const Object& last_known) override {
    const std::lock_guard lock(mutex_);
    if (state_.erase(key.text()) == 0 || !last_known) ++surprises_;
    ++deleted_;
  }

  std::map<std::string, std::string> state() const {  // key -> uid and version
    const std::lock_guard lock(mutex_);
    std::map<std::string, std::string> out;
    for (const auto& [key, object] : state_)
      out[key] = kube::uid_of(*object) + "@" + kube::resource_version_of(*object);
    return out;
  }
  int surprises() const {
    const std::lock_guard lock(mutex_);
    return surprises_;
  }
  std::size_t vanished() const {
    const std::lock_guard lock(mutex_);
    return vanished_;
  }
  int deletes() const {
    const std::lock_guard lock(mutex_);
    return deleted_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Object> state_;
  int replaced_ = 0;
  int deleted_ = 0;
  std::size_t vanished_ = 0;
  int surprises_ = 0;
};

using State = std::map<std::string, std::string>;

// Every rule holds with LIST as with streamed lists.
class ReflectorTest : public testing::TestWithParam<bool> {
 protected:
  ReflectorOptions options() const {
    ReflectorOptions out;
    out.ns = ns_->name();
    out.streaming_lists = GetParam();
    out.tuning.backoff.initial = 50ms;
    out.tuning.backoff.max = 500ms;
    out.tuning.missing_retry = 200ms;
    return out;
  }
  void start(const ReflectorOptions& options) {
    reflector_ = Reflector::start(test::connect(cluster_.kubeconfig()), kConfigMaps, options, &mirror_);
  }
  State truth(const kube::ListOptions& options) {
    const auto list = api_.consistent_list(kConfigMaps, options);
    if (!list) throw std::runtime_error(list.error().message());
    State out;
    for (const auto& object : list->items) {
      out[kube::key_of(*object).text()] = kube::uid_of(*object) + "@" + kube::resource_version_of(*object);
    }
    return out;
  }
  State truth() { return truth({ns_->name(), "", ""}); }
  State store() const {
    State out;
    for (const auto& object : reflector_->objects()) {
      out[kube::key_of(*object).text()] = kube::uid_of(*object) + "@" + kube::resource_version_of(*object);
    }
    return out;
  }
  // The store and what the handler made of its calls both are what the server has.
  testing::AssertionResult agrees(std::chrono::milliseconds within = 20s) {
    // Others write here too (the controller manager puts its CA into every namespace): what is expected may change
    // meanwhile.
    State expected;
    const auto same = [&] {
      expected = truth();
      return eventually([&] { return store() == expected && mirror_.state() == expected; }, 500ms);
    };
    if (!eventually(same, within)) {
      return testing::AssertionFailure() << "server has " << expected.size() << " objects, the store " << store().size()
                                         << ", the handler " << mirror_.state().size() << "; "
                                         << reflector_->stats().last_error;
    }
    if (mirror_.surprises() != 0) return testing::AssertionFailure() << mirror_.surprises() << " calls out of order";
    return testing::AssertionSuccess();
  }
  void create(const std::string& name, const nlohmann::json& labels = nlohmann::json::object()) {
    const auto made = api_.create(kConfigMaps, ns_->name(), config_map(ns_->name(), name, {}, labels));
    ASSERT_TRUE(made) << made.error().message();
  }
  void create_many(int from, int to) {
    std::atomic<int> next = from;
    std::atomic<int> failed = 0;
    {
      std::vector<std::jthread> threads;
      threads.reserve(8);
      for (int t = 0; t < 8; ++t) {
        threads.emplace_back([&] {
          for (int i = next++; i < to; i = next++) {
            const auto object = config_map(ns_->name(), "m" + std::to_string(i), {{"padding", std::string(2000, 'x')}});
            failed += api_.create(kConfigMaps, ns_->name(), object) ? 0 : 1;
          }
        });
      }
    }
    ASSERT_EQ(failed, 0);
  }
  // etcd forgets every version before now.
  void compact() {
    kube::ClusterConfig etcd;
    etcd.server = cluster_.etcd();
    const auto transport = test::connect(etcd);
    const auto post = [&](const std::string& path, const nlohmann::json& body) {
      kube::Request request;
      request.method = "POST";
      request.path = path;
      request.body = body.dump();
      const auto response = transport->send(request);
      if (!response || !response->ok()) throw std::runtime_error("etcd: " + path);
      return nlohmann::json::parse(response->body);
    };
    const auto revision = post("/v3/kv/range", {{"key", "AA=="}})["header"]["revision"];
    post("/v3/kv/compaction", {{"revision", revision}, {"physical", true}});
  }

  Cluster& cluster_ = Cluster::shared();
  std::unique_ptr<Cluster::Namespace> ns_ = cluster_.make_namespace("reflect");
  Api api_{test::connect(cluster_.kubeconfig())};
  Mirror mirror_;
  std::unique_ptr<Reflector> reflector_;
};

INSTANTIATE_TEST_SUITE_P(Lists, ReflectorTest, testing::Bool(),
                         [](const auto& param) { return param.param ? "Streamed" : "Plain"; });

TEST_P(ReflectorTest, FollowsWhatHappens) {
  create("before");
  start(options());
  ASSERT_TRUE(reflector_->wait_synced(20s));
  EXPECT_TRUE(agrees());
  create("after");
  EXPECT_TRUE(agrees());
  ASSERT_TRUE(api_.patch(kConfigMaps, {ns_->name(), "before"}, kube::PatchType::merge, {{"data", {{"k", "v"}}}}));
  EXPECT_TRUE(agrees());
  ASSERT_TRUE(api_.remove(kConfigMaps, {ns_->name(), "after"}));
  EXPECT_TRUE(agrees());
  ASSERT_TRUE(eventually([&] { return reflector_->find({ns_->name(), "after"}) == nullptr; }));
  const Object found = reflector_->find({ns_->name(), "before"});
  ASSERT_NE(found, nullptr);
  EXPECT_EQ((*found)["kind"], "ConfigMap");
  EXPECT_EQ((*found)["apiVersion"], "v1");
  EXPECT_FALSE((*found)["metadata"].contains("managedFields"));
  EXPECT_EQ(reflector_->stats().lists, 1U) << "one list is enough while nothing breaks";
}

TEST_P(ReflectorTest, AnObjectMadeAnewIsDeletedFirst) {
  create("a");
  start(options());
  ASSERT_TRUE(reflector_->wait_synced(20s));
  ASSERT_TRUE(api_.remove(kConfigMaps, {ns_->name(), "a"}));
  create("a");
  EXPECT_TRUE(agrees());
}

TEST_P(ReflectorTest, ManyObjectsArriveWhole) {
  create_many(0, 400);
  start(options());
  ASSERT_TRUE(reflector_->wait_synced(20s));
  EXPECT_TRUE(agrees());
  create_many(400, 600);
  const auto removed = cluster_.kubectl({"delete", "configmap", "-n", ns_->name(), "--all", "--wait=false"});
  ASSERT_EQ(removed.exit_code, 0) << removed.out;
  EXPECT_TRUE(agrees());
}

TEST_P(ReflectorTest, ALabelSelectorMakesObjectsComeAndGo) {
  auto chosen = options();
  chosen.label_selector = "side=left";
  create("l", {{"side", "left"}});
  create("r", {{"side", "right"}});
  start(chosen);
  ASSERT_TRUE(reflector_->wait_synced(20s));
  const auto here = [&](const char* name) { return reflector_->find({ns_->name(), name}) != nullptr; };
  EXPECT_TRUE(here("l"));
  EXPECT_FALSE(here("r"));
  ASSERT_TRUE(api_.patch(kConfigMaps, {ns_->name(), "r"}, kube::PatchType::merge,
                         {{"metadata", {{"labels", {{"side", "left"}}}}}}));
  EXPECT_TRUE(eventually([&] { return here("r"); }));
  ASSERT_TRUE(api_.patch(kConfigMaps, {ns_->name(), "l"}, kube::PatchType::merge,
                         {{"metadata", {{"labels", {{"side", "right"}}}}}}));
  EXPECT_TRUE(eventually([&] { return !here("l"); }));
  EXPECT_EQ(mirror_.surprises(), 0);
}

TEST_P(ReflectorTest, WatchesThatEndOnTimeGoOnWithoutARelist) {
  auto brief = options();
  brief.tuning.watch_timeout_min = 1s;
  brief.tuning.watch_timeout_max = 1s;
  brief.tuning.short_watch = 100ms;
  create("a");
  start(brief);
  ASSERT_TRUE(reflector_->wait_synced(20s));
  ASSERT_TRUE(eventually([&] { return reflector_->stats().watch_restarts["clean"] >= 3; }));
  create("b");
  EXPECT_TRUE(agrees());
  EXPECT_EQ(reflector_->stats().lists, 1U);
}

TEST_P(ReflectorTest, DeletesDuringAnOutageAreSeen) {
  create("stays");
  create("goes");
  create("made-anew");
  // Through a proxy that is shut while the world changes: the API server itself stays up.
  test::FaultProxy proxy(cluster_.api_port());
  const auto transport = test::connect(cluster_.kubeconfig_as(Cluster::kAdminToken, proxy.port()));
  reflector_ = Reflector::start(transport, kConfigMaps, options(), &mirror_);
  ASSERT_TRUE(reflector_->wait_synced(20s));
  proxy.refuse(true);
  proxy.cut();
  ASSERT_TRUE(eventually([&] { return proxy.open_connections() == 0; }));
  ASSERT_TRUE(api_.remove(kConfigMaps, {ns_->name(), "goes"}));
  ASSERT_TRUE(api_.remove(kConfigMaps, {ns_->name(), "made-anew"}));
  create("made-anew");
  create("new");
  proxy.refuse(false);
  EXPECT_TRUE(agrees());
  EXPECT_EQ(reflector_->stats().lists, 1U) << "the version was kept over the outage";
}

TEST_P(ReflectorTest, ARestartOfTheApiServerLosesNothing) {
  create("stays");
  create("goes");
  start(options());
  ASSERT_TRUE(reflector_->wait_synced(20s));
  // While this reflector is cut off by the outage, another client changes the world as soon as the server is back.
  cluster_.stop_api_server();
  cluster_.start_api_server();
  ASSERT_TRUE(eventually([&] { return static_cast<bool>(api_.remove(kConfigMaps, {ns_->name(), "goes"})); }));
  create("new");
  EXPECT_TRUE(agrees());
}

TEST_P(ReflectorTest, AVersionThatTheServerHasForgottenLeadsToARelist) {
  create("stays");
  create("goes");
  test::FaultProxy proxy(cluster_.api_port());
  const auto transport = test::connect(cluster_.kubeconfig_as(Cluster::kAdminToken, proxy.port()));
  reflector_ = Reflector::start(transport, kConfigMaps, options(), &mirror_);
  ASSERT_TRUE(reflector_->wait_synced(20s));
  proxy.refuse(true);
  proxy.cut();
  ASSERT_TRUE(eventually([&] { return proxy.open_connections() == 0; }));
  ASSERT_TRUE(api_.remove(kConfigMaps, {ns_->name(), "goes"}));
  create("new");
  // Neither etcd nor a fresh watch cache has the history since our version.
  cluster_.kill_api_server();
  compact();
  cluster_.start_api_server();
  proxy.refuse(false);
  EXPECT_TRUE(agrees());
  EXPECT_GE(reflector_->stats().watch_restarts["expired"], 1U);
  EXPECT_GE(reflector_->stats().lists, 2U);
  EXPECT_EQ(mirror_.vanished(), 1U);
}

TEST_P(ReflectorTest, AStoreRestoredFromABackupIsNoticed) {
  create("in-backup");
  cluster_.backup();
  start(options());
  ASSERT_TRUE(reflector_->wait_synced(20s));
  for (int i = 0; i < 20; ++i) create("lost" + std::to_string(i));
  ASSERT_TRUE(agrees());
  cluster_.restore();
  EXPECT_TRUE(agrees());
  EXPECT_TRUE(eventually([&] { return reflector_->find({ns_->name(), "in-backup"}) != nullptr; }));
  create("later");
  EXPECT_TRUE(agrees()) << "it is not waiting for versions from the future";
}

TEST_P(ReflectorTest, AHalfOpenConnectionIsLeft) {
  create("a");
  test::FaultProxy proxy(cluster_.api_port());
  const auto transport = test::connect(cluster_.kubeconfig_as(Cluster::kAdminToken, proxy.port()));
  auto impatient = options();
  impatient.tuning.silence = 500ms;  // no word for so long: the server is asked for its version
  impatient.tuning.check_timeout = 500ms;
  reflector_ = Reflector::start(transport, kConfigMaps, impatient, &mirror_);
  ASSERT_TRUE(reflector_->wait_synced(20s));
  create("b");
  ASSERT_TRUE(agrees()) << "the watch is under way";
  // As behind a proxy that is stuck: no end, no reset, and nothing comes any more.
  proxy.abandon();
  create("c");
  EXPECT_TRUE(agrees());
  EXPECT_EQ(reflector_->stats().lists, 1U);
}

TEST_P(ReflectorTest, ACrdThatAppearsLateIsPickedUp) {
  static constexpr kube::Resource kWidgets{"test.sluice.io", "v1", "widgets", "Widget", true};
  Mirror widgets;
  auto late = options();
  late.tuning.missing_grace = 1s;
  const auto reflector = Reflector::start(test::connect(cluster_.kubeconfig()), kWidgets, late, &widgets);
  ASSERT_TRUE(reflector->wait_synced(20s)) << "an unknown resource counts as an empty one";
  EXPECT_TRUE(reflector->objects().empty());
  const std::string crd = R"(
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.test.sluice.io}
spec:
  group: test.sluice.io
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
)";
  cluster_.apply(crd);
  const nlohmann::json widget{{"apiVersion", "test.sluice.io/v1"},
                              {"kind", "Widget"},
                              {"metadata", {{"name", "w"}, {"namespace", ns_->name()}}}};
  ASSERT_TRUE(eventually([&] { return static_cast<bool>(api_.create(kWidgets, ns_->name(), widget)); }));
  EXPECT_TRUE(eventually([&] { return reflector->find({ns_->name(), "w"}) != nullptr; }));
  // And when it goes, with its objects, that is seen as well.
  const auto gone = cluster_.kubectl({"delete", "crd", "widgets.test.sluice.io"});
  ASSERT_EQ(gone.exit_code, 0) << gone.out;
  EXPECT_TRUE(eventually([&] { return reflector->objects().empty() && widgets.state().empty(); }));
  EXPECT_EQ(widgets.surprises(), 0);
}

TEST_P(ReflectorTest, APermissionGrantedLaterIsUsed) {
  create("a");
  reflector_ =
      Reflector::start(test::connect(cluster_.kubeconfig_as(Cluster::kNobodyToken)), kConfigMaps, options(), &mirror_);
  ASSERT_TRUE(eventually([&] { return reflector_->stats().list_failures["forbidden"] >= 2; }));
  EXPECT_FALSE(reflector_->synced());
  EXPECT_THAT(reflector_->stats().last_error, testing::HasSubstr("cannot"));
  cluster_.apply("apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: viewer, namespace: " +
                 ns_->name() +
                 "}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}\n"
                 "subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: nobody}]\n");
  EXPECT_TRUE(reflector_->wait_synced(20s));
  EXPECT_TRUE(agrees());
  EXPECT_EQ(reflector_->stats().last_error, "");
}

TEST_P(ReflectorTest, StoppingTakesNoTime) {
  start(options());
  ASSERT_TRUE(reflector_->wait_synced(20s));
  const auto began = std::chrono::steady_clock::now();
  reflector_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - began, 2s);
}

}  // namespace
}  // namespace sluice
