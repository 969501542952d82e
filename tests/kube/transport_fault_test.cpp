// What the transport makes of a server that misbehaves, in calls and in streams.
#include <gmock/gmock.h>

#include <atomic>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "tests/kube/client.h"
#include "tests/kube/faults.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using kube::kConfigMaps;
using kube::Stream;
using test::at;
using test::eventually;
using test::FakeConnection;
using test::FakeRequest;
using test::FakeServer;
using test::status;

std::chrono::steady_clock::time_point in(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

TEST(TransportFaults, AnAnswerThatNeverComesEndsWithTheCallsTimeout) {
  FakeServer server([](const FakeRequest&, FakeConnection& connection) { connection.wait_for_peer(); });
  const auto transport = test::connect(at(server));
  kube::Request request;
  request.path = "/x";
  request.timeout = 300ms;
  const auto began = std::chrono::steady_clock::now();
  const auto response = transport->send(request);
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().kind, ErrorKind::unavailable);
  EXPECT_LT(std::chrono::steady_clock::now() - began, 2s);
  EXPECT_TRUE(eventually([&] { return server.open_connections() == 0; })) << "the connection was left behind";
}

TEST(TransportFaults, AServerThatDripsDoesNotHoldACallForEver) {
  FakeServer server([](const FakeRequest&, FakeConnection& connection) {
    connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    while (connection.write("x") && !connection.wait_for_peer()) {
    }
  });
  const auto transport = test::connect(at(server));
  kube::Request request;
  request.path = "/x";
  request.timeout = 500ms;
  EXPECT_FALSE(transport->send(request));
}

TEST(TransportFaults, ACallCanBeGivenUp) {
  FakeServer server([](const FakeRequest&, FakeConnection& connection) { connection.wait_for_peer(); });
  const auto transport = test::connect(at(server));
  std::stop_source stop;
  kube::Request request;
  request.path = "/x";
  request.stop = stop.get_token();
  std::jthread caller([&] {
    eventually([&] { return !server.requests().empty(); });
    stop.request_stop();
  });
  const auto began = std::chrono::steady_clock::now();
  EXPECT_FALSE(transport->send(request));
  EXPECT_LT(std::chrono::steady_clock::now() - began, 10s);
}

TEST(TransportFaults, AKeptAliveConnectionThatTheServerClosedIsReplaced) {
  FakeServer server([](const FakeRequest& request, FakeConnection& connection) {
    connection.answer(200, "{}");
    if (request.path == "/close") connection.close();
  });
  const auto transport = test::connect(at(server));
  for (const char* method : {"GET", "POST", "PUT", "PATCH", "DELETE"}) {
    kube::Request first;
    first.path = "/close";
    ASSERT_TRUE(transport->send(first));
    ASSERT_TRUE(eventually([&] { return server.open_connections() == 0; }));
    kube::Request second;
    second.method = method;
    second.path = "/x";
    second.body = second.method == "GET" ? "" : "{}";
    const auto response = transport->send(second);
    EXPECT_TRUE(response) << method << ": " << response.error().message();
  }
}

TEST(TransportFaults, AWriteWhoseAnswerIsLostIsNotRepeated) {
  FakeServer server([](const FakeRequest&, FakeConnection& connection) { connection.reset(); });
  const auto transport = test::connect(at(server));
  kube::Request request;
  request.method = "POST";
  request.path = "/x";
  request.body = "{}";
  EXPECT_FALSE(transport->send(request));
  EXPECT_EQ(server.requests().size(), 1U);
}

TEST(TransportFaults, NothingListeningIsUnavailable) {
  kube::ClusterConfig config;
  config.server = "http://127.0.0.1:" + std::to_string(test::free_port());
  const auto response = test::connect(config)->send({});
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().kind, ErrorKind::unavailable);
}

