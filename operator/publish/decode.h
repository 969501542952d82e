// From the wire's messages to this room's values. Includes protobuf: for .cpp files only.
#pragma once

#include "common/api/node.pb.h"
#include "operator/publish/publisher.h"

namespace sluice::publish {

// nullopt where the bytes are not a digest's: empty, or from a version that counts differently.
std::optional<state::Digest> decode_digest(const std::string& bytes);
AgentInfo decode(const node::v1::AgentHello& hello);
AgentStatus decode(const node::v1::Status& status);
std::vector<ServiceFailure> decode(const google::protobuf::RepeatedPtrField<node::v1::ServiceFailure>& failures);
Refusal decode(node::v1::Refused::Reason reason);

}  // namespace sluice::publish
