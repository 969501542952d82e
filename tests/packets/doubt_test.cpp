// Records of connections that are over, where a later connection has the same ports: its packets may be another
// candidate's, who is asked first.
#include <linux/bpf.h>

#include "tests/packets/tunnel.h"

namespace sluice::packets {
namespace {

class Doubt : public TunnelTest {
 protected:
  Doubt() {
    tcp_ = plane_.add_service(service_end_, kTcp,
                              {behind(1, far_), behind(2, farther_), local_backend(local_end_), local_backend(near_)});
    plane_.name_backend(tcp_, 2);
    plane_.name_backend(tcp_, 3);
  }
  // All slots alike, newest first; 0: behind node 1, 1: behind node 2, 2 and 3: here.
  void planes(const std::vector<uint16_t>& candidates) {
    std::vector<std::vector<uint16_t>> all;
    for (const uint16_t candidate : candidates) all.emplace_back(8, candidate);
    plane_.set_planes(tcp_, all);
  }
  void put(const Endpoint& backend, uint32_t state, uint64_t seconds) {
    const Flow flow{.backend = backend,
                    .source = client_,
                    .client = client_,
                    .service = service_end_,
                    .state = SLUICE_FLOW_REPLIED | state,
                    .half_open = false};
    plane_.put_flow(flow);
    plane_.age(flow, seconds);
  }
  static constexpr uint32_t kOver = SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN;

  [[nodiscard]] Packet inner() const { return to_service(kAck).ttl(63); }
  void expect_here(const Outcome& outcome, const Endpoint& backend) {
    EXPECT_EQ(outcome.action, XDP_PASS);
    EXPECT_EQ(outcome.destination(), backend);
  }
  void expect_sent(const Outcome& outcome, const Tunnelled& as) { EXPECT_TRUE(same_frame(outcome.frame, as.frame())); }
  [[nodiscard]] Tunnelled handed_on(uint32_t peer, std::vector<Endpoint> candidates, std::vector<Address> nodes,
                                    uint8_t flags) const {
    Tunnelled sent = to_peer(peer, to_service(), std::move(candidates), std::move(nodes));
    sent.hops = SLUICE_TUNNEL_HOPS - 1;
    sent.flags = flags;
    return sent;
  }

  Endpoint far_ = at("10.244.1.5", 8080), farther_ = at("10.244.2.5", 8080), near_ = at("10.244.0.6", 8080);
  Service tcp_;
};

INSTANTIATE_TEST_SUITE_P(Families, Doubt, kTunnelFamilies, tunnel_name);

TEST_P(Doubt, OutOfATunnelOthersAreAskedFirstAndThisNodeLast) {
  put(local_end_, kOver, 5);
  const Tunnelled sent = from_peer(1, inner(), {local_end_, farther_}, {node2_});
  expect_sent(plane_.receive(sent.frame()), handed_on(2, {farther_, local_end_}, {own_}, SLUICE_TUNNEL_DOUBTED));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_HANDED_ON), 1U);
}

TEST_P(Doubt, AResetConnectionsRecordToo) {
  put(local_end_, SLUICE_FLOW_RESET, 5);
  const Tunnelled sent = from_peer(1, inner(), {local_end_, farther_}, {node2_});
  expect_sent(plane_.receive(sent.frame()), handed_on(2, {farther_, local_end_}, {own_}, SLUICE_TUNNEL_DOUBTED));
}

TEST_P(Doubt, WhatNobodyElseKnewIsTaken) {
  put(local_end_, kOver, 5);
  Tunnelled sent = from_peer(1, inner(), {local_end_});
  sent.flags = SLUICE_TUNNEL_DOUBTED;
  expect_here(plane_.receive(sent.frame()), local_end_);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TAKEN_UP), 0U);
  EXPECT_EQ(plane_.flows().size(), 1U);
}

