// Whole Ethernet frames for tests: TCP, UDP and ICMP over IPv4 and IPv6, and ARP, described by what stands in them. A
// Packet is a value: what a program should make of it is the same packet with other ends. Ports are in host order here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace sluice::packets {

using Bytes = std::vector<uint8_t>;
using Frame = Bytes;
using Mac = std::array<uint8_t, 6>;

// "192.0.2.1" in host order; aborts on anything else.
uint32_t ip(const std::string& text);

// An address of either family.
class Address {
 public:
  Address() = default;
  Address(uint32_t ipv4) : Address(false, ipv4) {}  // NOLINT(google-explicit-constructor): in host order
  static Address of(const std::string& text);       // aborts on what is none
  static Address of(const std::array<uint8_t, 16>& ipv6);

  [[nodiscard]] bool ipv6() const { return ipv6_; }
  [[nodiscard]] size_t size() const { return ipv6_ ? 16 : 4; }
  [[nodiscard]] const std::array<uint8_t, 16>& bytes() const { return bytes_; }  // IPv4: the first four
  [[nodiscard]] uint32_t last() const;                                           // the last four bytes, host order
  // 192.0.2.1 as 2001:db8:c000:200::1: a /24 is a /56. Of IPv6 the address itself.
  [[nodiscard]] Address in_ipv6() const;
  [[nodiscard]] std::string text() const;
  friend bool operator==(const Address&, const Address&) = default;
  // So many further on; carries in the last four bytes alone.
  friend Address operator+(const Address& from, uint32_t steps);

 private:
  Address(bool ipv6, uint32_t last);
  bool ipv6_ = false;
  std::array<uint8_t, 16> bytes_{};
};

struct Endpoint {
  Address address;
  uint16_t port = 0;
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};
Endpoint at(const std::string& address, uint16_t port);
std::ostream& operator<<(std::ostream& out, const Endpoint& end);

inline constexpr uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPsh = 0x08, kAck = 0x10;
inline constexpr uint8_t kIcmp = 1, kTcp = 6, kUdp = 17, kIcmp6 = 58;
inline constexpr uint16_t kIpv4Type = 0x0800, kIpv6Type = 0x86dd;
inline constexpr uint32_t kSequence = 0x01020304;  // of every segment that says nothing else

class Packet {
 public:
  static Packet tcp(Endpoint from, Endpoint to, uint8_t flags = kAck);
  static Packet udp(Endpoint from, Endpoint to);
  // Of the addresses' family; what follows the checksum is `rest`: four bytes of header, and the body.
  static Packet icmp(Address from, Address to, uint8_t type, uint8_t code, Bytes rest);
  // Any other protocol, with all that is behind the IP header.
  static Packet other(Address from, Address to, uint8_t protocol, Bytes bytes);

  Packet& from(Endpoint end) { return from_ = end, *this; }
  Packet& to(Endpoint end) { return to_ = end, *this; }
  Packet& macs(const Mac& source, const Mac& destination) {
    return source_mac_ = source, destination_mac_ = destination, *this;
  }
  Packet& ttl(uint8_t hops) { return ttl_ = hops, *this; }
  Packet& tos(uint8_t value) { return tos_ = value, *this; }
  Packet& flow_label(uint32_t value) { return flow_label_ = value, *this; }
  Packet& id(uint32_t value) { return id_ = value, *this; }
  Packet& flags(uint8_t tcp_flags) { return flags_ = tcp_flags, *this; }
  Packet& sequence(uint32_t number) { return sequence_ = number, *this; }
  Packet& acknowledges(uint32_t number) { return acknowledges_ = number, *this; }
  Packet& payload(Bytes bytes) { return payload_ = std::move(bytes), *this; }
  Packet& payload_size(size_t bytes);
  Packet& ip_options(size_t words) { return ip_option_words_ = words, *this; }
  Packet& tcp_options(size_t words) { return tcp_options(Bytes(words * 4, 0x01)); }    // no operation
  Packet& tcp_options(Bytes bytes) { return tcp_options_ = std::move(bytes), *this; }  // a multiple of four
  // IPv6: another extension header; `rest` is what follows its first byte, which names the next.
  Packet& extension(uint8_t number, Bytes rest) { return extensions_.emplace_back(number, std::move(rest)), *this; }
  // A VLAN tag in front of the others: 802.1Q, or 802.1ad outside of another.
  Packet& tag(uint16_t id, uint16_t type = 0x8100) { return tags_.insert(tags_.begin(), {type, id}), *this; }
  Packet& padding(size_t bytes) { return padding_ = bytes, *this; }
  Packet& fragment(uint16_t flags_and_offset) { return fragment_ = flags_and_offset, *this; }  // IPv4
  Packet& no_udp_checksum() { return udp_checksum_ = false, *this; }
  // Wrong on purpose; what is given replaces what would be right.
  Packet& ether_type(uint16_t type) { return ether_type_ = type, *this; }
  Packet& protocol(uint8_t number) { return protocol_on_wire_ = number, *this; }
  Packet& version(uint8_t number) { return version_ = number, *this; }
  Packet& header_words(uint8_t ihl) { return ihl_ = ihl, *this; }
  Packet& total_length(uint16_t bytes) { return total_length_ = bytes, *this; }  // of the IP packet
  Packet& data_offset(uint8_t words) { return data_offset_ = words, *this; }
  Packet& udp_length(uint16_t bytes) { return udp_length_ = bytes, *this; }

