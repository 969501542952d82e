// Single calls to many agents at once. Includes gRPC: for .cpp files only.
#pragma once

#include <map>
#include <string>

#include "common/api/node.pb.h"
#include "operator/publish/publisher.h"

namespace sluice::publish {

struct Dialling {
  std::map<std::string, Endpoint> nodes;
  Credentials credentials;
  Settings settings;
};

std::map<std::string, Result<node::v1::GetStateReply>> get_state(const Dialling& dialling, bool without_state,
                                                                 std::chrono::milliseconds timeout);
std::map<std::string, Status> purge(const Dialling& dialling, const node::v1::PurgeRequest& request,
                                    std::chrono::milliseconds timeout);

}  // namespace sluice::publish