TEST_P(Doubt, TheLastPacketsOfAConnectionAreTakenAtOnce) {
  put(local_end_, kOver, 0);
  for (const uint8_t flags : {kAck, uint8_t(kFin | kAck)}) {
    const Packet last = to_service(flags).ttl(63);
    expect_here(plane_.receive(from_peer(1, last, {local_end_, farther_}, {node2_}).frame()), local_end_);
  }
}

TEST_P(Doubt, WhatComesWhenItIsOverDoesNotKeepTheRecord) {
  put(local_end_, kOver, 2);
  expect_here(plane_.receive(from_peer(1, inner(), {local_end_}).frame()), local_end_);
  plane_.send(Packet::tcp(local_end_, client_, kAck).macs(kLanMac, kRouterMac));
  EXPECT_EQ(plane_.receive(from_peer(1, inner(), {local_end_, farther_}, {node2_}).frame()).action, XDP_TX);
}

TEST_P(Doubt, ARecordThatIsNotOverTakesItHoweverLongItWasIdle) {
  put(local_end_, 0, 600);
  expect_here(plane_.receive(from_peer(1, inner(), {local_end_, farther_}, {node2_}).frame()), local_end_);
}

TEST_P(Doubt, OfTwoCandidatesHereTheOneWhoseConnectionGoesOnTakesIt) {
  put(local_end_, kOver, 5);
  put(near_, 0, 0);
  expect_here(plane_.receive(from_peer(1, inner(), {local_end_, near_}, {own_}).frame()), near_);
}

TEST_P(Doubt, OfTwoCandidatesHereTheOneWithARecordTakesIt) {
  put(local_end_, kOver, 5);
  expect_here(plane_.receive(from_peer(1, inner(), {local_end_, near_}, {own_}).frame()), local_end_);
  EXPECT_EQ(plane_.flows().size(), 1U);
}

TEST_P(Doubt, WhereAnotherDoubtsAlreadyNobodyIsAskedTwice) {
  put(local_end_, kOver, 5);
  Tunnelled sent = from_peer(1, inner(), {local_end_, farther_}, {node2_});
  sent.flags = SLUICE_TUNNEL_DOUBTED;
  expect_sent(plane_.receive(sent.frame()), handed_on(2, {farther_}, {}, SLUICE_TUNNEL_DOUBTED));
}

TEST_P(Doubt, ASynIsNotDoubted) {
  put(local_end_, kOver, 5);
  const Packet syn = to_service(kSyn).ttl(63);
  expect_here(plane_.receive(from_peer(1, syn, {local_end_}).frame()), local_end_);
}

TEST_P(Doubt, TheChoosingNodeAsksOthersFirstAndItselfLast) {
  for (const std::vector<uint16_t>& candidates : {std::vector<uint16_t>{0, 2}, {2, 0}}) {
    plane_.forget_flows();
    put(local_end_, kOver, 5);
    planes(candidates);
    Tunnelled sent = to_peer(1, to_service(), {far_, local_end_}, {own_});
    sent.flags = SLUICE_TUNNEL_DOUBTED;
    expect_sent(plane_.receive(to_service()), sent);
  }
}

TEST_P(Doubt, TheChoosingNodeTakesWhatNobodyElseCanHave) {
  put(local_end_, kOver, 5);
  planes({2, 3});
  expect_here(plane_.receive(to_service()), local_end_);
  planes({3, 2});
  expect_here(plane_.receive(to_service()), local_end_);
  planes({2});
  expect_here(plane_.receive(to_service()), local_end_);
  EXPECT_EQ(plane_.flows().size(), 1U);
}

TEST_P(Doubt, TheChoosingNodeTakesTheOtherOfTwoHereWhoseConnectionGoesOn) {
  put(local_end_, kOver, 5);
  put(near_, 0, 0);
  planes({2, 3, 0});
  expect_here(plane_.receive(to_service()), near_);
}

}  // namespace
}  // namespace sluice::packets
