// The model and the programs, given the same packets.
#pragma once

#include "tests/model/allowance.h"
#include "tests/model/generator.h"
#include "tests/model/rig.h"

namespace sluice::model {

class Duel {
 public:
  Duel(const Theme& theme, const Site& site, Rig& rig) : theme_(theme), site_(site), rig_(rig) {}

  // Before the first round: what the agent loads anew for a first scene takes a while.
  void prepare();
  // One round: a scene, packets, and the scene as it moves on. The same seed is the same round. Returns what they do
  // not agree in; nullopt: nothing. Ends early where time would begin to matter to flows.
  std::optional<std::string> round(uint64_t seed);
  [[nodiscard]] uint64_t packets() const { return packets_; }
  // How often packets had this outcome: a verdict and its reasons.
  [[nodiscard]] const std::map<std::string, uint64_t>& outcomes() const { return outcomes_; }

 private:
  std::optional<std::string> step(Generator& generator);
  std::optional<std::string> compare_sums();
  // Which of the two that the model allows for it is: an answer, or none for want of tokens.
  Outcome settle(Outcome expected, const Rig::Passed& passed);
  void count(const Outcome& outcome);

  const Theme& theme_;
  const Site& site_;
  Rig& rig_;
  std::optional<Model> model_;
  Allowance allowance_;
  uint64_t packets_ = 0;
  std::map<std::string, uint64_t> outcomes_;
  // Since the round began, by service, backend: packets, bytes, flows, packets back.
  struct Sum {
    uint64_t packets = 0, bytes = 0, flows = 0, returned = 0;
    friend bool operator==(const Sum&, const Sum&) = default;
  };
  using Sums = std::map<std::tuple<std::string, net::IpAddress, uint16_t>, Sum>;
  Sums sums_;
  Sums before_;
  bool moved_ = false;
  static Sums sums_of(const agent::dataplane::Counters& counters);
};

}  // namespace sluice::model
