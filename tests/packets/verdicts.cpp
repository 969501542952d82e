// Every packet has one verdict, counted once (bpf/layout/counters.h).
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <string>

#include "tests/packets/loaded.h"

namespace sluice::packets {
namespace {

enum class Kind : uint8_t { forward, pass, drop, answer, note };

struct Reason {
  const char* text;
  Kind kind;
};
constexpr std::array<Reason, SLUICE_REASON_COUNT> kReasons{{
#define SLUICE_TEST_REASON(name, text, kind) {text, Kind::kind},
    SLUICE_REASONS(SLUICE_TEST_REASON)
#undef SLUICE_TEST_REASON
}};

// All elements of a per-CPU array in one call, each CPU's.
template <typename Value>
std::vector<Value> read_all(const bpf_map* map, uint32_t entries) {
  const auto cpus = static_cast<size_t>(libbpf_num_possible_cpus());
  std::vector<Value> values(entries * cpus);
  std::vector<uint32_t> keys(entries);
  uint32_t next = 0, count = entries;
  const int error = bpf_map_lookup_batch(bpf_map__fd(map), nullptr, &next, keys.data(), values.data(), &count, nullptr);
  must(error == -ENOENT ? 0 : error, "read counters");
  return values;
}

bool fits(Kind kind, int action) {
  switch (kind) {
    case Kind::forward:
      return action == XDP_PASS || action == XDP_TX || action == XDP_REDIRECT;
    case Kind::pass:
      return action == XDP_PASS;
    case Kind::drop:
      return action == XDP_DROP || action == XDP_TX;  // it may be told
    case Kind::answer:
      return action == XDP_TX || action == XDP_DROP;  // our own probe is taken in
    case Kind::note:
      return true;
  }
  return false;
}

}  // namespace

Dataplane::Verdicts Dataplane::verdicts() const {
  Verdicts all;
  const auto cpus = static_cast<size_t>(libbpf_num_possible_cpus());
  const auto reasons = read_all<sluice_count>(skeleton()->maps.reasons, SLUICE_REASON_COUNT);
  for (size_t i = 0; i < reasons.size(); i++) all.reasons.at(i / cpus) += reasons[i].packets;
  const auto backends = loaded_->table<sluice_backend>("backends");
  const auto counters = read_all<sluice_counters>(skeleton()->maps.backend_counters, kBackends);
  for (size_t i = 0; i < counters.size(); i++) {
    const uint64_t sent = counters[i].forwarded.packets + counters[i].otherwise.packets;
    all.by_backend += sent + counters[i].returned.packets;
    if (SLUICE_BACKEND_FORWARDING(backends[i / cpus].what) == SLUICE_FORWARD_LOCAL) all.rewritten += sent;
  }
  all.rewritten += all.reasons[SLUICE_REASON_ERROR_FORWARDED];
  return all;
}

void Dataplane::expect_one_verdict(const Verdicts& before, const Verdicts& after, int action) {
  std::string counted;
  uint64_t verdicts = after.by_backend - before.by_backend;
  bool fitting = verdicts == 0 || fits(Kind::forward, action);
  for (uint64_t i = 0; i < verdicts; i++) counted += " by backend";
  for (size_t i = 0; i < kReasons.size(); i++) {
    const uint64_t more = after.reasons.at(i) - before.reasons.at(i);
    for (uint64_t n = 0; n < more; n++) counted += std::string(" ") + kReasons.at(i).text;
    if (more == 0 || kReasons.at(i).kind == Kind::note) continue;
    verdicts += more;
    fitting = fitting && fits(kReasons.at(i).kind, action);
  }
  EXPECT_EQ(verdicts, 1U) << "counted:" << counted << "; action " << action;
  EXPECT_TRUE(fitting) << "counted:" << counted << "; action " << action;
}

}  // namespace sluice::packets
