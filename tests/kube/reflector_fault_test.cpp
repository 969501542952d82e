// What the reflector makes of a server that misbehaves, or that has forgotten, or was put back to an earlier state.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <set>
#include <vector>

#include "operator/kube/reflector.h"
#include "tests/kube/client.h"
#include "tests/kube/faults.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using kube::kConfigMaps;
using kube::Reflector;
using test::at;
using test::eventually;
using test::FakeConnection;
using test::FakeRequest;
using test::FakeServer;
using test::status;

std::string item(const std::string& name, int version) {
  return nlohmann::json{
      {"metadata",
       {{"name", name}, {"namespace", "ns"}, {"uid", "uid-" + name}, {"resourceVersion", std::to_string(version)}}}}
      .dump();
}
std::string list_of(const std::vector<std::string>& items, int version) {
  std::string joined;
  for (const auto& one : items) joined += (joined.empty() ? "" : ",") + one;
  return R"({"kind":"ConfigMapList","metadata":{"resourceVersion":")" + std::to_string(version) + R"("},"items":[)" +
         joined + "]}";
}
std::string event(const std::string& type, const std::string& object) {
  return R"({"type":")" + type + R"(","object":)" + object + "}";
}

// A scripted server: the n-th list and the n-th watch have their own behaviour.
class Script {
 public:
  using Answer = std::function<void(const FakeRequest&, FakeConnection&)>;
  // The last one of each stays for all that follow.
  std::vector<Answer> lists;
  std::vector<Answer> watches;
  Answer check = [](const FakeRequest&, FakeConnection& connection) { connection.answer(200, list_of({}, 1'000'000)); };

  void operator()(const FakeRequest& request, FakeConnection& connection) {
    const bool watch = request.query.contains("watch");
    if (!watch && request.query.contains("limit") && request.query.at("limit") == "1")
      return check(request, connection);
    auto& of = watch ? watches : lists;
    auto& count = watch ? watched_ : listed_;
    const auto n = std::min<std::size_t>(count++, of.size() - 1);
    of[n](request, connection);
  }
  int listed() const { return static_cast<int>(listed_); }
  int watched() const { return static_cast<int>(watched_); }

 private:
  std::atomic<std::size_t> listed_ = 0;
  std::atomic<std::size_t> watched_ = 0;
};

Script::Answer answer(const std::string& body) {
  return [body](const FakeRequest&, FakeConnection& connection) { connection.answer(200, body); };
}
Script::Answer refuse(int code, const std::string& body, const std::string& headers = {}) {
  return [=](const FakeRequest&, FakeConnection& connection) { connection.answer(code, body, headers); };
}
// Says these lines and then stays.
Script::Answer say(std::vector<std::string> lines) {
  return [lines = std::move(lines)](const FakeRequest&, FakeConnection& connection) {
    connection.begin_chunked();
    for (const auto& line : lines) connection.line(line);
    connection.wait_for_peer();
  };
}
// Says these lines and ends in order.
Script::Answer say_and_end(std::vector<std::string> lines) {
  return [lines = std::move(lines)](const FakeRequest&, FakeConnection& connection) {
    connection.begin_chunked();
    for (const auto& line : lines) connection.line(line);
    connection.end_chunked();
  };
}

