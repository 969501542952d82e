// Which addresses this node answers for, and where: what the desired state's announcements say, nothing else. Pure.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "common/net/address.h"
#include "common/state/desired_state.h"
#include "node-agent/dataplane/dataplane.h"

namespace sluice::agent::announce {

// A VLAN device above an interface that Sluice is attached to: its frames come in there, with a tag.
struct VlanDevice {
  std::string name;
  uint32_t ifindex = 0;
  uint32_t parent = 0;
  uint16_t id = 0;
};

// The device by which an owned address is announced, and its groups joined; 0: it has gone.
uint32_t device_of(const dataplane::OwnedAddress& owned, const std::vector<VlanDevice>& vlans);

struct Ownership {
  std::vector<dataplane::OwnedAddress> owned;  // ascending: where Sluice answers ARP and neighbour solicitations
  std::vector<net::IpAddress> announcing;  // ascending: the addresses this node is reached for, as status shows them
};

// `local`: addresses configured on this machine's devices. The kernel answers for those itself. `vlans`: on which of
// them an announcement is wanted has to be said by name; without names it is for frames without a tag.
Ownership ownership(const state::DesiredState& state, const std::string& node,
                    const std::vector<dataplane::AttachedInterface>& attached, const std::vector<VlanDevice>& vlans,
                    const std::set<net::IpAddress>& local);

// The addresses this node is to answer for, by whatever interface; ascending.
std::vector<net::IpAddress> chosen(const state::DesiredState& state, const std::string& node);

// Without the addresses that are not in `answered`: what an agent may go on doing before anybody who knows has said
// that its memory still holds. Another node may have been chosen since.
Ownership withhold(Ownership ownership, const std::set<net::IpAddress>& answered);

// Those of `owned` that are not in `before`: taken now, to be made known.
std::vector<dataplane::OwnedAddress> taken(const std::vector<dataplane::OwnedAddress>& before,
                                           const std::vector<dataplane::OwnedAddress>& owned);

}  // namespace sluice::agent::announce
