// The network that the programs under test stand in: a namespace of this process's own, made before the first test and
// gone with the process. One load balancer with two interfaces, each a veth pair whose far end lies in the same
// namespace.
//
//   lan   192.0.2.1/24, kLanMac     the programs' interface; clients behind the router 192.0.2.254
//   core  10.9.0.1/24, kCoreMac     backends in nat
//
// The same in IPv6 by Address::in_ipv6().
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "tests/packets/packet_builder.h"

namespace sluice::packets {

inline constexpr Mac kLanMac{0x02, 0x5c, 0, 0, 0, 0x01}, kCoreMac{0x02, 0x5c, 0, 0, 0, 0x02};
inline constexpr Mac kRouterMac{0x02, 0x5c, 0, 0, 0, 0xfe};      // 192.0.2.254
inline constexpr Mac kNeighbourMac{0x02, 0x5c, 0, 0, 0, 0x50};   // 192.0.2.50
inline constexpr Mac kBackendMac{0x02, 0x5c, 0, 0, 0x09, 0x14};  // 10.9.0.20
inline constexpr Mac kOtherMac{0x02, 0x5c, 0, 0, 0, 0x99}, kBroadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

struct Interfaces {
  uint32_t lan = 0, core = 0;
};
const Interfaces& interfaces();

// Runs `ip -batch` in this namespace, one command a line; throws std::runtime_error with its output if it fails.
void ip_commands(const std::string& lines);

// Writes a file of /proc/sys; throws std::runtime_error.
void set_sysctl(const std::string& name, const std::string& value);

// Holds a setting for one test.
class ScopedSysctl {
 public:
  ScopedSysctl(std::string name, const std::string& value);
  ~ScopedSysctl();
  ScopedSysctl(const ScopedSysctl&) = delete;
  ScopedSysctl& operator=(const ScopedSysctl&) = delete;

 private:
  std::string name_, before_;
};

// Another network namespace, held by this object.
class Namespace {
 public:
  Namespace();
  ~Namespace();
  Namespace(const Namespace&) = delete;
  Namespace& operator=(const Namespace&) = delete;
  // Runs it in a thread of its own in there; what it throws is thrown here.
  void run(const std::function<void()>& work) const;
  template <typename Value>
  [[nodiscard]] Value call(const std::function<Value()>& work) const {
    Value value{};
    run([&] { value = work(); });
    return value;
  }
  [[nodiscard]] std::string path() const;  // as `ip link set ... netns` takes it

 private:
  int fd_ = -1;
};

enum class Offload : uint8_t { transmit_checksum, generic_receive };
// These concern an interface of the calling thread's namespace; they throw std::runtime_error.
void set_offload(const std::string& interface, Offload offload, bool on);
Mac mac_of(const std::string& interface);

std::string text(const Mac& mac);

}  // namespace sluice::packets
