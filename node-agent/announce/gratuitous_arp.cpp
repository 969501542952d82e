#include "node-agent/announce/gratuitous_arp.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace sluice::agent::announce {
namespace {

constexpr int kTimes = 3;
constexpr std::chrono::seconds kApart{1};

}  // namespace

std::array<uint8_t, kArpFrame> gratuitous_arp(const dataplane::Mac& mac, const net::IpAddress& address, ArpForm form) {
  std::array<uint8_t, kArpFrame> frame{};
  auto at = frame.begin();
  const auto put = [&at](const auto& bytes, size_t count) { at = std::copy_n(bytes.begin(), count, at); };
  const dataplane::Mac everybody = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  // Ethernet: type ARP. ARP (RFC 826): Ethernet, IPv4, lengths 6 and 4, operation.
  const std::array<uint8_t, 10> head = {0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, static_cast<uint8_t>(form)};
  put(everybody, 6);
  put(mac, 6);
  put(head, head.size());
  put(mac, 6);
  put(address.bytes(), 4);
  put(form == ArpForm::reply ? mac : dataplane::Mac{}, 6);
  put(address.bytes(), 4);
  return frame;
}

Status send_gratuitous(uint32_t ifindex, const dataplane::Mac& mac, const net::IpAddress& address) {
  const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_errno(errno, "send gratuitous ARP for", address.to_string());
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_protocol = htons(ETHERTYPE_ARP);
  to.sll_ifindex = static_cast<int>(ifindex);
  to.sll_halen = ETH_ALEN;
  std::memset(&to.sll_addr, 0xff, ETH_ALEN);
  Status outcome;
  for (const ArpForm form : {ArpForm::request, ArpForm::reply}) {
    const auto frame = gratuitous_arp(mac, address, form);
    if (sendto(fd, frame.data(), frame.size(), MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0) {
      outcome = fail_errno(errno, "send gratuitous ARP for", address.to_string());
    }
  }
  close(fd);
  return outcome;
}

void Heralds::add(const std::vector<dataplane::OwnedAddress>& taken, Clock::time_point now) {
  for (const dataplane::OwnedAddress& address : taken) pending_.insert_or_assign(address, Pending{kTimes, now});
}

void Heralds::tick(const std::vector<dataplane::OwnedAddress>& owned, Clock::time_point now, const Send& send) {
  std::erase_if(pending_, [&](const auto& entry) { return !std::ranges::binary_search(owned, entry.first); });
  for (auto& [address, pending] : pending_) {
    if (pending.next > now) continue;
    send(address);
    --pending.left;
    pending.next = now + kApart;
  }
  std::erase_if(pending_, [](const auto& entry) { return entry.second.left <= 0; });
}

}  // namespace sluice::agent::announce