class ReflectorFaults : public testing::Test {
 protected:
  void start(bool streaming = false) {
    server_ = std::make_unique<FakeServer>(
        [this](const FakeRequest& request, FakeConnection& connection) { script_(request, connection); });
    kube::ReflectorOptions options;
    options.streaming_lists = streaming;
    options.tuning = tuning_;
    reflector_ = Reflector::start(test::connect(at(*server_)), kConfigMaps, options, nullptr);
  }
  // "name@version" of all that is in the store.
  std::set<std::string> store() const {
    std::set<std::string> out;
    for (const auto& object : reflector_->objects()) {
      out.insert(kube::key_of(*object).name + "@" + kube::resource_version_of(*object));
    }
    return out;
  }
  bool becomes(const std::set<std::string>& expected) {
    return eventually([&] { return reflector_->synced() && store() == expected; }, 10s);
  }
  // The n-th list's or watch's request, once it has come.
  FakeRequest request(bool watch, std::size_t n) {
    FakeRequest found;
    eventually([&] {
      std::size_t seen = 0;
      for (const auto& one : server_->requests()) {
        if (one.query.contains("limit") && one.query.at("limit") == "1") continue;
        if (one.query.contains("watch") == watch && seen++ == n) {
          found = one;
          return true;
        }
      }
      return false;
    });
    return found;
  }
  std::string version_of_list(std::size_t n) {
    const auto found = request(false, n);
    return found.query.contains("resourceVersion") ? found.query.at("resourceVersion") : "";
  }
  std::string version_of_watch(std::size_t n) {
    const auto found = request(true, n);
    return found.query.contains("resourceVersion") ? found.query.at("resourceVersion") : "";
  }
  uint64_t restarts(const std::string& reason) { return reflector_->stats().watch_restarts[reason]; }

  Script script_;
  kube::WatchTuning tuning_ = [] {
    kube::WatchTuning out;
    out.backoff.initial = std::chrono::milliseconds(10);
    out.backoff.max = std::chrono::milliseconds(100);
    out.missing_retry = std::chrono::milliseconds(50);
    out.missing_grace = std::chrono::milliseconds(500);
    return out;
  }();
  std::unique_ptr<FakeServer> server_;
  std::unique_ptr<Reflector> reflector_;
};

TEST_F(ReflectorFaults, BeginsAtZeroAndWatchesFromTheListsVersion) {
  script_.lists = {answer(list_of({item("a", 5)}, 10))};
  script_.watches = {say({event("ADDED", item("b", 11))})};
  start();
  ASSERT_TRUE(becomes({"a@5", "b@11"}));
  EXPECT_EQ(version_of_list(0), "0");
  EXPECT_EQ(version_of_watch(0), "10") << "the list's version, not an item's";
  const auto watch = request(true, 0);
  EXPECT_EQ(watch.query.at("allowWatchBookmarks"), "true");
  EXPECT_GE(std::stoi(watch.query.at("timeoutSeconds")), 300);
  EXPECT_LE(std::stoi(watch.query.at("timeoutSeconds")), 600);
}

TEST_F(ReflectorFaults, BookmarksMoveTheVersionOn) {
  script_.lists = {answer(list_of({}, 10))};
  script_.watches = {say_and_end({event("BOOKMARK", R"({"metadata":{"resourceVersion":"50"}})")}), say({})};
  start();
  EXPECT_EQ(version_of_watch(1), "50");
  EXPECT_EQ(script_.listed(), 1);
}

TEST_F(ReflectorFaults, AnErrorEventOfGoneLeadsToARelistFromTheLastVersion) {
  script_.lists = {answer(list_of({item("a", 5), item("b", 6)}, 10)),
                   answer(list_of({item("b", 6), item("c", 20)}, 21))};
  script_.watches = {say({event("MODIFIED", item("a", 12)), event("ERROR", status(410, "Expired"))}), say({})};
  start();
  ASSERT_TRUE(becomes({"b@6", "c@20"}));
  EXPECT_EQ(version_of_list(1), "12");
  EXPECT_EQ(restarts("expired"), 1U);
}

TEST_F(ReflectorFaults, AListThatAnswersGoneIsRepeatedForTheNewest) {
  script_.lists = {refuse(410, status(410, "Expired")), answer(list_of({item("a", 5)}, 10))};
  script_.watches = {say({})};
  start();
  ASSERT_TRUE(becomes({"a@5"}));
  EXPECT_EQ(version_of_list(0), "0");
  EXPECT_EQ(version_of_list(1), "");
}

