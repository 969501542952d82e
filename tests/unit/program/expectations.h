// What tests of the programmer expect of a kernel, and how they look into it.
#pragma once

#include <gmock/gmock.h>

#include <stdexcept>
#include <string>

#include "tests/unit/program/scene.h"

namespace sluice::agent::program::testing {

MATCHER_P2(Failure, service, reason, "") {
  return arg.service == service && arg.reason == reason;
}

// Every key leads where the desired state says, and no other key of a service is there.
inline void expect_as(const Kernel& kernel, const state::DesiredState& desired, const Ways& ways) {
  size_t services = 0;
  for (const auto& [key, found] : expected(desired, ways)) {
    EXPECT_EQ(kernel.read(key), found) << key.to_string();
    ++services;
  }
  size_t there = 0;
  for (const auto& [id, service] : kernel.programmer_.programmed()) {
    there += service.keys.size();
  }
  EXPECT_EQ(there, services);
}

// The record in force for a backend of a service that is programmed. Throws where there is none.
inline const sluice_backend& record_of(const Kernel& kernel, const std::string& id, const net::IpAddress& address) {
  const auto& programmed = kernel.programmer_.programmed().at(id);
  for (uint32_t i = 0; i < programmed.records.size(); ++i) {
    const auto& element = kernel.image_.view().backends[programmed.backends->first + i];
    const sluice_address wanted = raw(address);
    if (programmed.records[i].state == Record::State::used &&
        std::memcmp(&element.address, &wanted, sizeof wanted) == 0) {
      return element;
    }
  }
  throw std::out_of_range("no such record");
}
inline const sluice_backend& record_of(const Kernel& kernel, const std::string& id, uint32_t backend_number) {
  return record_of(kernel, id, backend_ip(backend_number));
}

inline uint32_t forwarding_of(const sluice_backend& element) {
  return SLUICE_BACKEND_FORWARDING(element.what);
}

}  // namespace sluice::agent::program::testing
