#include "operator/resources/selector.h"

#include <algorithm>

namespace sluice::resources {

bool LabelRequirement::holds(const Labels& labels) const {
  const auto found = labels.find(key);
  const bool there = found != labels.end();
  const auto listed = [&] { return std::ranges::find(values, found->second) != values.end(); };
  if (op == "In") return there && listed();
  if (op == "NotIn") return !there || !listed();
  if (op == "Exists") return there;
  if (op == "DoesNotExist") return !there;
  return false;
}

bool LabelSelector::matches(const Labels& labels) const {
  for (const auto& [key, value] : match_labels) {
    const auto found = labels.find(key);
    if (found == labels.end() || found->second != value) return false;
  }
  return std::ranges::all_of(match_expressions, [&](const LabelRequirement& r) { return r.holds(labels); });
}

std::string LabelSelector::to_string() const {
  std::string out;
  const auto add = [&](const std::string& term) { out.append(out.empty() ? "" : ",").append(term); };
  for (const auto& [key, value] : match_labels) add(std::string(key).append("=").append(value));
  for (const LabelRequirement& requirement : match_expressions) {
    std::string values;
    for (const std::string& value : requirement.values) values.append(values.empty() ? "" : ",").append(value);
    if (requirement.op == "In")
      add(requirement.key + " in (" + values + ")");
    else if (requirement.op == "NotIn")
      add(requirement.key + " notin (" + values + ")");
    else if (requirement.op == "Exists")
      add(requirement.key);
    else if (requirement.op == "DoesNotExist")
      add("!" + requirement.key);
    else
      add(requirement.key + " " + requirement.op + " (" + values + ")");
  }
  return out;
}

}  // namespace sluice::resources
