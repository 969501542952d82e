// Whether this kernel and this process's rights will do, before anything is changed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace sluice::agent::dataplane {

enum class Lack : uint8_t { kernel_too_old, missing_capability, no_bpffs, missing_kernel_feature, bpf_refused };

struct Finding {
  Lack lack = Lack::kernel_too_old;
  std::string what;     // of a missing capability or kernel option its name: "CAP_BPF", "CONFIG_BPF_SYSCALL"
  std::string message;  // for people: what is missing, and the way out
};

// The word for a condition: KernelTooOld, MissingCapability, NoBpffs, MissingKernelFeature, BpfRefused.
std::string_view reason(Lack lack);

// What is known of the machine. Apart, so that judging it can be tested.
struct MachineFacts {
  std::string kernel_release;  // "6.1.0-18-amd64"
  uint64_t capabilities = 0;   // effective, a bit each
  bool bpffs = false;          // the directory lies on a bpffs, or one is where it is to be
  bool may_mount = false;      // one can be mounted
  int map_error = 0;           // errno of making a small map; 0: made
  std::string directory;
};

std::vector<Finding> judge(const MachineFacts& facts);

// Empty where Sluice can work with its pins in `directory`.
std::vector<Finding> probe(const std::string& directory);

// The same as one error, as opening the dataplane would give it: the cause is that of the first finding, the reason
// names all. Errors: not_supported (the kernel), unavailable (no bpffs), denied (the rest).
Status usable(const std::string& directory);

}  // namespace sluice::agent::dataplane
