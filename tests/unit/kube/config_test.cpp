#include "operator/kube/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "operator/kube/exec_plugin.h"

namespace sluice::kube {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

Result<ClusterConfig> parse(const std::string& text, const std::string& context = {}) {
  return parse_kubeconfig({{"/home/u/.kube/config", text}}, context);
}

std::string kubeconfig(const std::string& cluster, const std::string& user) {
  return "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: l, cluster: {" + cluster +
         "}}]\nusers: [{name: u, user: {" + user +
         "}}]\ncontexts: [{name: c, context: {cluster: l, user: u, namespace: n}}]\n";
}

TEST(Kubeconfig, FilesAreRelativeToItAndInlineDataIsDecoded) {
  const auto config =
      parse(kubeconfig("server: 'https://h:6443/base/', certificate-authority: ../pki/ca.crt, tls-server-name: api",
                       "client-certificate-data: Q0VSVA==, client-key: /abs/key, tokenFile: tok"));
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->server, "https://h:6443/base");
  EXPECT_EQ(config->ca.file, "/home/u/pki/ca.crt");
  EXPECT_EQ(config->tls_server_name, "api");
  EXPECT_EQ(config->client_certificate.inline_data, "CERT");
  EXPECT_EQ(config->client_key.file, "/abs/key");
  EXPECT_EQ(config->token.file, "/home/u/.kube/tok");
  EXPECT_EQ(config->ns, "n");
}

TEST(Kubeconfig, InlineDataWinsOverAFileAndATokenFileOverAToken) {
  const auto config = parse(kubeconfig(
      "server: 'https://h', certificate-authority: f, certificate-authority-data: Q0E=", "token: t, tokenFile: f"));
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->ca, (Material{"CA", ""}));
  EXPECT_EQ(config->token, (Material{"", "/home/u/.kube/f"}));
}

TEST(Kubeconfig, ExecPlugins) {
  const auto config = parse(kubeconfig("server: 'https://h'", R"(exec: {apiVersion: client.authentication.k8s.io/v1,
    command: ./bin/login, args: [a, "2"], env: [{name: K, value: V}], interactiveMode: IfAvailable, provideClusterInfo: true})"));
  ASSERT_TRUE(config) << config.error().message();
  ASSERT_TRUE(config->exec);
  EXPECT_EQ(config->exec->command, "/home/u/.kube/bin/login");
  EXPECT_EQ(config->exec->args, (std::vector<std::string>{"a", "2"}));
  EXPECT_EQ(config->exec->env, (std::vector<std::pair<std::string, std::string>>{{"K", "V"}}));
  EXPECT_TRUE(config->exec->provide_cluster_info);
}

TEST(Kubeconfig, JsonIsFineToo) {
  EXPECT_TRUE(parse(R"({"current-context":"c","clusters":[{"name":"l","cluster":{"server":"https://h"}}],
    "contexts":[{"name":"c","context":{"cluster":"l"}}]})"));
}

TEST(Kubeconfig, OfSeveralFilesTheFirstEntryOfANameWins) {
  const KubeconfigFile first{"/a/one",
                             "current-context: c\ncontexts: [{name: c, context: {cluster: l, user: u}}]\n"
                             "users: [{name: u, user: {tokenFile: t}}]\n"};
  const KubeconfigFile second{"/b/two",
                              "current-context: other\nclusters: [{name: l, cluster: {server: 'https://second'}}]\n"
                              "users: [{name: u, user: {tokenFile: lost}}]\n"};
  const KubeconfigFile empty{"/c/empty", ""};
  const auto config = parse_kubeconfig({empty, first, second});
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->server, "https://second");
  EXPECT_EQ(config->token.file, "/a/t") << "relative to the file it is in";
}

