// What a conversion finds wrong: the first finding stands, with the path of its field.
#pragma once

#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "common/result.h"

namespace sluice::api {

// Where in a document a value stands. Built on the stack on the way down and spelled out only when something is wrong:
// a large state has millions of fields.
struct Path {
  static constexpr size_t kNoIndex = std::numeric_limits<size_t>::max();
  const Path* parent = nullptr;
  const char* field = "";
  size_t index = kNoIndex;

  [[nodiscard]] std::string text() const {
    std::string result = parent != nullptr ? parent->text() : "";
    if (!result.empty()) result += '.';
    result += field;
    if (index != kNoIndex) result += "[" + std::to_string(index) + "]";
    return result;
  }
};

class Findings {
 public:
  void report(const Path& path, const std::string& what) {
    if (!first_) first_ = path.text().empty() ? what : path.text() + ": " + what;
  }
  [[nodiscard]] bool none() const { return !first_; }
  [[nodiscard]] tl::unexpected<Error> error(std::string operation) const {
    return fail(ErrorKind::invalid, std::move(operation), "", first_.value_or(""));
  }

 private:
  std::optional<std::string> first_;
};

}  // namespace sluice::api
