// Reading YAML with places: every node knows its path, every mistake its line and column, and all of them are
// collected. Internal to config/: yaml-cpp's header stays out of the rest.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "node-agent/config/standalone.h"

namespace sluice::agent::config {

// A node and the path that leads to it.
class Field {
 public:
  Field(const YAML::Node& node, std::string path, Mistakes& mistakes)
      : node_(node), path_(std::move(path)), mistakes_(&mistakes) {}
  // Assigning a YAML::Node writes into the document it belongs to: copies only.
  Field(const Field&) = default;
  Field& operator=(const Field&) = delete;
  ~Field() = default;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] YAML::Mark mark() const { return node_.Mark(); }
  void mistake(std::string message) const;

  // False, with mistakes, where this is no mapping, a key repeats or is none of `known` (the nearest of them is named).
  // Known keys can still be read then.
  bool mapping(std::span<const std::string_view> known) const;
  // The value of a key of a mapping; nullopt where it is missing or null.
  [[nodiscard]] std::optional<Field> get(std::string_view key) const;
  // The same, with a mistake where it is missing.
  [[nodiscard]] std::optional<Field> require(std::string_view key) const;
  // Calls `each` with every element; false, with a mistake, where this is no list or has another number of elements.
  bool list(size_t least, size_t most, const std::function<void(const Field&)>& each) const;

  // Scalars; nullopt, with a mistake, where the value has another shape.
  [[nodiscard]] std::optional<std::string> text() const;
  [[nodiscard]] std::optional<int64_t> number(int64_t least, int64_t most) const;
  // A DNS label: what resources' lists are keyed by.
  [[nodiscard]] std::optional<std::string> name() const;
  [[nodiscard]] bool is_scalar() const { return node_.IsScalar(); }
  [[nodiscard]] bool is_mapping() const { return node_.IsMap(); }

 private:
  [[nodiscard]] std::string describe() const;  // "a list", "\"abc\""
  YAML::Node node_;
  std::string path_;
  Mistakes* mistakes_;
};

// The nearest of `known` to a misspelt name; empty where none is near.
std::string_view nearest(std::string_view name, std::span<const std::string_view> known);

// A mistake about what is known and not built.
void not_supported(const Field& field, std::string_view why);
// One of `allowed`, or nullopt with a mistake; those in `later` are known but not built.
std::optional<std::string> choice(const Field& field, std::span<const std::string_view> allowed,
                                  std::span<const std::string_view> later, std::string_view why_later);

}  // namespace sluice::agent::config
