// An IP packet behind an Ethernet header, read as RFC 791, 8200, 768 and 9293 say. The model's own reading.
#pragma once

#include <cstdint>
#include <optional>

#include "common/net/address.h"
#include "tests/model/bytes.h"

namespace sluice::model {

constexpr size_t kEthernet = 14;
constexpr uint16_t kTypeIpv4 = 0x0800, kTypeIpv6 = 0x86dd, kTypeArp = 0x0806, kTypeTag = 0x8100,
                   kTypeServiceTag = 0x88a8;
constexpr uint8_t kIcmp = 1, kTcp = 6, kUdp = 17, kIcmpv6 = 58;
constexpr uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kAck = 0x10;

enum class Part : uint8_t { whole, first, later };

struct Packet {
  bool v6 = false;
  size_t length = 0;  // of the IP packet by its own account
  net::IpAddress source, destination;
  uint8_t traffic_class = 0;
  uint8_t hops = 0;
  bool dont_fragment = false;
  // Of what lies behind the IP header and its extensions.
  uint8_t protocol = 0;
  size_t at = 0;  // where that begins in the frame
  Part part = Part::whole;
  uint32_t id = 0;  // of a fragment
  // Of TCP and UDP. A later fragment has none of its own.
  uint16_t source_port = 0, destination_port = 0;
  uint8_t flags = 0;          // TCP's; 0 where there are none
  uint32_t acknowledged = 0;  // TCP's
  uint32_t sequence = 0;      // TCP's
};

// An IP header alone: version, lengths of the header, addresses. nullopt: the frame is too short for one.
struct Header {
  bool right = false;  // version and, of IPv4, the length of the header are what they must be
  net::IpAddress destination;
};
std::optional<Header> read_header(View frame, bool v6);

// A whole packet of TCP or UDP whose header follows IP's directly (IPv4: behind its options), with its ports there.
std::optional<Packet> read_plain(View frame, bool v6);

// Any packet: extension headers are walked, at most kMostExtensions of them, and fragments told apart. nullopt: it
// cannot be read up to what lies behind the IP headers. Ports are read where they are there: has_ports().
constexpr int kMostExtensions = 5;
constexpr size_t kMostHeaders = 1024;  // bytes of IP header and extensions
std::optional<Packet> read_any(View frame, bool v6);
// Whether the packet is TCP or UDP whose ports lie in the frame.
bool has_ports(View frame, const Packet& packet);

// Whether the lengths add up within the frame: IP's; of a whole packet also TCP's data offset or UDP's length. A TCP or
// UDP header must be there in full.
bool lengths_right(View frame, const Packet& packet);

inline bool begins(uint8_t flags) {
  return (flags & (kSyn | kAck)) == kSyn;
}

// --- changing, checksums included ------------------------------------------------------------------------------------

struct Ends {
  net::IpAddress source, destination;
  uint16_t source_port = 0, destination_port = 0;
};
// Gives the packet other ends. A later fragment has no ports to change.
void give_ends(Bytes& frame, const Packet& packet, const Ends& ends);
// Sets its TTL or hop limit; takes one off it.
void set_hops(Bytes& frame, bool v6, uint8_t hops);
void take_hop(Bytes& frame, bool v6);
// IPv4's, computed anew; the field may be anything.
void set_header_checksum(Bytes& frame, size_t at);
void set_ethernet(Bytes& frame, const Mac& destination, const Mac& source, uint16_t type);

}  // namespace sluice::model
