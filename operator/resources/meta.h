// What all Kubernetes objects have, as values. Parsers never fail for an unknown field, an unknown enum value or a
// field of another type (it reads as absent): an object from a newer API server, or one that was edited by hand, must
// not stop the rest.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "operator/kube/object.h"

namespace sluice::resources {

using kube::ObjectKey;
using Labels = std::map<std::string, std::string, std::less<>>;

struct ObjectMeta {
  ObjectKey key;
  std::string uid;
  std::string resource_version;
  int64_t generation = 0;          // 0 where the kind has none (Service)
  std::string creation_timestamp;  // RFC 3339 in UTC: compares as text
  bool deleting = false;           // metadata.deletionTimestamp is set
  Labels labels;
  Labels annotations;
  std::vector<std::string> finalizers;

  [[nodiscard]] bool has_finalizer(std::string_view finalizer) const;
  // "" where it is not set.
  [[nodiscard]] std::string annotation(std::string_view name) const;
  friend bool operator==(const ObjectMeta&, const ObjectMeta&) = default;
};

// metav1.Condition; `status` is "True", "False" or "Unknown".
struct Condition {
  std::string type;
  std::string status;
  int64_t observed_generation = 0;  // 0: not given
  std::string last_transition_time;
  std::string reason;
  std::string message;
  friend bool operator==(const Condition&, const Condition&) = default;
};

// nullptr: there is none of this type.
const Condition* find_condition(const std::vector<Condition>& conditions, std::string_view type);

// A port by number or by name: number 0 means by name, and an empty name then that nothing was given.
struct PortRef {
  uint16_t number = 0;
  std::string name;
  [[nodiscard]] bool given() const { return number != 0 || !name.empty(); }
  [[nodiscard]] std::string text() const { return number != 0 ? std::to_string(number) : name; }
  friend bool operator==(const PortRef&, const PortRef&) = default;
};

// What may hold an address.
enum class OwnerKind : uint8_t { load_balancer, service };
const char* to_string(OwnerKind kind);  // "LoadBalancer", "Service"

struct Owner {
  OwnerKind kind = OwnerKind::service;
  ObjectKey key;
  [[nodiscard]] std::string text() const;  // "Service shop/web"
  friend auto operator<=>(const Owner&, const Owner&) = default;
  friend bool operator==(const Owner&, const Owner&) = default;
};

}  // namespace sluice::resources
