#include "node-agent/agent/run.h"

#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>

#include "common/log/spdlog.h"
#include "common/process/termination.h"
#include "common/version.h"
#include "node-agent/agent/cluster.h"
#include "node-agent/agent/exposition.h"
#include "node-agent/agent/local_api.h"
#include "node-agent/agent/loop.h"
#include "node-agent/agent/single_instance.h"
#include "node-agent/agent/standalone.h"
#include "node-agent/config/file_follower.h"

namespace sluice::agent {
namespace {

constexpr std::chrono::seconds kHandover{20};  // an update's old agent may need that long to end
constexpr std::chrono::milliseconds kAnnounceEvery{1'000};
constexpr std::chrono::milliseconds kSweepEvery{5'000};
constexpr std::chrono::milliseconds kTendTunnelsEvery{100};
constexpr std::chrono::milliseconds kRetryEvery{5'000};
constexpr std::chrono::milliseconds kVerifyEvery{60'000};
constexpr std::chrono::milliseconds kCheckNodeEvery{10'000};
constexpr std::chrono::seconds kCertificateRetry{1};

int failed(const Error& error) {
  spdlog::critical("{}", error.message());
  return 1;
}

// True when told to end within `patience`.
bool told_to_end(std::chrono::seconds patience) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  const timespec limit = {patience.count(), 0};
  return sigtimedwait(&signals, nullptr, &limit) > 0;
}

// A first start: the lock lies there too. What fails is told when something is to be saved.
void make_directory_of(const std::string& file) {
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(file).parent_path(), ignored);
}

CoreOptions core_options(const Options& options) {
  CoreOptions core;
  core.node = options.node_name;
  core.interfaces = options.interfaces;
  core.mode = options.interface_mode;
  core.announce_grace = options.announce_grace;
  core.nat_ports = {options.nat_port_first, options.nat_port_last};
  core.node_ports = options.config.empty();
  std::random_device random;
  core.probe_secret = (uint64_t{random()} << 32) | random();
  return core;
}

// Everything that lives as long as the agent does, in the order in which it depends on each other.
class Agent {
 public:
  Agent(const Options& options, Kernel kernel)
      : options_(options),
        core_(core_options(options), StateFile(options.state_file), std::move(kernel)),
        metrics_(version(), git_revision(),
                 options.config.empty() ? health::Metrics::Mode::cluster : health::Metrics::Mode::standalone),
        exposition_(loop_, core_, metrics_),
        local_api_(loop_, core_),
        cluster_(loop_, core_, metrics_, options.node_name, static_cast<uint64_t>(std::time(nullptr))),
        standalone_({options.config, options.node_name, options.interfaces}, loop_, core_, metrics_) {}
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;
  ~Agent() {
    cluster_.set_server(nullptr);
    server_.reset();
    standalone_.stop();
    loop_.call([this] { core_.set_watcher(nullptr); });
    watcher_.reset();
    http_.reset();
    local_.reset();
    loop_.stop();
  }

  int run() {
    loop_.call([this] {
      core_.set_listener([this](const health::Facts& facts) {
        exposition_.on_facts(facts);
        cluster_.on_facts(facts);
      });
    });
    if (auto watching = watch(); !watching) return failed(watching.error());
    if (auto served = serve_http(); !served) return failed(served.error());
    serve_local();
    loop_.call([this] { load(); });
    const bool standalone = !options_.config.empty();
    if (standalone) {
      if (auto begun = standalone_.begin(); !begun) return failed(begun.error());
      if (auto followed = standalone_.follow(); !followed) return failed(followed.error());
    } else {
      loop_.call([this] { core_.restore(); });
    }
    loop_.call([this] { core_.check_node(); });
    start_timers(standalone);
    if (!standalone && !serve_operator()) return 0;
    spdlog::info("sluice-agent {} ({}) is up on node {}", version(), git_revision(), options_.node_name);
    if (auto ended = process::wait_for_termination(); !ended) return failed(ended.error());
    spdlog::info("ending; what stands in the kernel goes on forwarding");
    return 0;
  }

  int purge() {
    if (auto watching = watch(); !watching) return failed(watching.error());
    const auto purged = loop_.call([this] {
      // What is remembered says which neighbours to let go; a file that cannot be read is no reason to stay.
      std::ignore = core_.load();
      return core_.purge();
    });
    if (!purged) return failed(purged.error());
    spdlog::info("purged: no program, map, link or state of Sluice is left on this machine");
    return 0;
  }

 private:
  Status watch() {
    auto watcher = nexthop::NetworkWatcher::start(
        [this](const nexthop::NetworkWatcher::Update&) { loop_.post([this] { core_.on_network(); }); },
        core_options(options_).can);
    if (!watcher) return tl::unexpected(watcher.error());
    watcher_ = std::move(*watcher);
    loop_.call([this] { core_.set_watcher(watcher_.get()); });
    return {};
  }

  Status serve_http() {
    if (!options_.metrics_listen) return {};
    auto http = exposition_.serve(options_.metrics_listen->host, options_.metrics_listen->port);
    if (!http) return tl::unexpected(http.error());
    http_ = std::move(*http);
    return {};
  }

  // Forwarding needs nobody to ask.
  void serve_local() {
    if (options_.socket.empty()) return;
    auto local = local_api_.serve(options_.socket);
    if (!local) {
      spdlog::warn("{}: sluicectl will have no answer", local.error().message());
      return;
    }
    local_ = std::move(*local);
  }

  void load() {
    const auto loaded = core_.load();
    if (loaded) return;
    spdlog::error("{}: beginning without it", loaded.error().message());
    if (const auto aside = StateFile(options_.state_file).set_aside()) spdlog::error("it is kept as {}", *aside);
  }

  // False: told to end before there were certificates.
  bool serve_operator() {
    std::string last;
    for (;;) {
      auto server = api::NodeServer::start({options_.listen->text(), options_.tls_directory}, cluster_);
      if (server) {
        server_ = std::move(*server);
        cluster_.set_server(server_.get());
        spdlog::info("listening for the operator on {}", options_.listen->text());
        return true;
      }
      // Certificates are written by the operator, which may come later; an address may, too.
      if (std::exchange(last, server.error().message()) != server.error().message()) spdlog::warn("waiting: {}", last);
      if (told_to_end(kCertificateRetry)) return false;
    }
  }

  void start_timers(bool standalone) {
    loop_.every(kAnnounceEvery, [this] { core_.announce(); });
    loop_.every(kAnnounceEvery, [this] { core_.tend_node_clients(); });
    loop_.every(kSweepEvery, [this, standalone] {
      core_.sweep();
      if (standalone) standalone_.retire();
    });
    loop_.every(kTendTunnelsEvery, [this] { core_.tend_tunnels(tunnel::Clock::now()); });
    loop_.every(kRetryEvery, [this] { core_.retry(); });
    loop_.every(kVerifyEvery, [this] { core_.verify(); });
    loop_.every(kCheckNodeEvery, [this] { core_.check_node(); });
  }

  const Options& options_;
  Core core_;
  health::Metrics metrics_;
  Loop loop_;
  Exposition exposition_;
  LocalApi local_api_;
  Cluster cluster_;
  Standalone standalone_;
  std::unique_ptr<nexthop::NetworkWatcher> watcher_;
  std::unique_ptr<telemetry::HttpServer> http_;
  std::unique_ptr<telemetry::HttpServer> local_;
  std::unique_ptr<api::NodeServer> server_;
};

}  // namespace

int run_check(const Options& options) {
  const auto text = config::read_file(options.config);
  if (!text) {
    std::fprintf(stderr, "%s\n", text.error().message().c_str());
    return 1;
  }
  const auto config = config::parse_standalone(*text);
  if (config) {
    std::printf("%s: good, %zu services\n", options.config.c_str(), config->services.size());
    return 0;
  }
  for (const config::Mistake& mistake : config.error())
    std::fprintf(stderr, "%s\n", mistake.text(options.config).c_str());
  return 1;
}

int run_purge(const Options& options, const Kernel& kernel) {
  const auto alone = SingleInstance::acquire(options.state_file, std::chrono::milliseconds(0));
  if (!alone && alone.error().kind != ErrorKind::exists) return failed(alone.error());
  if (!alone) return failed({ErrorKind::conflict, "purge", "", "an agent is running: end it first"});
  return Agent(options, kernel).purge();
}

int run_agent(const Options& options, const Kernel& kernel) {
  make_directory_of(options.state_file);
  const auto alone = SingleInstance::acquire(options.state_file, kHandover);
  if (!alone) return failed(alone.error());
  return Agent(options, kernel).run();
}

}  // namespace sluice::agent
