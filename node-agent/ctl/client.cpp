#include "node-agent/ctl/client.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

namespace sluice::agent::ctl {
namespace {

constexpr time_t kPatience = 20;  // seconds
constexpr const char* kOperation = "ask the agent at";
constexpr std::string_view kEndOfHeader = "\r\n\r\n";

class Socket {
 public:
  Socket() : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval patience{kPatience, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  // 0, or errno.
  [[nodiscard]] int connect_to(const std::string& path) const {
    sockaddr_un to{};
    if (path.size() >= sizeof to.sun_path) return ENAMETOOLONG;
    to.sun_family = AF_UNIX;
    std::ranges::copy(path, to.sun_path);
    return connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 ? 0 : errno;
  }
  [[nodiscard]] int write_all(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t sent = send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent < 0) return errno;
      text.remove_prefix(static_cast<size_t>(sent));
    }
    return 0;
  }
  [[nodiscard]] int read_all(std::string& text) const {
    std::array<char, 1 << 16> part{};
    for (;;) {
      const ssize_t got = recv(fd_, part.data(), part.size(), 0);
      if (got < 0) return errno;
      if (got == 0) return 0;
      text.append(part.data(), static_cast<size_t>(got));
    }
  }

 private:
  int fd_;
};

tl::unexpected<Error> no_agent(const std::string& socket, int error) {
  if (error == EACCES || error == EPERM) {
    return fail(ErrorKind::denied, kOperation, socket, "permission denied: only root may ask");
  }
  const char* what = error == ENOENT         ? "there is no such socket"
                     : error == ECONNREFUSED ? "nobody listens"
                                             : std::strerror(error);
  return fail(ErrorKind::not_found, kOperation, socket,
              fmt::format("{}: does sluice-agent run on this machine, and with this --socket? In a cluster: kubectl -n "
                          "sluice-system exec POD -- sluicectl ...",
                          what));
}

}  // namespace

Result<nlohmann::json> ask(const std::string& socket, const std::string& path) {
  const Socket connection;
  if (const int error = connection.connect_to(socket); error != 0) return no_agent(socket, error);
  std::string text;
  int error = connection.write_all(fmt::format("GET {} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n", path));
  if (error == 0) error = connection.read_all(text);
  if (error != 0) return fail_errno(error, kOperation, socket);
  const auto header = text.find(kEndOfHeader);
  const auto space = text.find(' ');
  if (header == std::string::npos || space > header) {
    return fail(ErrorKind::unavailable, kOperation, socket, "the answer breaks off");
  }
  const std::string status = text.substr(space + 1, 3);
  std::string body = text.substr(header + kEndOfHeader.size());
  if (status == "404") {
    return fail(ErrorKind::not_supported, kOperation, socket, "the agent is of a version that does not know " + path);
  }
  if (status != "200") {
    while (!body.empty() && body.back() == '\n') body.pop_back();
    return fail(ErrorKind::unavailable, kOperation, socket, body);
  }
  auto json = nlohmann::json::parse(body, nullptr, false);
  if (json.is_discarded()) return fail(ErrorKind::internal, kOperation, socket, "the answer is no JSON");
  return json;
}

}  // namespace sluice::agent::ctl
