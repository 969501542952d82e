// The verbs, their errors and the transport against a real API server.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <filesystem>

#include "tests/kube/client.h"
#include "tests/kube/fake_server.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;
using kube::Api;
using kube::kConfigMaps;
using kube::kNodes;
using kube::PatchType;
using test::Cluster;
using test::config_map;

class ApiTest : public testing::Test {
 protected:
  Cluster& cluster_ = Cluster::shared();
  std::unique_ptr<Cluster::Namespace> ns_ = cluster_.make_namespace("api");
  Api api_{test::connect(cluster_.kubeconfig())};
};

TEST_F(ApiTest, CreatesReadsUpdatesPatchesAndDeletes) {
  const auto made = api_.create(kConfigMaps, ns_->name(), config_map(ns_->name(), "a", {{"k", "1"}}));
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_FALSE(kube::uid_of(**made).empty());
  EXPECT_EQ(cluster_.get({"configmap", "-n", ns_->name(), "a", "-o", "jsonpath={.data.k}"}), "1");

  auto changed = **made;
  changed["data"]["k"] = "2";
  const auto updated = api_.update(kConfigMaps, changed);
  ASSERT_TRUE(updated) << updated.error().message();
  const auto patched = api_.patch(kConfigMaps, {ns_->name(), "a"}, PatchType::merge, {{"data", {{"m", "3"}}}});
  ASSERT_TRUE(patched) << patched.error().message();
  const auto read = api_.get(kConfigMaps, {ns_->name(), "a"});
  ASSERT_TRUE(read);
  EXPECT_EQ((**read)["data"], nlohmann::json({{"k", "2"}, {"m", "3"}}));

  ASSERT_TRUE(api_.remove(kConfigMaps, {ns_->name(), "a"}));
  EXPECT_EQ(api_.get(kConfigMaps, {ns_->name(), "a"}).error().kind, ErrorKind::not_found);
}

TEST_F(ApiTest, JsonPatchTestsBeforeItWrites) {
  ASSERT_TRUE(api_.create(kConfigMaps, ns_->name(), config_map(ns_->name(), "a", {{"k", "1"}})));
  const auto patch = [](const char* expected) {
    return nlohmann::json::array({{{"op", "test"}, {"path", "/data/k"}, {"value", expected}},
                                  {{"op", "replace"}, {"path", "/data/k"}, {"value", "2"}}});
  };
  EXPECT_FALSE(api_.patch(kConfigMaps, {ns_->name(), "a"}, PatchType::json, patch("other")));
  const auto done = api_.patch(kConfigMaps, {ns_->name(), "a"}, PatchType::json, patch("1"));
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ((**done)["data"]["k"], "2");
}

TEST_F(ApiTest, ServerSideApplyOwnsItsFieldsAlone) {
  const auto applied = api_.apply(kConfigMaps, config_map(ns_->name(), "a", {{"k", "1"}}), "one", false);
  ASSERT_TRUE(applied) << applied.error().message();
  const auto refused = api_.apply(kConfigMaps, config_map(ns_->name(), "a", {{"k", "2"}}), "two", false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::conflict);
  EXPECT_TRUE(api_.apply(kConfigMaps, config_map(ns_->name(), "a", {{"k", "2"}}), "two", true));
}

TEST_F(ApiTest, StatusIsWrittenThroughItsOwnPath) {
  nlohmann::json node{{"apiVersion", "v1"}, {"kind", "Node"}, {"metadata", {{"name", ns_->name()}}}};
  const auto made = api_.create(kNodes, "", node);
  ASSERT_TRUE(made) << made.error().message();
  auto changed = **made;
  changed["status"]["addresses"] = {{{"type", "InternalIP"}, {"address", "192.0.2.1"}}};
  ASSERT_TRUE(api_.update_status(kNodes, changed));
  EXPECT_EQ(cluster_.get({"node", ns_->name(), "-o", "jsonpath={.status.addresses[0].address}"}), "192.0.2.1");
  const auto patched =
      api_.patch(kNodes, {"", ns_->name()}, PatchType::merge, {{"status", {{"phase", "Running"}}}}, "status");
  EXPECT_TRUE(patched) << patched.error().message();
  EXPECT_TRUE(api_.remove(kNodes, {"", ns_->name()}));
}

