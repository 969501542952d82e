// The programs under test, as an agent runs them: its own dataplane loads them, attaches them to an interface and fills
// their maps. So nothing here knows what stands in those.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "node-agent/dataplane/dataplane.h"
#include "tests/bench/packet_harness.h"

namespace sluice::bench {

// What the maps are filled from.
struct Situation {
  state::DesiredState desired;
  std::string node = "self";
  agent::dataplane::Network network;
};

// May be used by several threads.
class Plane {
 public:
  // For an interface, and flows of one family; the pins lie in a directory of its name. Throws std::runtime_error that
  // says what was refused, as do the others.
  Plane(const std::string& interface, net::Family family);
  ~Plane();
  Plane(const Plane&) = delete;
  Plane& operator=(const Plane&) = delete;

  // Of what is attached, once it has been programmed.
  [[nodiscard]] int ingress() const { return ingress_; }  // file descriptor, XDP
  [[nodiscard]] int egress() const { return egress_; }    // file descriptor, tc

  // Makes the maps hold the situation, and reads them back.
  void program(const Situation& situation);
  void forget_flows();
  // Packets by reason, over all CPUs.
  [[nodiscard]] std::map<std::string, uint64_t> reasons() const;

 private:
  void find_programs();
  void close_programs();

  mutable std::mutex mutex_;
  std::unique_ptr<agent::dataplane::Dataplane> dataplane_;
  uint32_t interface_ = 0;
  int ingress_ = -1;
  int egress_ = -1;
};

}  // namespace sluice::bench
