#include "operator/resources/json_read.h"

#include <limits>

namespace sluice::resources::json_read {

const Json& member(const Json& object, std::string_view name) {
  static const Json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(name);
  return found == object.end() ? nothing : *found;
}

const Json::array_t& items(const Json& object, std::string_view name) {
  static const Json::array_t none;
  const Json& value = member(object, name);
  return value.is_array() ? value.get_ref<const Json::array_t&>() : none;
}

std::string text(const Json& object, std::string_view name) {
  const Json& value = member(object, name);
  return value.is_string() ? value.get<std::string>() : std::string();
}

std::optional<bool> boolean(const Json& object, std::string_view name) {
  const Json& value = member(object, name);
  if (!value.is_boolean()) return std::nullopt;
  return value.get<bool>();
}

int64_t integer(const Json& object, std::string_view name, int64_t otherwise) {
  const Json& value = member(object, name);
  return value.is_number_integer() ? value.get<int64_t>() : otherwise;
}

uint16_t port(const Json& object, std::string_view name) {
  const int64_t value = integer(object, name);
  return value > 0 && value <= std::numeric_limits<uint16_t>::max() ? static_cast<uint16_t>(value) : uint16_t{0};
}

PortRef port_ref(const Json& object, std::string_view name) {
  return {port(object, name), text(object, name)};
}

std::vector<std::string> texts(const Json& object, std::string_view name) {
  std::vector<std::string> out;
  for (const Json& value : items(object, name)) {
    if (value.is_string()) out.push_back(value.get<std::string>());
  }
  return out;
}

Labels labels(const Json& object, std::string_view name) {
  Labels out;
  const Json& value = member(object, name);
  if (!value.is_object()) return out;
  for (const auto& [key, label] : value.items()) {
    if (label.is_string()) out.emplace(key, label.get<std::string>());
  }
  return out;
}

std::vector<Condition> conditions(const Json& object, std::string_view name) {
  std::vector<Condition> out;
  for (const Json& value : items(object, name)) {
    out.push_back({text(value, "type"), text(value, "status"), integer(value, "observedGeneration"),
                   text(value, "lastTransitionTime"), text(value, "reason"), text(value, "message")});
  }
  return out;
}

Result<ObjectMeta> meta(const Json& object, const char* kind, bool namespaced) {
  const Json& metadata = member(object, "metadata");
  ObjectMeta out;
  out.key = {namespaced ? text(metadata, "namespace") : std::string(), text(metadata, "name")};
  if (out.key.name.empty()) return fail(ErrorKind::invalid, "read", kind, "metadata.name is missing");
  if (namespaced && out.key.ns.empty()) {
    return fail(ErrorKind::invalid, "read", std::string(kind) + " " + out.key.name, "metadata.namespace is missing");
  }
  out.uid = text(metadata, "uid");
  out.resource_version = text(metadata, "resourceVersion");
  out.generation = integer(metadata, "generation");
  out.creation_timestamp = text(metadata, "creationTimestamp");
  out.deleting = !text(metadata, "deletionTimestamp").empty();
  out.labels = labels(metadata, "labels");
  out.annotations = labels(metadata, "annotations");
  out.finalizers = texts(metadata, "finalizers");
  return out;
}

}  // namespace sluice::resources::json_read
