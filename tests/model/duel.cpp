#include "tests/model/duel.h"

#include <fmt/format.h>

#include <algorithm>

namespace sluice::model {
namespace {

using std::chrono::steady_clock;

constexpr uint32_t kPackets = 3000;  // of a round
constexpr uint32_t kScenes = 3;      // of a round
// Nothing in a flow may age within a round: the shortest time that means something to one is half a second.
constexpr std::chrono::milliseconds kRound{400};

uint32_t code_of(const Outcome& outcome, bool leaves) {
  constexpr uint32_t kUnspecified = 0xffffffff, kShot = 2;  // TC_ACT_...
  constexpr uint32_t kXdp[] = {2, 1, 3, 4};                 // by Verdict
  if (leaves) return outcome.verdict == Verdict::pass ? kUnspecified : kShot;
  return kXdp[static_cast<size_t>(outcome.verdict)];
}

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const auto& text : texts) all += (all.empty() ? "" : " ") + text;
  return all;
}

bool same(const Outcome& expected, const Rig::Passed& passed, bool leaves) {
  return code_of(expected, leaves) == passed.code && expected.reasons == passed.reasons &&
         (expected.verdict == Verdict::drop || expected.frame == passed.frame);
}

std::string describe(const Scene& scene) {
  std::string text;
  for (const auto& [id, service] : scene.desired.services) {
    text += fmt::format("{} {} port {} affinity {} policy {} sources {}\n", id, state::to_string(service.protocol),
                        service.port, static_cast<int>(service.affinity), static_cast<int>(service.traffic_policy),
                        service.allowed_sources.size());
    for (const auto& address : service.addresses) text += "  at " + address.to_string() + "\n";
    for (const auto& backend : service.backends)
      text += fmt::format("  {} {} node '{}' group {} stay {}..{}\n", backend.address.to_string(), backend.port,
                          backend.node, backend.group, backend.joined, backend.left);
  }
  for (const auto& [address, way] : scene.network.next_hops)
    text += fmt::format("way {} local {} by {} source {}\n", address.to_string(), way.local, way.ifindex,
                        way.source.to_string());
  return text;
}

}  // namespace

Duel::Sums Duel::sums_of(const agent::dataplane::Counters& counters) {
  Sums sums;
  for (const auto& one : counters.backends)
    sums[{one.service, one.address, one.port}] = {one.packets, one.bytes, one.flows, one.return_packets};
  return sums;
}

void Duel::prepare() {
  Random random(0);
  rig_.program(SceneMaker(theme_, site_, random).begin());
}

std::optional<std::string> Duel::round(uint64_t seed) {
  Random random(seed);
  SceneMaker scenes(theme_, site_, random);
  Scene scene = scenes.begin();
  Generator generator(theme_, site_, scenes, random);
  rig_.program(scene);
  rig_.forget_flows();
  if (model_) {
    model_->change(scene);
    model_->forget_flows();
  } else {
    model_.emplace(scene);
  }
  generator.begin(scene, true);
  sums_.clear();
  moved_ = false;
  const auto counters = rig_.dataplane().counters();
  if (!counters) return counters.error().message();
  before_ = sums_of(*counters);
  const auto end = steady_clock::now() + kRound;
  for (uint32_t i = 0; i < kPackets && steady_clock::now() < end; ++i) {
    if (i != 0 && i % (kPackets / kScenes) == 0 && chance(random, 60)) {
      scenes.move_on(scene);
      rig_.program(scene);
      model_->change(scene);
      generator.begin(scene, false);
      moved_ = true;
    }
    if (auto difference = step(generator); difference) {
      if (steady_clock::now() >= end) return std::nullopt;
      return fmt::format("round {}, packet {}\n{}\n{}", seed, i, *difference, describe(scene));
    }
  }
  return compare_sums();
}

std::optional<std::string> Duel::step(Generator& generator) {
  const Step step = generator.next();
  Outcome expected = step.leaves ? model_->leave(step.frame) : model_->receive(step.frame);
  const Rig::Passed passed = step.leaves ? rig_.leave(step.frame) : rig_.receive(step.frame);
  ++packets_;
  expected = settle(std::move(expected), passed);
  if (!same(expected, passed, step.leaves)) {
    return fmt::format("{}\n{}\nexpected {} [{}]\n{}\nactual {} [{}]\n{}", step.leaves ? "leaves" : "comes in",
                       hex(step.frame), code_of(expected, step.leaves), joined(expected.reasons), hex(expected.frame),
                       passed.code, joined(passed.reasons), hex(passed.frame));
  }
  count(expected);
  generator.learn(step, expected);
  return std::nullopt;
}

Outcome Duel::settle(Outcome expected, const Rig::Passed& passed) {
  if (!expected.answers) return expected;
  const auto says = allowance_.ask(*expected.answers, steady_clock::now());
  const bool silent = passed.reasons == expected.if_silent && passed.code == code_of({.verdict = Verdict::drop}, false);
  if (says == Allowance::Says::no || (says == Allowance::Says::either && silent)) {
    expected.verdict = Verdict::drop;
    expected.reasons = expected.if_silent;
  }
  allowance_.note(*expected.answers, !silent);
  return expected;
}

void Duel::count(const Outcome& outcome) {
  std::string text = to_string(outcome.verdict);
  for (const auto& reason : outcome.reasons) text += " " + reason;
  if (outcome.forwarded) {
    constexpr const char* kHow[] = {"forwarded", "otherwise", "returned"};
    text += std::string(" ") + kHow[static_cast<size_t>(outcome.forwarded->how)];
    const Forwarded& to = *outcome.forwarded;
    Sum& sum = sums_[{to.service, to.backend, to.port}];
    if (to.how == Forwarded::How::returned) {
      sum.returned++;
    } else {
      sum.packets++;
      sum.bytes += to.bytes;
    }
    sum.flows += outcome.made_flow ? 1 : 0;
  }
  outcomes_[text]++;
}

// What the agent tells of the round, once it is over.
std::optional<std::string> Duel::compare_sums() {
  const auto counters = rig_.dataplane().counters();
  if (!counters) return counters.error().message();
  if (moved_) return std::nullopt;
  Sums after = sums_of(*counters);
  for (const auto& [backend, sum] : sums_) {
    const auto& [service, address, port] = backend;
    const Sum& then = before_[backend];
    const Sum& now = after[backend];
    const Sum gained{now.packets - then.packets, now.bytes - then.bytes, now.flows - then.flows,
                     now.returned - then.returned};
    if (gained == sum) continue;
    return fmt::format("{} {}:{}: {} packets, {} bytes, {} flows, {} back expected, but {} {} {} {} are counted",
                       service, address.to_string(), port, sum.packets, sum.bytes, sum.flows, sum.returned,
                       gained.packets, gained.bytes, gained.flows, gained.returned);
  }
  return std::nullopt;
}

}  // namespace sluice::model
