#include "common/api/convert.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>

#include "common/api/findings.h"
#include "common/api/node.pb.h"

namespace sluice::api {

namespace {

namespace wire = sluice::node::v1;
using Texts = google::protobuf::RepeatedPtrField<std::string>;

// --- to the wire

std::string to_wire(const net::IpAddress& address) {
  return {reinterpret_cast<const char*>(address.bytes().data()), address.size()};
}

void to_wire(const std::vector<net::IpAddress>& addresses, Texts& out) {
  for (const auto& address : addresses) *out.Add() = to_wire(address);
}

void to_wire(const std::vector<std::string>& texts, Texts& out) {
  out.Assign(texts.begin(), texts.end());
}

void to_wire(const state::Service& service, wire::Service& out) {
  out.set_id(service.id);
  to_wire(service.addresses, *out.mutable_addresses());
  out.set_port(service.port);
  out.set_protocol(static_cast<uint32_t>(service.protocol));
  out.set_forwarding(static_cast<wire::Forwarding>(service.forwarding));
  out.set_affinity(static_cast<wire::Affinity>(service.affinity));
  out.set_affinity_seconds(service.affinity_seconds);
  out.set_traffic_policy(static_cast<wire::TrafficPolicy>(service.traffic_policy));
  for (const auto& prefix : service.allowed_sources) {
    auto& added = *out.add_allowed_sources();
    added.set_address(to_wire(prefix.address));
    added.set_length(prefix.length);
  }
  out.set_drain_seconds(service.drain_seconds);
  for (const auto& group : service.groups) {
    auto& added = *out.add_groups();
    added.set_name(group.name);
    added.set_weight(group.weight);
  }
  for (const auto& backend : service.backends) {
    auto& added = *out.add_backends();
    added.set_address(to_wire(backend.address));
    added.set_port(backend.port);
    added.set_group(backend.group);
    added.set_node(backend.node);
    added.set_zone(backend.zone);
    added.set_joined(backend.joined);
    added.set_left(backend.left);
  }
  for (const auto& size : service.sizes) {
    auto& added = *out.add_sizes();
    added.set_from(size.from);
    added.set_log2(size.log2);
  }
}

void to_wire(const state::Node& node, wire::Node& out) {
  out.set_name(node.name);
  to_wire(node.addresses, *out.mutable_addresses());
  to_wire(node.source_addresses, *out.mutable_source_addresses());
}

void to_wire(const state::Tunnel& tunnel, wire::Tunnel& out) {
  out.set_port(tunnel.port);
  for (const auto& key : tunnel.keys) {
    auto& added = *out.add_keys();
    added.set_id(key.id);
    for (const uint64_t word : key.secret) added.add_secret(word);
  }
}

void to_wire(const state::Announcement& announcement, wire::Announcement& out) {
  out.set_address(to_wire(announcement.address));
  to_wire(announcement.nodes, *out.mutable_nodes());
  to_wire(announcement.interfaces, *out.mutable_interfaces());
}

std::string bytes_of(const google::protobuf::MessageLite& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream text(&bytes);
    google::protobuf::io::CodedOutputStream coded(&text);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  return bytes;
}

bool read(std::string_view bytes, google::protobuf::MessageLite& message) {
  return bytes.size() <= std::numeric_limits<int>::max() &&
         message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

// The casts between the enumerations rest on these.
static_assert(static_cast<int>(state::Forwarding::direct) == wire::FORWARDING_DIRECT);
static_assert(static_cast<int>(state::Forwarding::nat) == wire::FORWARDING_NAT);
static_assert(static_cast<int>(state::Affinity::client_ip) == wire::AFFINITY_CLIENT_IP);
static_assert(static_cast<int>(state::TrafficPolicy::local) == wire::TRAFFIC_POLICY_LOCAL);

// --- from the wire: shapes are checked, with the field's name

class Reader {
 public:
  [[nodiscard]] const Findings& findings() const { return findings_; }

  net::IpAddress address(const std::string& bytes, const Path& path) {
    if (bytes.size() == 4) {
      uint32_t word = 0;
      std::memcpy(&word, bytes.data(), sizeof word);
      return net::IpAddress::from_ipv4(word);
    }
    std::array<uint8_t, 16> wide{};
    if (bytes.size() != wide.size()) {
      findings_.report(path, "an address of " + std::to_string(bytes.size()) + " bytes, not 4 or 16");
      return {};
    }
    std::copy(bytes.begin(), bytes.end(), wide.begin());
    return net::IpAddress::from_ipv6(wide);
  }

  std::vector<net::IpAddress> addresses(const Texts& items, const Path* parent, const char* field) {
    std::vector<net::IpAddress> result;
    result.reserve(static_cast<size_t>(items.size()));
    for (const std::string& bytes : items) result.push_back(address(bytes, {parent, field, result.size()}));
    return result;
  }

  // `most`: the greatest value allowed.
  template <typename T>
  T number(uint64_t value, uint64_t most, const Path& path) {
    if (value > most) findings_.report(path, std::to_string(value) + ", at most " + std::to_string(most));
    return static_cast<T>(value);
  }

  template <typename Enum>
  Enum choice(int value, Enum greatest, const Path& path) {
    if (value < 0 || value > static_cast<int>(greatest)) {
      findings_.report(path, "unknown value " + std::to_string(value));
      return {};
    }
    return static_cast<Enum>(value);
  }

  state::Protocol protocol(uint32_t value, const Path& path) {
    if (value == static_cast<uint32_t>(state::Protocol::udp)) return state::Protocol::udp;
    if (value != static_cast<uint32_t>(state::Protocol::tcp)) {
      findings_.report(path, std::to_string(value) + ", neither TCP (6) nor UDP (17)");
    }
    return state::Protocol::tcp;
  }

  state::Digest digest(const std::string& bytes, const Path& path) {
    state::Digest result;
    if (bytes.size() != result.bytes.size()) {
      findings_.report(path, "a digest of " + std::to_string(bytes.size()) + " bytes, not 32");
      return result;
    }
    std::copy(bytes.begin(), bytes.end(), result.bytes.begin());
    return result;
  }

  net::Prefix prefix(const wire::Prefix& in, const Path& path) {
    net::Prefix result;
    result.address = address(in.address(), {&path, "address"});
    result.length = number<uint8_t>(in.length(), result.address.is_ipv4() ? 32 : 128, {&path, "length"});
    return result;
  }

  state::Backend backend(const wire::Backend& in, int groups, const Path& path) {
    state::Backend result;
    result.address = address(in.address(), {&path, "address"});
    result.port = number<uint16_t>(in.port(), 0xffff, {&path, "port"});
    result.group = in.group();
    if (int64_t{in.group()} >= groups) {
      findings_.report({&path, "group"}, std::to_string(in.group()) + ", of " + std::to_string(groups) + " groups");
    }
    result.node = in.node();
    result.zone = in.zone();
    result.joined = in.joined();
    result.left = in.left();
    return result;
  }

  state::Service service(const wire::Service& in, const Path& path) {
    state::Service result;
    result.id = in.id();
    result.addresses = addresses(in.addresses(), &path, "addresses");
    result.port = number<uint16_t>(in.port(), 0xffff, {&path, "port"});
    result.protocol = protocol(in.protocol(), {&path, "protocol"});
    result.forwarding = choice(in.forwarding(), state::Forwarding::direct, {&path, "forwarding"});
    result.affinity = choice(in.affinity(), state::Affinity::client_ip, {&path, "affinity"});
    if (in.affinity_seconds() != 0) result.affinity_seconds = in.affinity_seconds();
    result.traffic_policy = choice(in.traffic_policy(), state::TrafficPolicy::local, {&path, "traffic_policy"});
    for (const auto& item : in.allowed_sources()) {
      result.allowed_sources.push_back(prefix(item, {&path, "allowed_sources", result.allowed_sources.size()}));
    }
    result.drain_seconds = in.drain_seconds();
    for (const auto& item : in.groups()) result.groups.push_back({item.name(), item.weight()});
    result.backends.reserve(static_cast<size_t>(in.backends_size()));
    for (const auto& item : in.backends()) {
      result.backends.push_back(backend(item, in.groups_size(), {&path, "backends", result.backends.size()}));
    }
    for (const auto& item : in.sizes()) {
      const Path here{&path, "sizes", result.sizes.size()};
      result.sizes.push_back({item.from(), number<uint8_t>(item.log2(), state::kMaxTableLog2, {&here, "log2"})});
    }
    return result;
  }

  state::Node node(const wire::Node& in, const Path& path) {
    return {in.name(), addresses(in.addresses(), &path, "addresses"),
            addresses(in.source_addresses(), &path, "source_addresses")};
  }

  std::array<uint64_t, 2> two_words(const google::protobuf::RepeatedField<uint64_t>& in, const Path& path) {
    std::array<uint64_t, 2> result{};
    if (static_cast<size_t>(in.size()) == result.size()) {
      std::copy(in.begin(), in.end(), result.begin());
    } else {
      findings_.report(path, std::to_string(in.size()) + " words, not 2");
    }
    return result;
  }

  state::Tunnel tunnel(const wire::Tunnel& in) {
    const Path path{nullptr, "tunnel"};
    state::Tunnel result;
    if (in.port() != 0) result.port = number<uint16_t>(in.port(), 0xffff, {&path, "port"});
    for (const auto& item : in.keys()) {
      const Path here{&path, "keys", result.keys.size()};
      result.keys.push_back({item.id(), two_words(item.secret(), {&here, "secret"})});
    }
    return result;
  }

  state::Announcement announcement(const wire::Announcement& in, const Path& path) {
    return {address(in.address(), {&path, "address"}),
            {in.nodes().begin(), in.nodes().end()},
            {in.interfaces().begin(), in.interfaces().end()}};
  }

  template <typename Key, typename Value>
  void insert(std::map<Key, Value>& entries, const Key& key, Value value, const Path& path) {
    if (!entries.emplace(key, std::move(value)).second) findings_.report(path, "listed twice");
  }

 private:
  Findings findings_;
};

constexpr const char* kReadState = "read desired state";
constexpr const char* kReadDelta = "read delta";
constexpr const char* kNotAMessage = "not a protobuf message";

}  // namespace

std::string serialise(const state::DesiredState& state) {
  wire::DesiredState out;
  out.set_cluster_id(state.cluster_id);
  out.set_epoch(state.epoch);
  out.set_revision(state.revision);
  for (const uint64_t word : state.flow_hash_key) out.add_flow_hash_key(word);
  if (state.tunnel != state::Tunnel{}) to_wire(state.tunnel, *out.mutable_tunnel());
  for (const auto& [id, service] : state.services) to_wire(service, *out.add_services());
  for (const auto& [name, node] : state.nodes) to_wire(node, *out.add_nodes());
  for (const auto& [address, announcement] : state.announcements) to_wire(announcement, *out.add_announcements());
  return bytes_of(out);
}

Result<state::DesiredState> parse(std::string_view bytes) {
  wire::DesiredState in;
  if (!read(bytes, in)) return fail(ErrorKind::invalid, kReadState, "", kNotAMessage);
  Reader reader;
  state::DesiredState result;
  result.cluster_id = in.cluster_id();
  result.epoch = in.epoch();
  result.revision = in.revision();
  result.flow_hash_key = reader.two_words(in.flow_hash_key(), {nullptr, "flow_hash_key"});
  result.tunnel = reader.tunnel(in.tunnel());
  size_t index = 0;
  for (const auto& item : in.services()) {
    const Path path{nullptr, "services", index++};
    reader.insert(result.services, item.id(), reader.service(item, path), path);
  }
  index = 0;
  for (const auto& item : in.nodes()) {
    const Path path{nullptr, "nodes", index++};
    reader.insert(result.nodes, item.name(), reader.node(item, path), path);
  }
  index = 0;
  for (const auto& item : in.announcements()) {
    const Path path{nullptr, "announcements", index++};
    auto announcement = reader.announcement(item, path);
    const net::IpAddress address = announcement.address;
    reader.insert(result.announcements, address, std::move(announcement), path);
  }
  if (!reader.findings().none()) return reader.findings().error(kReadState);
  return result;
}

std::string serialise(const state::Delta& delta) {
  const auto digest_bytes = [](const state::Digest& digest) {
    return std::string(digest.bytes.begin(), digest.bytes.end());
  };
  wire::Delta out;
  out.set_from(digest_bytes(delta.from));
  out.set_to(digest_bytes(delta.to));
  out.set_epoch(delta.epoch);
  out.set_revision(delta.revision);
  for (const auto& service : delta.upsert_services) to_wire(service, *out.add_upsert_services());
  to_wire(delta.delete_services, *out.mutable_delete_services());
  for (const auto& node : delta.upsert_nodes) to_wire(node, *out.add_upsert_nodes());
  to_wire(delta.delete_nodes, *out.mutable_delete_nodes());
  for (const auto& announcement : delta.upsert_announcements) to_wire(announcement, *out.add_upsert_announcements());
  to_wire(delta.delete_announcements, *out.mutable_delete_announcements());
  if (delta.tunnel) to_wire(*delta.tunnel, *out.mutable_tunnel());
  return bytes_of(out);
}

Result<state::Delta> parse_delta(std::string_view bytes) {
  wire::Delta in;
  if (!read(bytes, in)) return fail(ErrorKind::invalid, kReadDelta, "", kNotAMessage);
  Reader reader;
  state::Delta result;
  result.from = reader.digest(in.from(), {nullptr, "from"});
  result.to = reader.digest(in.to(), {nullptr, "to"});
  result.epoch = in.epoch();
  result.revision = in.revision();
  for (const auto& item : in.upsert_services()) {
    const Path path{nullptr, "upsert_services", result.upsert_services.size()};
    result.upsert_services.push_back(reader.service(item, path));
  }
  result.delete_services.assign(in.delete_services().begin(), in.delete_services().end());
  for (const auto& item : in.upsert_nodes()) {
    result.upsert_nodes.push_back(reader.node(item, {nullptr, "upsert_nodes", result.upsert_nodes.size()}));
  }
  result.delete_nodes.assign(in.delete_nodes().begin(), in.delete_nodes().end());
  for (const auto& item : in.upsert_announcements()) {
    const Path path{nullptr, "upsert_announcements", result.upsert_announcements.size()};
    result.upsert_announcements.push_back(reader.announcement(item, path));
  }
  if (in.has_tunnel()) result.tunnel = reader.tunnel(in.tunnel());
  result.delete_announcements = reader.addresses(in.delete_announcements(), nullptr, "delete_announcements");
  if (!reader.findings().none()) return reader.findings().error(kReadDelta);
  return result;
}

}  // namespace sluice::api
