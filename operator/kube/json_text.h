// JSON as the API server sends and takes it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace sluice::kube {

// What is not JSON becomes a value of which is_discarded() is true, and which is neither object nor array.
nlohmann::json parse_json(std::string_view text);

// In one line. Text that is not UTF-8 is written with replacement characters: there is no other way to put it into
// JSON.
std::string to_text(const nlohmann::json& value);

}  // namespace sluice::kube
