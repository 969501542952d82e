#include "tests/model/generator.h"

#include <algorithm>

#include "tests/model/mutate.h"

namespace sluice::model {
namespace {

constexpr size_t kMostConversations = 150;
constexpr size_t kLongest = 1472;  // payload

// Headers that a packet may carry in front of TCP and UDP.
Bytes some_extensions(Random& random, uint8_t protocol, uint8_t& first) {
  constexpr std::array<uint8_t, 4> kKinds{0, 43, 60, 51};
  const size_t count = between(random, 1, 6);
  std::vector<uint8_t> kinds;
  for (size_t i = 0; i < count; ++i) kinds.push_back(one_of(random, kKinds));
  first = kinds.front();
  Bytes all;
  for (size_t i = 0; i < count; ++i) {
    const size_t units = between(random, 0, chance(random, 10) ? 40 : 2);
    const bool authentication = kinds[i] == 51;
    Bytes header(authentication ? (units * 2 + 4) * 4 : (units + 1) * 8);
    header[0] = i + 1 < count ? kinds[i + 1] : protocol;
    header[1] = static_cast<uint8_t>(authentication ? units * 2 + 2 : units);
    append(all, header);
  }
  return all;
}

uint8_t client_flags(Random& random, bool syn_sent) {
  constexpr std::array<uint8_t, 12> kUnderWay{kAck, kAck,        kAck, kAck | 8,    kAck | 8, kAck | 8,
                                              kAck, kAck | kFin, kRst, kRst | kAck, kSyn,     kSyn | kAck};
  if (!syn_sent) return chance(random, 85) ? kSyn : kAck;
  return one_of(random, kUnderWay);
}

}  // namespace

void Generator::begin(const Scene& scene, bool anew) {
  if (anew) {
    conversations_.clear();
    queued_.clear();
  }
  services_.clear();
  for (const auto& [id, service] : scene.desired.services)
    for (const auto& address : service.addresses)
      services_.push_back({address, {service.port, static_cast<uint8_t>(service.protocol)}});
  addresses_ = SceneMaker::addresses(scene, theme_.v6);
}

Step Generator::next() {
  Step step;
  if (!queued_.empty()) {
    step = std::move(queued_.front());
    queued_.pop_front();
  } else if (chance(random_, 4)) {
    step = noise();
  } else {
    const bool fresh = conversations_.empty() || chance(random_, 12);
    const size_t index = fresh ? start() : between(random_, 0, conversations_.size() - 1);
    step = !fresh && conversations_[index].behind && chance(random_, 50) ? of_backend(index) : of_client(index);
  }
  if (chance(random_, theme_.mutated)) spoil(step);
  // What the stack sends has an IP header; the kernel refuses to try anything else.
  if (step.leaves && step.frame.size() < kEthernet + 40) step.frame.resize(kEthernet + 40);
  return step;
}

void Generator::spoil(Step& step) {
  const size_t times = chance(random_, 75) ? 1 : between(random_, 2, 4);
  for (size_t i = 0; i < times; ++i) mutate(random_, step.frame, addresses_);
}

size_t Generator::start() {
  if (conversations_.size() >= kMostConversations) conversations_.erase(conversations_.begin());
  Conversation made;
  const auto& [address, port_and_protocol] = one_of(random_, services_);
  made.ends.destination = address;
  made.ends.destination_port = port_and_protocol.first;
  made.protocol = port_and_protocol.second;
  if (chance(random_, 3)) made.protocol = made.protocol == kTcp ? kUdp : kTcp;
  if (chance(random_, 3)) made.ends.destination_port = static_cast<uint16_t>(random_());
  made.ends.source = scenes_.client();
  made.ends.source_port =
      static_cast<uint16_t>(chance(random_, 30) ? between(random_, 5000, 5003) : between(random_, 1024, 65535));
  made.from = {2, 0, 0, 0, 3, static_cast<uint8_t>(between(random_, 1, 4))};
  made.sequence = static_cast<uint32_t>(random_());
  conversations_.push_back(made);
  return conversations_.size() - 1;
}

void Generator::vary(Addressing& addressing) {
  addressing.hops = static_cast<uint8_t>(chance(random_, 95) ? between(random_, 2, 255) : between(random_, 0, 2));
  addressing.traffic_class = static_cast<uint8_t>(chance(random_, 70) ? 0 : random_());
  addressing.dont_fragment = chance(random_, 70);
  addressing.id = static_cast<uint16_t>(random_());
  if (!theme_.v6 && chance(random_, 5)) addressing.options = Bytes(between(random_, 1, 10) * 4, 1);
}

Step Generator::packet(const Conversation& of, const Ends& ends, uint8_t flags, uint32_t sequence,
                       uint32_t acknowledged, const Mac& from) {
  Addressing addressing{.to = site_.near_mac, .from = from, .source = ends.source, .destination = ends.destination};
  vary(addressing);
  if (theme_.v6 && chance(random_, 4))
    addressing.extensions = some_extensions(random_, of.protocol, addressing.first_extension);
  const size_t most = chance(random_, 90) ? 64 : kLongest;
  const Bytes payload = random_bytes(random_, between(random_, 0, most));
  Step step;
  if (of.protocol == kTcp) {
    const Tcp tcp{ends.source_port,
                  ends.destination_port,
                  sequence,
                  acknowledged,
                  flags,
                  Bytes(chance(random_, 30) ? between(random_, 1, 10) * 4 : 0, 1)};
    step.frame = make_tcp(addressing, tcp, payload);
  } else {
    step.frame = make_udp(addressing, ends.source_port, ends.destination_port, payload, chance(random_, 85));
  }
  if (!addressing.extensions.empty() || !chance(random_, 3)) return step;
  // In parts, of which now and then the first is not the first.
  const auto parts = fragments_of(step.frame, between(random_, 1, 4) * 24, ++fragment_);
  for (const Bytes& part : parts) queued_.push_back({.frame = part});
  if (chance(random_, 30)) std::shuffle(queued_.begin(), queued_.end(), random_);
  step = std::move(queued_.front());
  queued_.pop_front();
  return step;
}

Step Generator::of_client(size_t index) {
  Conversation& of = conversations_[index];
  const uint8_t flags = client_flags(random_, of.syn_sent);
  of.syn_sent = true;
  of.sequence += 100;
  // What a client acknowledges is what it has seen.
  const uint32_t acknowledged = chance(random_, 90) ? of.last_reply + 1 : static_cast<uint32_t>(random_());
  Step step = packet(of, of.ends, flags, of.sequence, (flags & kAck) != 0 ? acknowledged : 0, of.from);
  step.conversation = index;
  return step;
}

Step Generator::of_backend(size_t index) {
  constexpr std::array<uint8_t, 10> kFlags{kSyn | kAck, kSyn | kAck, kAck,        kAck | 8, kAck | 8,
                                           kAck,        kAck,        kAck | kFin, kRst,     kRst | kAck};
  Conversation& of = conversations_[index];
  const Ends ends{of.behind->destination, of.behind->source, of.behind->destination_port, of.behind->source_port};
  of.last_reply = static_cast<uint32_t>(random_());
  const Mac from{2, 0, 0, 0, 2, 1};
  const bool local = of.local;
  Step step = packet(of, ends, one_of(random_, kFlags), of.last_reply, of.sequence + 1, from);
  step.leaves = local;
  for (Step& more : queued_) more.leaves = local;
  return step;
}

// Anything, to anybody.
Step Generator::noise() {
  if (chance(random_, 10)) {
    Step step{.frame = random_bytes(random_, between(random_, kEthernet + 1, 120))};
    if (chance(random_, 70)) put_mac(step.frame, 0, site_.near_mac);
    if (chance(random_, 70)) put16(step.frame, 12, theme_.v6 ? kTypeIpv6 : kTypeIpv4);
    return step;
  }
  Conversation nobody;
  nobody.protocol = chance(random_, 50) ? kTcp : kUdp;
  nobody.ends = {one_of(random_, addresses_), one_of(random_, addresses_), static_cast<uint16_t>(random_()),
                 static_cast<uint16_t>(chance(random_, 50) ? between(random_, 10000, 10100) : random_())};
  Step step = packet(nobody, nobody.ends, static_cast<uint8_t>(random_()), static_cast<uint32_t>(random_()), 0,
                     {2, 0, 0, 0, 3, 9});
  step.leaves = chance(random_, 20);
  return step;
}

void Generator::learn(const Step& step, const Outcome& outcome) {
  if (!step.conversation || *step.conversation >= conversations_.size() || !outcome.forwarded ||
      outcome.forwarded->how == Forwarded::How::returned)
    return;
  const auto sent = read_any(outcome.frame, theme_.v6);
  if (!sent || !has_ports(outcome.frame, *sent)) return;
  Conversation& of = conversations_[*step.conversation];
  of.behind = Ends{sent->source, sent->destination, sent->source_port, sent->destination_port};
  of.local = outcome.verdict == Verdict::pass;
}

}  // namespace sluice::model