TEST_F(ApiTest, ErrorsSayWhatTheyAreAndWhatTheServerSaid) {
  const auto object = config_map(ns_->name(), "a");
  const auto made = api_.create(kConfigMaps, ns_->name(), object);
  ASSERT_TRUE(made) << made.error().message();

  const auto again = api_.create(kConfigMaps, ns_->name(), object);
  EXPECT_EQ(again.error().kind, ErrorKind::exists);
  EXPECT_THAT(again.error().message(), testing::HasSubstr("already exists"));

  ASSERT_TRUE(api_.patch(kConfigMaps, {ns_->name(), "a"}, PatchType::merge, {{"data", {{"x", "y"}}}}));
  EXPECT_EQ(api_.update(kConfigMaps, **made).error().kind, ErrorKind::conflict);
  EXPECT_EQ(api_.remove(kConfigMaps, {ns_->name(), "a"}, {"another-uid", ""}).error().kind, ErrorKind::conflict);

  const auto invalid = api_.create(kConfigMaps, ns_->name(), config_map(ns_->name(), "Not_A_Name"));
  EXPECT_EQ(invalid.error().kind, ErrorKind::invalid);
  EXPECT_THAT(invalid.error().reason, testing::HasSubstr("metadata.name"));

  EXPECT_EQ(api_.get(kConfigMaps, {ns_->name(), "b"}).error().kind, ErrorKind::not_found);
  EXPECT_EQ(api_.consistent_list(kube::kLoadBalancers).error().kind, ErrorKind::not_found) << "no such CRD here";

  Api nobody(test::connect(cluster_.kubeconfig_as(Cluster::kNobodyToken)));
  const auto denied = nobody.get(kConfigMaps, {ns_->name(), "a"});
  EXPECT_EQ(denied.error().kind, ErrorKind::denied);
  EXPECT_THAT(denied.error().reason, testing::HasSubstr("cannot get resource"));

  Api stranger(test::connect(cluster_.kubeconfig_as("no-such-token")));
  EXPECT_EQ(stranger.get(kConfigMaps, {ns_->name(), "a"}).error().kind, ErrorKind::denied);
}

TEST_F(ApiTest, AConsistentListHasEveryPage) {
  nlohmann::json many{{"apiVersion", "v1"}, {"kind", "List"}, {"items", nlohmann::json::array()}};
  for (int i = 0; i < 620; ++i) {
    many["items"].push_back(
        config_map(ns_->name(), "c" + std::to_string(i), {}, {{"parity", i % 2 == 0 ? "even" : "odd"}}));
  }
  const auto made = cluster_.kubectl({"create", "-f", "-"}, many.dump());
  ASSERT_EQ(made.exit_code, 0) << made.out;
  const auto all = api_.consistent_list(kConfigMaps, {ns_->name(), "parity", ""});
  ASSERT_TRUE(all) << all.error().message();
  EXPECT_EQ(all->items.size(), 620U);
  EXPECT_FALSE(all->resource_version.empty());
  EXPECT_EQ((*all->items.front())["kind"], "ConfigMap");
  const auto even = api_.consistent_list(kConfigMaps, {ns_->name(), "parity in (even)", ""});
  ASSERT_TRUE(even) << even.error().message();
  EXPECT_EQ(even->items.size(), 310U);
  const auto one = api_.consistent_list(kConfigMaps, {ns_->name(), "", "metadata.name=c7"});
  ASSERT_TRUE(one) << one.error().message();
  EXPECT_EQ(one->items.size(), 1U);
}

TEST_F(ApiTest, ATokenThatTheServerRefusesIsReadAgainAtOnce) {
  const std::string file = cluster_.directory() + "/token-file";
  std::ofstream(file) << "not-this-one\n";
  auto config = kube::parse_kubeconfig({{cluster_.kubeconfig(), test::read_text(cluster_.kubeconfig())}});
  ASSERT_TRUE(config);
  config->token = {"", file};
  const auto transport = test::connect(*config);
  std::ofstream(file) << Cluster::kAdminToken << "\n";
  Api api(transport);
  const auto listed = api.consistent_list(kNodes);
  EXPECT_TRUE(listed) << listed.error().message();
}

