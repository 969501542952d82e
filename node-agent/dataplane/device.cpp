#include "node-agent/dataplane/device.h"

#include <net/if.h>
// libc's before the kernel's, which then leaves out what libc has.
#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "node-agent/dataplane/causes.h"
#include "node-agent/dataplane/fd.h"

namespace sluice::agent::dataplane {
namespace {

constexpr const char* kOperation = "look up interface";

tl::unexpected<Error> no_such(const std::string& interface) {
  return because(cause::kInterfaceNotFound, fail(ErrorKind::not_found, kOperation, interface, "no such interface"));
}

ifreq request_for(const std::string& name) {
  ifreq request{};
  name.copy(request.ifr_name, sizeof request.ifr_name - 1);
  return request;
}

std::string driver_of(int socket, const std::string& name) {
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  ifreq request = request_for(name);
  request.ifr_data = reinterpret_cast<char*>(&info);
  return ioctl(socket, SIOCETHTOOL, &request) == 0 ? std::string(info.driver) : std::string();
}

struct NamesDeleter {
  void operator()(struct if_nameindex* names) const { if_freenameindex(names); }
};

}  // namespace

Result<std::map<uint32_t, std::string>> device_names() {
  const std::unique_ptr<struct if_nameindex, NamesDeleter> names(::if_nameindex());
  if (names == nullptr) {
    return fail_errno(errno, "list interfaces", "");
  }
  std::map<uint32_t, std::string> found;
  for (const struct if_nameindex* name = names.get(); name->if_index != 0; ++name) {
    found.emplace(name->if_index, name->if_name);
  }
  return found;
}

Result<Device> device_by_name(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ) {
    return no_such(name);
  }
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) {
    return fail_errno(errno, kOperation, name);
  }
  Device device;
  device.name = name;
  ifreq request = request_for(name);
  if (ioctl(socket.get(), SIOCGIFINDEX, &request) != 0) {
    return errno == ENODEV ? no_such(name) : fail_errno(errno, kOperation, name);
  }
  device.ifindex = static_cast<uint32_t>(request.ifr_ifindex);
  if (ioctl(socket.get(), SIOCGIFHWADDR, &request) != 0) {
    return fail_errno(errno, kOperation, name);
  }
  device.ethernet = request.ifr_hwaddr.sa_family == ARPHRD_ETHER;
  std::copy_n(request.ifr_hwaddr.sa_data, device.mac.size(), reinterpret_cast<char*>(device.mac.data()));
  if (ioctl(socket.get(), SIOCGIFMTU, &request) != 0) {
    return fail_errno(errno, kOperation, name);
  }
  device.mtu = static_cast<uint32_t>(request.ifr_mtu);
  device.driver = driver_of(socket.get(), name);
  return device;
}

Result<Device> device_by_index(uint32_t ifindex) {
  const std::string which = "with index " + std::to_string(ifindex);
  ifreq request{};
  {
    // Not if_indextoname(3): it says ENOENT also where it has no descriptor left to ask with.
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket) {
      return fail_errno(errno, kOperation, which);
    }
    request.ifr_ifindex = static_cast<int>(ifindex);
    if (ioctl(socket.get(), SIOCGIFNAME, &request) != 0) {
      return errno == ENODEV ? no_such(which) : fail_errno(errno, kOperation, which);
    }
  }
  return device_by_name(request.ifr_name);
}

}  // namespace sluice::agent::dataplane
