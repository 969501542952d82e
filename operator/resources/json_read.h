// Reading JSON of unknown origin: what is absent or of another type reads as nothing. For .cpp files of this room.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "operator/resources/meta.h"

namespace sluice::resources::json_read {

using Json = nlohmann::json;

// The member, or a null value.
const Json& member(const Json& object, std::string_view name);
// The array's elements, or none.
const Json::array_t& items(const Json& object, std::string_view name);
std::string text(const Json& object, std::string_view name);
std::optional<bool> boolean(const Json& object, std::string_view name);
int64_t integer(const Json& object, std::string_view name, int64_t otherwise = 0);
uint16_t port(const Json& object, std::string_view name);  // 0: absent or out of range
PortRef port_ref(const Json& object, std::string_view name);
std::vector<std::string> texts(const Json& object, std::string_view name);
Labels labels(const Json& object, std::string_view name);
std::vector<Condition> conditions(const Json& object, std::string_view name);
Result<ObjectMeta> meta(const Json& object, const char* kind, bool namespaced);

}  // namespace sluice::resources::json_read
