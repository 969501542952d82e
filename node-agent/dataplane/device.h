// What the kernel says of a network device. Internal to dataplane/.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "common/result.h"
#include "node-agent/dataplane/dataplane.h"

namespace sluice::agent::dataplane {

struct Device {
  std::string name;
  uint32_t ifindex = 0;
  bool ethernet = false;
  Mac mac{};
  uint32_t mtu = 0;    // bytes of IP packet
  std::string driver;  // "virtio_net"; empty where the driver does not say
};

Result<Device> device_by_name(const std::string& name);
Result<Device> device_by_index(uint32_t ifindex);
// The names of all devices, by ifindex.
Result<std::map<uint32_t, std::string>> device_names();

}  // namespace sluice::agent::dataplane
