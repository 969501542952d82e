// The CRDs on a real API server: what they accept, refuse and fill in (crd_cases/), and what they promise to people.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/kube/client.h"

namespace sluice {
namespace {

using test::Cluster;
using Json = nlohmann::json;

// YAML 1.2's core schema, as far as the cases use it.
Json to_json(const YAML::Node& node) {
  if (node.IsSequence()) {
    Json out = Json::array();
    for (const YAML::Node& one : node) out.push_back(to_json(one));
    return out;
  }
  if (node.IsMap()) {
    Json out = Json::object();
    for (const auto& entry : node) out[entry.first.as<std::string>()] = to_json(entry.second);
    return out;
  }
  if (node.IsNull()) return nullptr;
  const bool quoted = node.Tag() == "!";
  int64_t number = 0;
  if (!quoted && (node.Scalar() == "true" || node.Scalar() == "false")) return node.Scalar() == "true";
  if (!quoted && YAML::convert<int64_t>::decode(node, number)) return number;
  return node.Scalar();
}

bool contains(const Json& whole, const Json& part) {
  if (!part.is_object()) return whole == part;
  if (!whole.is_object()) return false;
  for (const auto& [name, value] : part.items()) {
    if (!whole.contains(name) || !contains(whole[name], value)) return false;
  }
  return true;
}

kube::Resource resource_of(const std::string& kind) {
  for (const kube::Resource& one :
       {kube::kLoadBalancers, kube::kAddressPools, kube::kAddressClaims, kube::kLoadBalancerNodes}) {
    if (one.kind == kind) return one;
  }
  throw std::runtime_error("no resource of kind " + kind);
}

class Crds : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    Cluster& cluster = Cluster::shared();
    const auto applied = cluster.kubectl({"apply", "--server-side", "-f", SLUICE_CRDS});
    ASSERT_EQ(applied.exit_code, 0) << applied.out;
    const auto established =
        cluster.kubectl({"wait", "--for=condition=Established", "--timeout=30s", "-f", SLUICE_CRDS});
    ASSERT_EQ(established.exit_code, 0) << established.out;
    const auto made = cluster.kubectl({"create", "namespace", "crd-cases"});
    ASSERT_EQ(made.exit_code, 0) << made.out;
  }

  // The answer's status and message; a stored object's text.
  kube::Response send(const std::string& method, const std::string& path, Json object) {
    if (!object.contains("apiVersion")) object["apiVersion"] = "sluice.io/v1alpha1";
    kube::Request request;
    request.method = method;
    request.path = path + "?fieldValidation=Strict";
    request.body = object.dump();
    const auto sent = transport_->send(request);
    EXPECT_TRUE(sent) << sent.error().message();
    return sent ? *sent : kube::Response{};
  }

  // What was refused is not there: 404 is as good.
  void remove(const std::string& path) {
    kube::Request request;
    request.method = "DELETE";
    request.path = path;
    const auto sent = transport_->send(request);
    ASSERT_TRUE(sent) << sent.error().message();
    EXPECT_TRUE(sent->ok() || sent->status == 404) << sent->body;
  }

  void run(const Json& one) {
    SCOPED_TRACE(one.at("case").get<std::string>());
    Json object = one.at("object");
    const kube::Resource resource = resource_of(object["kind"]);
    const std::string ns = object["metadata"].value("namespace", "");
    const std::string path = resource.path(ns);
    const std::string own = resource.path(ns, object["metadata"]["name"].get<std::string>());
    kube::Response answer = send("POST", path, object);
    if (one.contains("then")) {
      ASSERT_TRUE(answer.ok()) << answer.body;
      Json then = one["then"];
      then["metadata"]["resourceVersion"] = Json::parse(answer.body)["metadata"]["resourceVersion"];
      answer = send("PUT", own, then);
    }
    if (one.contains("refused")) {
      EXPECT_FALSE(answer.ok()) << "it was stored";
      EXPECT_THAT(Json::parse(answer.body).value("message", ""), testing::HasSubstr(one["refused"].get<std::string>()));
    } else {
      EXPECT_TRUE(answer.ok()) << answer.body;
    }
    if (one.contains("stored")) {
      EXPECT_TRUE(contains(Json::parse(answer.body), one["stored"])) << answer.body;
    }
    remove(own);
  }

  Cluster& cluster_ = Cluster::shared();
  std::shared_ptr<kube::Transport> transport_ = test::connect(cluster_.kubeconfig());
};

TEST_F(Crds, AcceptAndRefuseAsTheCasesSay) {
  size_t count = 0;
  for (const auto& file : std::filesystem::directory_iterator(SLUICE_CRD_CASES)) {
    if (file.path().extension() != ".yaml") continue;
    SCOPED_TRACE(file.path().filename().string());
    for (const Json& one : to_json(YAML::LoadFile(file.path().string()))) {
      run(one);
      ++count;
    }
  }
  EXPECT_GE(count, 63U) << "cases are missing";
}

