// Whether a tunnel works, and how large a packet it carries: probes go through it and come back, both through the XDP
// programs. Pure: time comes in, probes to send go out.
//
// A tunnel is usable once the largest probe that can leave here has come back or, where it does not, the largest that
// does has been found. Then small probes keep it alive, and now and then a large one. What is not answered three times
// ends it; a large one that is lost alone begins the search anew. Where a router says what fits (RFC 1191, RFC 8201),
// it is believed at once and then confirmed by a probe of that size; a larger one is tried every ten minutes (RFC
// 8899).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "node-agent/dataplane/network.h"

namespace sluice::agent::tunnel {

using Clock = std::chrono::steady_clock;

using dataplane::Proof;

struct Probe {
  std::string node;
  uint64_t nonce = 0;
  uint32_t bytes = 0;  // of the outer IP packet
};

struct Proved {
  bool usable = false;
  uint32_t bytes = 0;  // the largest outer IP packet that is known to go through; 0: none
  friend bool operator==(const Proved&, const Proved&) = default;
};

// What a tunnel has to carry in order to be used, in bytes of outer IP packet: IPv6's least MTU (RFC 8200, section 5)
// within. Outer headers are those of the family.
uint32_t least_bytes(bool outer_ipv6);
// The smallest probe.
uint32_t small_bytes(bool outer_ipv6);

struct Times {
  std::chrono::milliseconds patience{200};          // for an answer
  std::chrono::milliseconds beat{500};              // between small probes of a tunnel that is usable
  std::chrono::milliseconds large_beat{5000};       // between large ones
  std::chrono::milliseconds search_again{600'000};  // for a larger size than was found (RFC 4821, section 7.3: 10 min)
  std::chrono::milliseconds give_up{60'000};        // without an answer for so long: probes become rare
  std::chrono::milliseconds rare_beat{5000};
  // The more tunnels, the rarer the probes: all together send no more than about this many a second.
  uint32_t probes_per_second = 5000;
  uint32_t large_per_second = 100;
};

class Prover {
 public:
  // `secret`: nonces begin there; to be drawn at random.
  Prover(const Times& times, uint64_t secret) : times_(times), next_nonce_(secret) {}

  // What a tunnel's probes leave by.
  struct Way {
    uint32_t mtu = 0;  // largest IP packet that can leave; 0: there is no way
    bool outer_ipv6 = false;
    friend bool operator==(const Way&, const Way&) = default;
  };
  // The tunnels to prove, and only these.
  void follow(const std::map<std::string, Way>& ways, Clock::time_point now);
  // A tunnel that was usable for an earlier process: goes on being so unless its probes are lost. Of those followed.
  void adopt(const std::string& node, uint32_t bytes, Clock::time_point now);
  // Begins anew with a tunnel: it has another end.
  void forget(const std::string& node) { tunnels_.erase(node); }

  // Looks at what has come back, then says what to send now. To be called every tenth of a second or so; later does no
  // harm: nothing counts as lost before it was looked for after its time.
  std::vector<Probe> tick(Clock::time_point now, const std::map<std::string, Proof>& proofs);

  [[nodiscard]] Proved proved(const std::string& node) const;
  // When a probe came back last; nullopt: none has.
  [[nodiscard]] std::optional<Clock::time_point> heard(const std::string& node) const;
  // Since when it has been usable, or not; nullopt: it is not followed.
  [[nodiscard]] std::optional<Clock::time_point> since(const std::string& node) const;
  // What a router on the way has said last to fit, in bytes of outer IP packet; 0: none has said anything.
  [[nodiscard]] uint32_t told(const std::string& node) const;

 private:
  static constexpr uint32_t kTries = 3;
  struct Round {  // one size, asked for up to kTries times
    uint32_t bytes = 0;
    uint32_t sent = 0;
    std::array<uint64_t, kTries> nonces{};
    Clock::time_point last;
  };
  struct Tunnel {
    Way way;
    bool usable = false;
    bool in_vain = true;   // nothing has come back since the last attempt that was lost whole, or ever
    uint32_t works = 0;    // the largest size known to go through
    uint32_t fails = 0;    // while one is searched for: the smallest known not to, above `works`; 0: none
    uint32_t carried = 0;  // the last size that was known to go through: connections under way hope that it does again
    uint32_t hint = 0;     // what a router has said to fit, while that is still to be tried; 0: nothing
    std::optional<std::pair<uint32_t, uint32_t>> error;  // Proof's last told_mtu, told_seen; nullopt: not looked at yet
    uint32_t told = 0;                                   // of an error that came since
    std::optional<Round> round;
    Clock::time_point begun;
    Clock::time_point since;  // `usable` is as it is
    std::optional<Clock::time_point> heard;
    Clock::time_point next;         // small probe, or the next attempt where nothing goes through
    Clock::time_point next_large;   // of the size that works
    Clock::time_point next_search;  // for a larger one
  };
  static void start_anew(Tunnel& tunnel, Clock::time_point now);
  static void take_way(Tunnel& tunnel, const Way& way, Clock::time_point now);
  void look(Tunnel& tunnel, const Proof* proof, Clock::time_point now) const;
  void listen(Tunnel& tunnel, const Proof& proof, Clock::time_point now) const;
  void narrow(Tunnel& tunnel, uint32_t fits, Clock::time_point now) const;
  void came_back(Tunnel& tunnel, uint32_t bytes, Clock::time_point now) const;
  void was_lost(Tunnel& tunnel, uint32_t bytes, Clock::time_point now) const;
  void lost_all(Tunnel& tunnel, Clock::time_point now) const;
  void found(Tunnel& tunnel, Clock::time_point now) const;
  [[nodiscard]] static uint32_t next_size(const Tunnel& tunnel, Clock::time_point now);
  [[nodiscard]] bool hopeless(const Tunnel& tunnel, Clock::time_point now) const;
  [[nodiscard]] std::chrono::milliseconds stretched(std::chrono::milliseconds beat, uint32_t per_second) const;

  Times times_;
  uint64_t next_nonce_;
  std::map<std::string, Tunnel> tunnels_;
  std::string last_served_;
};

}  // namespace sluice::agent::tunnel