struct Refusal {
  const char* name;
  std::string text;
  ErrorKind kind;
  const char* says;
};
std::ostream& operator<<(std::ostream& out, const Refusal& row) {
  return out << row.name;
}
class KubeconfigRefusals : public testing::TestWithParam<Refusal> {};
TEST_P(KubeconfigRefusals, SayWhy) {
  const auto config = parse(GetParam().text);
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().kind, GetParam().kind);
  EXPECT_THAT(config.error().message(), HasSubstr(GetParam().says));
  EXPECT_THAT(config.error().message(), HasSubstr("/home/u/.kube/config"));
}
INSTANTIATE_TEST_SUITE_P(
    All, KubeconfigRefusals,
    testing::Values(
        Refusal{"NotYaml", "a: [", ErrorKind::invalid, "line"},
        Refusal{"AList", "[1]", ErrorKind::invalid, "not a kubeconfig"},
        Refusal{"NoContext", "clusters: []", ErrorKind::invalid, "no current-context"},
        Refusal{"UnknownContext", "current-context: x", ErrorKind::not_found, "no context \"x\""},
        Refusal{"UnknownCluster", "current-context: c\ncontexts: [{name: c, context: {cluster: y}}]",
                ErrorKind::not_found, "no cluster \"y\""},
        Refusal{"NoServer", kubeconfig("x: y", "token: t"), ErrorKind::invalid, "without a server"},
        Refusal{"Password", kubeconfig("server: 'https://h'", "username: a, password: b"), ErrorKind::not_supported,
                "basic"},
        Refusal{"AuthProvider", kubeconfig("server: 'https://h'", "auth-provider: {name: gcp}"),
                ErrorKind::not_supported, "exec plugin"},
        Refusal{"Impersonation", kubeconfig("server: 'https://h'", "as: root"), ErrorKind::not_supported,
                "impersonation"},
        Refusal{"CertificateWithoutKey", kubeconfig("server: 'https://h'", "client-certificate: c"), ErrorKind::invalid,
                "come together"},
        Refusal{"NotBase64", kubeconfig("server: 'https://h', certificate-authority-data: '%%%'", "token: t"),
                ErrorKind::invalid, "base64"},
        Refusal{"InsecureWithCa",
                kubeconfig("server: 'https://h', certificate-authority: c, insecure-skip-tls-verify: true", "token: t"),
                ErrorKind::invalid, "insecure-skip-tls-verify"},
        Refusal{"Proxy", kubeconfig("server: 'https://h', proxy-url: 'http://p'", "token: t"), ErrorKind::not_supported,
                "proxy-url"},
        Refusal{
            "OldExec",
            kubeconfig("server: 'https://h'", "exec: {apiVersion: client.authentication.k8s.io/v1alpha1, command: x}"),
            ErrorKind::not_supported, "v1alpha1"}),
    [](const auto& row) { return std::string(row.param.name); });

class Files : public testing::Test {
 public:
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;

 protected:
  Files() {
    std::string pattern = "/tmp/sluice-kube-unit-" + std::to_string(getpid()) + "-XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  ~Files() override { std::filesystem::remove_all(directory_); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ + "/" + name, std::ios::trunc) << text;
    return directory_ + "/" + name;
  }
  std::string directory_;
};

// An environment variable as the test wants it, and afterwards as it was.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    // NOLINTBEGIN(concurrency-mt-unsafe): one thread
    if (const char* before = std::getenv(name); before != nullptr) before_ = before;
    setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (before_) {
      setenv(name_, before_->c_str(), 1);
    } else {
      unsetenv(name_);
    }
    // NOLINTEND(concurrency-mt-unsafe)
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  Variable(Variable&&) = delete;
  Variable& operator=(Variable&&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

TEST_F(Files, InAPodTheServiceAccountIsUsed) {
  write("token", "t");
  write("ca.crt", "c");
  write("namespace", "sluice-system");
  const auto config =
      in_cluster_config({{"KUBERNETES_SERVICE_HOST", "10.96.0.1"}, {"KUBERNETES_SERVICE_PORT", "443"}}, directory_);
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->server, "https://10.96.0.1:443");
  EXPECT_EQ(config->token.file, directory_ + "/token");
  EXPECT_EQ(config->ca.file, directory_ + "/ca.crt");
  EXPECT_EQ(config->ns, "sluice-system");
}

TEST_F(Files, OnAnIPv6ClusterTheServerGoesByItsName) {
  write("token", "t");
  write("ca.crt", "c");
  const auto config =
      in_cluster_config({{"KUBERNETES_SERVICE_HOST", "fd96::1"}, {"KUBERNETES_SERVICE_PORT", "443"}}, directory_);
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->server, "https://kubernetes.default.svc:443");
}

TEST_F(Files, WithoutAServiceAccountItIsNotAPod) {
  EXPECT_EQ(in_cluster_config({}, directory_).error().kind, ErrorKind::not_found);
  EXPECT_EQ(
      in_cluster_config({{"KUBERNETES_SERVICE_HOST", "h"}, {"KUBERNETES_SERVICE_PORT", "1"}}, directory_).error().kind,
      ErrorKind::not_found);
}

TEST_F(Files, AFlagComesBeforeTheEnvironmentAndThatBeforeTheHomeDirectory) {
  const auto named = [&](const std::string& name) {
    return write(name, kubeconfig("server: 'https://" + name + "'", "token: t"));
  };
  std::filesystem::create_directory(directory_ + "/.kube");
  named(".kube/config");
  const Variable outside("KUBERNETES_SERVICE_HOST", "");
  const Variable home("HOME", directory_);
  const Variable none("KUBECONFIG", "");
  EXPECT_EQ(load_config("")->server, "https://.kube/config");
  const Variable variable("KUBECONFIG", named("variable"));
  EXPECT_EQ(load_config("")->server, "https://variable");
  EXPECT_EQ(load_config(named("flag"))->server, "https://flag");
}

