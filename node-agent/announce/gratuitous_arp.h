// Gratuitous ARP: telling a network unasked that an address is here now (RFC 5227, section 3), so that nobody keeps
// sending to the node that had it before.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "common/net/address.h"
#include "common/result.h"
#include "node-agent/dataplane/dataplane.h"

namespace sluice::agent::announce {

constexpr size_t kArpFrame = 42;  // Ethernet and ARP headers
enum class ArpForm : uint16_t { request = 1, reply = 2 };

// Sender and target are `address`, sent by `mac` to all. Some stacks update their caches from requests, some from
// replies only.
std::array<uint8_t, kArpFrame> gratuitous_arp(const dataplane::Mac& mac, const net::IpAddress& address, ArpForm form);

// Sends both forms out of an interface. Needs CAP_NET_RAW.
Status send_gratuitous(uint32_t ifindex, const dataplane::Mac& mac, const net::IpAddress& address);

// Each address is made known three times: at once, and one and two seconds later (a frame may be lost, and a bridge
// port may not forward yet). Pure but for `send`.
class Heralds {
 public:
  using Clock = std::chrono::steady_clock;
  using Send = std::function<void(const dataplane::OwnedAddress&)>;
  void add(const std::vector<dataplane::OwnedAddress>& taken, Clock::time_point now);
  // Forgets what is not owned any more, sends what is due.
  void tick(const std::vector<dataplane::OwnedAddress>& owned, Clock::time_point now, const Send& send);
  [[nodiscard]] bool idle() const { return pending_.empty(); }

 private:
  struct Pending {
    int left = 0;
    Clock::time_point next;
  };
  std::map<dataplane::OwnedAddress, Pending> pending_;
};

}  // namespace sluice::agent::announce
