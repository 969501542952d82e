// metav1.LabelSelector.
#pragma once

#include <string>
#include <vector>

#include "operator/resources/meta.h"

namespace sluice::resources {

struct LabelRequirement {
  std::string key;
  std::string op;  // In, NotIn, Exists, DoesNotExist
  std::vector<std::string> values;
  // An operator that is not known holds for nothing: a selector must not let in more than its author knew.
  [[nodiscard]] bool holds(const Labels& labels) const;
  friend bool operator==(const LabelRequirement&, const LabelRequirement&) = default;
};

// An empty one matches everything.
struct LabelSelector {
  Labels match_labels;
  std::vector<LabelRequirement> match_expressions;
  [[nodiscard]] bool matches(const Labels& labels) const;
  [[nodiscard]] bool empty() const { return match_labels.empty() && match_expressions.empty(); }
  [[nodiscard]] std::string to_string() const;  // as kubectl -l takes it
  friend bool operator==(const LabelSelector&, const LabelSelector&) = default;
};

}  // namespace sluice::resources
