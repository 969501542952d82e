// The programs and their maps, kept from one test to the next. Internal to the dataplane of tests.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "bpf/sluice.skel.h"
#include "bpf/stack.skel.h"
#include "common/result.h"
#include "node-agent/dataplane/loader.h"
#include "node-agent/dataplane/mapping.h"
#include "node-agent/program/flow_tables.h"
#include "tests/packets/dataplane.h"

namespace sluice::packets {

// What libbpf has said since the last load.
std::string& libbpf_messages();

// These throw std::runtime_error that says what was refused.
void must(int result, const std::string& what);
template <typename Value>
Value must(Result<Value> value) {
  if (!value) throw std::runtime_error(value.error().message() + "\n" + libbpf_messages());
  return std::move(*value);
}

constexpr uint32_t kBackends = 256, kServices = 64;

class Loaded {
 public:
  // Loading takes a while: an object that no test holds any more is made as it was at first, and given again.
  static std::shared_ptr<Loaded> get(const Options& options);
  explicit Loaded(const Options& options);

  template <typename T>
  [[nodiscard]] std::span<T> table(const char* name) const {
    return memory_.at(name).elements<T>();
  }
  [[nodiscard]] sluice_bpf& skeleton() const { return *skeleton_; }
  [[nodiscard]] sluice_stack_bpf& stack() const { return *stack_; }

  template <typename Record>
  [[nodiscard]] agent::program::FlowTable<Record> flows(bool half_open) const {
    constexpr bool kIpv6 = sizeof(Record) == sizeof(sluice_flow6);
    const auto& config = table<sluice_config>("config").front();
    return {table<Record>(kIpv6 ? (half_open ? "half_open6" : "flows6") : (half_open ? "half_open4" : "flows4")),
            table<sluice_shares>("shares"),
            kIpv6 ? (half_open ? &sluice_shares::half_open6 : &sluice_shares::flows6)
                  : (half_open ? &sluice_shares::half_open4 : &sluice_shares::flows4),
            {config.flow_hash_key[0], config.flow_hash_key[1]}};
  }

 private:
  void clear() const;

  agent::dataplane::MapSizes sizes_;
  agent::dataplane::Skeleton skeleton_;
  agent::dataplane::StackSkeleton stack_;
  std::map<std::string, agent::dataplane::Mapping> memory_;
};

}  // namespace sluice::packets