TEST_F(Files, CredentialsAreReadAgainEveryMinuteAndWhenTheyWereRefused) {
  const std::string token = write("token", "one\n");
  ClusterConfig config;
  config.token.file = token;
  const auto source = CredentialSource::create(config);
  ASSERT_TRUE(source) << source.error().message();
  const auto now = CredentialSource::Clock::now();
  EXPECT_EQ((*source)->current(now).token, "one");
  write("token", "two\n");
  EXPECT_EQ((*source)->current(now + 30s).token, "one");
  EXPECT_EQ((*source)->current(now + 61s).token, "two");
  write("token", "three\n");
  (*source)->invalidate();
  EXPECT_EQ((*source)->current(now + 62s).token, "three");
}

TEST_F(Files, CredentialsThatCannotBeReadAgainStay) {
  ClusterConfig config;
  config.token.file = write("token", "one");
  config.ca.file = write("ca", "CA1");
  const auto source = CredentialSource::create(config);
  ASSERT_TRUE(source);
  std::filesystem::remove(config.token.file);
  write("ca", "CA2");
  const auto now = CredentialSource::Clock::now();
  EXPECT_EQ((*source)->current(now + 61s).token, "one");
  write("token", "");
  EXPECT_EQ((*source)->current(now + 200s).token, "one") << "nor is an empty file a token";
  write("token", "two");
  EXPECT_EQ((*source)->current(now + 300s), (Credentials{"two", "", "", "CA2"}));
}

TEST_F(Files, CredentialsThatCannotBeReadAtFirstAreAnError) {
  ClusterConfig config;
  config.token.file = directory_ + "/none";
  EXPECT_FALSE(CredentialSource::create(config));
}

ExecPlugin shell(const std::string& script) {
  ExecPlugin plugin;
  plugin.api_version = "client.authentication.k8s.io/v1";
  plugin.command = "sh";
  plugin.args = {"-c", script};
  return plugin;
}

TEST_F(Files, APluginIsRunAgainWhenItsCredentialExpiresOrWasRefused) {
  ClusterConfig config;
  config.exec =
      shell("n=$(cat " + directory_ + "/n 2>/dev/null || echo 0); n=$((n+1)); echo $n > " + directory_ +
            "/n; echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\",\"status\":"
            "{\"token\":\"'$n'\",\"expirationTimestamp\":\"'$(date -u -d '+2 minutes' +%Y-%m-%dT%H:%M:%SZ)'\"}}'");
  const auto source = CredentialSource::create(config);
  ASSERT_TRUE(source) << source.error().message();
  const auto now = CredentialSource::Clock::now();
  EXPECT_EQ((*source)->current(now).token, "1");
  EXPECT_EQ((*source)->current(now + 90s).token, "1");
  EXPECT_EQ((*source)->current(now + 130s).token, "2");
  (*source)->invalidate();
  EXPECT_EQ((*source)->current(now + 131s).token, "3");
}

TEST(ExecPlugins, LearnTheirTaskFromTheEnvironment) {
  auto plugin =
      shell(R"(test "$K" = V || exit 3; echo "$KUBERNETES_EXEC_INFO" | grep -q '"server":"https://h"' || exit 4
    echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"t"}}')");
  plugin.env = {{"K", "V"}};
  plugin.provide_cluster_info = true;
  ClusterConfig config;
  config.server = "https://h";
  const auto credential = run_exec_plugin(plugin, config, 10s);
  ASSERT_TRUE(credential) << credential.error().message();
  EXPECT_EQ(credential->token, "t");
}

TEST(ExecPlugins, ThatFailOrHangOrTalkNonsenseAreErrors) {
  EXPECT_THAT(run_exec_plugin(shell("exit 3"), {}, 10s).error().message(), HasSubstr("exit code 3"));
  EXPECT_THAT(run_exec_plugin(shell("sleep 60"), {}, 200ms).error().message(), HasSubstr("in time"));
  EXPECT_THAT(run_exec_plugin(shell("echo hello"), {}, 10s).error().message(), HasSubstr("not a JSON object"));
  ExecPlugin missing = shell("");
  missing.command = "/no/such/plugin";
  EXPECT_FALSE(run_exec_plugin(missing, {}, 10s));
}

TEST(ExecPlugins, MustAnswerInTheirOwnVersionWithSomething) {
  const auto plugin = shell("");
  const auto parse = [&plugin](const std::string& status,
                               const std::string& version = "client.authentication.k8s.io/v1") {
    return parse_exec_credential(
        R"({"kind":"ExecCredential","apiVersion":")" + version + R"(","status":)" + status + "}", plugin);
  };
  EXPECT_TRUE(parse(R"({"token":"t"})"));
  EXPECT_TRUE(parse(R"({"clientCertificateData":"c","clientKeyData":"k"})"));
  EXPECT_FALSE(parse(R"({"clientCertificateData":"c"})"));
  EXPECT_FALSE(parse("{}"));
  EXPECT_FALSE(parse("null"));
  EXPECT_FALSE(parse(R"({"token":"t"})", "client.authentication.k8s.io/v1beta1"));
  EXPECT_FALSE(parse(R"({"token":"t","expirationTimestamp":"soon"})"));
}

}  // namespace
}  // namespace sluice::kube
