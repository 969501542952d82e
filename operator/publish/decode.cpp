#include "operator/publish/decode.h"

#include <algorithm>
#include <array>

namespace sluice::publish {

namespace {

std::optional<net::IpAddress> decode_address(const std::string& bytes) {
  std::array<uint8_t, 16> raw{};
  if (bytes.size() != 4 && bytes.size() != raw.size()) {
    return std::nullopt;
  }
  std::ranges::copy(bytes, raw.begin());
  if (bytes.size() == raw.size()) {
    return net::IpAddress::from_ipv6(raw);
  }
  uint32_t word = 0;
  std::memcpy(&word, raw.data(), sizeof(word));
  return net::IpAddress::from_ipv4(word);
}

}  // namespace

std::optional<state::Digest> decode_digest(const std::string& bytes) {
  state::Digest digest;
  if (bytes.size() != digest.bytes.size()) {
    return std::nullopt;
  }
  std::ranges::copy(bytes, digest.bytes.begin());
  return digest;
}

AgentInfo decode(const node::v1::AgentHello& hello) {
  AgentInfo info;
  info.node = hello.node();
  info.version = hello.version();
  info.cluster_id = hello.cluster_id();
  info.epoch = hello.epoch();
  info.revision = hello.revision();
  info.digest = decode_digest(hello.digest());
  info.start_time = std::chrono::system_clock::time_point(std::chrono::seconds(hello.start_time_unix()));
  info.failures = decode(hello.failures());
  info.contract = hello.contract();
  return info;
}

std::vector<ServiceFailure> decode(const google::protobuf::RepeatedPtrField<node::v1::ServiceFailure>& failures) {
  std::vector<ServiceFailure> decoded;
  decoded.reserve(static_cast<size_t>(failures.size()));
  for (const auto& failure : failures) {
    decoded.push_back({failure.service(), failure.reason(), failure.message()});
  }
  return decoded;
}

AgentStatus decode(const node::v1::Status& status) {
  AgentStatus decoded;
  for (const auto& interface : status.interfaces()) {
    decoded.interfaces.push_back({interface.name(), interface.mode(), interface.driver()});
  }
  for (const auto& condition : status.conditions()) {
    decoded.conditions.push_back({condition.type(), condition.status(), condition.reason(), condition.message()});
  }
  for (const auto& bytes : status.announcing()) {
    if (const auto address = decode_address(bytes)) {
      decoded.announcing.push_back(*address);
    }
  }
  decoded.services_with_old_flows.assign(status.services_with_old_flows().begin(),
                                         status.services_with_old_flows().end());
  for (const auto& one : status.leaving()) {
    if (const auto address = decode_address(one.address())) {
      decoded.leaving.push_back({one.service(), *address, static_cast<uint16_t>(one.port()), one.flows()});
    }
  }
  return decoded;
}

Refusal decode(node::v1::Refused::Reason reason) {
  switch (reason) {
    case node::v1::Refused::EPOCH_TOO_LOW:
      return Refusal::epoch_too_low;
    case node::v1::Refused::WRONG_NODE:
      return Refusal::wrong_node;
    case node::v1::Refused::INVALID_STATE:
      return Refusal::invalid_state;
    case node::v1::Refused::PURGED:
      return Refusal::purged;
    default:
      return Refusal::other;
  }
}

}  // namespace sluice::publish