  [[nodiscard]] Frame frame() const;
  [[nodiscard]] Bytes ip_packet() const;  // the frame without Ethernet
  // The frame of a fragment: of what is behind the IP header `bytes` from `first` on, which is a multiple of eight. The
  // last where it reaches the end.
  [[nodiscard]] Frame part(size_t first, size_t bytes) const;

  [[nodiscard]] Packet in_ipv6() const;  // the same between the addresses of in_ipv6()
  [[nodiscard]] bool ipv6() const { return to_.address.ipv6(); }
  [[nodiscard]] uint8_t protocol_number() const { return protocol_; }
  [[nodiscard]] Endpoint source() const { return from_; }
  [[nodiscard]] Endpoint destination() const { return to_; }
  // What the last two bytes of an even UDP payload must be for the checksum to be computed as zero, which is sent as
  // all ones.
  [[nodiscard]] uint16_t word_for_zero_checksum() const;
  [[nodiscard]] size_t ip_header_size() const;  // with options and extension headers
  [[nodiscard]] size_t headers_size() const;    // Ethernet, IP and TCP or UDP
  [[nodiscard]] Bytes transport() const;        // what is behind the IP header

 private:
  void add_ipv4(Frame& frame, size_t payload, uint16_t fragment) const;
  void add_ipv6(Frame& frame, size_t payload, const Bytes& fragment_header) const;
  [[nodiscard]] Frame ethernet() const;

  Endpoint from_, to_;
  Mac source_mac_{}, destination_mac_{};
  uint8_t protocol_ = kTcp, ttl_ = 64, tos_ = 0, flags_ = kAck;
  uint32_t flow_label_ = 0, id_ = 0x1234, sequence_ = kSequence, acknowledges_ = kSequence + 1;
  uint16_t fragment_ = 0x4000;  // don't fragment
  size_t ip_option_words_ = 0, padding_ = 0;
  std::vector<std::pair<uint8_t, Bytes>> extensions_;
  std::vector<std::pair<uint16_t, uint16_t>> tags_;
  bool udp_checksum_ = true;
  Bytes payload_, tcp_options_;
  int ether_type_ = -1, protocol_on_wire_ = -1, version_ = -1, ihl_ = -1, total_length_ = -1, data_offset_ = -1,
      udp_length_ = -1;
};

// The ends that a frame of TCP or UDP without options has. Ports 0 where it is something else.
Endpoint source_of(const Frame& frame);
Endpoint destination_of(const Frame& frame);
// Where the IP header of a frame ends, its options and extension headers passed by; fragments included.
size_t transport_at(const Frame& frame);
uint16_t word_at(const Frame& frame, size_t offset);

// Several bytes in network order, one after the other.
class Writer {
 public:
  Writer& u8(unsigned value) { return bytes_.push_back(static_cast<uint8_t>(value)), *this; }
  Writer& u16(unsigned value) { return u8(value >> 8 & 0xff).u8(value & 0xff); }
  Writer& u32(uint32_t value) { return u16(value >> 16).u16(value & 0xffff); }
  Writer& u64(uint64_t value) { return u32(static_cast<uint32_t>(value >> 32)).u32(static_cast<uint32_t>(value)); }
  Writer& address(const Address& address) { return range(address.bytes().data(), address.size()); }
  Writer& bytes(const Bytes& all) { return range(all.data(), all.size()); }
  Writer& range(const uint8_t* from, size_t count) { return bytes_.insert(bytes_.end(), from, from + count), *this; }
  operator Bytes() const { return bytes_; }  // NOLINT(google-explicit-constructor)

 private:
  Bytes bytes_;
};

// An ARP packet for Ethernet and IPv4, as RFC 826 lays it out; every field can be set.
struct Arp {
  Mac source_mac{}, destination_mac{};  // of the frame
  uint16_t hardware = 1, protocol = 0x0800;
  uint8_t hardware_length = 6, protocol_length = 4;
  uint16_t operation = 1;
  Mac sender_mac{};
  uint32_t sender = 0;
  Mac target_mac{};
  uint32_t target = 0;
  size_t padding = 18;  // to Ethernet's 60 bytes

  [[nodiscard]] Frame frame() const;
};

// For messages: the fields, as far as the frame has them, and the bytes.
std::string describe(const Frame& frame);

}  // namespace sluice::packets
