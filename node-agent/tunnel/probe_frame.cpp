#include "node-agent/tunnel/probe_frame.h"

#include <arpa/inet.h>
#include <net/ethernet.h>

#include <algorithm>
#include <cstring>

#include "bpf/sluice.h"
#include "node-agent/program/peer_table.h"

namespace sluice::agent::tunnel {
namespace {

constexpr size_t kMacs = 12;
constexpr size_t kIpv4Bytes = 20;
constexpr size_t kIpv6Bytes = 40;
constexpr size_t kUdpBytes = 8;
constexpr size_t kNonceBytes = 8;
// The option's data in words: token, meta, nonce.
constexpr uint8_t kDataWords = (SLUICE_TUNNEL_OPTION - 4 + kNonceBytes) / 4;
// RFC 6335, section 6: the dynamic ports, which packets in tunnels leave by. Another each time: so probes try all ways
// that packets may take.
constexpr uint16_t kFirstPort = 0xc000;

class Writer {
 public:
  explicit Writer(std::vector<uint8_t>& bytes) : bytes_(bytes) {}
  void put(size_t at, uint16_t value) {
    const uint16_t wire = htons(value);
    std::memcpy(&bytes_.at(at), &wire, sizeof wire);
  }
  void put(size_t at, uint64_t as_it_lies) { std::memcpy(&bytes_.at(at), &as_it_lies, sizeof as_it_lies); }

 private:
  std::vector<uint8_t>& bytes_;
};

void finish_ipv4(std::vector<uint8_t>& frame, uint32_t length) {
  Writer write(frame);
  write.put(ETH_HLEN + 2, static_cast<uint16_t>(length));
  // The template holds the sum of the other fields in the checksum's place.
  uint16_t sum_there = 0;
  std::memcpy(&sum_there, &frame.at(ETH_HLEN + 10), sizeof sum_there);
  uint32_t sum = uint32_t{sum_there} + htons(static_cast<uint16_t>(length));
  sum = (sum & 0xffff) + (sum >> 16);
  const auto checksum = static_cast<uint16_t>(~sum);
  std::memcpy(&frame.at(ETH_HLEN + 10), &checksum, sizeof checksum);
}

}  // namespace

Frame probe_frame(const dataplane::Peer& peer, const dataplane::Mac& own, const Probe& probe) {
  const program::OuterTemplate outer = program::outer_template(peer);
  const size_t ip_bytes = outer.ipv6 ? kIpv6Bytes : kIpv4Bytes;
  const uint32_t length = std::max(probe.bytes, small_bytes(outer.ipv6));
  Frame frame{peer.way.ifindex, std::vector<uint8_t>(ETH_HLEN + length)};
  Writer write(frame.bytes);
  std::copy(peer.way.mac.begin(), peer.way.mac.end(), frame.bytes.begin());
  std::copy(own.begin(), own.end(), frame.bytes.begin() + ETH_ALEN);
  write.put(kMacs, static_cast<uint16_t>(outer.ipv6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP));
  std::copy_n(outer.bytes.begin(), ip_bytes + kUdpBytes, frame.bytes.begin() + ETH_HLEN);
  const auto udp_length = static_cast<uint16_t>(length - ip_bytes);
  if (outer.ipv6) {
    write.put(ETH_HLEN + 4, udp_length);
  } else {
    finish_ipv4(frame.bytes, length);
  }
  const size_t udp = ETH_HLEN + ip_bytes;
  write.put(udp, static_cast<uint16_t>(kFirstPort | (probe.nonce & ~uint64_t{kFirstPort} & 0xffff)));
  write.put(udp + 4, udp_length);
  const size_t geneve = udp + kUdpBytes;
  frame.bytes.at(geneve) = kDataWords + 1;
  frame.bytes.at(geneve + 1) = SLUICE_GENEVE_CRITICAL;
  write.put(geneve + 2, uint16_t{ETHERTYPE_IP});
  write.put(geneve + 8, uint16_t{SLUICE_GENEVE_CLASS});
  frame.bytes.at(geneve + 10) = SLUICE_GENEVE_TYPE;
  frame.bytes.at(geneve + 11) = kDataWords;
  write.put(geneve + 12, peer.token);
  frame.bytes.at(geneve + 22) = SLUICE_TUNNEL_PROBE;
  write.put(geneve + 24, probe.nonce);
  return frame;
}

}  // namespace sluice::agent::tunnel
