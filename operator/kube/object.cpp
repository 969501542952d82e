#include "operator/kube/object.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace sluice::kube {
namespace {

const nlohmann::json* member(const nlohmann::json& object, std::string_view name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

std::string text_member(const nlohmann::json& object, std::string_view name) {
  const nlohmann::json* value = member(object, name);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

std::string metadata_text(const nlohmann::json& object, std::string_view name) {
  const nlohmann::json* metadata = member(object, "metadata");
  return metadata == nullptr ? std::string() : text_member(*metadata, name);
}

}  // namespace

ObjectKey parse_key(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return {"", std::string(text)};
  return {std::string(text.substr(0, slash)), std::string(text.substr(slash + 1))};
}

ObjectKey key_of(const nlohmann::json& object) {
  return {metadata_text(object, "namespace"), metadata_text(object, "name")};
}

std::string uid_of(const nlohmann::json& object) {
  return metadata_text(object, "uid");
}

std::string resource_version_of(const nlohmann::json& object) {
  return metadata_text(object, "resourceVersion");
}

std::string annotation_of(const nlohmann::json& object, std::string_view name) {
  const nlohmann::json* metadata = member(object, "metadata");
  const nlohmann::json* annotations = metadata == nullptr ? nullptr : member(*metadata, "annotations");
  return annotations == nullptr ? std::string() : text_member(*annotations, name);
}

bool being_deleted(const nlohmann::json& object) {
  return !metadata_text(object, "deletionTimestamp").empty();
}

std::optional<bool> older_version(std::string_view a, std::string_view b) {
  const auto numeric = [](std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  };
  if (!numeric(a) || !numeric(b)) return std::nullopt;
  const auto significant = [](std::string_view text) {
    return text.substr(std::min(text.find_first_not_of('0'), text.size()));
  };
  a = significant(a);
  b = significant(b);
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

}  // namespace sluice::kube
