// A core between a kernel and a network made of values.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "node-agent/agent/core.h"
#include "tests/unit/agent/fakes.h"
#include "tests/unit/agent/fixtures.h"

namespace sluice::agent {

class CoreTest : public testing::Test {
 protected:
  Core make(std::vector<config::Interface> interfaces = {},
            config::InterfaceMode mode = config::InterfaceMode::native) {
    CoreOptions options;
    options.node = "node1";
    options.interfaces = std::move(interfaces);
    options.mode = mode;
    return {options, StateFile(directory_.file("state.json")), to_kernel(kernel_)};
  }
  // What it leaves is a state file, and what the kernel has.
  void run_before() {
    Core core = make();
    core.set_watcher(&watcher_);
    core.apply(small_state(1, 1));
  }
  static const health::Condition& condition(const Core& core, const std::string& type) {
    return *std::ranges::find(core.facts().conditions, type, &health::Condition::type);
  }
  TemporaryDirectory directory_;
  FakeKernel kernel_;
  FakeWatcher watcher_;
};

}  // namespace sluice::agent
