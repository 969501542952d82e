#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "common/api/convert.h"
#include "common/api/node.pb.h"
#include "random_state.h"

namespace sluice::api {
namespace {

namespace wire = sluice::node::v1;
using sluice::testing::random_state;
using ::testing::HasSubstr;
using ::testing::StartsWith;

net::IpAddress ip(const std::string& text) {
  return net::IpAddress::parse(text).value();
}

state::DesiredState example() {
  state::DesiredState state;
  state.cluster_id = "c";
  state.epoch = 3;
  state.revision = 1ULL << 60;
  state.flow_hash_key = {1, UINT64_MAX};
  state.tunnel = {.port = 6083, .keys = {{7, {3, UINT64_MAX}}}};
  state.services["Service/default/web/http"] = {
      .id = "Service/default/web/http",
      .addresses = {ip("192.0.2.10")},
      .port = 80,
      .protocol = state::Protocol::udp,
      .forwarding = state::Forwarding::nat,
      .affinity = state::Affinity::client_ip,
      .affinity_seconds = 60,
      .traffic_policy = state::TrafficPolicy::local,
      .allowed_sources = {net::Prefix::parse("10.0.0.0/8").value()},
      .drain_seconds = 30,
      .groups = {{"a", 90}},
      .backends = {{.address = ip("10.0.0.1"), .port = 8080, .group = 0, .node = "n1", .zone = "z", .joined = 4}},
      .sizes = {{0, 10}}};
  state.nodes["n1"] = {.name = "n1", .addresses = {ip("10.9.0.1")}, .source_addresses = {ip("10.9.0.2")}};
  state.announcements[ip("192.0.2.10")] = {.address = ip("192.0.2.10"), .nodes = {"n1"}, .interfaces = {"eth0"}};
  return state;
}

wire::DesiredState example_on_the_wire() {
  wire::DesiredState message;
  EXPECT_TRUE(message.ParseFromString(serialise(example())));
  return message;
}

TEST(Wire, AnyStateComesBack) {
  EXPECT_TRUE(rc::check("parse(serialise(s)) == s", [] {
    const state::DesiredState state = random_state();
    const std::string bytes = serialise(state);
    const auto back = parse(bytes);
    RC_ASSERT(back.has_value());
    RC_ASSERT(*back == state);
    RC_ASSERT(serialise(*back) == bytes);
  }));
}

TEST(Wire, AnyDeltaComesBack) {
  EXPECT_TRUE(rc::check("parse_delta(serialise(d)) leads where d led", [] {
    const state::DesiredState from = random_state();
    const state::DesiredState to = random_state();
    const auto delta = parse_delta(serialise(state::make_delta(from, to).value()));
    RC_ASSERT(delta.has_value());
    RC_ASSERT(apply_delta(from, *delta).value() == to);
  }));
}

TEST(Wire, AServiceIsWhatTheProtoSays) {
  const wire::DesiredState message = example_on_the_wire();
  ASSERT_EQ(message.services_size(), 1);
  const wire::Service& service = message.services(0);
  EXPECT_EQ(service.addresses(0), std::string("\xc0\x00\x02\x0a", 4));
  EXPECT_EQ(service.port(), 80U);
  EXPECT_EQ(service.protocol(), 17U);
  EXPECT_EQ(service.forwarding(), wire::FORWARDING_NAT);
  EXPECT_EQ(service.affinity(), wire::AFFINITY_CLIENT_IP);
  EXPECT_EQ(service.traffic_policy(), wire::TRAFFIC_POLICY_LOCAL);
  EXPECT_EQ(service.backends(0).joined(), 4U);
  EXPECT_EQ(service.affinity_seconds(), 60U);
  EXPECT_EQ(message.flow_hash_key(1), UINT64_MAX);
  EXPECT_EQ(message.tunnel().port(), 6083U);
  EXPECT_EQ(message.tunnel().keys(0).id(), 7U);
  EXPECT_EQ(message.tunnel().keys(0).secret(1), UINT64_MAX);
}

TEST(Wire, WhatAnEarlierVersionDoesNotSayIsTheDefault) {
  wire::DesiredState message = example_on_the_wire();
  message.clear_tunnel();
  message.mutable_services(0)->clear_affinity_seconds();
  const auto state = parse(message.SerializeAsString());
  ASSERT_TRUE(state) << state.error().message();
  EXPECT_EQ(state->tunnel, state::Tunnel{});
  EXPECT_EQ(state->services.begin()->second.affinity_seconds, 10'800U);
}

TEST(Wire, BadShapesAreRefusedWithTheirField) {
  const struct {
    const char* field;
    std::function<void(wire::DesiredState&)> spoil;
  } rows[] = {
      {"flow_hash_key: ", [](wire::DesiredState& s) { s.add_flow_hash_key(1); }},
      {"tunnel.port: ", [](wire::DesiredState& s) { s.mutable_tunnel()->set_port(65536); }},
      {"tunnel.keys[0].secret: 3 words",
       [](wire::DesiredState& s) { s.mutable_tunnel()->mutable_keys(0)->add_secret(1); }},
      {"services[1]: listed twice", [](wire::DesiredState& s) { *s.add_services() = s.services(0); }},
      {"nodes[1]: listed twice", [](wire::DesiredState& s) { *s.add_nodes() = s.nodes(0); }},
      {"announcements[1]: listed twice", [](wire::DesiredState& s) { *s.add_announcements() = s.announcements(0); }},
      {"services[0].addresses[1]: ", [](wire::DesiredState& s) { s.mutable_services(0)->add_addresses("12345"); }},
      {"services[0].addresses[1]: ", [](wire::DesiredState& s) { s.mutable_services(0)->add_addresses(""); }},
      {"services[0].port: ", [](wire::DesiredState& s) { s.mutable_services(0)->set_port(65536); }},
      {"services[0].protocol: ", [](wire::DesiredState& s) { s.mutable_services(0)->set_protocol(1); }},
      {"services[0].protocol: ", [](wire::DesiredState& s) { s.mutable_services(0)->set_protocol(256 + 6); }},
      {"services[0].forwarding: ",
       [](wire::DesiredState& s) { s.mutable_services(0)->set_forwarding(static_cast<wire::Forwarding>(4)); }},
      {"services[0].affinity: ",
       [](wire::DesiredState& s) { s.mutable_services(0)->set_affinity(static_cast<wire::Affinity>(-1)); }},
      {"services[0].traffic_policy: ",
       [](wire::DesiredState& s) { s.mutable_services(0)->set_traffic_policy(static_cast<wire::TrafficPolicy>(2)); }},
      {"services[0].allowed_sources[0].length: ",
       [](wire::DesiredState& s) { s.mutable_services(0)->mutable_allowed_sources(0)->set_length(33); }},
      {"services[0].allowed_sources[0].address: ",
       [](wire::DesiredState& s) { s.mutable_services(0)->mutable_allowed_sources(0)->clear_address(); }},
      {"services[0].backends[0].address: ",
       [](wire::DesiredState& s) { s.mutable_services(0)->mutable_backends(0)->clear_address(); }},
      {"services[0].backends[0].port: ",
       [](wire::DesiredState& s) { s.mutable_services(0)->mutable_backends(0)->set_port(1 << 20); }},
      {"services[0].backends[0].group: ",
       [](wire::DesiredState& s) { s.mutable_services(0)->mutable_backends(0)->set_group(1); }},
      {"services[0].backends[0].group: ",
       [](wire::DesiredState& s) { s.mutable_services(0)->mutable_backends(0)->set_group(UINT32_MAX); }},
      {"services[0].sizes[0].log2: ",
       [](wire::DesiredState& s) { s.mutable_services(0)->mutable_sizes(0)->set_log2(20); }},
      {"services[0].sizes[0].log2: ",
       [](wire::DesiredState& s) { s.mutable_services(0)->mutable_sizes(0)->set_log2(256); }},
      {"nodes[0].source_addresses[1]: ", [](wire::DesiredState& s) { s.mutable_nodes(0)->add_source_addresses("1"); }},
      {"announcements[0].address: ", [](wire::DesiredState& s) { s.mutable_announcements(0)->set_address("1"); }},
  };
  for (const auto& row : rows) {
    wire::DesiredState message = example_on_the_wire();
    row.spoil(message);
    const auto refused = parse(message.SerializeAsString());
    ASSERT_FALSE(refused) << row.field;
    EXPECT_EQ(refused.error().kind, ErrorKind::invalid);
    EXPECT_THAT(refused.error().reason, StartsWith(row.field));
  }
  EXPECT_FALSE(parse("no message"));
}

TEST(Wire, BadDeltasAreRefusedWithTheirField) {
  wire::Delta good;
  good.set_from(std::string(32, 'a'));
  good.set_to(std::string(32, 'b'));
  ASSERT_TRUE(parse_delta(good.SerializeAsString()));
  const struct {
    const char* field;
    std::function<void(wire::Delta&)> spoil;
  } rows[] = {
      {"from: ", [](wire::Delta& d) { d.clear_from(); }},
      {"to: ", [](wire::Delta& d) { d.set_to(std::string(33, 'b')); }},
      {"tunnel.keys[0].secret: 0 words", [](wire::Delta& d) { d.mutable_tunnel()->add_keys(); }},
      {"upsert_services[0].protocol: ", [](wire::Delta& d) { d.add_upsert_services(); }},
      {"upsert_nodes[0].addresses[0]: ", [](wire::Delta& d) { d.add_upsert_nodes()->add_addresses("x"); }},
      {"upsert_announcements[0].address: ", [](wire::Delta& d) { d.add_upsert_announcements(); }},
      {"delete_announcements[0]: ", [](wire::Delta& d) { d.add_delete_announcements("x"); }},
  };
  for (const auto& row : rows) {
    wire::Delta message = good;
    row.spoil(message);
    const auto refused = parse_delta(message.SerializeAsString());
    ASSERT_FALSE(refused) << row.field;
    EXPECT_THAT(refused.error().reason, StartsWith(row.field));
  }
  EXPECT_FALSE(parse_delta("no message"));
}

TEST(Wire, FieldsOfALaterVersionAreIgnored) {
  wire::DesiredState message = example_on_the_wire();
  wire::DesiredState::GetReflection()->MutableUnknownFields(&message)->AddVarint(1000, 1);
  wire::Service::GetReflection()->MutableUnknownFields(message.mutable_services(0))->AddLengthDelimited(1000, "new");
  EXPECT_EQ(parse(message.SerializeAsString()).value(), example());
}

TEST(Json, AnyStateComesBack) {
  EXPECT_TRUE(rc::check("from_json(to_json(s)) == s", [] {
    const state::DesiredState state = random_state();
    const auto back = from_json(to_json(state));
    RC_ASSERT(back.has_value());
    RC_ASSERT(*back == state);
  }));
}

TEST(Json, IsReadable) {
  state::DesiredState state = example();
  state.services.begin()->second.backends.push_back(
      {.address = ip("10.0.0.2"), .port = 8080, .node = "n2", .joined = state::kNotYet});
  EXPECT_EQ(
      to_json(state),
      R"({
"clusterId": "c",
"epoch": 3,
"revision": 1152921504606846976,
"flowHashKey": ["0x0000000000000001", "0xffffffffffffffff"],
"tunnel": {"port":6083,"keys":[{"id":7,"secret":["0x0000000000000003","0xffffffffffffffff"]}]},
"services": [
  {"id":"Service/default/web/http","addresses":["192.0.2.10"],"port":80,"protocol":"UDP","forwarding":"NAT",)"
      R"("affinity":"ClientIP","affinitySeconds":60,"trafficPolicy":"Local","allowedSources":["10.0.0.0/8"],)"
      R"("drainSeconds":30,"groups":[{"name":"a","weight":90}],"backends":[{"address":)"
      R"("10.0.0.1","port":8080,"group":0,"node":"n1","zone":"z","joined":4,"left":0},{"address":"10.0.0.2","port":8080,"group":0,"node":"n2","zone":"",)"
      R"("joined":"NotYet","left":0}],)"
      R"("sizes":[{"from":0,"log2":10}]}
],
"nodes": [
  {"name":"n1","addresses":["10.9.0.1"],"sourceAddresses":["10.9.0.2"]}
],
"announcements": [
  {"address":"192.0.2.10","nodes":["n1"],"interfaces":["eth0"]}
]
}
)");
}

TEST(Json, TextIsEscaped) {
  state::DesiredState state;
  state.cluster_id = "quote \" backslash \\ newline \n";
  EXPECT_EQ(from_json(to_json(state)).value(), state);
  state.cluster_id = "not UTF-8: \xff";
  EXPECT_EQ(from_json(to_json(state)).value().cluster_id, "not UTF-8: \xef\xbf\xbd");
}

// `from` in the example's text becomes `to`.
struct Replacement {
  const char* from;
  const char* to;
  const char* field;
};

TEST(Json, WhatIsWrongIsRefusedWithItsField) {
  const Replacement rows[] = {
      {R"("clusterId": "c")", R"("clusterId": 7)", "clusterId: not a text"},
      {R"("clusterId": "c",)", "", "clusterId: missing"},
      {R"("epoch": 3)", R"("epoch": -3)", "epoch: not a whole number"},
      {R"("epoch": 3)", R"("epoch": 3.5)", "epoch: not a whole number"},
      {R"("0x0000000000000001", )", "", "flowHashKey: 1 words"},
      {R"("port":6083)", R"("port":65536)", "tunnel.port: "},
      {R"("id":7,)", "", "tunnel.keys[0].id: missing"},
      {R"("0x0000000000000003",)", "", "tunnel.keys[0].secret: 1 words"},
      {R"("joined":4)", R"("joined":"Later")", "services[0].backends[0].joined: "},
      {"0x0000000000000001", "0x000000000000000g", "flowHashKey[0]: "},
      {R"("services": [)", R"("services": [7,)", "services[0]: not an object"},
      {R"("nodes": [)", R"("nodes": [{}, )", "nodes[0].name: missing"},
      {R"(["192.0.2.10"],"port")", R"(["192.0.2.1000"],"port")", "services[0].addresses[0]: parse address"},
      {R"(["192.0.2.10"],"port")", R"("192.0.2.10","port")", "services[0].addresses: not a list"},
      {R"("port":80,)", R"("port":65536,)", "services[0].port: not a whole number from 0 to 65535"},
      {R"("port":80,)", "", "services[0].port: missing"},
      {R"("UDP")", R"("udp")", "services[0].protocol: "},
      {R"("NAT")", R"("nat")", "services[0].forwarding: unknown value \"nat\""},
      {R"("ClientIP")", R"(1)", "services[0].affinity: not a text"},
      {R"("Local")", R"("")", "services[0].trafficPolicy: "},
      {"10.0.0.0/8", "10.0.0.1/8", "services[0].allowedSources[0]: "},
      {R"("weight":90)", R"("weight":"90")", "services[0].groups[0].weight: "},
      {R"("10.0.0.1")", R"("")", "services[0].backends[0].address: "},
      {R"("group":0)", R"("group":1)", "services[0].backends[0].group: "},
      {R"("log2":10)", R"("log2":20)", "services[0].sizes[0].log2: "},
      {R"({"name":"n1")", R"({"name":"n1"},{"name":"n1")", "nodes[1]: listed twice"},
      {R"({"address":"192.0.2.10",)", R"({)", "announcements[0].address: missing"},
      {R"(["eth0"])", R"([0])", "announcements[0].interfaces[0]: not a text"},
  };
  const std::string good = to_json(example());
  for (const Replacement& row : rows) {
    const size_t at = good.find(row.from);
    ASSERT_NE(at, std::string::npos) << row.from;
    const auto refused = from_json(std::string(good).replace(at, std::string(row.from).size(), row.to));
    ASSERT_FALSE(refused) << row.field;
    EXPECT_EQ(refused.error().kind, ErrorKind::invalid);
    EXPECT_THAT(refused.error().reason, StartsWith(row.field));
  }
}

TEST(Json, WhatIsNotJsonIsRefusedWithItsLine) {
  for (const std::string text : {"", "{", "[1,", "{\n\"clusterId\": \n}"}) {
    const auto refused = from_json(text);
    ASSERT_FALSE(refused) << text;
    EXPECT_THAT(refused.error().reason, HasSubstr("line"));
  }
  for (const std::string text : {"null", "[]", "7"}) {
    EXPECT_EQ(from_json(text).error().reason, "not a JSON object");
  }
  // A file that was cut off at any point is refused.
  const std::string good = to_json(example());
  for (size_t length = 0; length < good.size() - 2; ++length) EXPECT_FALSE(from_json(good.substr(0, length))) << length;
}

TEST(Json, FieldsOfALaterVersionAreIgnoredAndEmptyOnesMayBeLeftOut) {
  const auto state = from_json(R"({"clusterId": "c", "epoch": 1, "revision": 2, "new": [{"id": {}}], "flowHashKey":
    ["0x0000000000000001", "0x0000000000000002"],
    "services": [{"id": "s", "port": 1, "protocol": "TCP", "later": [{"name": 7}]}], "nodes": [{"name": "n"}]})");
  ASSERT_TRUE(state) << state.error().message();
  EXPECT_EQ(state->services.at("s").drain_seconds, 300U);
  EXPECT_EQ(state->services.at("s").forwarding, state::Forwarding::automatic);
  EXPECT_EQ(state->nodes.size(), 1U);
}

}  // namespace
}  // namespace sluice::api
