#include "tests/bench/packet_network.h"

#include <fmt/format.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace sluice::bench {
namespace {

constexpr const char* kTopology = R"(
link set lo up
link add lan address 02:5b:00:00:00:01 type veth peer name lan-end
link add peer address 02:5b:00:00:00:02 type veth peer name peer-end
link add idle0 type veth peer name idle1
addr add 192.0.2.1/24 dev lan
addr add 2001:db8::1/64 dev lan nodad
addr add 2001:db8:18::c000:201/128 dev lan nodad
link set lan addrgenmode none
link set lan up
link set lan-end addrgenmode none
link set lan-end up
link set peer addrgenmode none
link set peer up
link set peer-end addrgenmode none
link set peer-end up
neigh add 192.0.2.254 lladdr 02:5b:00:00:00:fe nud permanent dev lan
neigh add 2001:db8::fe lladdr 02:5b:00:00:00:fe nud permanent dev lan
route add 198.18.0.0/15 via 192.0.2.254
route add 10.0.0.0/8 via 192.0.2.254
route add 2001:db8:18::/48 via 2001:db8::fe
)";

void ip_commands(const std::string& lines) {
  FILE* const pipe = popen("ip -batch -", "w");
  if (pipe == nullptr) throw std::runtime_error(fmt::format("ip: {}", strerror(errno)));
  std::fputs(lines.c_str(), pipe);
  if (pclose(pipe) != 0) throw std::runtime_error("ip -batch failed (needs iproute2 and CAP_NET_ADMIN)");
}

void must(int result, const char* what) {
  if (result != 0) throw std::runtime_error(fmt::format("{}: {} (needs CAP_SYS_ADMIN)", what, strerror(errno)));
}

void set_sysctl(const std::string& name, const std::string& value) {
  std::ofstream file("/proc/sys/" + name);
  file << value << std::flush;
  if (!file) throw std::runtime_error("cannot write /proc/sys/" + name);
}

}  // namespace

uint32_t index_of(const char* interface) {
  const uint32_t index = if_nametoindex(interface);
  if (index == 0) throw std::runtime_error(fmt::format("interface {}: {}", interface, strerror(errno)));
  return index;
}

std::array<uint32_t, 2> idle_indices() {
  return {index_of("idle0"), index_of("idle1")};
}

void enter_network() {
  must(unshare(CLONE_NEWNET | CLONE_NEWNS), "namespaces of its own");
  must(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "mounts of its own");
  must(mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr), "a bpffs of its own");
  ip_commands(kTopology);
  set_sysctl("net/ipv4/ip_forward", "1");
  set_sysctl("net/ipv6/conf/all/forwarding", "1");
}

}  // namespace sluice::bench
