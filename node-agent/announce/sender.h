// The socket that announcements leave by.
#pragma once

#include <cstdint>

#include "common/net/address.h"
#include "common/result.h"
#include "node-agent/dataplane/dataplane.h"

namespace sluice::agent::announce {

// Sends every frame of an address's announcement out of an interface. Needs CAP_NET_RAW.
Status send_announcement(uint32_t ifindex, const dataplane::Mac& mac, const net::IpAddress& address);

}  // namespace sluice::agent::announce
