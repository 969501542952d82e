#include "tests/packets/packet_builder.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <ostream>
#include <utility>

namespace sluice::packets {
namespace {

constexpr size_t kEthernetSize = 14;
constexpr uint8_t kFragmentHeader = 44;

template <typename Range>
void put(Bytes& to, const Range& bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}

// RFC 1071 in its plainest form: big-endian words, end-around carry, complement.
uint16_t internet_checksum(const Bytes& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); i += 2) {
    sum += static_cast<uint32_t>(bytes[i] << 8) + (i + 1 < bytes.size() ? bytes[i + 1] : 0U);
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(~sum);
}

void set16(Bytes& in, size_t offset, uint16_t value) {
  in[offset] = static_cast<uint8_t>(value >> 8);
  in[offset + 1] = static_cast<uint8_t>(value & 0xff);
}

Bytes pseudo_header(const Address& from, const Address& to, uint8_t protocol, size_t length) {
  return Writer().address(from).address(to).u32(static_cast<uint32_t>(length)).u32(protocol);
}

bool is_extension(uint8_t protocol) {
  return protocol == 0 || protocol == 43 || protocol == kFragmentHeader || protocol == 51 || protocol == 60;
}

Address address_at(const Frame& frame, size_t offset, bool ipv6) {
  if (!ipv6)
    return static_cast<uint32_t>(frame[offset] << 24 | frame[offset + 1] << 16 | frame[offset + 2] << 8 |
                                 frame[offset + 3]);
  std::array<uint8_t, 16> bytes{};
  std::copy_n(frame.begin() + static_cast<ptrdiff_t>(offset), bytes.size(), bytes.begin());
  return Address::of(bytes);
}

Endpoint end_of(const Frame& frame, bool source) {
  const bool ipv6 = word_at(frame, 12) == kIpv6Type;
  const size_t l4 = transport_at(frame);
  Endpoint end;
  end.address = address_at(frame, ipv6 ? (source ? 22U : 38U) : (source ? 26U : 30U), ipv6);
  if (frame.size() >= l4 + 4) end.port = word_at(frame, l4 + (source ? 0 : 2));
  return end;
}

}  // namespace

uint32_t ip(const std::string& text) {
  in_addr address{};
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) std::abort();
  return ntohl(address.s_addr);
}

Address::Address(bool ipv6, uint32_t last) : ipv6_(ipv6) {
  for (size_t i = 0; i < 4; i++) bytes_.at((ipv6 ? 12 : 0) + i) = static_cast<uint8_t>(last >> (24 - 8 * i));
}

Address Address::of(const std::string& text) {
  if (text.find(':') == std::string::npos) return ip(text);
  std::array<uint8_t, 16> bytes{};
  if (inet_pton(AF_INET6, text.c_str(), bytes.data()) != 1) std::abort();
  return of(bytes);
}

Address Address::of(const std::array<uint8_t, 16>& ipv6) {
  Address address(true, 0);
  address.bytes_ = ipv6;
  return address;
}

uint32_t Address::last() const {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; i++) value = value << 8 | bytes_.at((ipv6_ ? 12 : 0) + i);
  return value;
}

Address Address::in_ipv6() const {
  if (ipv6_) return *this;
  return of(std::array<uint8_t, 16>{0x20, 0x01, 0x0d, 0xb8, bytes_[0], bytes_[1], bytes_[2], 0, 0, 0, 0, 0, 0, 0, 0,
                                    bytes_[3]});
}

std::string Address::text() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(ipv6_ ? AF_INET6 : AF_INET, bytes_.data(), text.data(), text.size());
  return text.data();
}

Address operator+(const Address& from, uint32_t steps) {
  Address to(from.ipv6_, from.last() + steps);
  if (from.ipv6_) std::copy_n(from.bytes_.begin(), 12, to.bytes_.begin());
  return to;
}

Endpoint at(const std::string& address, uint16_t port) {
  return {.address = Address::of(address), .port = port};
}

