#include "node-agent/health/device_facts.h"

#include <net/if.h>
// libc's before the kernel's, which then leaves out what libc has.
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace sluice::agent::health {
namespace {

// linux/netdev.h, which older systems' headers lack.
constexpr uint8_t kNetdevDeviceGet = 1;
constexpr int kNetdevIfindex = 1;
constexpr int kNetdevXdpFeatures = 3;

class EthtoolSocket {
 public:
  explicit EthtoolSocket(const std::string& name) : fd_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    name.copy(request_.ifr_name, sizeof request_.ifr_name - 1);
  }
  EthtoolSocket(const EthtoolSocket&) = delete;
  EthtoolSocket& operator=(const EthtoolSocket&) = delete;
  ~EthtoolSocket() {
    if (fd_ >= 0) close(fd_);
  }
  // `command` begins with a number of linux/ethtool.h, and holds the answer then.
  bool ask(void* command) {
    request_.ifr_data = static_cast<char*>(command);
    return ioctl(fd_, SIOCETHTOOL, &request_) == 0;
  }
  Result<uint32_t> mtu() {
    if (ioctl(fd_, SIOCGIFMTU, &request_) != 0) return fail_errno(errno, "look up interface", request_.ifr_name);
    return static_cast<uint32_t>(request_.ifr_mtu);
  }

 private:
  int fd_;
  ifreq request_{};
};

// Words with room for what follows a head of fixed size.
template <typename Head>
std::vector<uint32_t> with_tail(size_t bytes) {
  return std::vector<uint32_t>((sizeof(Head) + bytes + 3) / 4);
}

std::string driver_of(EthtoolSocket& ethtool) {
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  return ethtool.ask(&info) ? std::string(info.driver, strnlen(info.driver, sizeof info.driver)) : std::string();
}

std::optional<Channels> channels_of(EthtoolSocket& ethtool) {
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  if (!ethtool.ask(&channels) || channels.max_combined == 0) return std::nullopt;
  return Channels{channels.combined_count, channels.max_combined};
}

// The kernel's names of features, in the order of their bits.
std::vector<std::string> feature_names(EthtoolSocket& ethtool) {
  auto sizes = with_tail<ethtool_sset_info>(sizeof(uint32_t));
  auto* info = reinterpret_cast<ethtool_sset_info*>(sizes.data());
  info->cmd = ETHTOOL_GSSET_INFO;
  info->sset_mask = uint64_t{1} << ETH_SS_FEATURES;
  if (!ethtool.ask(info) || info->sset_mask == 0) return {};
  const uint32_t count = info->data[0];
  auto room = with_tail<ethtool_gstrings>(size_t{count} * ETH_GSTRING_LEN);
  auto* strings = reinterpret_cast<ethtool_gstrings*>(room.data());
  strings->cmd = ETHTOOL_GSTRINGS;
  strings->string_set = ETH_SS_FEATURES;
  strings->len = count;
  if (!ethtool.ask(strings)) return {};
  std::vector<std::string> names;
  for (uint32_t i = 0; i < std::min(count, strings->len); ++i) {
    const char* name = reinterpret_cast<const char*>(strings->data) + size_t{i} * ETH_GSTRING_LEN;
    names.emplace_back(name, strnlen(name, ETH_GSTRING_LEN));
  }
  return names;
}

std::map<std::string, Feature> features_of(EthtoolSocket& ethtool) {
  const auto names = feature_names(ethtool);
  if (names.empty()) return {};
  const size_t blocks = (names.size() + 31) / 32;
  auto room = with_tail<ethtool_gfeatures>(blocks * sizeof(ethtool_get_features_block));
  auto* features = reinterpret_cast<ethtool_gfeatures*>(room.data());
  features->cmd = ETHTOOL_GFEATURES;
  features->size = static_cast<uint32_t>(blocks);
  if (!ethtool.ask(features)) return {};
  std::map<std::string, Feature> out;
  for (size_t i = 0; i < names.size(); ++i) {
    const ethtool_get_features_block& block = features->features[i / 32];
    const uint32_t bit = 1U << (i % 32);
    const bool changeable = (block.available & bit) != 0 && (block.never_changed & bit) == 0;
    out[names[i]] = {(block.active & bit) != 0, !changeable};
  }
  return out;
}

std::optional<Feature> feature(const std::map<std::string, Feature>& features, const char* name) {
  const auto found = features.find(name);
  if (found == features.end()) return std::nullopt;
  return found->second;
}

// Questions of generic netlink, in libnl's core alone: one library less than with its part for that.
class Generic {
 public:
  Generic() : socket_(nl_socket_alloc()) {
    if (socket_ && nl_connect(socket_.get(), NETLINK_GENERIC) < 0) socket_.reset();
  }
  using OnAnswer = std::function<void(nlattr* first, int length)>;
  // Whether it was answered.
  bool ask(uint16_t family, uint8_t command, const std::function<void(nl_msg*)>& fill, const OnAnswer& on_answer) {
    if (!socket_) return false;
    const std::unique_ptr<nl_msg, void (*)(nl_msg*)> message(nlmsg_alloc_simple(family, 0), nlmsg_free);
    if (!message) return false;
    genlmsghdr head{};
    head.cmd = command;
    head.version = 1;
    if (nlmsg_append(message.get(), &head, sizeof head, NLMSG_ALIGNTO) < 0) return false;
    fill(message.get());
    auto argument = on_answer;
    nl_socket_modify_cb(socket_.get(), NL_CB_VALID, NL_CB_CUSTOM, forward, &argument);
    int code = nl_send_auto(socket_.get(), message.get());
    if (code >= 0) code = nl_recvmsgs_default(socket_.get());
    if (code >= 0) code = nl_wait_for_ack(socket_.get());
    return code >= 0;
  }

 private:
  struct Free {
    void operator()(nl_sock* socket) const { nl_socket_free(socket); }
  };
  static int forward(nl_msg* message, void* argument) {
    nlmsghdr* head = nlmsg_hdr(message);
    (*static_cast<OnAnswer*>(argument))(nlmsg_attrdata(head, sizeof(genlmsghdr)),
                                        nlmsg_attrlen(head, sizeof(genlmsghdr)));
    return NL_OK;
  }
  std::unique_ptr<nl_sock, Free> socket_;
};

template <typename T>
std::optional<T> value_of(nlattr* first, int length, int type) {
  const nlattr* attribute = nla_find(first, length, type);
  if (attribute == nullptr || nla_len(attribute) < static_cast<int>(sizeof(T))) return std::nullopt;
  T value{};
  std::memcpy(&value, nla_data(attribute), sizeof value);
  return value;
}

// Linux 6.3; nullopt before.
std::optional<uint64_t> xdp_features_of(const std::string& name) {
  const uint32_t ifindex = if_nametoindex(name.c_str());
  if (ifindex == 0) return std::nullopt;
  Generic generic;
  std::optional<uint16_t> family;
  generic.ask(
      GENL_ID_CTRL, CTRL_CMD_GETFAMILY,
      [](nl_msg* message) { nla_put_string(message, CTRL_ATTR_FAMILY_NAME, "netdev"); },
      [&](nlattr* first, int length) { family = value_of<uint16_t>(first, length, CTRL_ATTR_FAMILY_ID); });
  if (!family) return std::nullopt;
  std::optional<uint64_t> features;
  generic.ask(
      *family, kNetdevDeviceGet, [ifindex](nl_msg* message) { nla_put_u32(message, kNetdevIfindex, ifindex); },
      [&](nlattr* first, int length) { features = value_of<uint64_t>(first, length, kNetdevXdpFeatures); });
  return features;
}

}  // namespace

Result<DeviceFacts> read_device(const std::string& name) {
  EthtoolSocket ethtool(name);
  const auto mtu = ethtool.mtu();
  if (!mtu) return tl::unexpected(mtu.error());
  DeviceFacts device;
  device.name = name;
  device.mtu = *mtu;
  device.driver = driver_of(ethtool);
  device.channels = channels_of(ethtool);
  const auto features = features_of(ethtool);
  device.vlan_stripping = feature(features, "rx-vlan-hw-parse");
  device.lro = feature(features, "rx-lro");
  device.gro_hw = feature(features, "rx-gro-hw");
  device.gro = feature(features, "rx-gro");
  device.xdp_features = xdp_features_of(name);
  return device;
}

}  // namespace sluice::agent::health
