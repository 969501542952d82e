// Lines out of pieces of any size: a line may span pieces, and a piece hold many lines. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::kube {

class LineSplitter {
 public:
  explicit LineSplitter(std::size_t max_line) : max_line_(max_line) {}

  void add(std::string_view piece) {
    buffer_.erase(0, start_);
    scanned_ -= start_;
    start_ = 0;
    buffer_ += piece;
  }

  // The next complete line without its newline (and carriage return). Empty lines are skipped.
  std::optional<std::string> next() {
    for (;;) {
      const auto newline = buffer_.find('\n', scanned_);
      if (newline == std::string::npos) {
        scanned_ = buffer_.size();
        return std::nullopt;
      }
      std::string_view line(buffer_.data() + start_, newline - start_);
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      start_ = newline + 1;
      scanned_ = start_;
      if (!line.empty()) return std::string(line);
    }
  }

  // Something is there that is not a line yet.
  [[nodiscard]] bool partial() const { return start_ < buffer_.size(); }
  [[nodiscard]] bool overlong() const { return buffer_.size() - start_ > max_line_; }

 private:
  std::size_t max_line_;
  std::string buffer_;
  std::size_t start_ = 0;    // of the line that comes next
  std::size_t scanned_ = 0;  // no newline before this
};

}  // namespace sluice::kube
