#include "tests/dataplane/packet.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace sluice::agent::dataplane::testing {
namespace {

constexpr size_t kEthernet = 14;
constexpr size_t kIp = 20;
constexpr size_t kIpv6 = 40;
constexpr size_t kUdp = 8;
constexpr size_t kPayload = 20;

void put16(std::vector<uint8_t>& packet, size_t offset, uint16_t value) {
  packet[offset] = static_cast<uint8_t>(value >> 8);
  packet[offset + 1] = static_cast<uint8_t>(value);
}

uint16_t get16(const std::vector<uint8_t>& packet, size_t offset) {
  return static_cast<uint16_t>(packet[offset] << 8 | packet[offset + 1]);
}

bool is_ipv6(const std::string& address) {
  return address.find(':') != std::string::npos;
}

void put_address(std::vector<uint8_t>& packet, size_t offset, const std::string& address) {
  ASSERT_EQ(inet_pton(is_ipv6(address) ? AF_INET6 : AF_INET, address.c_str(), &packet[offset]), 1) << address;
}

std::string address_at(const std::vector<uint8_t>& packet, size_t offset, int family) {
  char text[INET6_ADDRSTRLEN];
  return inet_ntop(family, &packet[offset], text, sizeof text);
}

uint16_t checksum(const uint8_t* bytes, size_t length) {
  uint32_t sum = 0;
  for (size_t i = 0; i < length; i += 2) {
    sum += static_cast<uint32_t>(bytes[i] << 8 | bytes[i + 1]);
  }
  while (sum > 0xffff) {
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(~sum);
}

std::vector<uint8_t> udp6_packet(const std::string& source, uint16_t source_port, const std::string& destination,
                                 uint16_t port) {
  constexpr size_t kTransport = kEthernet + kIpv6;
  std::vector<uint8_t> packet(kTransport + kUdp + kPayload);
  put16(packet, 12, 0x86dd);
  packet[14] = 0x60;
  put16(packet, 18, kUdp + kPayload);
  put_address(packet, 22, source);
  put_address(packet, 38, destination);
  put16(packet, kTransport, source_port);
  put16(packet, kTransport + 2, port);
  put16(packet, kTransport + 4, kUdp + kPayload);
  // The pseudo-header's sum: with the protocol in the place of the hop limit, as the length stands next to it already.
  packet[21] = IPPROTO_UDP;
  put16(packet, kTransport + 6, checksum(&packet[18], 4 + 2 * 16 + kUdp + kPayload));
  packet[20] = IPPROTO_UDP;
  packet[21] = 64;
  return packet;
}

}  // namespace

std::vector<uint8_t> udp_packet(const Device& to, const std::string& source, uint16_t source_port,
                                const std::string& destination, uint16_t port) {
  std::vector<uint8_t> packet = is_ipv6(source) ? udp6_packet(source, source_port, destination, port)
                                                : std::vector<uint8_t>(kEthernet + kIp + kUdp + kPayload);
  std::copy(to.mac.begin(), to.mac.end(), packet.begin());
  packet[6] = 2;
  if (is_ipv6(source)) {
    return packet;
  }
  put16(packet, 12, 0x0800);
  packet[14] = 0x45;
  put16(packet, 16, kIp + kUdp + kPayload);
  packet[22] = 64;
  packet[23] = IPPROTO_UDP;
  put_address(packet, 26, source);
  put_address(packet, 30, destination);
  put16(packet, 24, checksum(&packet[14], kIp));
  put16(packet, 34, source_port);
  put16(packet, 36, port);
  put16(packet, 38, kUdp + kPayload);  // no UDP checksum: 0
  return packet;
}

std::vector<uint8_t> arp_request(const std::string& sender, const std::string& target) {
  std::vector<uint8_t> packet(60);
  std::fill_n(packet.begin(), 6, uint8_t{0xff});
  packet[6] = 2;
  put16(packet, 12, 0x0806);
  put16(packet, 14, 1);
  put16(packet, 16, 0x0800);
  packet[18] = 6;
  packet[19] = 4;
  put16(packet, 20, 1);
  packet[22] = 2;
  put_address(packet, 28, sender);
  put_address(packet, 38, target);
  return packet;
}

PacketOut run_packet(int program, std::vector<uint8_t> packet) {
  std::vector<uint8_t> out(packet.size() + 256);
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.data(), .data_out = out.data(),
              .data_size_in = static_cast<__u32>(packet.size()), .data_size_out = static_cast<__u32>(out.size()));
  PacketOut outcome;
  EXPECT_EQ(bpf_prog_test_run_opts(program, &options), 0) << std::strerror(errno);
  outcome.verdict = static_cast<int>(options.retval);
  out.resize(options.data_size_out);
  const bool ipv6 = out.size() > 13 && get16(out, 12) == 0x86dd;
  const size_t transport = kEthernet + (ipv6 ? kIpv6 : kIp);
  if (out.size() >= transport + 4) {
    outcome.source = address_at(out, ipv6 ? 22 : 26, ipv6 ? AF_INET6 : AF_INET);
    outcome.destination = address_at(out, ipv6 ? 38 : 30, ipv6 ? AF_INET6 : AF_INET);
    outcome.source_port = get16(out, transport);
    outcome.destination_port = get16(out, transport + 2);
  }
  return outcome;
}

}  // namespace sluice::agent::dataplane::testing
