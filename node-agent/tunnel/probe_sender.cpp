#include "node-agent/tunnel/probe_sender.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

namespace sluice::agent::tunnel {

ProbeSender::~ProbeSender() {
  if (fd_ >= 0) close(fd_);
}

Status ProbeSender::send(const Frame& frame) {
  constexpr const char* kOperation = "send tunnel probe";
  // Protocol 0: nothing is received by it.
  if (fd_ < 0) fd_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd_ < 0) return fail_errno(errno, kOperation, "");
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  std::copy_n(frame.bytes.begin() + 2 * ETH_ALEN, sizeof to.sll_protocol, reinterpret_cast<uint8_t*>(&to.sll_protocol));
  to.sll_ifindex = static_cast<int>(frame.ifindex);
  to.sll_halen = ETH_ALEN;
  std::copy_n(frame.bytes.begin(), ETH_ALEN, &to.sll_addr[0]);
  if (sendto(fd_, frame.bytes.data(), frame.bytes.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) >= 0) {
    return {};
  }
  const int error = errno;
  if (error == EPERM || error == EACCES) return fail_errno(error, kOperation, "");
  return {};
}

}  // namespace sluice::agent::tunnel
