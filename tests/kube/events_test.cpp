// Events as kubectl shows them.
#include <gmock/gmock.h>

#include "operator/kube/events.h"
#include "tests/kube/client.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using kube::EventType;
using kube::kConfigMaps;
using test::Cluster;
using test::config_map;
using test::eventually;

class EventsTest : public testing::Test {
 protected:
  nlohmann::json events() {
    const auto list = api_.consistent_list(kube::kEvents, {ns_->name(), "", ""});
    nlohmann::json out = nlohmann::json::array();
    if (!list) return out;
    for (const auto& event : list->items) out.push_back(*event);
    return out;
  }

  Cluster& cluster_ = Cluster::shared();
  std::unique_ptr<Cluster::Namespace> ns_ = cluster_.make_namespace("events");
  std::shared_ptr<kube::Transport> transport_ = test::connect(cluster_.kubeconfig());
  kube::Api api_{transport_};
};

TEST_F(EventsTest, OnesThatRepeatBecomeOneWithACount) {
  const auto made = api_.create(kConfigMaps, ns_->name(), config_map(ns_->name(), "a"));
  ASSERT_TRUE(made) << made.error().message();
  const auto recorder = kube::EventRecorder::start(transport_, "sluice-operator", "pod-1");
  recorder->record(kube::ref_of(**made), EventType::warning, "AddressesExhausted", "pool public is full");
  ASSERT_TRUE(eventually([&] { return events().size() == 1; }));
  recorder->record(kube::ref_of(**made), EventType::warning, "AddressesExhausted", "pool public is full");
  recorder->record(kube::ref_of(**made), EventType::warning, "AddressesExhausted", "pool public is full");
  ASSERT_TRUE(eventually([&] { return events().size() == 1 && events()[0]["count"] == 3; })) << events().dump(1);
  const auto event = events()[0];
  EXPECT_EQ(event["type"], "Warning");
  EXPECT_EQ(event["involvedObject"]["uid"], kube::uid_of(**made));
  EXPECT_EQ(event["source"]["component"], "sluice-operator");
  const std::string shown = cluster_.kubectl({"events", "-n", ns_->name(), "--for", "configmap/a"}).out;
  EXPECT_THAT(shown, testing::HasSubstr("pool public is full"));
}

TEST_F(EventsTest, DifferentOnesStayApart) {
  const auto made = api_.create(kConfigMaps, ns_->name(), config_map(ns_->name(), "a"));
  ASSERT_TRUE(made);
  const auto recorder = kube::EventRecorder::start(transport_, "sluice-operator", "pod-1");
  recorder->record(kube::ref_of(**made), EventType::normal, "EnsuringLoadBalancer", "one");
  recorder->record(kube::ref_of(**made), EventType::normal, "EnsuredLoadBalancer", "two");
  EXPECT_TRUE(eventually([&] { return events().size() == 2; })) << events().dump(1);
}

TEST_F(EventsTest, AnEventThatTheServerHasForgottenIsMadeAnew) {
  const auto made = api_.create(kConfigMaps, ns_->name(), config_map(ns_->name(), "a"));
  ASSERT_TRUE(made);
  const auto recorder = kube::EventRecorder::start(transport_, "sluice-operator", "pod-1");
  recorder->record(kube::ref_of(**made), EventType::normal, "Same", "same");
  ASSERT_TRUE(eventually([&] { return events().size() == 1; }));
  ASSERT_EQ(cluster_.kubectl({"delete", "events", "-n", ns_->name(), "--all"}).exit_code, 0);
  recorder->record(kube::ref_of(**made), EventType::normal, "Same", "same");
  EXPECT_TRUE(eventually([&] { return events().size() == 1; }));
}

TEST_F(EventsTest, OnesAboutClusterWideObjectsGoToDefault) {
  const nlohmann::json pool{{"apiVersion", "sluice.io/v1alpha1"},
                            {"kind", "AddressPool"},
                            {"metadata", {{"name", ns_->name()}, {"uid", "u-1"}}}};
  const auto recorder = kube::EventRecorder::start(transport_, "sluice-operator", "pod-1");
  recorder->record(kube::ref_of(pool), EventType::normal, "Ready", "it is");
  EXPECT_TRUE(eventually([&] {
    const auto list = api_.consistent_list(kube::kEvents, {"default", "", "involvedObject.name=" + ns_->name()});
    return list && list->items.size() == 1;
  }));
}

TEST_F(EventsTest, OneObjectCannotFloodTheServer) {
  const auto made = api_.create(kConfigMaps, ns_->name(), config_map(ns_->name(), "a"));
  ASSERT_TRUE(made);
  const auto recorder = kube::EventRecorder::start(transport_, "sluice-operator", "pod-1");
  for (int i = 0; i < 100; ++i) {
    recorder->record(kube::ref_of(**made), EventType::normal, "Number", std::to_string(i));
  }
  ASSERT_TRUE(eventually([&] { return recorder->stats().sent + recorder->stats().dropped == 100; }));
  EXPECT_EQ(recorder->stats().sent, 25U);
  EXPECT_EQ(events().size(), 25U);
}

TEST_F(EventsTest, WhatWaitsIsSentBeforeTheEnd) {
  const auto made = api_.create(kConfigMaps, ns_->name(), config_map(ns_->name(), "a"));
  ASSERT_TRUE(made);
  {
    const auto recorder = kube::EventRecorder::start(transport_, "sluice-operator", "pod-1");
    for (int i = 0; i < 5; ++i) recorder->record(kube::ref_of(**made), EventType::normal, "Last", std::to_string(i));
  }
  EXPECT_EQ(events().size(), 5U);
}

}  // namespace
}  // namespace sluice
