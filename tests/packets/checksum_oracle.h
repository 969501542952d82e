// Whether the checksums of a frame are right: recomputed from nothing, by other arithmetic than the packet builder's
// and the dataplane's, so that an error in either cannot hide here.
#pragma once

#include <string>

#include "tests/packets/packet_builder.h"

namespace sluice::packets {

// Empty if the IPv4 header's and the TCP or UDP checksum are right, or the frame carries none of these (a UDP checksum
// that was not computed, a fragment, an ARP packet). Else what is wrong.
std::string checksum_error(const Frame& frame);

}  // namespace sluice::packets
