#include "tests/packets/network.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <thread>
#include <utility>

namespace sluice::packets {
namespace {

constexpr const char* kTopology = R"(
link set lo up
link add lan address 02:5c:00:00:00:01 type veth peer name lanpeer
link add core address 02:5c:00:00:00:02 type veth peer name corepeer
addr add 192.0.2.1/24 dev lan
addr add 10.9.0.1/24 dev core
link set lan addrgenmode none
link set lanpeer addrgenmode none
link set core addrgenmode none
link set corepeer addrgenmode none
link set lan up
link set lanpeer up
link set core up
link set corepeer up
addr add 2001:db8:c000:200::1/56 dev lan nodad
addr add 2001:db8:a09::1/56 dev core nodad
neigh add 192.0.2.254 lladdr 02:5c:00:00:00:fe nud permanent dev lan
neigh add 192.0.2.50 lladdr 02:5c:00:00:00:50 nud permanent dev lan
neigh add 10.9.0.20 lladdr 02:5c:00:00:09:14 nud permanent dev core
route add 198.51.100.0/24 via 192.0.2.254
route add 10.77.0.0/16 via 10.9.0.20
route add blackhole 100.64.0.0/24
route add unreachable 100.64.1.0/24
route add prohibit 100.64.2.0/24
neigh add 2001:db8:c000:200::fe lladdr 02:5c:00:00:00:fe nud permanent dev lan
neigh add 2001:db8:c000:200::32 lladdr 02:5c:00:00:00:50 nud permanent dev lan
neigh add 2001:db8:a09::14 lladdr 02:5c:00:00:09:14 nud permanent dev core
route add 2001:db8:c633:6400::/56 via 2001:db8:c000:200::fe
route add 2001:db8:a4d::/48 via 2001:db8:a09::14
route add blackhole 2001:db8:6440::/56
route add unreachable 2001:db8:6440:100::/56
route add prohibit 2001:db8:6440:200::/56
)";

Interfaces& mutable_interfaces() {
  static Interfaces interfaces;
  return interfaces;
}

class NetworkEnvironment : public ::testing::Environment {
 public:
  void SetUp() override {
    if (unshare(CLONE_NEWNET) != 0)
      throw std::runtime_error(
          fmt::format("a network namespace of its own: {} (needs CAP_SYS_ADMIN)", std::strerror(errno)));
    ip_commands(kTopology);
    set_sysctl("net/ipv4/ip_forward", "1");
    set_sysctl("net/ipv6/conf/all/forwarding", "1");
    mutable_interfaces() = {.lan = if_nametoindex("lan"), .core = if_nametoindex("core")};
  }
};

// An ioctl on an interface by name.
void interface_ioctl(unsigned long request, ifreq& argument, const std::string& interface) {
  interface.copy(argument.ifr_name, IFNAMSIZ - 1);
  const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const int result = ioctl(socket, request, &argument);
  const int error = errno;
  close(socket);
  if (result < 0) throw std::runtime_error(fmt::format("{}: {}", interface, std::strerror(error)));
}

const ::testing::Environment* const kNetwork = ::testing::AddGlobalTestEnvironment(new NetworkEnvironment);

}  // namespace

const Interfaces& interfaces() {
  return mutable_interfaces();
}

void ip_commands(const std::string& lines) {
  // The commands go by a file: popen reads or writes, not both, and the output is wanted for the message.
  std::array<char, 32> path{"/tmp/sluice-packets-XXXXXX"};
  const int file = mkstemp(path.data());
  if (file < 0 || write(file, lines.data(), lines.size()) != static_cast<ssize_t>(lines.size()))
    throw std::runtime_error(fmt::format("{}: {}", path.data(), std::strerror(errno)));
  close(file);
  FILE* const pipe = popen(fmt::format("ip -batch {} 2>&1", path.data()).c_str(), "r");
  std::string output;
  std::array<char, 256> part{};
  while (pipe != nullptr && std::fgets(part.data(), part.size(), pipe) != nullptr) output += part.data();
  const int status = pipe != nullptr ? pclose(pipe) : -1;
  unlink(path.data());
  if (status != 0) throw std::runtime_error(fmt::format("ip -batch: {} (needs iproute2 and CAP_NET_ADMIN)", output));
}

void set_sysctl(const std::string& name, const std::string& value) {
  std::ofstream file("/proc/sys/" + name);
  file << value << std::flush;
  if (!file) throw std::runtime_error("cannot write /proc/sys/" + name);
}

ScopedSysctl::ScopedSysctl(std::string name, const std::string& value) : name_(std::move(name)) {
  std::ifstream("/proc/sys/" + name_) >> before_;
  set_sysctl(name_, value);
}

ScopedSysctl::~ScopedSysctl() {
  set_sysctl(name_, before_);
}

Namespace::Namespace() {
  // Not closed on exec: `ip` opens it by path().
  std::thread([this] {
    if (unshare(CLONE_NEWNET) == 0) fd_ = open("/proc/thread-self/ns/net", O_RDONLY);
  }).join();
  if (fd_ < 0) throw std::runtime_error("cannot make a network namespace (needs CAP_SYS_ADMIN)");
}

Namespace::~Namespace() {
  close(fd_);
}

void Namespace::run(const std::function<void()>& work) const {
  std::exception_ptr failure;
  std::thread([&] {
    try {
      if (setns(fd_, CLONE_NEWNET) != 0) throw std::runtime_error(fmt::format("setns: {}", std::strerror(errno)));
      work();
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
}

std::string Namespace::path() const {
  return fmt::format("/proc/{}/fd/{}", getpid(), fd_);
}

void set_offload(const std::string& interface, Offload offload, bool on) {
  ethtool_value value{
      .cmd = static_cast<uint32_t>(offload == Offload::transmit_checksum ? ETHTOOL_STXCSUM : ETHTOOL_SGRO),
      .data = on ? 1U : 0U};
  ifreq request{};
  request.ifr_data = reinterpret_cast<char*>(&value);
  interface_ioctl(SIOCETHTOOL, request, interface);
}

Mac mac_of(const std::string& interface) {
  ifreq request{};
  interface_ioctl(SIOCGIFHWADDR, request, interface);
  Mac mac{};
  std::memcpy(mac.data(), request.ifr_hwaddr.sa_data, mac.size());
  return mac;
}

std::string text(const Mac& mac) {
  return fmt::format("{:02x}", fmt::join(mac, ":"));
}

}  // namespace sluice::packets
