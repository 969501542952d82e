#include "tests/model/outcomes.h"

#include <algorithm>

namespace sluice::model {
namespace {

constexpr Mac kBroadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

}  // namespace

const char* to_string(Verdict verdict) {
  constexpr const char* kNames[] = {"pass", "drop", "transmit", "redirect"};
  return kNames[static_cast<size_t>(verdict)];
}

Outcome passed(const Bytes& frame, const char* reason) {
  return {.verdict = Verdict::pass, .frame = frame, .reasons = {reason}};
}

Outcome dropped(const char* reason) {
  return {.verdict = Verdict::drop, .reasons = {reason}};
}

// A frame for another station is not ours: in a flooded segment every node sees every frame.
Outcome Model::receive(const Bytes& frame) {
  constexpr size_t kLeast = kEthernet + 20;  // no IP packet is shorter
  if (frame.size() < kLeast) return passed(frame, "not_for_us");
  const Mac to = get_mac(frame, 0);
  const uint16_t type = get16(frame, 12);
  if (type == kTypeTag || type == kTypeServiceTag) return receive_tagged(frame);
  const bool ours = to == prospect_.ingress().mac;
  Outcome outcome;
  if (ours && (type == kTypeIpv4 || type == kTypeIpv6)) {
    outcome = receive_ip(frame, type == kTypeIpv6);
  } else if (type == kTypeArp && (ours || to == kBroadcast)) {
    outcome = passed(frame, "not_for_us");
  } else {
    outcome = passed(frame, "not_for_us");
  }
  std::sort(outcome.reasons.begin(), outcome.reasons.end());
  std::sort(outcome.if_silent.begin(), outcome.if_silent.end());
  return outcome;
}

// Tags do not change what a packet is. What is passed up or answered has them again; what is sent on has its way's.
Outcome Model::receive_tagged(const Bytes& frame) {
  constexpr size_t kTag = 4, kMost = 2;
  const auto tagged = [](uint16_t type) { return type == kTypeTag || type == kTypeServiceTag; };
  size_t end = 12;
  std::vector<uint16_t> vlans;
  for (; tagged(get16(frame, end)); end += kTag) {
    if (vlans.size() == kMost) return passed(frame, "not_for_us");
    vlans.push_back(get16(frame, end + 2) & 0x0fff);
  }
  const Bytes tags(frame.begin() + 12, frame.begin() + static_cast<std::ptrdiff_t>(end));
  Bytes bare = frame;
  bare.erase(bare.begin() + 12, bare.begin() + static_cast<std::ptrdiff_t>(end));
  vlans_ = vlans;
  Outcome outcome = receive(bare);
  vlans_.clear();
  if (outcome.verdict == Verdict::pass || outcome.back)
    outcome.frame.insert(outcome.frame.begin() + 12, tags.begin(), tags.end());
  return outcome;
}

Outcome Model::receive_ip(const Bytes& frame, bool v6) {
  const auto packet = read_plain(frame, v6);
  if (!packet) return control(frame, v6);
  if (const Service* service = prospect_.service(packet->destination, packet->destination_port, packet->protocol))
    return to_service(frame, *packet, *service);
  if (auto outcome = reply(frame, *packet)) return *outcome;
  return not_a_service(frame, *packet);
}

// What comes to no service and belongs to no flow.
Outcome Model::not_a_service(const Bytes& frame, const Packet& packet) {
  const net::IpAddress& to = packet.destination;
  if (prospect_.is_node_address(to)) return passed(frame, "own_traffic");
  if (prospect_.is_service_address(to)) return refuse(frame, packet, "no_service");
  return passed(frame, prospect_.is_nat_source(to) ? "own_traffic" : "not_for_us");
}

// IP without ports where they usually are.
Outcome Model::control(const Bytes& frame, bool v6) {
  const auto header = read_header(frame, v6);
  if (!header) return passed(frame, "not_for_us");
  const bool service = prospect_.is_service_address(header->destination);
  const bool own = prospect_.is_node_address(header->destination) || prospect_.is_nat_source(header->destination);
  if (!service && !own) return passed(frame, "not_for_us");
  auto packet = read_any(frame, v6);
  if (packet) {
    if (!complete_fragment(*packet)) return own ? passed(frame, "own_traffic") : dropped("fragment");
    if ((packet->protocol == kTcp || packet->protocol == kUdp) &&
        (packet->part == Part::later || has_ports(frame, *packet))) {
      if (const Service* to = prospect_.service(packet->destination, packet->destination_port, packet->protocol))
        return to_service(frame, *packet, *to);
      if (auto outcome = reply(frame, *packet)) return *outcome;
      return not_a_service(frame, *packet);
    }
  }
  if (own) return passed(frame, "own_traffic");
  return packet && packet->protocol == (v6 ? kIcmpv6 : kIcmp) ? icmp(frame, *packet) : dropped("no_service");
}

// Of IPv6 the protocol is none of what identifies a packet: RFC 8200, section 4.5.
Model::FragmentOf Model::fragment_of(const Packet& packet) {
  return {packet.source, packet.destination, packet.id, packet.v6 ? uint8_t{0} : packet.protocol};
}

// The packet is a service's or a flow's: later fragments will follow it.
void Model::expect_fragments(const Packet& packet) {
  if (packet.part == Part::first)
    fragments_[fragment_of(packet)] = {packet.source_port, packet.destination_port, packet.protocol};
}

bool Model::complete_fragment(Packet& packet) {
  if (packet.part != Part::later) return true;
  const auto first = fragments_.find(fragment_of(packet));
  if (first == fragments_.end()) return false;
  std::tie(packet.source_port, packet.destination_port, packet.protocol) = first->second;
  return true;
}

bool Model::fits(const Way& way, size_t length) const {
  const auto* out = prospect_.interface(way.interface);
  // What came in by an interface fits it.
  return way.interface == prospect_.scene().ingress || out->mtu == 0 || length <= out->mtu;
}

Outcome Model::send(Bytes frame, const Way& way, bool v6) const {
  set_ethernet(frame, way.mac, prospect_.interface(way.interface)->mac, v6 ? kTypeIpv6 : kTypeIpv4);
  const bool back = way.interface == prospect_.scene().ingress;
  return {
      .verdict = back ? Verdict::transmit : Verdict::redirect, .interface = way.interface, .frame = std::move(frame)};
}

}  // namespace sluice::model
