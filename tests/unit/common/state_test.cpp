#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "common/state/desired_state.h"
#include "common/state/digest.h"

namespace sluice::state {
namespace {

net::IpAddress ip(const std::string& text) {
  return net::IpAddress::parse(text).value();
}

Backend backend(const std::string& address, uint16_t port, uint32_t group, Revision joined, Revision left) {
  return {
      .address = ip(address), .port = port, .group = group, .node = "n1", .zone = "z", .joined = joined, .left = left};
}

DesiredState example() {
  DesiredState state;
  state.cluster_id = "c";
  state.epoch = 3;
  state.revision = 9;
  state.flow_hash_key = {1, 2};
  state.tunnel = {.port = 6082, .keys = {{1, {3, 4}}, {2, {5, 6}}}};
  Service web{.id = "Service/default/web/http",
              .addresses = {ip("192.0.2.10"), ip("192.0.2.11")},
              .port = 80,
              .allowed_sources = {net::Prefix::parse("10.0.0.0/8").value()},
              .groups = {{"a", 90}, {"b", 10}},
              .backends = {backend("10.0.0.1", 8080, 0, 0, 5), backend("10.0.0.1", 8080, 0, 7, 0),
                           backend("10.0.0.2", 8080, 1, 4, 0)},
              .sizes = {{0, 10}, {4, 12}}};
  state.services[web.id] = web;
  state.nodes["n1"] = {.name = "n1", .addresses = {ip("10.9.0.1")}, .source_addresses = {ip("10.9.0.2")}};
  state.announcements[ip("192.0.2.10")] = {.address = ip("192.0.2.10"), .nodes = {"n1"}, .interfaces = {"eth0"}};
  return state;
}

Service& web(DesiredState& state) {
  return state.services.begin()->second;
}

TEST(Names, AreThoseThatPeopleType) {
  EXPECT_STREQ(to_string(Protocol::tcp), "TCP");
  EXPECT_STREQ(to_string(Protocol::udp), "UDP");
  EXPECT_STREQ(to_string(Forwarding::automatic), "Auto");
  EXPECT_STREQ(to_string(Forwarding::nat), "NAT");
  EXPECT_STREQ(to_string(Forwarding::tunnel), "Tunnel");
  EXPECT_STREQ(to_string(Forwarding::direct), "Direct");
}

TEST(Backend, IsInTheChoiceFromJoinedUpToLeft) {
  const Backend stay = backend("10.0.0.1", 80, 0, 4, 7);
  EXPECT_FALSE(stay.in_choice_at(3));
  EXPECT_TRUE(stay.in_choice_at(4));
  EXPECT_TRUE(stay.in_choice_at(6));
  EXPECT_FALSE(stay.in_choice_at(7));
  EXPECT_TRUE(backend("10.0.0.1", 80, 0, 4, 0).in_choice_at(UINT64_MAX));
}

TEST(Backend, ThatHasNotJoinedYetIsInNoChoice) {
  const Backend ahead = backend("10.0.0.1", 80, 0, kNotYet, 0);
  EXPECT_FALSE(ahead.in_choice_at(0));
  EXPECT_FALSE(ahead.in_choice_at(9));
  EXPECT_FALSE(ahead.in_choice_at(UINT64_MAX)) << "now";
}

TEST(Validate, TakesAStateThatCanBeProgrammed) {
  const Status status = validate(example());
  EXPECT_TRUE(status) << status.error().message();
  DesiredState empty;
  empty.cluster_id = "c";
  EXPECT_TRUE(validate(empty));
}

TEST(Validate, TakesOneEndpointThroughTwoGroupsAndAGroupChangedAtOneRevision) {
  DesiredState state = example();
  web(state).backends = {backend("10.0.0.1", 80, 0, 1, 5), backend("10.0.0.1", 80, 1, 3, 0),
                         backend("10.0.0.1", 80, 0, 5, 0)};
  const Status status = validate(state);
  EXPECT_TRUE(status) << status.error().message();
}

TEST(Validate, TakesABackendThatHasNotJoinedYetAlsoAfterAnEarlierStay) {
  DesiredState state = example();
  web(state).backends[1].joined = kNotYet;
  const Status status = validate(state);
  EXPECT_TRUE(status) << status.error().message();
}

TEST(Validate, TakesAServiceOfEitherFamilyWithSourcesAndNodesOfBoth) {
  DesiredState state = example();
  Service six = web(state);
  six.id += "/IPv6";
  six.addresses = {ip("2001:db8::10")};
  six.backends = {backend("2001:db8:1::1", 8080, 0, 0, 0)};
  six.allowed_sources.push_back(net::Prefix::parse("2001:db8:2::/48").value());
  state.services[six.id] = six;
  web(state).allowed_sources = six.allowed_sources;
  state.nodes["n1"].addresses.push_back(ip("2001:db8::1"));
  const Status status = validate(state);
  EXPECT_TRUE(status) << status.error().message();
}

TEST(Validate, NamesTheFieldThatIsWrong) {
  const struct {
    const char* field;
    std::function<void(DesiredState&)> spoil;
  } rows[] = {
      {"cluster_id: ", [](DesiredState& s) { s.cluster_id.clear(); }},
      {".id: ", [](DesiredState& s) { web(s).id.clear(); }},
      {".id: ", [](DesiredState& s) { web(s).id = "other"; }},
      {"].port: 0", [](DesiredState& s) { web(s).port = 0; }},
      {"].protocol: ", [](DesiredState& s) { web(s).protocol = static_cast<Protocol>(1); }},
      {"].forwarding: ", [](DesiredState& s) { web(s).forwarding = static_cast<Forwarding>(4); }},
      {"].affinity: ", [](DesiredState& s) { web(s).affinity = static_cast<Affinity>(2); }},
      {"].traffic_policy: ", [](DesiredState& s) { web(s).traffic_policy = static_cast<TrafficPolicy>(2); }},
      {"allowed_sources[0]: ", [](DesiredState& s) { web(s).allowed_sources[0].length = 33; }},
      {"allowed_sources[0]: ", [](DesiredState& s) { web(s).allowed_sources[0].address = ip("10.0.0.1"); }},
      {"affinity_seconds: 0",
       [](DesiredState& s) {
         web(s).affinity = Affinity::client_ip;
         web(s).affinity_seconds = 0;
       }},
      {"affinity_seconds: 86401",
       [](DesiredState& s) {
         web(s).affinity = Affinity::client_ip;
         web(s).affinity_seconds = 86'401;
       }},
      {"addresses[1]: of another family", [](DesiredState& s) { web(s).addresses[1] = ip("2001:db8::1"); }},
      {"backends[0].address: of another family",
       [](DesiredState& s) {
         web(s).addresses = {ip("2001:db8::1"), ip("2001:db8::2")};
       }},
      {"backends[2].address: of another family",
       [](DesiredState& s) { web(s).backends[2].address = ip("2001:db8::1"); }},
      {"tunnel.port: 0", [](DesiredState& s) { s.tunnel.port = 0; }},
      {"tunnel.keys: more than 2",
       [](DesiredState& s) {
         s.tunnel.keys.push_back({3, {7, 8}});
       }},
      {"tunnel.keys[1].id: ", [](DesiredState& s) { s.tunnel.keys[1].id = 1; }},
      {"tunnel.keys[1].secret: 0", [](DesiredState& s) { s.tunnel.keys[1].secret = {}; }},
      {"groups[1].weight: ", [](DesiredState& s) { web(s).groups[1].weight = 1001; }},
      {"backends[2].address: ", [](DesiredState& s) { web(s).backends[2].address = {}; }},
      {"backends[2].port: ", [](DesiredState& s) { web(s).backends[2].port = 0; }},
      {"backends[2].group: ", [](DesiredState& s) { web(s).backends[2].group = 2; }},
      {"backends[2].joined: ", [](DesiredState& s) { web(s).backends[2].joined = 10; }},
      {"backends[0].left: ", [](DesiredState& s) { web(s).backends[0].joined = kNotYet; }},
      {"twice in group 0",
       [](DesiredState& s) {
         web(s).backends[0] = web(s).backends[1];
         web(s).backends[1].joined = kNotYet;
       }},
      {"backends[0].left: ", [](DesiredState& s) { web(s).backends[0].left = 10; }},
      {"backends[1].left: ", [](DesiredState& s) { web(s).backends[1].left = 7; }},
      {"twice in group 0", [](DesiredState& s) { web(s).backends[1].joined = 4; }},
      {"twice in group 0", [](DesiredState& s) { web(s).backends[0].left = 0; }},
      {"backends: more than 65535", [](DesiredState& s) { web(s).backends.resize(65536); }},
      {"sizes: ", [](DesiredState& s) { web(s).sizes.clear(); }},
      {"sizes[0].from: ", [](DesiredState& s) { web(s).sizes[0].from = 1; }},
      {"sizes[1].from: ", [](DesiredState& s) { web(s).sizes[1].from = 0; }},
      {"sizes[1].from: ", [](DesiredState& s) { web(s).sizes[1].from = 10; }},
      {"sizes[1].log2: ", [](DesiredState& s) { web(s).sizes[1].log2 = 20; }},
      {"addresses[1]: 192.0.2.10 TCP port 80 is taken",
       [](DesiredState& s) { web(s).addresses[1] = ip("192.0.2.10"); }},
      {"services[z].addresses[0]: 192.0.2.10 TCP port 80 is taken",
       [](DesiredState& s) {
         s.services["z"] = web(s);
         s.services["z"].id = "z";
       }},
      {"nodes[n1].name: ", [](DesiredState& s) { s.nodes["n1"].name = "n2"; }},
      {"announcements[192.0.2.10].address: ",
       [](DesiredState& s) { s.announcements.begin()->second.address = ip("192.0.2.11"); }},
  };
  for (const auto& row : rows) {
    DesiredState state = example();
    row.spoil(state);
    const Status status = validate(state);
    ASSERT_FALSE(status) << row.field;
    EXPECT_EQ(status.error().kind, ErrorKind::invalid);
    EXPECT_THAT(status.error().reason, testing::HasSubstr(row.field));
  }
}

TEST(Validate, ServicesThatDifferInPortOrProtocolShareAnAddress) {
  DesiredState state = example();
  Service other = web(state);
  other.id = "x";
  other.protocol = Protocol::udp;
  state.services["x"] = other;
  other.id = "y";
  other.port = 81;
  state.services["y"] = other;
  EXPECT_TRUE(validate(state));
}

TEST(Digest, IsOfTheContentAndNotOfEpochAndRevision) {
  const Digest before = digest(example());
  DesiredState state = example();
  state.epoch = 77;
  state.revision = 78;
  EXPECT_EQ(digest(state), before);
  EXPECT_EQ(before.hex().size(), 64U);
  EXPECT_EQ(before.hex().find_first_not_of("0123456789abcdef"), std::string::npos);
}

// What two versions of the program must agree on: a change here needs a new name for the encoding in digest.cpp. The
// expected value was computed from the encoding's description by another implementation (Python's hashlib).
TEST(Digest, OfTheEmptyStateIsFixed) {
  EXPECT_EQ(digest(DesiredState{}).hex(), "4356a4e3e04cd87d4bd046ff62ef8ac82db4d0158d64efc84e2931c527caffa5");
}

TEST(AsOf, LeavesOutWhatAnEarlierVersionDoesNotKnow) {
  DesiredState state = example();
  web(state).affinity_seconds = 60;
  web(state).backends[1].joined = kNotYet;
  EXPECT_EQ(as_of(state, kContract), state);
  const DesiredState older = as_of(state, 0);
  EXPECT_EQ(older.tunnel, Tunnel{});
  EXPECT_EQ(older.services.begin()->second.affinity_seconds, 10'800U);
  EXPECT_EQ(older.services.begin()->second.backends.size(), 2U);
  EXPECT_EQ(older.revision, state.revision);
  EXPECT_TRUE(validate(older));
}

TEST(Digest, SeesEveryField) {
  const std::vector<std::function<void(DesiredState&)>> changes = {
      [](DesiredState&) {},
      [](DesiredState& s) { s.cluster_id = "d"; },
      [](DesiredState& s) { s.flow_hash_key[0] = 9; },
      [](DesiredState& s) { s.flow_hash_key[1] = 9; },
      [](DesiredState& s) { s.services.clear(); },
      [](DesiredState& s) { web(s).id += "x"; },
      [](DesiredState& s) { web(s).addresses.pop_back(); },
      [](DesiredState& s) { std::swap(web(s).addresses[0], web(s).addresses[1]); },
      [](DesiredState& s) { web(s).port = 81; },
      [](DesiredState& s) { web(s).protocol = Protocol::udp; },
      [](DesiredState& s) { web(s).forwarding = Forwarding::nat; },
      [](DesiredState& s) { web(s).affinity = Affinity::client_ip; },
      [](DesiredState& s) { web(s).affinity_seconds = 1; },
      [](DesiredState& s) { s.tunnel.port = 6081; },
      [](DesiredState& s) { s.tunnel.keys.pop_back(); },
      [](DesiredState& s) { std::swap(s.tunnel.keys[0], s.tunnel.keys[1]); },
      [](DesiredState& s) { s.tunnel.keys[0].id = 9; },
      [](DesiredState& s) { s.tunnel.keys[0].secret[0] = 9; },
      [](DesiredState& s) { s.tunnel.keys[0].secret[1] = 9; },
      [](DesiredState& s) { web(s).traffic_policy = TrafficPolicy::local; },
      [](DesiredState& s) { web(s).allowed_sources.clear(); },
      [](DesiredState& s) { web(s).allowed_sources[0].length = 9; },
      [](DesiredState& s) { web(s).drain_seconds = 1; },
      [](DesiredState& s) { web(s).groups[0].name = "z"; },
      [](DesiredState& s) { web(s).groups[0].weight = 1; },
      [](DesiredState& s) { web(s).backends[0].address = ip("10.0.0.9"); },
      [](DesiredState& s) { web(s).backends[0].address = ip("2001:db8::1"); },
      [](DesiredState& s) { web(s).backends[0].port = 1; },
      [](DesiredState& s) { web(s).backends[0].group = 1; },
      // Lengths are part of the encoding: moving text from one field to its neighbour is seen.
      [](DesiredState& s) { web(s).backends[0].node = "n1z", web(s).backends[0].zone = ""; },
      [](DesiredState& s) { web(s).backends[0].zone = "n1"; },
      [](DesiredState& s) { web(s).backends[0].joined = 1; },
      [](DesiredState& s) { web(s).backends[0].left = 6; },
      [](DesiredState& s) { web(s).sizes[1].from = 5; },
      [](DesiredState& s) { web(s).sizes[1].log2 = 11; },
      [](DesiredState& s) { s.nodes.clear(); },
      [](DesiredState& s) { s.nodes["n1"].name = "n2"; },
      [](DesiredState& s) { s.nodes["n1"].addresses[0] = ip("10.9.0.3"); },
      [](DesiredState& s) { s.nodes["n1"].source_addresses.clear(); },
      [](DesiredState& s) { s.announcements.clear(); },
      [](DesiredState& s) { s.announcements.begin()->second.nodes.emplace_back("n2"); },
      [](DesiredState& s) { s.announcements.begin()->second.interfaces = {"eth1"}; },
  };
  std::set<Digest> digests;
  for (const auto& change : changes) {
    DesiredState state = example();
    change(state);
    EXPECT_TRUE(digests.insert(digest(state)).second) << "change " << digests.size();
  }
}

}  // namespace
}  // namespace sluice::state