TEST_F(ApiTest, AStreamReadsTheTokenAgainToo) {
  const std::string file = cluster_.directory() + "/token-file-2";
  std::ofstream(file) << "not-this-one\n";
  auto config = kube::parse_kubeconfig({{cluster_.kubeconfig(), test::read_text(cluster_.kubeconfig())}});
  ASSERT_TRUE(config);
  config->token = {"", file};
  const auto transport = test::connect(*config);
  std::ofstream(file) << Cluster::kAdminToken << "\n";
  kube::Request watch;
  watch.path = kNodes.path() + "?watch=true&timeoutSeconds=1";
  const auto stream = transport->stream(watch);
  const auto head = stream->head();
  ASSERT_TRUE(head) << head.error().message();
  EXPECT_EQ(head->status, 200);
}

TEST_F(ApiTest, TheServersCertificateIsVerified) {
  const auto good = kube::parse_kubeconfig({{cluster_.kubeconfig(), test::read_text(cluster_.kubeconfig())}});
  ASSERT_TRUE(good);

  auto by_name = *good;
  by_name.tls_server_name = "kubernetes.default.svc";
  EXPECT_TRUE(Api(test::connect(by_name)).get_path("/version"));

  auto wrong_name = *good;
  wrong_name.tls_server_name = "example.org";
  const auto refused = Api(test::connect(wrong_name)).get_path("/version");
  EXPECT_THAT(refused.error().message(), testing::HasSubstr("not for the name"));

  auto wrong_ca = *good;
  const std::string other = cluster_.directory() + "/other.crt";
  const auto made =
      test::run_command({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                         "-keyout", "/dev/null", "-subj", "/CN=other", "-out", other});
  ASSERT_EQ(made.exit_code, 0) << made.out;
  wrong_ca.ca = {"", other};
  const auto stranger = Api(test::connect(wrong_ca)).get_path("/version");
  EXPECT_THAT(stranger.error().message(), testing::HasSubstr("certificate"));

  auto no_matter = wrong_ca;
  no_matter.insecure_skip_tls_verify = true;
  no_matter.ca = {};
  EXPECT_TRUE(Api(test::connect(no_matter)).get_path("/version"));
}

TEST_F(ApiTest, ManyThreadsShareOneTransport) {
  ASSERT_TRUE(api_.create(kConfigMaps, ns_->name(), config_map(ns_->name(), "a")));
  std::atomic<int> good = 0;
  {
    std::vector<std::jthread> threads;
    threads.reserve(16);
    for (int t = 0; t < 16; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 20; ++i) good += api_.get(kConfigMaps, {ns_->name(), "a"}) ? 1 : 0;
      });
    }
  }
  EXPECT_EQ(good, 320);
}

// An option of this process's socket that leads to `port`; -1: there is none.
int option_of_connection(uint16_t port, int level, int option) {
  for (int fd = 3; fd < 1024; ++fd) {
    sockaddr_in peer{};
    socklen_t size = sizeof peer;
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0 || ntohs(peer.sin_port) != port) continue;
    int value = -1;
    size = sizeof value;
    if (getsockopt(fd, level, option, &value, &size) == 0) return value;
  }
  return -1;
}

TEST_F(ApiTest, ConnectionsNoticeADeadPeerBeforeFortyFiveSecondsArePast) {
  ASSERT_TRUE(api_.get_path("/version"));
  const auto option = [&](int level, int name) { return option_of_connection(cluster_.api_port(), level, name); };
  EXPECT_EQ(option(SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_USER_TIMEOUT), 30'000);
  EXPECT_LT(option(IPPROTO_TCP, TCP_KEEPIDLE) + option(IPPROTO_TCP, TCP_KEEPINTVL) * option(IPPROTO_TCP, TCP_KEEPCNT),
            45);
}

TEST_F(ApiTest, ConnectionsCloseWhenTheirStreamsGo) {
  test::FaultProxy proxy(cluster_.api_port());
  const auto transport = test::connect(cluster_.kubeconfig_as(Cluster::kAdminToken, proxy.port()));
  kube::Request watch;
  watch.path = kNodes.path() + "?watch=true";
  for (int i = 0; i < 5; ++i) {
    const auto stream = transport->stream(watch);
    ASSERT_TRUE(stream->head());
    EXPECT_EQ(proxy.open_connections(), 1);
    stream->cancel();
    EXPECT_FALSE(stream->next(std::chrono::steady_clock::now() + 5s));
    EXPECT_TRUE(test::eventually([&] { return proxy.open_connections() == 0; }, 5s));
  }
}

}  // namespace
}  // namespace sluice
