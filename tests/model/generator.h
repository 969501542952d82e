// Traffic at random: connections that begin, go on and end, their backends' replies, fragments, noise, and all of that
// with something wrong.
#pragma once

#include <deque>

#include "tests/model/make.h"
#include "tests/model/model.h"
#include "tests/model/scenes.h"

namespace sluice::model {

struct Step {
  Bytes frame;
  bool leaves = false;  // the node's stack sends it; else it comes in
  std::optional<size_t> conversation;
};

class Generator {
 public:
  Generator(const Theme& theme, const Site& site, SceneMaker& scenes, Random& random)
      : theme_(theme), site_(site), scenes_(scenes), random_(random) {}

  // Another round, or another scene within one.
  void begin(const Scene& scene, bool anew);
  Step next();
  // What became of a step: a packet that reached its backend can be answered.
  void learn(const Step& step, const Outcome& outcome);

 private:
  struct Conversation {
    Ends ends;  // as the client sends
    uint8_t protocol = kTcp;
    Mac from{};
    uint32_t sequence = 0;
    uint32_t last_reply = 0;  // sequence number
    bool syn_sent = false;
    std::optional<Ends> behind;  // as its packets reach the backend
    bool local = false;          // the backend is on this node
  };
  Step of_client(size_t index);
  Step of_backend(size_t index);
  Step noise();
  Step packet(const Conversation& of, const Ends& ends, uint8_t flags, uint32_t sequence, uint32_t acknowledged,
              const Mac& from);
  void vary(Addressing& addressing);
  size_t start();
  void spoil(Step& step);

  const Theme& theme_;
  const Site& site_;
  SceneMaker& scenes_;
  Random& random_;
  std::vector<std::pair<net::IpAddress, std::pair<uint16_t, uint8_t>>> services_;  // address, port, protocol
  std::vector<net::IpAddress> addresses_;
  std::vector<Conversation> conversations_;
  std::deque<Step> queued_;
  uint32_t fragment_ = 0;
};

}  // namespace sluice::model
