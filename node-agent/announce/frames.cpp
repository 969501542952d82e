#include "node-agent/announce/frames.h"

#include <algorithm>
#include <iterator>
#include <span>

namespace sluice::agent::announce {
namespace {

constexpr uint8_t kIcmpv6 = 58;
constexpr uint8_t kAdvertisement = 136;
constexpr uint8_t kOverride = 0x20;
constexpr uint8_t kTargetLinkLayerAddress = 2;
constexpr uint8_t kAdvertisementLength = 32;  // with one option

template <typename Bytes>
void append(Frame& frame, const Bytes& bytes) {
  std::ranges::copy(bytes, std::back_inserter(frame));
}

std::span<const uint8_t> bytes_of(const net::IpAddress& address) {
  return {address.bytes().data(), address.size()};
}

// RFC 1071, over whole words; the bytes that it goes to are zero.
uint16_t checksum(const Frame& pseudo_header, std::span<const uint8_t> message) {
  uint32_t sum = 0;
  const auto add = [&sum](std::span<const uint8_t> bytes) {
    for (size_t i = 0; i + 1 < bytes.size(); i += 2) sum += static_cast<uint32_t>(bytes[i] << 8 | bytes[i + 1]);
  };
  add(pseudo_header);
  add(message);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

}  // namespace

Frame gratuitous_arp(const dataplane::Mac& mac, const net::IpAddress& address, ArpForm form) {
  Frame frame;
  const dataplane::Mac everybody = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  // Ethernet: type ARP. ARP (RFC 826): Ethernet, IPv4, lengths 6 and 4, operation.
  const std::array<uint8_t, 10> head = {0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, static_cast<uint8_t>(form)};
  append(frame, everybody);
  append(frame, mac);
  append(frame, head);
  append(frame, mac);
  append(frame, bytes_of(address));
  append(frame, form == ArpForm::reply ? mac : dataplane::Mac{});
  append(frame, bytes_of(address));
  return frame;
}

Frame unsolicited_advertisement(const dataplane::Mac& mac, const net::IpAddress& address) {
  const std::array<uint8_t, 16> all_nodes = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  const dataplane::Mac all_nodes_mac = {0x33, 0x33, 0, 0, 0, 1};  // RFC 2464, section 7
  Frame message = {kAdvertisement, 0, 0, 0, kOverride, 0, 0, 0};
  append(message, bytes_of(address));
  append(message, std::array<uint8_t, 2>{kTargetLinkLayerAddress, 1});
  append(message, mac);
  Frame pseudo_header;  // RFC 8200, section 8.1
  append(pseudo_header, bytes_of(address));
  append(pseudo_header, all_nodes);
  append(pseudo_header, std::array<uint8_t, 8>{0, 0, 0, kAdvertisementLength, 0, 0, 0, kIcmpv6});
  const uint16_t sum = checksum(pseudo_header, message);
  message[2] = static_cast<uint8_t>(sum >> 8);
  message[3] = static_cast<uint8_t>(sum);

  Frame frame;
  append(frame, all_nodes_mac);
  append(frame, mac);
  append(frame, std::array<uint8_t, 2>{0x86, 0xdd});
  // A hop limit of 255 tells that no router has passed it on; without it nobody believes it.
  append(frame, std::array<uint8_t, 8>{0x60, 0, 0, 0, 0, kAdvertisementLength, kIcmpv6, 255});
  append(frame, bytes_of(address));
  append(frame, all_nodes);
  append(frame, message);
  return frame;
}

std::vector<Frame> announcement(const dataplane::Mac& mac, const net::IpAddress& address) {
  if (!address.is_ipv4()) return {unsolicited_advertisement(mac, address)};
  return {gratuitous_arp(mac, address, ArpForm::request), gratuitous_arp(mac, address, ArpForm::reply)};
}

}  // namespace sluice::agent::announce
