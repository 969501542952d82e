// What each address is to this node: which services live there, and whether it is the node's, nat's or another node's.
// Pure.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "common/net/address.h"

namespace sluice::agent::program {

class AddressBook {
 public:
  using Flags = std::map<net::IpAddress, uint32_t>;  // SLUICE_ADDRESS_..., without SERVICE

  // `by` keys of services more, or fewer, are at the address.
  void count_services(const net::IpAddress& address, int by);
  // What addresses are besides. Returns those that were another thing before.
  std::vector<net::IpAddress> stand(Flags flags);

  // What the address's key shall lead to, were `more` services' keys there than are; 0: no key.
  [[nodiscard]] uint32_t value(const net::IpAddress& address, int more = 0) const;
  [[nodiscard]] const Flags& standing() const { return standing_; }
  [[nodiscard]] const std::unordered_map<net::IpAddress, int>& services() const { return services_; }

 private:
  std::unordered_map<net::IpAddress, int> services_;
  Flags standing_;
};

}  // namespace sluice::agent::program
