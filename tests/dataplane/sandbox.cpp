#include "tests/dataplane/sandbox.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "node-agent/dataplane/bpffs.h"
#include "node-agent/dataplane/device.h"

namespace sluice::agent::dataplane::testing {
namespace {

std::string& bpffs_root() {
  static std::string root;
  return root;
}

// Before the first test. Without the rights for it the tests fail and say so: they are never left out.
class Sandbox : public ::testing::Environment {
 public:
  void SetUp() override {
    ASSERT_EQ(unshare(CLONE_NEWNET | CLONE_NEWNS), 0) << "these tests need root: " << std::strerror(errno);
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0) << std::strerror(errno);
    root_ = std::filesystem::temp_directory_path() / ("sluice-dataplane-test-" + std::to_string(getpid()));
    ASSERT_EQ(mkdir(root_.c_str(), 0700), 0) << std::strerror(errno);
    ASSERT_EQ(mount("bpf", root_.c_str(), "bpf", 0, nullptr), 0) << std::strerror(errno);
    bpffs_root() = root_;
    must("ip link set lo up");
  }
  void TearDown() override {
    umount2(root_.c_str(), MNT_DETACH);
    rmdir(root_.c_str());
  }

 private:
  std::string root_;
};

const auto* const kSandbox = ::testing::AddGlobalTestEnvironment(new Sandbox);

}  // namespace

CommandOutcome run(const std::string& command) {
  CommandOutcome outcome;
  FILE* pipe = popen(("exec 2>&1; " + command).c_str(), "r");
  if (pipe == nullptr) {
    outcome.status = -1;
    return outcome;
  }
  std::array<char, 4096> buffer{};
  while (const size_t length = fread(buffer.data(), 1, buffer.size(), pipe)) {
    outcome.output.append(buffer.data(), length);
  }
  outcome.status = pclose(pipe);
  return outcome;
}

std::string must(const std::string& command) {
  const auto outcome = run(command);
  EXPECT_EQ(outcome.status, 0) << command << "\n" << outcome.output;
  return outcome.output;
}

void SandboxTest::SetUp() {
  ASSERT_FALSE(bpffs_root().empty());
  directory_ = bpffs_root() + "/" + ::testing::UnitTest::GetInstance()->current_test_info()->name();
  must("ip link add near type veth peer name far");
  must("ip link set near up && ip link set far up");
}

void SandboxTest::TearDown() {
  for (const int fd : fds_) {
    close(fd);
  }
  EXPECT_TRUE(KernelDataplane::purge(directory_));
  run("ip link del near");
}

Options SandboxTest::options() const {
  Options options;
  options.directory = directory_;
  options.sizes.tables = program::Sizes{4096, 1024, 1024, 1U << 20, 8192};
  options.sizes.flows4 = options.sizes.half_open4 = 4096;
  options.sizes.flows6 = options.sizes.half_open6 = 1024;
  options.sizes.owned_addresses = 64;
  return options;
}

std::unique_ptr<Dataplane> SandboxTest::open(const Options& options) {
  auto opened = KernelDataplane::open(options);
  EXPECT_TRUE(opened) << opened.error().message();
  return opened ? std::move(*opened) : nullptr;
}

int SandboxTest::pinned_map(const std::string& name) {
  const int fd = bpf_obj_get((layout_directory(directory_) + "/maps/" + name).c_str());
  EXPECT_GE(fd, 0) << name;
  fds_.push_back(fd);
  return fd;
}

uint32_t SandboxTest::link_id(const std::string& interface) const {
  const int fd = bpf_obj_get((layout_directory(directory_) + "/links/" + link_pin_name(interface)).c_str());
  if (fd < 0) {
    return 0;
  }
  bpf_link_info info{};
  __u32 length = sizeof info;
  bpf_obj_get_info_by_fd(fd, &info, &length);
  close(fd);
  return info.id;
}

const Mapping& SandboxTest::mapped(const std::string& name) {
  bpf_map_info info{};
  __u32 length = sizeof info;
  EXPECT_EQ(bpf_obj_get_info_by_fd(pinned_map(name), &info, &length), 0) << name;
  auto mapping = Mapping::of(fds_.back(), info.value_size, Access::write, name);
  EXPECT_TRUE(mapping) << name;
  return *mappings_.emplace_back(std::make_unique<Mapping>(mapping ? std::move(*mapping) : Mapping()));
}

uint32_t SandboxTest::program_on(const std::string& interface) {
  __u32 id = 0;
  bpf_xdp_query_id(static_cast<int>(if_nametoindex(interface.c_str())), 0, &id);
  return id;
}

int SandboxTest::program_fd(const std::string& interface) {
  const int fd = bpf_prog_get_fd_by_id(program_on(interface));
  EXPECT_GE(fd, 0) << interface;
  fds_.push_back(fd);
  return fd;
}

net::IpAddress ip(const std::string& text) {
  return net::IpAddress::parse(text).value();
}

state::DesiredState some_state(uint32_t services, uint32_t backends) {
  state::DesiredState state;
  state.cluster_id = "test";
  state.revision = 1;
  state.flow_hash_key = {7, 8};
  for (uint32_t s = 0; s < services; ++s) {
    state::Service service;
    service.id = "web" + std::to_string(s);
    service.addresses = {net::IpAddress::from_ipv4(__builtin_bswap32(0xc0000201U + s))};
    service.port = 80;
    service.protocol = state::Protocol::udp;
    service.groups = {{"all", 1}};
    service.sizes = {{0, 8}};
    for (uint32_t b = 0; b < backends; ++b) {
      state::Backend backend;
      backend.address = net::IpAddress::from_ipv4(__builtin_bswap32(0x0a010001U + (s << 8) + b));
      backend.port = 8080;
      backend.node = "another";
      service.backends.push_back(backend);
    }
    state.services[service.id] = service;
  }
  return state;
}

state::DesiredState some_state6(uint32_t services, uint32_t backends) {
  state::DesiredState state = some_state(services, backends);
  auto services4 = std::exchange(state.services, {});
  for (uint32_t s = 0; s < services; ++s) {
    state::Service service = std::move(services4.at("web" + std::to_string(s)));
    service.id += "/IPv6";
    service.addresses = {ip(fmt::format("2001:db8::{:x}", s + 1))};
    for (uint32_t b = 0; b < backends; ++b) {
      service.backends[b].address =
          ip(s == 0 ? fmt::format("fd00::{:x}", b + 1) : fmt::format("fd00:{:x}::{:x}", s, b + 1));
    }
    state.services[service.id] = std::move(service);
  }
  return state;
}

Network ways_by(const state::DesiredState& state, const std::string& interface) {
  Network network;
  const uint32_t ifindex = if_nametoindex(interface.c_str());
  network.interfaces[ifindex] = {device_by_index(ifindex)->mac, 1500};
  for (const auto& [id, service] : state.services) {
    for (const auto& backend : service.backends) {
      const auto source = ip(backend.address.is_ipv4() ? "10.0.0.1" : "fd00:ffff::1");
      network.next_hops[backend.address] = NextHop{false, ifindex, {2, 0, 0, 0, 0, 9}, source};
    }
  }
  return network;
}

}  // namespace sluice::agent::dataplane::testing
