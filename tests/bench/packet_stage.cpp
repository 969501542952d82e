#include "tests/bench/packet_stage.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <stdexcept>
#include <thread>
#include <utility>

#include "tests/bench/packet_network.h"

namespace sluice::bench {
namespace {

constexpr uint32_t kChunk = 4'096;              // packets measured at once: a fraction of a millisecond
constexpr uint32_t kMostNewPackets = 1U << 20;  // over all rounds, but for
constexpr uint32_t kFewestRounds = 3;
constexpr std::chrono::milliseconds kBreath{1};  // in which others get at the dataplane

struct Round {
  double net = 0, floor = 0;
};

double quantile(const std::vector<Round>& rounds, double Round::*value, double part) {
  std::vector<double> values(rounds.size());
  std::transform(rounds.begin(), rounds.end(), values.begin(), [value](const Round& round) { return round.*value; });
  const auto nth = values.begin() + std::lround(part * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), nth, values.end());
  return *nth;
}

Result result_of(const std::vector<Round>& rounds) {
  return {.net = quantile(rounds, &Round::net, 0.5),
          .low = quantile(rounds, &Round::net, 0.25),
          .high = quantile(rounds, &Round::net, 0.75),
          .floor = quantile(rounds, &Round::floor, 0.5)};
}

// Changes other services all the time, on the other CPU.
class Churn {
 public:
  Churn(Plane& plane, const Situation& situation) : states_{turned(situation, 0), turned(situation, 1)} {
    thread_ = std::thread([this, &plane] {
      try {
        stay_on_cpu(kOtherCpu);
        while (!stop_) {
          plane.program(states_.at(turns_++ % 2));
          std::this_thread::sleep_for(kBreath);
        }
      } catch (...) {
        failure_ = std::current_exception();
      }
    });
  }
  ~Churn() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  Churn(const Churn&) = delete;
  Churn& operator=(const Churn&) = delete;
  // Throws what stopped it, or that nothing was changed.
  void finish() {
    stop_ = true;
    thread_.join();
    if (failure_) std::rethrow_exception(failure_);
    if (turns_ == 0) throw std::runtime_error("nothing was changed meanwhile");
  }

