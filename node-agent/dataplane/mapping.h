// A map's memory, mapped once. Internal to dataplane/.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "common/result.h"

namespace sluice::agent::dataplane {

enum class Access { read, write };

class Mapping {
 public:
  Mapping() = default;
  // `bytes`: of what is in the map.
  static Result<Mapping> of(int map, size_t bytes, Access access, const std::string& name);
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  Mapping(Mapping&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping();

  [[nodiscard]] void* data() const { return data_; }
  // All of it as elements.
  template <typename T>
  [[nodiscard]] std::span<T> elements() const {
    return {static_cast<T*>(data_), bytes_ / sizeof(T)};
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace sluice::agent::dataplane
