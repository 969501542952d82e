#include "operator/resources/meta.h"

#include <algorithm>

namespace sluice::resources {

bool ObjectMeta::has_finalizer(std::string_view finalizer) const {
  return std::ranges::find(finalizers, finalizer) != finalizers.end();
}

std::string ObjectMeta::annotation(std::string_view name) const {
  const auto found = annotations.find(name);
  return found == annotations.end() ? std::string() : found->second;
}

const Condition* find_condition(const std::vector<Condition>& conditions, std::string_view type) {
  const auto found = std::ranges::find(conditions, type, &Condition::type);
  return found == conditions.end() ? nullptr : &*found;
}

const char* to_string(OwnerKind kind) {
  return kind == OwnerKind::service ? "Service" : "LoadBalancer";
}

std::string Owner::text() const {
  return std::string(to_string(kind)) + " " + key.text();
}

}  // namespace sluice::resources
