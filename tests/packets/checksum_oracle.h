// Whether the checksums of a frame are right: recomputed from nothing, by other arithmetic than the packet builder's
// and the dataplane's, so that an error in either cannot hide here.
#pragma once

#include <string>

#include "tests/packets/packet_builder.h"

namespace sluice::packets {

// Empty if every checksum is right that the frame carries: the IPv4 header's, TCP's, UDP's, ICMP's and ICMPv6's, of a
// packet inside of IP or Geneve too. What has none is not looked at (a UDP checksum that was not computed, where that
// is allowed; a fragment; ARP). Else what is wrong. What an ICMP error quotes may be cut off: packet_error() looks at
// that where it is whole.
std::string checksum_error(const Frame& frame);

// The same for an IP packet that begins with the range's first byte, whole.
std::string packet_error(const Bytes& packet);

}  // namespace sluice::packets
