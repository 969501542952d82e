// The kinds one by one. For .cpp files of this room.
#pragma once

#include "operator/status/progress.h"

namespace sluice::status {

// Each adds what is to be written for one object.
void service_writes(const Input& input, Progress& progress, const resources::Service& service, std::vector<Write>& out);
void load_balancer_writes(const Input& input, Progress& progress, const resources::LoadBalancer& load_balancer,
                          std::vector<Write>& out);
void pool_writes(const Input& input, std::vector<Write>& out);
void node_writes(const Input& input, Progress& progress, std::vector<Write>& out);

// The status of the condition of this type, "" where there is none.
std::string status_of(const std::vector<resources::Condition>& conditions, std::string_view type);
// It is another status or another reason than before.
bool turned(const std::vector<resources::Condition>& before, const WantedCondition& wanted);

}  // namespace sluice::status
