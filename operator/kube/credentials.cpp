// Credentials that follow their files and plugins.
#include <fstream>
#include <mutex>
#include <sstream>

#include "common/log/spdlog.h"
#include "operator/kube/config.h"
#include "operator/kube/exec_plugin.h"

namespace sluice::kube {
namespace {

constexpr std::chrono::seconds kReadAgain{60};
constexpr std::chrono::seconds kPluginTimeout{30};
constexpr std::chrono::seconds kPluginMargin{10};        // run it again so long before its credential expires
constexpr std::chrono::seconds kPluginPauseOnError{10};  //

Result<std::string> read(const Material& material) {
  if (material.file.empty()) return material.inline_data;
  std::ifstream in(material.file, std::ios::binary);
  if (!in) return fail_errno(errno, "read", material.file);
  std::ostringstream out;
  out << in.rdbuf();
  std::string text = std::move(out).str();
  if (text.empty()) return fail(ErrorKind::invalid, "read", material.file, "is empty");
  return text;
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
  return text;
}

class FollowingSource final : public CredentialSource {
 public:
  explicit FollowingSource(ClusterConfig config) : config_(std::move(config)) {}

  Status read_first(Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    if (auto done = read_files(now); !done) return done;
    return run_plugin(now);
  }

  Credentials current(Clock::time_point now) override {
    const std::lock_guard lock(mutex_);
    const bool asked = std::exchange(stale_, false);
    if (asked || now >= files_due_) warn(read_files(now));
    if (config_.exec && (asked || (plugin_due_ && now >= *plugin_due_))) {
      const Status ran = run_plugin(now);
      if (!ran) plugin_due_ = now + kPluginPauseOnError;
      warn(ran);
    }
    return credentials_;
  }

  void invalidate() override {
    const std::lock_guard lock(mutex_);
    stale_ = true;
  }

 private:
  static void warn(const Status& done) {
    if (!done) spdlog::warn("{}; the credentials read earlier stay in use", done.error().message());
  }

  // All of them or none: a certificate belongs to its key.
  Status read_files(Clock::time_point now) {
    files_due_ = now + kReadAgain;
    Credentials next = credentials_;
    const std::pair<const Material*, std::string*> wanted[] = {{&config_.ca, &next.ca},
                                                               {&config_.client_certificate, &next.client_certificate},
                                                               {&config_.client_key, &next.client_key},
                                                               {&config_.token, &next.token}};
    for (const auto& [from, into] : wanted) {
      if (!from->given()) continue;
      auto text = read(*from);
      if (!text) return tl::unexpected(text.error());
      *into = into == &next.token ? trimmed(std::move(*text)) : std::move(*text);
    }
    credentials_ = std::move(next);
    return {};
  }

  Status run_plugin(Clock::time_point now) {
    if (!config_.exec || config_.token.given()) return {};
    auto credential = run_exec_plugin(*config_.exec, config_, kPluginTimeout);
    if (!credential) return tl::unexpected(credential.error());
    credentials_.token = credential->token;
    credentials_.client_certificate = credential->client_certificate;
    credentials_.client_key = credential->client_key;
    plugin_due_.reset();
    if (credential->expires) {
      plugin_due_ = now + (*credential->expires - std::chrono::system_clock::now()) - kPluginMargin;
      plugin_due_ = std::max(*plugin_due_, now + kPluginPauseOnError);
    }
    return {};
  }

  const ClusterConfig config_;
  std::mutex mutex_;
  Credentials credentials_;
  Clock::time_point files_due_;
  std::optional<Clock::time_point> plugin_due_;
  bool stale_ = false;
};

}  // namespace

Result<std::shared_ptr<CredentialSource>> CredentialSource::create(ClusterConfig config) {
  auto source = std::make_shared<FollowingSource>(std::move(config));
  if (auto done = source->read_first(Clock::now()); !done) return tl::unexpected(done.error());
  return std::shared_ptr<CredentialSource>(std::move(source));
}

}  // namespace sluice::kube
