#include "tests/packets/packet_builder.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>
#include <utility>

namespace sluice::packets {
namespace {

constexpr size_t kEthernetSize = 14;

void put8(std::vector<uint8_t>& to, unsigned value) {
  to.push_back(static_cast<uint8_t>(value));
}
void put16(std::vector<uint8_t>& to, unsigned value) {
  put8(to, value >> 8 & 0xff);
  put8(to, value & 0xff);
}
void put32(std::vector<uint8_t>& to, uint32_t value) {
  put16(to, value >> 16);
  put16(to, value & 0xffff);
}
template <typename Range>
void put(std::vector<uint8_t>& to, const Range& bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}

// RFC 1071 in its plainest form: big-endian words, end-around carry, complement.
uint16_t internet_checksum(const std::vector<uint8_t>& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); i += 2) {
    sum += static_cast<uint32_t>(bytes[i] << 8) + (i + 1 < bytes.size() ? bytes[i + 1] : 0U);
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(~sum);
}

void set16(std::vector<uint8_t>& in, size_t offset, uint16_t value) {
  in[offset] = static_cast<uint8_t>(value >> 8);
  in[offset + 1] = static_cast<uint8_t>(value & 0xff);
}

}  // namespace

uint32_t ip(const std::string& text) {
  in_addr address{};
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) std::abort();
  return ntohl(address.s_addr);
}

Endpoint at(const std::string& address, uint16_t port) {
  return {.address = ip(address), .port = port};
}

Packet Packet::tcp(Endpoint from, Endpoint to, uint8_t flags) {
  Packet packet;
  packet.from_ = from;
  packet.to_ = to;
  packet.flags_ = flags;
  return packet;
}

Packet Packet::udp(Endpoint from, Endpoint to) {
  Packet packet = tcp(from, to, 0);
  packet.protocol_ = kUdp;
  return packet.payload_size(16);
}

Packet& Packet::payload_size(size_t bytes) {
  payload_.resize(bytes);
  for (size_t i = 0; i < bytes; i++) payload_[i] = static_cast<uint8_t>(i * 7 + 1);
  return *this;
}

size_t Packet::headers_size() const {
  return kEthernetSize + ip_header_size() + (protocol_ == kTcp ? 20 + 4 * tcp_option_words_ : 8);
}

std::vector<uint8_t> Packet::transport(bool with_checksum) const {
  std::vector<uint8_t> bytes;
  put16(bytes, from_.port);
  put16(bytes, to_.port);
  size_t checksum_at = 6;
  if (protocol_ == kTcp) {
    checksum_at = 16;
    put32(bytes, 0x01020304);  // sequence
    put32(bytes, (flags_ & kAck) != 0 ? 0x0a0b0c0d : 0);
    put8(bytes, static_cast<unsigned>(data_offset_ >= 0 ? data_offset_ : 5 + static_cast<int>(tcp_option_words_)) << 4);
    put8(bytes, flags_);
    put16(bytes, 0xfaf0);  // window
    put32(bytes, 0);       // checksum, urgent pointer
    for (size_t i = 0; i < tcp_option_words_; i++) put32(bytes, 0x01010101);
  } else {
    put16(bytes, static_cast<unsigned>(udp_length_ >= 0 ? udp_length_ : static_cast<int>(8 + payload_.size())));
    put16(bytes, 0);
  }
  put(bytes, payload_);
  if (!with_checksum || (protocol_ == kUdp && !udp_checksum_)) return bytes;

  std::vector<uint8_t> summed;
  put32(summed, from_.address);
  put32(summed, to_.address);
  put16(summed, protocol_);
  put16(summed, static_cast<unsigned>(bytes.size()));
  put(summed, bytes);
  uint16_t checksum = internet_checksum(summed);
  if (protocol_ == kUdp && checksum == 0) checksum = 0xffff;
  set16(bytes, checksum_at, checksum);
  return bytes;
}

uint16_t Packet::word_for_zero_checksum() const {
  Packet blank = *this;
  blank.payload_[blank.payload_.size() - 2] = 0;
  blank.payload_[blank.payload_.size() - 1] = 0;
  const std::vector<uint8_t> bytes = blank.transport(true);
  return static_cast<uint16_t>(bytes[6] << 8 | bytes[7]);
}

Frame Packet::frame() const {
  const std::vector<uint8_t> segment = transport(true);
  std::vector<uint8_t> header;
  const int ihl = ihl_ >= 0 ? ihl_ : static_cast<int>(5 + ip_option_words_);
  put8(header, static_cast<unsigned>(version_ << 4 | ihl));
  put8(header, tos_);
  put16(header, static_cast<unsigned>(total_length_ >= 0 ? total_length_
                                                         : static_cast<int>(ip_header_size() + segment.size())));
  put16(header, 0x1234);  // identification
  put16(header, fragment_);
  put8(header, ttl_);
  put8(header, static_cast<unsigned>(protocol_on_wire_ >= 0 ? protocol_on_wire_ : protocol_));
  put16(header, 0);
  put32(header, from_.address);
  put32(header, to_.address);
  for (size_t i = 0; i < ip_option_words_; i++) put32(header, 0x01010101);  // no operation
  set16(header, 10, internet_checksum(header));

  Frame frame;
  put(frame, destination_mac_);
  put(frame, source_mac_);
  put16(frame, static_cast<unsigned>(ether_type_));
  put(frame, header);
  put(frame, segment);
  frame.resize(frame.size() + padding_);
  return frame;
}

Frame Arp::frame() const {
  Frame frame;
  put(frame, destination_mac);
  put(frame, source_mac);
  put16(frame, 0x0806);
  put16(frame, hardware);
  put16(frame, protocol);
  put8(frame, hardware_length);
  put8(frame, protocol_length);
  put16(frame, operation);
  put(frame, sender_mac);
  put32(frame, sender);
  put(frame, target_mac);
  put32(frame, target);
  frame.resize(frame.size() + padding);
  return frame;
}

std::string describe(const Frame& frame) {
  const auto word = [&frame](size_t offset) { return frame[offset] << 8 | frame[offset + 1]; };
  const auto address = [&frame](size_t offset) {
    return fmt::format("{}.{}.{}.{}", frame[offset], frame[offset + 1], frame[offset + 2], frame[offset + 3]);
  };
  std::string text = fmt::format("{} bytes", frame.size());
  if (frame.size() >= 42 && word(12) == 0x0800) {
    const size_t l4 = 14 + size_t{4} * (frame[14] & 15U);
    text += fmt::format("; protocol {} {} -> {} ttl {} ip checksum {:04x}", frame[23], address(26), address(30),
                        frame[22], word(24));
    if (l4 + 8 <= frame.size()) text += fmt::format(" ports {} -> {}", word(l4), word(l4 + 2));
  }
  return text + fmt::format("; {:02x}", fmt::join(frame, " "));
}

}  // namespace sluice::packets