TEST_F(ReflectorFaults, AVersionTooLargeIsNotTakenForATimeout) {
  script_.lists = {answer(list_of({}, 10)),
                   refuse(504, status(504, "Timeout", {{"causes", {{{"reason", "ResourceVersionTooLarge"}}}}})),
                   answer(list_of({item("a", 5)}, 7))};
  script_.watches = {say({event("ERROR", status(410, "Expired"))}), say({})};
  start();
  ASSERT_TRUE(becomes({"a@5"}));
  EXPECT_EQ(version_of_list(1), "10");
  EXPECT_EQ(version_of_list(2), "");
  EXPECT_EQ(version_of_watch(1), "7");
}

TEST_F(ReflectorFaults, AnErrorEventOf429WatchesOnFromTheSameVersionWhenToldTo) {
  script_.lists = {answer(list_of({}, 10))};
  script_.watches = {say({event("ERROR", status(429, "TooManyRequests", {{"retryAfterSeconds", 1}}))}),
                     say({event("ADDED", item("a", 11))})};
  const auto began = std::chrono::steady_clock::now();
  start();
  ASSERT_TRUE(becomes({"a@11"}));
  EXPECT_GE(std::chrono::steady_clock::now() - began, 1s);
  EXPECT_EQ(version_of_watch(1), "10");
  EXPECT_EQ(script_.listed(), 1);
}

TEST_F(ReflectorFaults, RetryAfterOfARefusedListIsHonoured) {
  script_.lists = {refuse(429, status(429, "TooManyRequests"), "Retry-After: 1\r\n"),
                   answer(list_of({item("a", 1)}, 10))};
  script_.watches = {say({})};
  const auto began = std::chrono::steady_clock::now();
  start();
  ASSERT_TRUE(becomes({"a@1"}));
  EXPECT_GE(std::chrono::steady_clock::now() - began, 1s);
}

TEST_F(ReflectorFaults, ServerErrorsAreRetriedAFewTimesBeforeARelist) {
  script_.lists = {answer(list_of({}, 10)), answer(list_of({item("a", 20)}, 21))};
  script_.watches = {refuse(500, status(500, "InternalError")), refuse(503, ""), refuse(500, ""), refuse(500, ""),
                     say({})};
  start();
  ASSERT_TRUE(becomes({"a@20"}));
  EXPECT_EQ(restarts("server_error"), 4U);
  EXPECT_EQ(script_.listed(), 2);
}

TEST_F(ReflectorFaults, OtherErrorEventsRelist) {
  script_.lists = {answer(list_of({}, 10)), answer(list_of({item("a", 20)}, 21))};
  script_.watches = {say({event("ERROR", status(400, "BadRequest"))}), say({})};
  start();
  ASSERT_TRUE(becomes({"a@20"}));
}

TEST_F(ReflectorFaults, ABrokenWatchGoesOnFromTheLastVersion) {
  script_.lists = {answer(list_of({}, 10))};
  script_.watches = {[](const FakeRequest&, FakeConnection& connection) {
                       connection.begin_chunked();
                       connection.line(event("ADDED", item("a", 11)));
                       connection.write("50\r\n{\"type\":\"ADD");
                       connection.close();
                     },
                     say({event("ADDED", item("b", 12))})};
  start();
  ASSERT_TRUE(becomes({"a@11", "b@12"}));
  EXPECT_EQ(version_of_watch(1), "11");
  EXPECT_EQ(script_.listed(), 1);
  EXPECT_EQ(restarts("broken"), 1U);
}

TEST_F(ReflectorFaults, ALineThatIsNoEventBreaksTheWatch) {
  script_.lists = {answer(list_of({}, 10))};
  script_.watches = {say({event("ADDED", item("a", 11)), "{\"type\":"}), say({event("ADDED", item("b", 12))})};
  start();
  ASSERT_TRUE(becomes({"a@11", "b@12"}));
}

TEST_F(ReflectorFaults, UnknownEventsAndFieldsArePassedOver) {
  script_.lists = {answer(list_of({}, 10))};
  script_.watches = {say({R"({"type":"SPARKLED","object":{"metadata":{"resourceVersion":"99"}},"shine":true})",
                          event("ADDED", item("a", 11))})};
  start();
  ASSERT_TRUE(becomes({"a@11"}));
  EXPECT_EQ(reflector_->stats().resource_version, "11");
}

