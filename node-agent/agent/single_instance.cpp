#include "node-agent/agent/single_instance.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>

#include "common/log/spdlog.h"

namespace sluice::agent {
namespace {

using dataplane::Fd;

constexpr std::chrono::milliseconds kPause{200};
// An abstract name (it begins with a zero byte) belongs to the network namespace and goes with its holder: no file is
// left.
constexpr std::string_view kName("\0sluice-agent", 13);

struct Release {
  void operator()(nl_sock* socket) const { nl_socket_free(socket); }
};

enum class Holder : uint8_t { nobody, stranger, agent };

int look_at_socket(nl_msg* message, void* argument) {
  const nlmsghdr* header = nlmsg_hdr(message);
  if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY) return NL_OK;
  std::array<nlattr*, UNIX_DIAG_MAX + 1> attributes{};
  if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof(unix_diag_msg), attributes.data(), UNIX_DIAG_MAX, nullptr) < 0)
    return NL_OK;
  const nlattr* name = attributes[UNIX_DIAG_NAME];
  if (name == nullptr ||
      std::string_view(static_cast<const char*>(nla_data(name)), static_cast<size_t>(nla_len(name))) != kName) {
    return NL_OK;
  }
  const nlattr* user = attributes[UNIX_DIAG_UID];
  const uint32_t uid = user == nullptr ? 0 : nla_get_u32(user);
  *static_cast<Holder*>(argument) = uid == 0 || uid == geteuid() ? Holder::agent : Holder::stranger;
  return NL_OK;
}

// Who has the name: an agent is root, or this user. Where the kernel does not say, one may have it.
Holder holder_of_name() {
  const std::unique_ptr<nl_sock, Release> socket(nl_socket_alloc());
  if (socket == nullptr || nl_connect(socket.get(), NETLINK_SOCK_DIAG) < 0) return Holder::agent;
  Holder holder = Holder::nobody;
  nl_socket_modify_cb(socket.get(), NL_CB_VALID, NL_CB_CUSTOM, look_at_socket, &holder);
  unix_diag_req request{};
  request.sdiag_family = AF_UNIX;
  request.udiag_states = ~0U;
  request.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_UID;
  int code = nl_send_simple(socket.get(), SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request, sizeof request);
  if (code >= 0) code = nl_recvmsgs_default(socket.get());
  return code < 0 ? Holder::agent : holder;
}

Result<Fd> take_name() {
  Fd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno(errno, "open", "a socket");
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::ranges::copy(kName, name.sun_path);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + kName.size());
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), length) < 0)
    return fail_errno(errno, "bind", "a socket");
  return fd;
}

bool is_at(const Fd& file, const std::string& path) {
  struct stat opened {};
  struct stat there {};
  return fstat(file.get(), &opened) == 0 && stat(path.c_str(), &there) == 0 && there.st_ino == opened.st_ino &&
         there.st_dev == opened.st_dev;
}

// Errors: exists (another agent has it), not_found (no directory).
Result<Fd> take_lock(const std::string& path) {
  for (;;) {
    Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR));
    struct stat opened {};
    if (!fd || fstat(fd.get(), &opened) < 0) return fail_errno(errno, "lock", path);
    if (opened.st_uid != geteuid()) return fail(ErrorKind::denied, "lock", path, "the file is somebody else's");
    if (flock(fd.get(), LOCK_EX | LOCK_NB) < 0) return fail_errno(errno == EWOULDBLOCK ? EEXIST : errno, "lock", path);
    // The one before may have removed it just before it let go.
    if (is_at(fd, path)) return fd;
  }
}

Error another_runs() {
  return {ErrorKind::exists, "start", "sluice-agent", "another one is running in this network namespace"};
}

}  // namespace

std::string lock_beside(const std::string& state_file) {
  return state_file + ".lock";
}

Result<SingleInstance> SingleInstance::acquire(const std::string& state_file, std::chrono::milliseconds patience) {
  const std::string path = lock_beside(state_file);
  const auto until = std::chrono::steady_clock::now() + patience;
  for (;;) {
    auto lock = take_lock(path);
    const bool locked_out = !lock && lock.error().kind == ErrorKind::exists;
    // Who is locked out leaves the name to the one who has the lock: two that have one each would both have to let go.
    auto name = locked_out ? Result<Fd>(tl::unexpected(lock.error())) : take_name();
    if (!locked_out && !name && name.error().kind == ErrorKind::exists) {
      // Where nobody has it any more, the next try gets it.
      if (holder_of_name() == Holder::stranger) {
        if (!lock && lock.error().kind != ErrorKind::not_found) return tl::unexpected(lock.error());
        spdlog::warn(
            "somebody who is not root holds the socket name @sluice-agent: only the lock {} tells agents apart", path);
        return SingleInstance(Fd(), lock ? std::move(*lock) : Fd(), path);
      }
    } else if (!locked_out) {
      if (!name) return tl::unexpected(name.error());
      if (!lock && lock.error().kind != ErrorKind::not_found) spdlog::warn("{}", lock.error().message());
      return SingleInstance(std::move(*name), lock ? std::move(*lock) : Fd(), path);
    }
    if (std::chrono::steady_clock::now() >= until) return tl::unexpected(another_runs());
    lock = Fd();
    std::this_thread::sleep_for(kPause);
  }
}

SingleInstance::~SingleInstance() {
  // While it is still held: whoever opens it meanwhile finds out that it is gone.
  if (lock_ && is_at(lock_, path_)) unlink(path_.c_str());
}

}  // namespace sluice::agent
