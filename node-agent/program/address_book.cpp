#include "node-agent/program/address_book.h"

#include <utility>

#include "bpf/sluice.h"

namespace sluice::agent::program {

void AddressBook::count_services(const net::IpAddress& address, int by) {
  if ((services_[address] += by) == 0) {
    services_.erase(address);
  }
}

std::vector<net::IpAddress> AddressBook::stand(Flags flags) {
  std::vector<net::IpAddress> changed;
  auto before = standing_.begin();
  auto now = flags.begin();
  while (before != standing_.end() || now != flags.end()) {
    if (now == flags.end() || (before != standing_.end() && before->first < now->first)) {
      changed.push_back((before++)->first);
    } else if (before == standing_.end() || now->first < before->first) {
      changed.push_back((now++)->first);
    } else {
      if (before->second != now->second) {
        changed.push_back(now->first);
      }
      ++before;
      ++now;
    }
  }
  standing_ = std::move(flags);
  return changed;
}

uint32_t AddressBook::value(const net::IpAddress& address, int more) const {
  const auto services = services_.find(address);
  const auto standing = standing_.find(address);
  const int count = (services == services_.end() ? 0 : services->second) + more;
  return (count > 0 ? SLUICE_ADDRESS_SERVICE : 0U) | (standing == standing_.end() ? 0U : standing->second);
}

}  // namespace sluice::agent::program
