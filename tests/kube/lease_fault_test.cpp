// What the leader election makes of a server that refuses it.
#include <gmock/gmock.h>

#include "operator/kube/lease.h"
#include "tests/kube/client.h"
#include "tests/kube/faults.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using test::at;
using test::eventually;
using test::FakeConnection;
using test::FakeRequest;
using test::FakeServer;
using test::status;

TEST(LeaseFaults, ALeaseThatIsGoneAndMayNotBeMadeIsToldWithTheWayOut) {
  FakeServer server([](const FakeRequest& request, FakeConnection& connection) {
    const int code = request.method == "GET" ? 404 : 403;
    connection.answer(code, status(code, code == 404 ? "NotFound" : "Forbidden"));
  });
  testing::internal::CaptureStdout();
  kube::LeaseOptions options;
  options.ns = "sluice-system";
  options.identity = "me";
  options.retry_period = 10ms;
  auto elector = kube::LeaderElector::start(test::connect(at(server)), options, {[] {}, [] {}, {}});
  EXPECT_TRUE(eventually([&] { return server.requests().size() >= 4; })) << "it tries on";
  elector.reset();
  const auto log = testing::internal::GetCapturedStdout();
  EXPECT_THAT(log, testing::HasSubstr("create Lease sluice-system/sluice-operator: because; "));
  EXPECT_THAT(log, testing::HasSubstr("`helm upgrade` creates it again"));
}

}  // namespace
}  // namespace sluice
