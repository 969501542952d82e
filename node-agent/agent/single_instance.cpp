#include "node-agent/agent/single_instance.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <thread>
#include <utility>

namespace sluice::agent {
namespace {

constexpr std::chrono::milliseconds kPause{200};

}  // namespace

Result<SingleInstance> SingleInstance::acquire(std::chrono::milliseconds patience) {
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_errno(errno, "open", "a socket");
  // An abstract name (it begins with a zero byte) belongs to the network namespace and goes with its holder: no file is
  // left.
  constexpr std::string_view kName("\0sluice-agent", 13);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::ranges::copy(kName, name.sun_path);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + kName.size());
  const auto until = std::chrono::steady_clock::now() + patience;
  while (bind(fd, reinterpret_cast<const sockaddr*>(&name), length) < 0) {
    const int error = errno;
    if (error == EADDRINUSE && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(kPause);
      continue;
    }
    close(fd);
    if (error != EADDRINUSE) return fail_errno(error, "bind", "a socket");
    return fail(ErrorKind::exists, "start", "sluice-agent", "another one is running in this network namespace");
  }
  return SingleInstance(fd);
}

SingleInstance::SingleInstance(SingleInstance&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

SingleInstance::~SingleInstance() {
  if (fd_ >= 0) close(fd_);
}

}  // namespace sluice::agent
