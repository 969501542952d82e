// A table as kubectl prints one: columns as wide as they need to be, three spaces between, no lines. Pure.
#pragma once

#include <string>
#include <vector>

namespace sluice::agent::ctl {

class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  // As many cells as the header has; an empty one is shown as "-", but for the last, which is left out.
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace sluice::agent::ctl
