#include "node-agent/announce/groups.h"

#include <algorithm>

namespace sluice::agent::announce {

net::IpAddress solicited_node(const net::IpAddress& address) {
  std::array<uint8_t, 16> group = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0};
  std::copy_n(address.bytes().begin() + 13, 3, group.begin() + 13);
  return net::IpAddress::from_ipv6(group);
}

dataplane::Mac multicast_mac(const net::IpAddress& group) {
  dataplane::Mac mac = {0x33, 0x33, 0, 0, 0, 0};
  std::copy_n(group.bytes().begin() + 12, 4, mac.begin() + 2);
  return mac;
}

std::set<Group> solicited_node_groups(const std::vector<dataplane::OwnedAddress>& owned,
                                      const std::vector<VlanDevice>& vlans) {
  std::set<Group> groups;
  for (const dataplane::OwnedAddress& one : owned) {
    const uint32_t device = device_of(one, vlans);
    if (!one.address.is_ipv4() && device != 0) groups.insert({device, solicited_node(one.address)});
  }
  return groups;
}

}  // namespace sluice::agent::announce
