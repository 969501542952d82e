// metav1.Conditions as they are written. For .cpp files of this room.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "operator/planner/values.h"

namespace sluice::status {

using Json = nlohmann::json;

struct WantedCondition {
  std::string type;
  std::string status;  // True, False, Unknown
  std::string reason;
  std::string message;
};

WantedCondition condition(std::string type, const planner::Finding& finding);

// RFC 3339 in UTC, in seconds.
std::string timestamp(std::chrono::system_clock::time_point wall);

// The condition as JSON, its message cut short where it is beyond reading; lastTransitionTime is `before`'s where its
// status is the same. `generation` 0: none is given.
Json condition_json(const WantedCondition& wanted, const resources::Condition* before, int64_t generation,
                    const std::string& now);

// The whole list: `wanted` in place of those of the same type, after it all others as they were.
Json condition_list(const std::vector<WantedCondition>& wanted, const Json& raw_before,
                    const std::vector<resources::Condition>& before, int64_t generation, const std::string& now);

// A merge patch for `metadata.resourceVersion` and those members of `status` that differ from the object's; null: none
// does.
Json status_patch(const Json& object, const Json& status);

// Of conditions on Services, which have those of other controllers beside them.
constexpr std::string_view kConditionPrefix = "sluice.io/";

// The member, or null.
const Json& member(const Json& object, std::string_view name);

}  // namespace sluice::status