TEST_F(ReflectorFaults, AWatchThatEndsAtOnceWithNothingIsBackedOff) {
  script_.lists = {answer(list_of({}, 10))};
  script_.watches = {say_and_end({})};
  start();
  ASSERT_TRUE(eventually([&] { return restarts("short") >= 3; }));
  EXPECT_EQ(script_.listed(), 1);
}

TEST_F(ReflectorFaults, AServerRestoredFromABackupIsNoticedAfterAReconnect) {
  script_.lists = {answer(list_of({item("a", 900), item("b", 901)}, 1000)), answer(list_of({item("a", 300)}, 400))};
  script_.watches = {[](const FakeRequest&, FakeConnection& connection) { connection.reset(); }, say({})};
  script_.check = answer(list_of({}, 400));
  start();
  ASSERT_TRUE(becomes({"a@300"}));
  EXPECT_EQ(version_of_list(1), "") << "our version is from a future that never came";
  EXPECT_EQ(version_of_watch(1), "400");
}

TEST_F(ReflectorFaults, SilenceLeadsToTheSameQuestion) {
  tuning_.silence = 200ms;
  script_.lists = {answer(list_of({item("a", 900)}, 1000)), answer(list_of({item("a", 300)}, 400))};
  script_.watches = {say({}), say({})};
  script_.check = answer(list_of({}, 400));
  start();
  ASSERT_TRUE(becomes({"a@300"}));
  EXPECT_GE(restarts("restored"), 1U);
}

TEST_F(ReflectorFaults, SilenceOfAServerThatIsWellBeginsTheWatchAnewAndListsNothing) {
  tuning_.silence = 50ms;
  script_.lists = {answer(list_of({item("a", 1)}, 10))};
  script_.watches = {say({}), say({}), say({event("ADDED", item("b", 11))})};
  script_.check = answer(list_of({}, 12));
  start();
  ASSERT_TRUE(becomes({"a@1", "b@11"}));
  EXPECT_EQ(version_of_watch(1), "10");
  EXPECT_EQ(script_.listed(), 1);
  EXPECT_GE(restarts("silent"), 2U);
}

TEST_F(ReflectorFaults, AServerThatSaysNothingAnyMoreIsLeft) {
  tuning_.silence = 100ms;
  script_.lists = {answer(list_of({}, 10))};
  script_.watches = {say({}), say({event("ADDED", item("a", 11))})};
  std::atomic<int> checks = 0;
  script_.check = [&](const FakeRequest&, FakeConnection& connection) {
    if (checks++ < 4) return connection.reset();  // more often than a GET is repeated
    connection.answer(200, list_of({}, 10));
  };
  start();
  ASSERT_TRUE(becomes({"a@11"}));
}

TEST_F(ReflectorFaults, AServerThatTakesAWatchAndNeverAnswersItIsLeft) {
  tuning_.head_patience = 100ms;
  const Script::Answer nothing = [](const FakeRequest&, FakeConnection& connection) { connection.wait_for_peer(); };
  script_.lists = {answer(list_of({}, 10))};
  script_.watches = {nothing, nothing, say({event("ADDED", item("a", 11))})};
  script_.check = answer(list_of({}, 10));
  start();
  ASSERT_TRUE(becomes({"a@11"}));
  EXPECT_EQ(script_.listed(), 1);
  EXPECT_EQ(restarts("broken"), 2U);
}

TEST_F(ReflectorFaults, AStreamedListThatIsNeverAnsweredIsAskedForAgain) {
  tuning_.head_patience = 100ms;
  script_.lists = {answer(list_of({item("b", 2)}, 10))};
  script_.watches = {[](const FakeRequest&, FakeConnection& connection) { connection.wait_for_peer(); }, say({})};
  start(true);
  ASSERT_TRUE(eventually([&] { return script_.watched() >= 2; }, 10s));
}