TEST(TransportFaults, RetryAfterIsKept) {
  FakeServer server([](const FakeRequest&, FakeConnection& connection) {
    connection.answer(429, status(429, "TooManyRequests"), "Retry-After: 7\r\n");
  });
  const auto denied = kube::Api(test::connect(at(server))).get(kConfigMaps, {"ns", "a"});
  EXPECT_EQ(denied.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(denied.error().retry_after, 7s);
}

TEST(TransportFaults, AtMostEightCallsAreUnderWay) {
  std::atomic<int> now = 0;
  std::atomic<int> most = 0;
  FakeServer server([&](const FakeRequest&, FakeConnection& connection) {
    const int here = ++now;
    int seen = most;
    while (here > seen && !most.compare_exchange_weak(seen, here)) {
    }
    eventually([&] { return now >= 8; }, 200ms);
    --now;
    connection.answer(200, "{}");
  });
  const auto transport = test::connect(at(server));
  std::atomic<int> good = 0;
  {
    std::vector<std::jthread> callers;
    callers.reserve(24);
    for (int i = 0; i < 24; ++i) {
      callers.emplace_back([&] {
        kube::Request request;
        request.path = "/x";
        good += transport->send(request) ? 1 : 0;
      });
    }
  }
  EXPECT_EQ(good, 24);
  EXPECT_EQ(most, 8);
}

TEST(StreamFaults, LinesMaySpanPiecesAndPiecesHoldManyLines) {
  FakeServer server([](const FakeRequest&, FakeConnection& connection) {
    connection.begin_chunked();
    connection.chunk("on");
    connection.chunk("e\ntwo\r\n\n\nthr");
    connection.chunk("ee\nfour");
    connection.chunk("\n");
    connection.end_chunked();
  });
  const auto stream = test::connect(at(server))->stream({});
  ASSERT_TRUE(stream->head());
  for (const char* expected : {"one", "two", "three", "four"}) {
    const auto next = stream->next(in(5s));
    ASSERT_TRUE(next) << next.error().message();
    EXPECT_EQ(next->line, expected);
  }
  EXPECT_EQ(stream->next(in(5s))->kind, Stream::Next::Kind::end);
}

TEST(StreamFaults, ABodyThatBreaksOffIsAnErrorNotAnEnd) {
  FakeServer server([](const FakeRequest& request, FakeConnection& connection) {
    connection.begin_chunked();
    connection.chunk("one\n");
    if (request.path == "/torn") connection.write("40\r\nhalf a chu");
    if (request.path == "/garbage") connection.write("no length at all\r\n");
    if (request.path == "/midline") {
      connection.chunk("half a line");
      connection.end_chunked();
    }
    connection.close();
  });
  const auto transport = test::connect(at(server));
  for (const char* path : {"/closed", "/torn", "/garbage", "/midline"}) {
    kube::Request request;
    request.path = path;
    const auto stream = transport->stream(request);
    ASSERT_TRUE(stream->head()) << path;
    EXPECT_EQ(stream->next(in(5s))->line, "one");
    const auto next = stream->next(in(5s));
    ASSERT_FALSE(next) << path;
    EXPECT_EQ(next.error().kind, ErrorKind::unavailable);
  }
}

TEST(StreamFaults, AReaderThatIsSlowHoldsTheServerBackAndLosesNothing) {
  constexpr int kLines = 2000;
  std::atomic<int> written = 0;
  FakeServer server([&](const FakeRequest&, FakeConnection& connection) {
    connection.begin_chunked();
    for (int i = 0; i < kLines && connection.line(std::to_string(i) + std::string(20'000, 'x')); ++i) written = i + 1;
    connection.end_chunked();
  });
  const auto stream = test::connect(at(server))->stream({});
  ASSERT_TRUE(stream->head());
  // 40 MB are on offer; what the sockets and our buffer hold is a fraction of that.
  int before = -1;
  ASSERT_TRUE(eventually([&] {
    const int now = written;
    return std::exchange(before, now) == now && now > 50;
  }));
  EXPECT_LT(written, kLines / 2);
  for (int i = 0; i < kLines; ++i) {
    const auto next = stream->next(in(10s));
    ASSERT_TRUE(next) << next.error().message();
    ASSERT_EQ(next->kind, Stream::Next::Kind::line);
    ASSERT_TRUE(next->line.starts_with(std::to_string(i) + "x"));
  }
  EXPECT_EQ(stream->next(in(5s))->kind, Stream::Next::Kind::end);
}

TEST(StreamFaults, CancellingAStreamThatIsHeldBackEndsIt) {
  FakeServer server([](const FakeRequest&, FakeConnection& connection) {
    connection.begin_chunked();
    while (connection.line(std::string(100'000, 'x'))) {
    }
  });
  {
    const auto stream = test::connect(at(server))->stream({});
    ASSERT_TRUE(stream->head());
    ASSERT_TRUE(stream->next(in(5s)));
  }
  EXPECT_TRUE(eventually([&] { return server.open_connections() == 0; }));
}

TEST(StreamFaults, CancelWakesAReaderFromAnotherThread) {
  FakeServer server([](const FakeRequest&, FakeConnection& connection) { connection.wait_for_peer(); });
  const auto stream = test::connect(at(server))->stream({});
  std::jthread canceller([&] {
    eventually([&] { return !server.requests().empty(); });
    stream->cancel();
  });
  EXPECT_FALSE(stream->head());
}

TEST(StreamFaults, AStatusThatNeverComesIsNotWaitedForAsLongAsALine) {
  FakeServer server([](const FakeRequest& request, FakeConnection& connection) {
    if (request.path == "/refusal") connection.write("HTTP/1.1 410 X\r\nContent-Length: 100\r\n\r\n");
    connection.wait_for_peer();
  });
  const auto transport = test::connect(at(server));
  for (const char* path : {"/nothing", "/refusal"}) {
    kube::Request request;
    request.path = path;
    request.timeout = 1min;
    request.head_timeout = 300ms;
    const auto stream = transport->stream(request);
    const auto began = std::chrono::steady_clock::now();
    const auto head = stream->head();
    ASSERT_FALSE(head) << path;
    EXPECT_EQ(head.error().kind, ErrorKind::unavailable);
    EXPECT_LT(std::chrono::steady_clock::now() - began, 10s) << path;
  }
  EXPECT_TRUE(eventually([&] { return server.open_connections() == 0; })) << "connections were left behind";
}

TEST(StreamFaults, SilenceIsATimeoutAndTheStreamGoesOn) {
  std::atomic<bool> go = false;
  FakeServer server([&](const FakeRequest&, FakeConnection& connection) {
    connection.begin_chunked();
    eventually([&] { return go.load(); });
    connection.line("late");
    connection.wait_for_peer();
  });
  const auto stream = test::connect(at(server))->stream({});
  ASSERT_TRUE(stream->head());
  EXPECT_EQ(stream->next(in(50ms))->kind, Stream::Next::Kind::timeout);
  go = true;
  EXPECT_EQ(stream->next(in(5s))->line, "late");
}

TEST(StreamFaults, ARefusalBringsItsBody) {
  FakeServer server(
      [](const FakeRequest&, FakeConnection& connection) { connection.answer(410, status(410, "Expired")); });
  const auto stream = test::connect(at(server))->stream({});
  const auto head = stream->head();
  ASSERT_TRUE(head);
  EXPECT_EQ(head->status, 410);
  EXPECT_THAT(head->body, testing::HasSubstr("Expired"));
}

TEST(StreamFaults, AConnectionThatSaysNothingForTooLongIsGivenUp) {
  FakeServer server([](const FakeRequest&, FakeConnection& connection) {
    connection.begin_chunked();
    connection.wait_for_peer();
  });
  kube::Request request;
  request.path = "/x";
  request.timeout = 300ms;
  const auto stream = test::connect(at(server))->stream(request);
  ASSERT_TRUE(stream->head());
  EXPECT_FALSE(stream->next(in(5s)));
  EXPECT_TRUE(eventually([&] { return server.open_connections() == 0; }));
}

}  // namespace
}  // namespace sluice
