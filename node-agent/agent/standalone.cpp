#include "node-agent/agent/standalone.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <array>
#include <set>
#include <utility>

#include "common/log/spdlog.h"

namespace sluice::agent {
namespace {

std::array<uint64_t, 2> random_key() {
  std::array<uint64_t, 2> key{};
  // 16 bytes: below the size at which the call may come back with less.
  while (getrandom(key.data(), sizeof key, 0) != sizeof key) {
  }
  return key;
}

std::optional<Error> first_trouble(const Troubles& troubles) {
  if (troubles.open) return troubles.open;
  if (troubles.attach) return troubles.attach;
  return troubles.state_file;
}

}  // namespace

Standalone::Standalone(StandaloneOptions options, Loop& loop, Core& core, health::Metrics& metrics)
    : options_(std::move(options)), loop_(loop), core_(core), metrics_(metrics) {}

Status Standalone::begin() {
  auto text = config::read_file(options_.file);
  if (!text) return tl::unexpected(text.error());
  text_ = std::move(*text);
  return loop_.call([this]() -> Status {
    const auto& held = core_.state();
    if (held && held->cluster_id != config::kStandaloneCluster) {
      return fail(
          ErrorKind::conflict, "start", "standalone mode",
          fmt::format("this machine holds the state of cluster {}: run sluice-agent --purge first", held->cluster_id));
    }
    const bool remembered = held || core_.memory_lost();
    auto taken = take(text_);
    if (!taken) return taken;
    if (auto trouble = first_trouble(core_.troubles())) {
      if (!remembered && !took_over_) std::ignore = core_.purge();
      return tl::unexpected(*trouble);
    }
    return {};
  });
}

Status Standalone::follow() {
  auto follower = config::FileFollower::start(
      options_.file, text_, [this](const Result<std::string>& text) { loop_.post([this, text] { reload(text); }); });
  if (!follower) return tl::unexpected(follower.error());
  follower_ = std::move(*follower);
  return {};
}

void Standalone::reload(const Result<std::string>& text) {
  const auto taken = text ? take(*text) : Status(tl::unexpected(text.error()));
  if (!taken) {
    spdlog::error("{} is not in force, what was before it stands: {}", options_.file, taken.error().message());
    core_.set_config_error(taken.error().message());
    return;
  }
  spdlog::info("{} is in force", options_.file);
  core_.set_config_error("");
}

Status Standalone::take(const std::string& text) {
  const auto begun = std::chrono::steady_clock::now();
  const auto refused = [this](Error error) -> Status {
    metrics_.reloaded(false, std::chrono::system_clock::now());
    return tl::unexpected(std::move(error));
  };
  const auto config = config::parse_standalone(text);
  if (!config) {
    for (const config::Mistake& mistake : config.error()) spdlog::error("{}", mistake.text(options_.file));
    const std::string more =
        config.error().size() > 1 ? fmt::format(" (and {} more mistakes)", config.error().size() - 1) : "";
    return refused({ErrorKind::invalid, "use", "the file", config.error().front().text(options_.file) + more});
  }
  const auto& interfaces = options_.interfaces.empty() ? config->interfaces : options_.interfaces;
  if (auto changed = core_.change_interfaces(interfaces); !changed) return refused(changed.error());
  const auto& held = core_.state();
  auto next = config::plan_standalone(held ? &*held : nullptr, config->services, options_.node, random_key());
  if (auto valid = state::validate(next); !valid) return refused(valid.error());
  if (!held) {
    // The memory is lost, what it was of may forward still: with another key every flow would find another backend.
    const auto left = core_.left_by_an_earlier_run();
    if (!left) return refused(left.error());
    took_over_ = left->attached;
    if (left->flow_hash_key) {
      spdlog::warn("there is no state of what this machine forwards: going on with the flow hash key in its maps");
      next.flow_hash_key = *left->flow_hash_key;
    }
  }
  adopt(std::move(next));
  metrics_.pushed(std::chrono::steady_clock::now() - begun, true);
  metrics_.reloaded(true, std::chrono::system_clock::now());
  return {};
}

void Standalone::adopt(state::DesiredState next) {
  core_.apply(std::move(next));
  retirement_.observe(*core_.state(), config::Retirement::Clock::now());
}

void Standalone::retire() {
  const auto& held = core_.state();
  if (!held) return;
  const auto& old = core_.facts().services_with_old_flows;
  auto next = retirement_.retire(*held, {old.begin(), old.end()}, config::Retirement::Clock::now());
  if (next) adopt(std::move(*next));
}

}  // namespace sluice::agent
