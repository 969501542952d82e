// What the recorder of Events makes of a server that never answers.
#include <gtest/gtest.h>

#include "operator/kube/events.h"
#include "tests/kube/client.h"
#include "tests/kube/faults.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using test::at;
using test::FakeConnection;
using test::FakeRequest;
using test::FakeServer;

TEST(EventFaults, RecordingNeverBlocksHoweverSlowTheServer) {
  FakeServer server([](const FakeRequest&, FakeConnection& connection) { connection.wait_for_peer(); });
  auto recorder = kube::EventRecorder::start(test::connect(at(server)), "sluice-operator", "pod-1");
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 2000; ++i) {
    recorder->record({"v1", "ConfigMap", {"ns", "a"}, "uid", ""}, kube::EventType::normal, "R", std::to_string(i));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - began, 2s);
  EXPECT_GE(recorder->stats().dropped, 900U) << "the queue is bounded";
  recorder.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - began, 10s);
}

}  // namespace
}  // namespace sluice
