#include "node-agent/config/yaml_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

namespace sluice::agent::config {
namespace {

constexpr size_t kMaxName = 63;  // RFC 1123 label

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same =
          std::tolower(static_cast<unsigned char>(a[i - 1])) == std::tolower(static_cast<unsigned char>(b[j - 1]));
      const size_t replaced = diagonal + (same ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row.back();
}

bool is_label(std::string_view text) {
  const auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= kMaxName && alphanumeric(text.front()) && alphanumeric(text.back()) &&
         std::ranges::all_of(text, [&](char c) { return alphanumeric(c) || c == '-'; });
}

Mistake at(const YAML::Mark& mark, std::string path, std::string message) {
  // A null mark (an empty document) counts as the first place.
  return {std::max(mark.line, 0) + 1, std::max(mark.column, 0) + 1, std::move(path), std::move(message)};
}

}  // namespace

std::string_view nearest(std::string_view name, std::span<const std::string_view> known) {
  std::string_view best;
  size_t best_distance = 0;
  for (const std::string_view candidate : known) {
    const size_t distance = edit_distance(name, candidate);
    if (best.empty() || distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best_distance <= std::max<size_t>(1, name.size() / 3) ? best : std::string_view{};
}

void Field::mistake(std::string message) const {
  mistakes_->push_back(at(node_.Mark(), path_, std::move(message)));
}

std::string Field::describe() const {
  if (node_.IsScalar()) return node_.Tag() == "!" ? fmt::format("the text \"{}\"", node_.Scalar()) : node_.Scalar();
  if (node_.IsSequence()) return "a list";
  if (node_.IsMap()) return "a mapping";
  return "empty";
}

bool Field::mapping(std::span<const std::string_view> known) const {
  if (!node_.IsMap()) {
    mistake(fmt::format("must be a mapping, is {}", describe()));
    return false;
  }
  bool good = true;
  std::map<std::string, int> seen;
  for (const auto& entry : node_) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    const std::string path = path_.empty() ? key : path_ + "." + key;
    if (++seen[key] == 2) {
      mistakes_->push_back(at(entry.first.Mark(), path, "is given twice"));
      good = false;
    }
    if (std::ranges::find(known, key) != known.end()) continue;
    const std::string_view near = nearest(key, known);
    mistakes_->push_back(
        at(entry.first.Mark(), path, near.empty() ? "no such field" : fmt::format("no such field; is it {}?", near)));
    good = false;
  }
  return good;
}

std::optional<Field> Field::get(std::string_view key) const {
  for (const auto& entry : node_) {
    if (entry.first.IsScalar() && entry.first.Scalar() == key && !entry.second.IsNull()) {
      return Field(entry.second, path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key), *mistakes_);
    }
  }
  return std::nullopt;
}

std::optional<Field> Field::require(std::string_view key) const {
  auto found = get(key);
  if (!found)
    mistakes_->push_back(
        at(node_.Mark(), path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key), "is missing"));
  return found;
}

bool Field::list(size_t least, size_t most, const std::function<void(const Field&)>& each) const {
  if (!node_.IsSequence()) {
    mistake(fmt::format("must be a list, is {}", describe()));
    return false;
  }
  const size_t size = node_.size();
  if (size < least || size > most) mistake(fmt::format("must have {}..{} entries, has {}", least, most, size));
  for (size_t i = 0; i < size; ++i) each(Field(node_[i], fmt::format("{}[{}]", path_, i), *mistakes_));
  return size >= least && size <= most;
}

std::optional<std::string> Field::text() const {
  if (node_.IsScalar()) return node_.Scalar();
  mistake(fmt::format("must be a text, is {}", describe()));
  return std::nullopt;
}

std::optional<int64_t> Field::number(int64_t least, int64_t most) const {
  int64_t value = 0;
  const std::string& scalar = node_.IsScalar() ? node_.Scalar() : std::string();
  const auto [end, error] = std::from_chars(scalar.data(), scalar.data() + scalar.size(), value);
  const bool whole = error == std::errc{} && end == scalar.data() + scalar.size();
  // "!" is how yaml-cpp tags a quoted scalar: the resources' schemas refuse texts for numbers too.
  if (!whole || scalar.empty() || node_.Tag() == "!" || value < least || value > most) {
    mistake(fmt::format("must be {}..{}, is {}", least, most, describe()));
    return std::nullopt;
  }
  return value;
}

std::optional<std::string> Field::name() const {
  auto value = text();
  if (value && !is_label(*value)) {
    mistake(fmt::format(
        "must be 1..{} lower-case letters, digits and '-', beginning and ending with a letter or digit, is \"{}\"",
        kMaxName, *value));
    return std::nullopt;
  }
  return value;
}

void not_supported(const Field& field, std::string_view why) {
  field.mistake(fmt::format("NotSupported: {}", why));
}

std::optional<std::string> choice(const Field& field, std::span<const std::string_view> allowed,
                                  std::span<const std::string_view> later, std::string_view why_later) {
  auto value = field.text();
  if (!value) return std::nullopt;
  if (std::ranges::find(allowed, *value) != allowed.end()) return value;
  if (std::ranges::find(later, *value) != later.end()) {
    not_supported(field, why_later);
    return std::nullopt;
  }
  const std::string_view near = nearest(*value, allowed);
  field.mistake(fmt::format("must be {}, is \"{}\"{}", fmt::join(allowed, " or "), *value,
                            near.empty() || allowed.size() < 2 ? "" : fmt::format("; is it {}?", near)));
  return std::nullopt;
}

}  // namespace sluice::agent::config
