// Errors are values. A Result carries either what was asked for or an Error that says what was attempted, on what, and
// why it failed. The environment fails: handle it. An invariant fails: crash.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace sluice {

// What a caller may want to tell apart. Everything else is in the text.
enum class ErrorKind {
  invalid,        // the input is wrong: it will fail again until somebody changes it
  not_found,      //
  exists,         // somebody else made it first
  conflict,       // it changed since it was read
  denied,         // permission or capability
  unavailable,    // try again later
  exhausted,      // a table, pool or range is full
  not_supported,  // this kernel, this build
  internal,       //
};

inline constexpr std::string_view kNoCause;

struct Error {
  ErrorKind kind = ErrorKind::internal;
  std::string operation;                     // "attach XDP program"
  std::string object;                        // "eth0"; may be empty
  std::string reason;                        // "driver has no native XDP: Operation not supported"
  std::chrono::milliseconds retry_after{0};  // unavailable: not before this; zero: whenever the caller likes
  // One word for a condition, "ForeignProgram", where who failed knows better than the kind what is in the way.
  std::string_view cause = kNoCause;  // a constant

  // "attach XDP program to eth0: driver has no native XDP"-like text for people: "OPERATION OBJECT: REASON".
  [[nodiscard]] std::string message() const { return operation + (object.empty() ? "" : " " + object) + ": " + reason; }
  friend bool operator==(const Error&, const Error&) = default;
};

// An expected that must be looked at.
template <typename T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
};
using Status = Result<void>;

inline tl::unexpected<Error> fail(ErrorKind kind, std::string operation, std::string object, std::string reason) {
  return tl::unexpected<Error>(Error{kind, std::move(operation), std::move(object), std::move(reason)});
}

// The same failure, with the word for a condition.
inline tl::unexpected<Error> because(std::string_view cause, tl::unexpected<Error> failed) {
  failed.value().cause = cause;
  return failed;
}

// From errno (pass the saved value: a destructor in between may change the global one).
inline tl::unexpected<Error> fail_errno(int error_number, std::string operation, std::string object) {
  ErrorKind kind = ErrorKind::internal;
  switch (error_number) {
    case EPERM:
    case EACCES:
      kind = ErrorKind::denied;
      break;
    case ENOENT:
    case ENODEV:
    case ESRCH:
    case EADDRNOTAVAIL:
      kind = ErrorKind::not_found;
      break;
    case EEXIST:
    case EADDRINUSE:
      kind = ErrorKind::exists;
      break;
    case EBUSY:
      kind = ErrorKind::conflict;
      break;
    case EINVAL:
      kind = ErrorKind::invalid;
      break;
    case ENOSPC:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case E2BIG:
      kind = ErrorKind::exhausted;
      break;
    case EOPNOTSUPP:
    case ENOSYS:
      kind = ErrorKind::not_supported;
      break;
    case EAGAIN:
    case ETIMEDOUT:
    case ECONNREFUSED:
      kind = ErrorKind::unavailable;
      break;
    default:
      break;
  }
  return fail(kind, std::move(operation), std::move(object), std::string(std::strerror(error_number)));
}

}  // namespace sluice
