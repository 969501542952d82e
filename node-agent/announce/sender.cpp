#include "node-agent/announce/sender.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "node-agent/announce/frames.h"

namespace sluice::agent::announce {

Status send_announcement(uint32_t ifindex, const dataplane::Mac& mac, const net::IpAddress& address) {
  constexpr const char* kOperation = "announce";
  const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_errno(errno, kOperation, address.to_string());
  Status outcome;
  for (const Frame& frame : announcement(mac, address)) {
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_protocol = htons(address.is_ipv4() ? ETHERTYPE_ARP : ETHERTYPE_IPV6);
    to.sll_ifindex = static_cast<int>(ifindex);
    to.sll_halen = ETH_ALEN;
    std::copy_n(frame.begin(), ETH_ALEN, &to.sll_addr[0]);
    if (sendto(fd, frame.data(), frame.size(), MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0) {
      outcome = fail_errno(errno, kOperation, address.to_string());
    }
  }
  close(fd);
  return outcome;
}

}  // namespace sluice::agent::announce