TEST_F(ReflectorFaults, AnUnknownResourceIsEmptyButKnownObjectsAreNotForgottenAtOnce) {
  script_.lists = {refuse(404, "404 page not found"), answer(list_of({item("a", 1)}, 10)),
                   refuse(404, "404 page not found")};
  script_.watches = {say({event("ERROR", status(410, "Expired"))})};
  start();
  ASSERT_TRUE(becomes({})) << "never there: empty, and complete";
  ASSERT_TRUE(becomes({"a@1"})) << testing::PrintToString(store()) << reflector_->stats().lists;
  ASSERT_TRUE(eventually([&] { return script_.listed() >= 4; }));
  EXPECT_EQ(store(), std::set<std::string>{"a@1"}) << "an API server that is starting may not know its CRDs yet";
  ASSERT_TRUE(becomes({}));
}

TEST_F(ReflectorFaults, StreamedListsReplaceAtTheirEndOnly) {
  std::atomic<bool> go = false;
  script_.lists = {refuse(500, "")};
  script_.watches = {[&](const FakeRequest&, FakeConnection& connection) {
    connection.begin_chunked();
    connection.line(event("ADDED", item("a", 1)));
    connection.line(event("ADDED", item("b", 2)));
    connection.line(event("BOOKMARK", R"({"metadata":{"resourceVersion":"5"}})"));
    eventually([&] { return go.load(); });
    connection.line(event(
        "BOOKMARK", R"({"metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}})"));
    connection.line(event("DELETED", item("a", 10)));
    connection.wait_for_peer();
  }};
  start(true);
  ASSERT_TRUE(eventually([&] { return script_.watched() == 1; }));
  EXPECT_FALSE(reflector_->wait_synced(100ms));
  EXPECT_TRUE(store().empty());
  go = true;
  ASSERT_TRUE(becomes({"b@2"}));
  EXPECT_EQ(script_.listed(), 0);
  const auto asked = request(true, 0).query;
  EXPECT_EQ(asked.at("sendInitialEvents"), "true");
  EXPECT_EQ(asked.at("resourceVersionMatch"), "NotOlderThan");
}

TEST_F(ReflectorFaults, AServerWithoutStreamedListsIsListed) {
  script_.lists = {answer(list_of({item("a", 1)}, 10))};
  script_.watches = {refuse(422, status(422, "Invalid")), say({event("ERROR", status(410, "Expired"))}), say({})};
  start(true);
  ASSERT_TRUE(becomes({"a@1"}));
  ASSERT_TRUE(eventually([&] { return script_.listed() == 2; })) << "it is not asked for them again";
  EXPECT_FALSE(request(true, 1).query.contains("sendInitialEvents"));
}

TEST_F(ReflectorFaults, AStreamedListThatBreaksOffIsBegunAgain) {
  script_.lists = {refuse(500, "")};
  script_.watches = {
      say_and_end({event("ADDED", item("a", 1))}),
      say({event("ADDED", item("b", 2)),
           event("BOOKMARK",
                 R"({"metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}})")})};
  start(true);
  ASSERT_TRUE(becomes({"b@2"}));
}

TEST_F(ReflectorFaults, AStreamedListThatNeverEndsIsGivenUpForAList) {
  tuning_.stream_patience = 100ms;
  script_.lists = {answer(list_of({item("b", 2)}, 10))};
  script_.watches = {say({event("ADDED", item("a", 1))}), say({})};
  start(true);
  ASSERT_TRUE(becomes({"b@2"}));
}

TEST_F(ReflectorFaults, StoppingDoesNotWaitForASilentServer) {
  script_.lists = {[](const FakeRequest&, FakeConnection& connection) { connection.wait_for_peer(); }};
  script_.watches = {say({})};
  start();
  ASSERT_TRUE(eventually([&] { return script_.listed() == 1; }));
  const auto began = std::chrono::steady_clock::now();
  reflector_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - began, 5s);
}

}  // namespace
}  // namespace sluice
