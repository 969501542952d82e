#include "node-agent/api/messages.h"

namespace sluice::agent::api {
namespace {

namespace v1 = node::v1;

std::string bytes_of(const state::Digest& digest) {
  return {digest.bytes.begin(), digest.bytes.end()};
}
std::string bytes_of(const net::IpAddress& address) {
  return {address.bytes().begin(), address.bytes().begin() + static_cast<std::ptrdiff_t>(address.size())};
}

template <typename List>
void add_failures(List& list, const std::vector<dataplane::ServiceFailure>& failures) {
  for (const auto& failure : failures) {
    auto* added = list.Add();
    added->set_service(failure.service);
    added->set_reason(failure.reason);
    added->set_message(failure.message);
  }
}

v1::Refused::Reason reason_of(RefusalReason reason) {
  switch (reason) {
    case RefusalReason::epoch_too_low:
      return v1::Refused::EPOCH_TOO_LOW;
    case RefusalReason::wrong_node:
      return v1::Refused::WRONG_NODE;
    case RefusalReason::invalid_state:
      return v1::Refused::INVALID_STATE;
    case RefusalReason::purged:
      return v1::Refused::PURGED;
  }
  return v1::Refused::UNKNOWN;
}

void fill(v1::AgentMessage& message, const Ack& ack) {
  message.mutable_ack()->set_revision(ack.revision);
  message.mutable_ack()->set_epoch(ack.epoch);
  message.mutable_ack()->set_digest(bytes_of(ack.digest));
  add_failures(*message.mutable_ack()->mutable_failures(), ack.failures);
}
void fill(v1::AgentMessage& message, const NeedSnapshot& need) {
  message.mutable_need_snapshot()->set_have(need.have);
}
void fill(v1::AgentMessage& message, const Refusal& refusal) {
  message.mutable_refused()->set_reason(reason_of(refusal.reason));
  message.mutable_refused()->set_message(refusal.message);
  message.mutable_refused()->set_highest_epoch(refusal.highest_epoch);
}
void fill(v1::AgentMessage& message, const Welcome& welcome) {
  *message.mutable_hello() = to_message(welcome);
}

}  // namespace

Hello from_message(const v1::OperatorHello& message) {
  return {message.cluster_id(), message.epoch(), message.identity(), message.version(), message.node()};
}

v1::AgentHello to_message(const Welcome& welcome) {
  v1::AgentHello message;
  message.set_node(welcome.node);
  message.set_version(welcome.version);
  message.set_epoch(welcome.epoch);
  message.set_revision(welcome.revision);
  message.set_digest(welcome.digest);
  message.set_cluster_id(welcome.cluster_id);
  message.set_start_time_unix(welcome.start_time);
  add_failures(*message.mutable_failures(), welcome.failures);
  message.set_contract(state::kContract);
  return message;
}

v1::AgentMessage to_message(const std::variant<Welcome, Refusal>& reply) {
  v1::AgentMessage message;
  std::visit([&](const auto& value) { fill(message, value); }, reply);
  return message;
}

v1::AgentMessage to_message(const PushReply& reply) {
  v1::AgentMessage message;
  std::visit([&](const auto& value) { fill(message, value); }, reply);
  return message;
}

v1::AgentMessage to_message(const NodeStatus& status) {
  v1::AgentMessage message;
  v1::Status& out = *message.mutable_status();
  for (const auto& interface : status.interfaces) {
    v1::Interface& added = *out.add_interfaces();
    added.set_name(interface.name);
    added.set_mode(interface.mode == dataplane::AttachMode::native ? "Native" : "Generic");
    added.set_driver(interface.driver);
  }
  for (const auto& condition : status.conditions) {
    v1::Condition& added = *out.add_conditions();
    added.set_type(condition.type);
    added.set_status(condition.status);
    added.set_reason(condition.reason);
    added.set_message(condition.message);
  }
  for (const auto& address : status.announcing) out.add_announcing(bytes_of(address));
  for (const auto& service : status.services_with_old_flows) out.add_services_with_old_flows(service);
  for (const auto& one : status.leaving) {
    v1::LeavingFlows& added = *out.add_leaving();
    added.set_service(one.service);
    added.set_address(bytes_of(one.address));
    added.set_port(one.port);
    added.set_flows(one.flows);
  }
  return message;
}

}  // namespace sluice::agent::api