// Rules cost time when they run, and the server refuses an object whose rules take too long, whatever the schema says.
TEST_F(Crds, AsManyEntriesAsTheSchemaAllowsStayWithinTheServersBudgets) {
  Json lb = {{"kind", "LoadBalancer"},
             {"metadata", {{"name", "large"}, {"namespace", "crd-cases"}}},
             {"spec", Json::object()}};
  for (int i = 0; i < 16; ++i)
    lb["spec"]["addresses"].push_back("2001:db8:1111:2222:3333:4444:5555:66" + std::to_string(10 + i));
  for (int i = 0; i < 64; ++i) {
    lb["spec"]["ports"].push_back({{"name", "p" + std::to_string(i)},
                                   {"port", 1000 + i},
                                   {"backendPort", std::string(60, 'n') + std::to_string(i)}});
  }
  for (int i = 0; i < 256; ++i) {
    Json ports = Json::array();
    for (int p = 0; p < 64; ++p) ports.push_back({{"name", "p" + std::to_string(p)}, {"port", 8000 + p}});
    lb["spec"]["backends"].push_back(
        {{"name", "b" + std::to_string(i)}, {"service", {{"name", "s" + std::to_string(i)}}}, {"ports", ports}});
  }
  for (int i = 0; i < 10'000; ++i) {
    lb["spec"]["allowedSources"].push_back("10." + std::to_string(i / 256) + "." + std::to_string(i % 256) + ".0/24");
  }
  const kube::Response stored = send("POST", kube::kLoadBalancers.path("crd-cases"), lb);
  EXPECT_TRUE(stored.ok()) << stored.body.substr(0, 2000);
  remove(kube::kLoadBalancers.path("crd-cases", "large"));

  Json pool = {{"kind", "AddressPool"}, {"metadata", {{"name", "large"}}}, {"spec", Json::object()}};
  for (int i = 0; i < 128; ++i) {
    const std::string net = "2001:db8:1111:2222:3333:4444:5555:" + std::to_string(1000 + i);
    pool["spec"]["addresses"].push_back(fmt::format("{0}-{0}", net));
  }
  const kube::Response made = send("POST", kube::kAddressPools.path(), pool);
  EXPECT_TRUE(made.ok()) << made.body.substr(0, 2000);
  remove(kube::kAddressPools.path({}, "large"));
}

TEST_F(Crds, TheStatusIsWrittenApartFromTheSpec) {
  Json pool = {{"apiVersion", "sluice.io/v1alpha1"},
               {"kind", "AddressPool"},
               {"metadata", {{"name", "apart"}}},
               {"spec", {{"addresses", {"192.0.2.0/24"}}}}};
  ASSERT_TRUE(send("POST", kube::kAddressPools.path(), pool).ok());
  kube::Api api(transport_);
  const auto patched = api.patch(kube::kAddressPools, {"", "apart"}, kube::PatchType::merge,
                                 {{"spec", {{"priority", 7}}}, {"status", {{"ipv4", {{"total", "256"}}}}}}, "status");
  ASSERT_TRUE(patched) << patched.error().message();
  EXPECT_EQ((**patched)["spec"]["priority"], 0);
  EXPECT_EQ((**patched)["status"]["ipv4"]["total"], "256");
  remove(kube::kAddressPools.path({}, "apart"));
}

TEST_F(Crds, ShortNamesAndTheCategoryLeadToThem) {
  for (const char* name : {"lb", "pool", "pools", "claim", "claims", "lbnode", "lbnodes", "sluice"}) {
    const auto got = cluster_.kubectl({"get", name, "-n", "crd-cases"});
    EXPECT_EQ(got.exit_code, 0) << name << ": " << got.out;
  }
}

TEST_F(Crds, TakeEveryExample) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(SLUICE_EXAMPLES)) {
    const std::string file = entry.path();
    const auto applied = cluster_.kubectl({"apply", "--dry-run=server", "-n", "crd-cases", "-f", file});
    EXPECT_EQ(applied.exit_code, 0) << file << ": " << applied.out;
    const std::string text = "\n" + test::read_text(file);
    const auto count = [](const std::string& whole, const std::string& part) {
      int found = 0;
      for (auto at = whole.find(part); at != std::string::npos; at = whole.find(part, at + 1)) ++found;
      return found;
    };
    EXPECT_EQ(count(applied.out, "created (server dry run)"), count(text, "\napiVersion:"))
        << file << ": " << applied.out;
    ++files;
  }
  EXPECT_GT(files, 0);
}

// A description that people meet with kubectl explain, at every field but `metadata`'s own.
void expect_described(const Json& schema, const std::string& where) {
  EXPECT_FALSE(schema.value("description", "").empty()) << where;
  if (!schema.contains("properties")) {
    if (schema.contains("items") && schema["items"].contains("properties")) {
      Json items = schema["items"];
      items["description"] = "-";
      expect_described(items, where + "[]");
    }
    return;
  }
  for (const auto& [name, value] : schema["properties"].items()) {
    if (where.find('.') == std::string::npos && name == "metadata") continue;
    expect_described(value, fmt::format("{}.{}", where, name));
  }
}

TEST_F(Crds, EveryFieldIsExplained) {
  for (const char* plural : {"loadbalancers", "addresspools", "addressclaims", "loadbalancernodes"}) {
    const Json crd = Json::parse(cluster_.get({"crd", std::string(plural) + ".sluice.io", "-o", "json"}));
    for (const Json& condition : crd["status"]["conditions"]) {
      EXPECT_NE(condition["type"], "NonStructuralSchema") << condition;
    }
    expect_described(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], plural);
  }
}

}  // namespace
}  // namespace sluice
