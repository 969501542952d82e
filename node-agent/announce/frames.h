// Telling a network unasked that an address is here now, so that nobody keeps sending to the node that had it before:
// the frames. Pure. IPv4: gratuitous ARP (RFC 5227, section 3). IPv6: unsolicited neighbour advertisements (RFC 4861,
// section 7.2.6).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "common/net/address.h"
#include "node-agent/dataplane/dataplane.h"

namespace sluice::agent::announce {

using Frame = std::vector<uint8_t>;  // from the Ethernet header on, without the check sequence

enum class ArpForm : uint16_t { request = 1, reply = 2 };

// Sender and target are `address`, sent by `mac` to all. 42 bytes.
Frame gratuitous_arp(const dataplane::Mac& mac, const net::IpAddress& address, ArpForm form);

// From `address` to all nodes of the link, with the override flag: whoever knows another MAC takes this one. 86 bytes.
Frame unsolicited_advertisement(const dataplane::Mac& mac, const net::IpAddress& address);

// What makes an address known, by its family. Of ARP both forms: some stacks update their caches from requests, some
// from replies only.
std::vector<Frame> announcement(const dataplane::Mac& mac, const net::IpAddress& address);

}  // namespace sluice::agent::announce