std::ostream& operator<<(std::ostream& out, const Endpoint& end) {
  return out << end.address.text() << " port " << end.port;
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

Packet Packet::other(Address from, Address to, uint8_t protocol, Bytes bytes) {
  Packet packet = tcp({from, 0}, {to, 0}, 0);
  packet.protocol_ = protocol;
  return packet.payload(std::move(bytes));
}

Packet Packet::icmp(Address from, Address to, uint8_t type, uint8_t code, Bytes rest) {
  return other(from, to, to.ipv6() ? kIcmp6 : kIcmp, Writer().u8(type).u8(code).u16(0).bytes(rest));
}

Packet Packet::in_ipv6() const {
  Packet packet = *this;
  packet.from_.address = from_.address.in_ipv6();
  packet.to_.address = to_.address.in_ipv6();
  return packet;
}

Packet& Packet::payload_size(size_t bytes) {
  payload_.resize(bytes);
  for (size_t i = 0; i < bytes; i++) payload_[i] = static_cast<uint8_t>(i * 7 + 1);
  return *this;
}

size_t Packet::ip_header_size() const {
  if (!ipv6()) return 20 + 4 * ip_option_words_;
  size_t size = 40;
  for (const auto& [number, rest] : extensions_) size += 1 + rest.size();
  return size;
}

size_t Packet::headers_size() const {
  return kEthernetSize + ip_header_size() + (protocol_ == kTcp ? 20 + tcp_options_.size() : 8);
}

Bytes Packet::transport() const {
  Writer bytes;
  size_t checksum_at = 0;
  if (protocol_ == kTcp) {
    checksum_at = 16;
    bytes.u16(from_.port).u16(to_.port).u32(sequence_).u32((flags_ & kAck) != 0 ? acknowledges_ : 0);
    bytes.u8(static_cast<unsigned>(data_offset_ >= 0 ? data_offset_ : 5 + static_cast<int>(tcp_options_.size() / 4))
             << 4);
    bytes.u8(flags_).u16(0xfaf0).u32(0);  // window; checksum, urgent pointer
    bytes.bytes(tcp_options_);
  } else if (protocol_ == kUdp) {
    checksum_at = 6;
    bytes.u16(from_.port).u16(to_.port);
    bytes.u16(static_cast<unsigned>(udp_length_ >= 0 ? udp_length_ : static_cast<int>(8 + payload_.size()))).u16(0);
  } else if (protocol_ == kIcmp || protocol_ == kIcmp6) {
    checksum_at = 2;
  }
  Bytes segment = bytes.bytes(payload_);
  if (checksum_at == 0 || (protocol_ == kUdp && !udp_checksum_)) return segment;

  Bytes summed;
  if (protocol_ != kIcmp) summed = pseudo_header(from_.address, to_.address, protocol_, segment.size());
  put(summed, segment);
  uint16_t checksum = internet_checksum(summed);
  if (protocol_ == kUdp && checksum == 0) checksum = 0xffff;
  set16(segment, checksum_at, checksum);
  return segment;
}

uint16_t Packet::word_for_zero_checksum() const {
  Packet blank = *this;
  blank.payload_[blank.payload_.size() - 2] = 0;
  blank.payload_[blank.payload_.size() - 1] = 0;
  return word_at(blank.transport(), 6);
}

Frame Packet::ethernet() const {
  Writer frame;
  frame.range(destination_mac_.data(), 6).range(source_mac_.data(), 6);
  for (const auto& [type, id] : tags_) frame.u16(type).u16(id);
  return frame.u16(static_cast<unsigned>(ether_type_ >= 0 ? ether_type_ : ipv6() ? kIpv6Type : kIpv4Type));
}

void Packet::add_ipv4(Frame& frame, size_t payload, uint16_t fragment) const {
  const int ihl = ihl_ >= 0 ? ihl_ : static_cast<int>(5 + ip_option_words_);
  const auto total =
      static_cast<unsigned>(total_length_ >= 0 ? static_cast<size_t>(total_length_) : ip_header_size() + payload);
  Writer writer;
  writer.u8(static_cast<unsigned>((version_ >= 0 ? version_ : 4) << 4 | ihl)).u8(tos_).u16(total).u16(id_ & 0xffff);
  writer.u16(fragment).u8(ttl_).u8(static_cast<unsigned>(protocol_on_wire_ >= 0 ? protocol_on_wire_ : protocol_));
  writer.u16(0).address(from_.address).address(to_.address);
  for (size_t i = 0; i < ip_option_words_; i++) writer.u32(0x01010101);  // no operation
  Bytes header = writer;
  set16(header, 10, internet_checksum(header));
  put(frame, header);
}

void Packet::add_ipv6(Frame& frame, size_t payload, const Bytes& fragment_header) const {
  const auto last = static_cast<uint8_t>(protocol_on_wire_ >= 0 ? protocol_on_wire_ : protocol_);
  auto headers = extensions_;
  if (!fragment_header.empty()) headers.emplace_back(kFragmentHeader, fragment_header);
  Writer chain;
  for (size_t i = 0; i < headers.size(); i++)
    chain.u8(i + 1 < headers.size() ? headers[i + 1].first : last).bytes(headers[i].second);
  const Bytes behind = chain;
  const size_t length = total_length_ >= 0 ? static_cast<size_t>(total_length_) - 40 : behind.size() + payload;
  Writer writer;
  writer.u32(static_cast<uint32_t>(version_ >= 0 ? version_ : 6) << 28 | static_cast<uint32_t>(tos_) << 20 |
             flow_label_);
  writer.u16(static_cast<unsigned>(length)).u8(headers.empty() ? last : headers.front().first).u8(ttl_);
  writer.address(from_.address).address(to_.address).bytes(behind);
  put(frame, static_cast<Bytes>(writer));
}

Frame Packet::frame() const {
  const Bytes segment = transport();
  Frame frame = ethernet();
  if (ipv6())
    add_ipv6(frame, segment.size(), {});
  else
    add_ipv4(frame, segment.size(), fragment_);
  put(frame, segment);
  frame.resize(frame.size() + padding_);
  return frame;
}

Bytes Packet::ip_packet() const {
  const Frame whole = frame();
  return {whole.begin() + kEthernetSize, whole.end() - static_cast<ptrdiff_t>(padding_)};
}

Frame Packet::part(size_t first, size_t bytes) const {
  const Bytes segment = transport();
  const size_t count = std::min(bytes, segment.size() - first);
  const bool more = first + count < segment.size();
  Frame frame = ethernet();
  if (ipv6())
    add_ipv6(frame, count, Writer().u8(0).u16(static_cast<unsigned>(first) | (more ? 1U : 0U)).u32(id_));
  else
    add_ipv4(frame, count, static_cast<uint16_t>(first / 8 | (more ? 0x2000U : 0U)));
  frame.insert(frame.end(), segment.begin() + static_cast<ptrdiff_t>(first),
               segment.begin() + static_cast<ptrdiff_t>(first + count));
  return frame;
}

uint16_t word_at(const Frame& frame, size_t offset) {
  return static_cast<uint16_t>(frame[offset] << 8 | frame[offset + 1]);
}

size_t transport_at(const Frame& frame) {
  if (word_at(frame, 12) != kIpv6Type) return kEthernetSize + size_t{4} * (frame[14] & 15U);
  size_t at = kEthernetSize + 40;
  for (uint8_t next = frame[20]; is_extension(next) && at + 8 <= frame.size();) {
    const size_t size = next == kFragmentHeader ? 8 : next == 51 ? (frame[at + 1] + 2U) * 4 : (frame[at + 1] + 1U) * 8;
    next = frame[at];
    at += size;
  }
  return at;
}

Endpoint source_of(const Frame& frame) {
  return end_of(frame, true);
}
Endpoint destination_of(const Frame& frame) {
  return end_of(frame, false);
}

Frame Arp::frame() const {
  Writer frame;
  frame.range(destination_mac.data(), 6).range(source_mac.data(), 6).u16(0x0806);
  frame.u16(hardware).u16(protocol).u8(hardware_length).u8(protocol_length).u16(operation);
  frame.range(sender_mac.data(), 6).u32(sender).range(target_mac.data(), 6).u32(target);
  Frame padded = frame;
  padded.resize(padded.size() + padding);
  return padded;
}

std::string describe(const Frame& frame) {
  std::string text = fmt::format("{} bytes", frame.size());
  const uint16_t type = frame.size() >= kEthernetSize ? word_at(frame, 12) : uint16_t{0};
  if ((type == kIpv4Type && frame.size() >= 34) || (type == kIpv6Type && frame.size() >= 54)) {
    const Endpoint from = source_of(frame), to = destination_of(frame);
    text += fmt::format("; protocol {} {} port {} -> {} port {} ttl {}", frame[type == kIpv6Type ? 20 : 23],
                        from.address.text(), from.port, to.address.text(), to.port, frame[type == kIpv6Type ? 21 : 22]);
  }
  return text + fmt::format("; {:02x}", fmt::join(frame, " "));
}

}  // namespace sluice::packets
