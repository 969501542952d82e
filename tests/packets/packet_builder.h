// Whole Ethernet frames for tests: TCP and UDP over IPv4, and ARP, described by what stands in them. A Packet is a
// value: what a program should make of it is the same packet with other ends. Addresses and ports are in host order
// here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sluice::packets {

using Frame = std::vector<uint8_t>;
using Mac = std::array<uint8_t, 6>;

// "192.0.2.1" in host order; aborts on anything else.
uint32_t ip(const std::string& text);

struct Endpoint {
  uint32_t address = 0;
  uint16_t port = 0;
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};
Endpoint at(const std::string& address, uint16_t port);

inline constexpr uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPsh = 0x08, kAck = 0x10;
inline constexpr uint8_t kTcp = 6, kUdp = 17;

class Packet {
 public:
  static Packet tcp(Endpoint from, Endpoint to, uint8_t flags = kAck);
  static Packet udp(Endpoint from, Endpoint to);

  Packet& from(Endpoint end) { return from_ = end, *this; }
  Packet& to(Endpoint end) { return to_ = end, *this; }
  Packet& macs(const Mac& source, const Mac& destination) {
    return source_mac_ = source, destination_mac_ = destination, *this;
  }
  Packet& ttl(uint8_t hops) { return ttl_ = hops, *this; }
  Packet& tos(uint8_t value) { return tos_ = value, *this; }
  Packet& flags(uint8_t tcp_flags) { return flags_ = tcp_flags, *this; }
  Packet& payload(std::vector<uint8_t> bytes) { return payload_ = std::move(bytes), *this; }
  Packet& payload_size(size_t bytes);
  Packet& ip_options(size_t words) { return ip_option_words_ = words, *this; }
  Packet& tcp_options(size_t words) { return tcp_option_words_ = words, *this; }
  Packet& padding(size_t bytes) { return padding_ = bytes, *this; }
  Packet& fragment(uint16_t flags_and_offset) { return fragment_ = flags_and_offset, *this; }
  Packet& no_udp_checksum() { return udp_checksum_ = false, *this; }
  // Wrong on purpose; what is given replaces what would be right.
  Packet& ether_type(uint16_t type) { return ether_type_ = type, *this; }
  Packet& protocol(uint8_t number) { return protocol_on_wire_ = number, *this; }
  Packet& version(uint8_t number) { return version_ = number, *this; }
  Packet& header_words(uint8_t ihl) { return ihl_ = ihl, *this; }
  Packet& total_length(uint16_t bytes) { return total_length_ = bytes, *this; }
  Packet& data_offset(uint8_t words) { return data_offset_ = words, *this; }
  Packet& udp_length(uint16_t bytes) { return udp_length_ = bytes, *this; }

  [[nodiscard]] Frame frame() const;
  [[nodiscard]] Endpoint source() const { return from_; }
  [[nodiscard]] Endpoint destination() const { return to_; }
  // What the last two bytes of an even UDP payload must be for the checksum to be computed as zero, which is sent as
  // all ones.
  [[nodiscard]] uint16_t word_for_zero_checksum() const;
  [[nodiscard]] size_t ip_header_size() const { return 20 + 4 * ip_option_words_; }
  [[nodiscard]] size_t headers_size() const;  // Ethernet, IP and TCP or UDP

 private:
  [[nodiscard]] std::vector<uint8_t> transport(bool with_checksum) const;

  Endpoint from_, to_;
  Mac source_mac_{}, destination_mac_{};
  uint8_t protocol_ = kTcp, ttl_ = 64, tos_ = 0, flags_ = kAck;
  uint16_t fragment_ = 0x4000;  // don't fragment
  size_t ip_option_words_ = 0, tcp_option_words_ = 0, padding_ = 0;
  bool udp_checksum_ = true;
  std::vector<uint8_t> payload_;
  int ether_type_ = 0x0800, protocol_on_wire_ = -1, version_ = 4, ihl_ = -1, total_length_ = -1, data_offset_ = -1,
      udp_length_ = -1;
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
