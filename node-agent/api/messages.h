// Between the server's values and the messages of node.proto. Internal to api/.
#pragma once

#include "common/api/node.pb.h"
#include "node-agent/api/node_server.h"

namespace sluice::agent::api {

Hello from_message(const node::v1::OperatorHello& message);
node::v1::AgentHello to_message(const Welcome& welcome);
node::v1::AgentMessage to_message(const std::variant<Welcome, Refusal>& reply);
node::v1::AgentMessage to_message(const PushReply& reply);
node::v1::AgentMessage to_message(const NodeStatus& status);

}  // namespace sluice::agent::api
