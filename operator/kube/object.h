// What the API server hands out: immutable JSON values, shared between the store, the handlers and the work queue.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::kube {

// Never null where a function returns it. `metadata.managedFields` has been dropped from what a Reflector keeps.
using Object = std::shared_ptr<const nlohmann::json>;

struct ObjectKey {
  std::string ns;  // empty for cluster-scoped objects
  std::string name;

  [[nodiscard]] std::string text() const { return ns.empty() ? name : ns + "/" + name; }
  friend auto operator<=>(const ObjectKey&, const ObjectKey&) = default;
};
// The inverse of text(): "ns/name" or "name".
ObjectKey parse_key(std::string_view text);

// Accessors of metadata. A field that is absent or of another type reads as empty.
ObjectKey key_of(const nlohmann::json& object);
std::string uid_of(const nlohmann::json& object);
std::string resource_version_of(const nlohmann::json& object);
std::string annotation_of(const nlohmann::json& object, std::string_view name);
bool being_deleted(const nlohmann::json& object);  // metadata.deletionTimestamp is set

// Resource versions are opaque but for one question: is `a` older than `b`? Nothing where either is not a number.
std::optional<bool> older_version(std::string_view a, std::string_view b);

}  // namespace sluice::kube
