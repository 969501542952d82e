#include "operator/kube/object.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "operator/kube/api.h"
#include "operator/kube/line_splitter.h"
#include "operator/kube/resource.h"
#include "operator/kube/time_text.h"

namespace sluice::kube {
namespace {

using nlohmann::json;

TEST(Objects, OddMetadataReadsAsEmpty) {
  for (const char* text : {"{}", "[]", "7", R"({"metadata":null})", R"({"metadata":{"name":7,"annotations":[]}})"}) {
    const auto object = json::parse(text);
    EXPECT_EQ(key_of(object), ObjectKey()) << text;
    EXPECT_EQ(uid_of(object), "") << text;
    EXPECT_EQ(annotation_of(object, "a"), "") << text;
    EXPECT_FALSE(being_deleted(object)) << text;
  }
}

TEST(Objects, KeysSurviveTheirText) {
  for (const ObjectKey& key : {ObjectKey{"ns", "name"}, ObjectKey{"", "name"}}) EXPECT_EQ(parse_key(key.text()), key);
}

TEST(ResourceVersions, AreComparedAsNumbersOfAnyLengthOrNotAtAll) {
  EXPECT_EQ(older_version("9", "10"), true);
  EXPECT_EQ(older_version("10", "9"), false);
  EXPECT_EQ(older_version("10", "10"), false);
  EXPECT_EQ(older_version("0010", "11"), true);
  EXPECT_EQ(older_version("0", "00"), false);
  EXPECT_EQ(older_version("99999999999999999999998", "99999999999999999999999"), true);
  EXPECT_EQ(older_version("", "1"), std::nullopt);
  EXPECT_EQ(older_version("1", "a1"), std::nullopt);
}

TEST(Resources, HavePaths) {
  EXPECT_EQ(kServices.path(), "/api/v1/services");
  EXPECT_EQ(kServices.path("ns", "a"), "/api/v1/namespaces/ns/services/a");
  EXPECT_EQ(kNodes.path("ignored", "n", "status"), "/api/v1/nodes/n/status");
  EXPECT_EQ(kLoadBalancers.path("ns"), "/apis/sluice.io/v1alpha1/namespaces/ns/loadbalancers");
  EXPECT_EQ(kConfigMaps.path("ns", "a/../b"), "/api/v1/namespaces/ns/configmaps/a%2F..%2Fb");
  EXPECT_EQ(percent_encode("a in (b,c)"), "a%20in%20%28b%2Cc%29");
  EXPECT_EQ(kEndpointSlices.api_version(), "discovery.k8s.io/v1");
}

TEST(LineSplitter, LinesDoNotDependOnHowTheyAreCut) {
  const std::string text = "one\ntwo\r\n\n\nthree\nfour";
  for (std::size_t size = 1; size <= text.size(); ++size) {
    LineSplitter splitter(100);
    std::vector<std::string> lines;
    for (std::size_t at = 0; at < text.size(); at += size) {
      splitter.add(text.substr(at, size));
      while (auto line = splitter.next()) lines.push_back(*line);
    }
    EXPECT_EQ(lines, (std::vector<std::string>{"one", "two", "three"})) << size;
    EXPECT_TRUE(splitter.partial());
    splitter.add("\n");
    EXPECT_EQ(splitter.next(), "four");
    EXPECT_FALSE(splitter.partial());
  }
}

TEST(LineSplitter, ALineWithoutAnEndIsNoticed) {
  LineSplitter splitter(10);
  splitter.add("12345");
  EXPECT_EQ(splitter.next(), std::nullopt);
  EXPECT_FALSE(splitter.overlong());
  splitter.add("678901");
  EXPECT_EQ(splitter.next(), std::nullopt);
  EXPECT_TRUE(splitter.overlong());
}

TEST(Times, SurviveTheirText) {
  const auto time = std::chrono::system_clock::time_point(std::chrono::microseconds(1'700'000'000'123'456));
  EXPECT_EQ(rfc3339(time), "2023-11-14T22:13:20Z");
  EXPECT_EQ(rfc3339_micro(time), "2023-11-14T22:13:20.123456Z");
  EXPECT_EQ(parse_rfc3339("2023-11-14T22:13:20.123456Z"), time);
  EXPECT_EQ(parse_rfc3339("2023-11-14T22:13:20.123456789Z"), time) << "more decimals than we keep";
  EXPECT_EQ(parse_rfc3339("2023-11-14T23:43:20.123456+01:30"), time);
  EXPECT_EQ(rfc3339_micro(std::chrono::system_clock::time_point(std::chrono::seconds(5))),
            "1970-01-01T00:00:05.000000Z");
  for (const char* odd : {"", "now", "2023-11-14", "2023-11-14T22:13:20", "2023-11-14T22:13:20Zx"}) {
    EXPECT_EQ(parse_rfc3339(odd), std::nullopt) << odd;
  }
}

struct Row {
  int status;
  const char* reason;
  ErrorKind kind;
};
TEST(ApiErrors, HaveTheirKind) {
  for (const auto& [status, reason, kind] :
       {Row{409, "AlreadyExists", ErrorKind::exists}, Row{409, "Conflict", ErrorKind::conflict},
        Row{409, "", ErrorKind::conflict}, Row{404, "NotFound", ErrorKind::not_found},
        Row{410, "Gone", ErrorKind::not_found}, Row{401, "Unauthorized", ErrorKind::denied},
        Row{403, "Forbidden", ErrorKind::denied}, Row{422, "Invalid", ErrorKind::invalid},
        Row{400, "BadRequest", ErrorKind::invalid}, Row{415, "UnsupportedMediaType", ErrorKind::invalid},
        Row{429, "TooManyRequests", ErrorKind::unavailable}, Row{408, "", ErrorKind::unavailable},
        Row{500, "InternalError", ErrorKind::unavailable}, Row{503, "ServiceUnavailable", ErrorKind::unavailable},
        Row{504, "Timeout", ErrorKind::unavailable}}) {
    const json body{{"kind", "Status"}, {"code", status}, {"reason", reason}, {"message", "because"}};
    const Error error = error_of({status, body.dump(), {}}, "get", "x");
    EXPECT_EQ(error.kind, kind) << status << reason;
    EXPECT_EQ(error.message(), "get x: because");
  }
}

TEST(ApiErrors, KeepTheServersRetryAfter) {
  EXPECT_EQ(error_of({503, "", std::chrono::seconds(4)}, "get", "x").retry_after, std::chrono::seconds(4));
  EXPECT_GT(error_of({429, "", {}}, "get", "x").retry_after.count(), 0) << "a 429 is never repeated at once";
  EXPECT_EQ(error_of({403, "", std::chrono::seconds(4)}, "get", "x").retry_after.count(), 0);
}

TEST(Lists, ItemsGetTheirKindAndLoseTheirManagedFields) {
  auto list = json::parse(R"({"items":[{"metadata":{"name":"a","managedFields":[{}]}},7]})");
  std::vector<Object> items;
  take_items(list, kServices, items);
  ASSERT_EQ(items.size(), 1U);
  EXPECT_EQ(*items[0], json::parse(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}})"));
  auto none = json::parse(R"({"items":null})");
  take_items(none, kServices, items);
  EXPECT_EQ(items.size(), 1U);
}

}  // namespace
}  // namespace sluice::kube
