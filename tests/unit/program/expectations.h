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

// Every key leads where the desired state says, and no other key is there.
inline void expect_as(const Kernel& kernel, const state::DesiredState& desired, const Ways& ways) {
  for (const auto& [key, found] : expected(desired, ways)) {
    EXPECT_EQ(kernel.read(key), found) << key_text(key);
  }
  EXPECT_EQ(kernel.programmer_.keys().positions().size(), expected(desired, ways).size());
}

// The record in force for a backend of a service that is programmed. Throws where there is none.
inline const sluice_backend& record_of(const Kernel& kernel, const std::string& id, uint32_t backend_number) {
  const auto& programmed = kernel.programmer_.programmed().at(id);
  for (uint32_t i = 0; i < programmed.records.size(); ++i) {
    const auto& element = kernel.image_.view().backends[programmed.backends->first + i];
    if (programmed.records[i].state == Record::State::used && element.address == backend_ip(backend_number).ipv4()) {
      return element;
    }
  }
  throw std::out_of_range("no such record");
}

}  // namespace sluice::agent::program::testing
