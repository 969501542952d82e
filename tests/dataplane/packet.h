// One packet through a loaded XDP program.
#pragma once

#include <string>
#include <vector>

#include "node-agent/dataplane/device.h"

namespace sluice::agent::dataplane::testing {

// A UDP packet of the addresses' family addressed to the device's MAC, with valid checksums.
std::vector<uint8_t> udp_packet(const Device& to, const std::string& source, uint16_t source_port,
                                const std::string& destination, uint16_t port);
// A broadcast ARP request for an address.
std::vector<uint8_t> arp_request(const std::string& sender, const std::string& target);

struct PacketOut {
  int verdict = -1;  // XDP_...
  std::string source, destination;
  uint16_t source_port = 0, destination_port = 0;
};
// By BPF_PROG_TEST_RUN, as if it had come in by any interface. Fails the test where the kernel refuses.
PacketOut run_packet(int program, std::vector<uint8_t> packet);

}  // namespace sluice::agent::dataplane::testing