 private:
  std::array<Situation, 2> states_;
  std::atomic<bool> stop_ = false;
  std::atomic<uint32_t> turns_ = 0;
  std::exception_ptr failure_;
  std::thread thread_;
};

// Counted beside a verdict, and no fault.
bool is_note(const std::string& reason) {
  return reason == "port_changed";
}

std::string counted(const Plane& plane) {
  std::string text;
  for (const auto& [reason, packets] : plane.reasons()) {
    if (packets != 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", packets, reason);
  }
  return text;
}

}  // namespace

bool same_stage(const Scenario& a, const Scenario& b) {
  return a.mode == b.mode && a.family == b.family && a.services == b.services;
}

Stage::Stage(const Scenario& scenario, uint32_t flows)
    : mode_(*scenario.mode),
      family_(scenario.family),
      services_(scenario.services),
      situation_(mode_.situation(family_, services_)),
      plane_(kInterface, family_) {
  plane_.program(situation_);
  if (mode_.peer != nullptr) {
    peer_ = std::make_unique<Plane>(kPeerInterface, family_);
    peer_->program(mode_.peer(family_, services_));
    arrivals_ =
        std::make_unique<Harness>(rows_like(arrival(this->flows(1), 0, kSyn)), flows, Hook::xdp, plane_.ingress());
  } else {
    arrivals_ = std::make_unique<Harness>(sent(kAck), 1, Hook::xdp, plane_.ingress());
    check_packets();
  }
  if (mode_.returns) {
    const Hook hook = mode_.returns->hook;
    returns_ = std::make_unique<Harness>(rows_like(returned(this->flows(1), 0)), flows, hook,
                                         hook == Hook::xdp ? plane_.ingress() : plane_.egress());
  }
  measured().attach(idle_indices());
}

Stage::~Stage() = default;

// That packet.bpf.c makes what make_frame() makes, so that rows are of the same flows.
void Stage::check_packets() {
  const bench_flows some = flows(1U << 20);
  arrivals_->set_flows(some);
  for (uint32_t number = 0; number < 8; ++number) {
    if (arrivals_->make_one() != make_frame(sent(kAck), some, number))
      throw std::logic_error(fmt::format("{}: packet {} is not made as it should be", mode_.name, number));
  }
}

// What comes in of what a client sends.
Frame Stage::arrival(const bench_flows& flows, uint32_t number, uint8_t tcp_flags) const {
  Frame frame = make_frame(sent(tcp_flags), flows, number);
  if (!peer_) return frame;
  std::copy(kPeerMac.begin(), kPeerMac.end(), frame.begin());
  Outcome made = pass(peer_->ingress(), frame);
  if (made.action != mode_.sent.action)
    throw std::runtime_error(fmt::format("{}: action {} of the node before", mode_.name, made.action));
  std::copy(kMac.begin(), kMac.end(), made.frame.begin());
  return std::move(made.frame);
}

// What comes back of it.
Frame Stage::returned(const bench_flows& flows, uint32_t number) const {
  Outcome made = pass(plane_.ingress(), arrival(flows, number, kAck));
  if (made.action != mode_.verdict.action)
    throw std::runtime_error(fmt::format("{}: action {}; so far {}", mode_.name, made.action, counted(plane_)));
  return std::move(made.frame);
}

void Stage::aim_arrivals(uint32_t count, uint8_t tcp_flags) {
  const bench_flows these = flows(count);
  if (peer_)
    arrivals_->set_rows(count, [&](uint32_t number) { return arrival(these, number, tcp_flags); });
  else
    arrivals_->set_headers(sent(tcp_flags).headers);
  arrivals_->set_flows(these);
}

// `frames`: as they reach the backends.
void Stage::aim_returns(const std::vector<Frame>& frames, uint8_t tcp_flags) {
  const auto count = static_cast<uint32_t>(frames.size());
  returns_->set_rows(count, [&](uint32_t number) { return reply_to(frames[number], tcp_flags); });
  returns_->set_flows(flows(count));
}

// By a handshake of each flow, where something comes back.
void Stage::make_known(uint32_t count) {
  if (known_ == count) return;
  known_.reset();
  plane_.forget_flows();
  aim_arrivals(count, kSyn);
  run_checked(*arrivals_, mode_.verdict, count);
  std::vector<Frame> frames(returns_ ? count : 0);
  if (returns_) {
    for (uint32_t number = 0; number < count; ++number) frames[number] = returned(flows(count), number);
    aim_returns(frames, kSyn | kAck);
    run_checked(*returns_, mode_.returns->verdict, count);
  }
  aim_arrivals(count, kAck);
  run_checked(*arrivals_, mode_.verdict, count);
  if (mode_.measure_returns) aim_returns(frames, kAck);
  known_ = count;
}

// Runs the program, and sees to it that every packet had the verdict that it should have.
void Stage::run_checked(Harness& harness, const Verdict& verdict, uint32_t packets) {
  const auto before = plane_.reasons();
  const Run run = harness.run(BENCH_PROGRAM, packets);
  if (run.action != verdict.action)
    throw std::runtime_error(fmt::format("{}: action {}; so far {}", mode_.name, run.action, counted(plane_)));
  check(before, verdict, packets);
}

Result Stage::measure(const Scenario& scenario, uint32_t flows, uint32_t rounds) {
  const bool fresh = scenario.flows == Flows::fresh;
  if (fresh) {
    known_.reset();
    aim_arrivals(flows, kSyn);
  } else {
    make_known(flows);
  }
  std::optional<Churn> churn;
  if (scenario.busy) churn.emplace(plane_, situation_);
  const Result result = fresh ? rounds_of(flows, std::clamp(kMostNewPackets / flows, kFewestRounds, rounds), true)
                              : rounds_of(kChunk, rounds, false);
  if (churn) churn->finish();
  return result;
}

// A floor before and behind each round: what is counted is only a third of the rounds, those in which it was lowest.
Result Stage::rounds_of(uint32_t packets, uint32_t rounds, bool forget) {
  std::vector<Round> all(rounds);
  const auto before = plane_.reasons();
  double floor = measured().run(BENCH_FLOOR, packets).nanoseconds;
  for (Round& round : all) {
    if (forget) plane_.forget_flows();
    const Run program = measured().run(BENCH_PROGRAM, packets);
    if (program.action != verdict().action)
      throw std::runtime_error(fmt::format("{}: action {}", mode_.name, program.action));
    const double floor_before = std::exchange(floor, measured().run(BENCH_FLOOR, packets).nanoseconds);
    round.floor = (floor_before + floor) / 2;
    round.net = program.nanoseconds - round.floor;
  }
  check(before, verdict(), uint64_t{packets} * rounds);
  std::sort(all.begin(), all.end(), [](const Round& a, const Round& b) { return a.floor < b.floor; });
  all.resize((all.size() + 2) / 3);
  return result_of(all);
}

// That so many packets had this reason and none another.
void Stage::check(const std::map<std::string, uint64_t>& before, const Verdict& verdict, uint64_t packets) const {
  for (const auto& [reason, sum] : plane_.reasons()) {
    const uint64_t moved = sum - before.at(reason);
    const uint64_t expected = reason == verdict.reason ? packets : 0;
    if (moved != expected && !is_note(reason))
      throw std::runtime_error(fmt::format("{}: {} of {} packets counted as {} instead of {}", mode_.name, moved,
                                           packets, reason, expected));
  }
}

}  // namespace sluice::bench
