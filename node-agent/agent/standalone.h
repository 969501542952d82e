// Standalone mode: the file is the operator. Reads it, plans from it, and forgets history when it has served.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "node-agent/agent/core.h"
#include "node-agent/agent/loop.h"
#include "node-agent/config/file_follower.h"
#include "node-agent/config/standalone.h"
#include "node-agent/config/standalone_state.h"
#include "node-agent/health/metrics.h"

namespace sluice::agent {

struct StandaloneOptions {
  std::string file;
  std::string node;
  std::vector<config::Interface> interfaces;  // of the command line: where not empty, the file's count for nothing
};

class Standalone {
 public:
  // All of them outlive it.
  Standalone(StandaloneOptions options, Loop& loop, Core& core, health::Metrics& metrics);

  // Reads the file and brings everything to it. Fails, with the reason for a person, where the file has mistakes or the
  // machine cannot do it; nothing of a first start is left behind then.
  Status begin();
  // From then on follows the file.
  Status follow();
  void stop() { follower_.reset(); }
  // After each sweep, on the owner's thread.
  void retire();

 private:
  void reload(const Result<std::string>& text);
  Status take(const std::string& text);
  void adopt(state::DesiredState next);

  StandaloneOptions options_;
  Loop& loop_;
  Core& core_;
  health::Metrics& metrics_;
  std::string text_;
  bool took_over_ = false;  // what an earlier run has left attached, without its memory
  config::Retirement retirement_;
  std::unique_ptr<config::FileFollower> follower_;
};

}  // namespace sluice::agent
