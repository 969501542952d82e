#include "node-agent/announce/memberships.h"

#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace sluice::agent::announce {
namespace {

constexpr const char* kOperation = "join multicast group";

ipv6_mreq request_for(const Group& group) {
  ipv6_mreq request{};
  std::ranges::copy(group.address.bytes(), &request.ipv6mr_multiaddr.s6_addr[0]);
  request.ipv6mr_interface = group.ifindex;
  return request;
}

packet_mreq filter_request_for(const Group& group) {
  packet_mreq request{};
  request.mr_ifindex = static_cast<int>(group.ifindex);
  request.mr_type = PACKET_MR_MULTICAST;
  const dataplane::Mac mac = multicast_mac(group.address);
  request.mr_alen = static_cast<unsigned short>(mac.size());
  std::ranges::copy(mac, &request.mr_address[0]);
  return request;
}

tl::unexpected<Error> failed(int error, const Group& group) {
  return fail_errno(error, kOperation, group.address.to_string() + " on device " + std::to_string(group.ifindex));
}

// "2 eth0 ff0200000000000000000001ff000001 1 00000004 0": the groups of this thread's namespace.
std::set<Group> joined_by_anybody() {
  std::set<Group> groups;
  std::ifstream file("/proc/thread-self/net/igmp6");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    Group group;
    std::string device;
    std::string digits;
    std::array<uint8_t, 16> bytes{};
    if (!(words >> group.ifindex >> device >> digits) || digits.size() != 2 * bytes.size()) continue;
    for (size_t i = 0; i < bytes.size(); ++i) {
      std::from_chars(digits.data() + 2 * i, digits.data() + 2 * i + 2, bytes[i], 16);
    }
    group.address = net::IpAddress::from_ipv6(bytes);
    groups.insert(group);
  }
  return groups;
}

}  // namespace

Memberships::~Memberships() {
  for (const Socket& socket : sockets_) {
    if (socket.fd >= 0) close(socket.fd);
  }
  if (filter_ >= 0) close(filter_);
}

Status Memberships::join_as_listener(const Group& group) {
  const ipv6_mreq request = request_for(group);
  for (size_t i = 0;; ++i) {
    if (i == sockets_.size()) sockets_.push_back({});
    Socket& socket = sockets_[i];
    if (socket.full) continue;
    if (socket.fd < 0) socket.fd = ::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket.fd < 0) return failed(errno, group);
    if (setsockopt(socket.fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &request, sizeof request) == 0) {
      ++socket.groups;
      held_[group] = {i, false};
      return {};
    }
    const int error = errno;
    // A socket's options may take so much memory (net.core.optmem_max) and no more: the next one's, then.
    socket.full = (error == ENOMEM || error == ENOBUFS) && socket.groups > 0;
    if (!socket.full) return failed(error, group);
  }
}

Status Memberships::join_filter(const Group& group) {
  // Protocol 0: it receives nothing.
  if (filter_ < 0) filter_ = ::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (filter_ < 0) return failed(errno, group);
  const packet_mreq request = filter_request_for(group);
  if (setsockopt(filter_, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof request) != 0)
    return failed(errno, group);
  held_[group] = {0, true};
  return {};
}

Status Memberships::join(const Group& group) {
  auto joined = join_as_listener(group);
  return joined ? joined : join_filter(group);
}

void Memberships::leave(const Group& group, const Held& held) {
  // Fails where the device has gone, and the membership with it.
  if (held.filter_only) {
    const packet_mreq request = filter_request_for(group);
    std::ignore = setsockopt(filter_, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &request, sizeof request);
    return;
  }
  Socket& socket = sockets_[held.socket];
  const ipv6_mreq request = request_for(group);
  std::ignore = setsockopt(socket.fd, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &request, sizeof request);
  socket.full = false;
  if (--socket.groups > 0) return;
  close(socket.fd);
  socket.fd = -1;
}

// A device's IPv6 that was taken away and given back has forgotten what its sockets still hold.
std::set<Group> Memberships::lost() const {
  std::set<Group> out;
  if (held_.empty()) return out;
  const std::set<Group> joined = joined_by_anybody();
  if (joined.empty()) return out;  // it cannot be told: no IPv6 here, or no /proc
  for (const auto& [group, held] : held_) {
    if (held.filter_only || !joined.contains(group)) out.insert(group);
  }
  return out;
}

Status Memberships::set(const std::set<Group>& wanted) {
  for (auto next = held_.begin(); next != held_.end();) {
    const auto at = next++;
    if (wanted.contains(at->first)) continue;
    leave(at->first, at->second);
    held_.erase(at);
  }
  for (const Group& group : lost()) {
    const Held before = held_.at(group);
    // In the filter only: stays so until the device has IPv6 again.
    if (before.filter_only && !join_as_listener(group)) continue;
    leave(group, before);
    if (!before.filter_only) held_.erase(group);
  }
  Status outcome;
  for (const Group& group : wanted) {
    if (held_.contains(group)) continue;
    if (auto joined = join(group); !joined && outcome) outcome = joined;
  }
  return outcome;
}

}  // namespace sluice::agent::announce
