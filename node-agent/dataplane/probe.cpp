#include "node-agent/dataplane/probe.h"

#include <bpf/bpf.h>
#include <linux/capability.h>
#include <sys/utsname.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "node-agent/dataplane/bpffs.h"
#include "node-agent/dataplane/causes.h"
#include "node-agent/dataplane/fd.h"

namespace sluice::agent::dataplane {
namespace {

// What is used asks for 5.16: neighbours that the kernel keeps resolved (NTF_EXT_MANAGED), without which ways would go
// stale while no agent runs. 6.1 is the first long-term kernel after it; whether an older verifier takes the programs
// nobody has tried.
constexpr int kMajor = 6;
constexpr int kMinor = 1;

struct Needed {
  int number;
  const char* name;
  const char* use;
  bool in_sys_admin;  // CAP_SYS_ADMIN implies it
};
constexpr std::array<Needed, 3> kNeeded = {{
    {CAP_NET_ADMIN, "CAP_NET_ADMIN", "to attach programs to interfaces", false},
    {CAP_BPF, "CAP_BPF", "to make maps and load programs", true},
    {CAP_PERFMON, "CAP_PERFMON", "for the pointer arithmetic of the XDP program", true},
}};

bool has(uint64_t capabilities, int number) {
  return (capabilities >> number & 1) != 0;
}

uint64_t effective_capabilities() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.rfind("CapEff:", 0) == 0) {
      return std::strtoull(line.c_str() + std::strlen("CapEff:"), nullptr, 16);
    }
  }
  return 0;
}

}  // namespace

std::string_view reason(Lack lack) {
  switch (lack) {
    case Lack::kernel_too_old:
      return cause::kKernelTooOld;
    case Lack::missing_capability:
      return cause::kMissingCapability;
    case Lack::no_bpffs:
      return cause::kNoBpffs;
    case Lack::missing_kernel_feature:
      return cause::kMissingKernelFeature;
    case Lack::bpf_refused:
      return cause::kBpfRefused;
  }
  return kNoCause;
}

std::vector<Finding> judge(const MachineFacts& facts) {
  std::vector<Finding> findings;
  int major = 0;
  int minor = 0;
  const bool known = std::sscanf(facts.kernel_release.c_str(), "%d.%d", &major, &minor) == 2;
  if (known && (major < kMajor || (major == kMajor && minor < kMinor))) {
    findings.push_back({Lack::kernel_too_old, facts.kernel_release,
                        "Linux " + facts.kernel_release + " is too old: Sluice needs " + std::to_string(kMajor) + "." +
                            std::to_string(kMinor) + " or newer; boot this machine with a newer kernel"});
  }
  const bool sys_admin = has(facts.capabilities, CAP_SYS_ADMIN);
  for (const Needed& needed : kNeeded) {
    if (!has(facts.capabilities, needed.number) && !(needed.in_sys_admin && sys_admin)) {
      findings.push_back(
          {Lack::missing_capability, needed.name,
           std::string(needed.name) + " is missing, " + needed.use + ": add it to the agent's capabilities"});
    }
  }
  if (!facts.bpffs && !facts.may_mount) {
    findings.push_back(
        {Lack::no_bpffs, facts.directory,
         facts.directory +
             " is not on a bpffs, and mounting one takes CAP_SYS_ADMIN: mount it on the host (mount -t bpf bpf "
             "/sys/fs/bpf) and let the agent see it"});
  }
  // With a capability missing that is what to say.
  if (findings.empty() && facts.map_error == ENOSYS) {
    findings.push_back({Lack::missing_kernel_feature, "CONFIG_BPF_SYSCALL",
                        "this kernel has no bpf(2): it is built without CONFIG_BPF_SYSCALL"});
  } else if (findings.empty() && facts.map_error != 0) {
    findings.push_back({Lack::bpf_refused, "bpf(2)",
                        std::string("bpf(2) refuses to make a map (") + std::strerror(facts.map_error) +
                            "): a seccomp or AppArmor profile, or kernel lockdown, may forbid it"});
  }
  return findings;
}

std::vector<Finding> probe(const std::string& directory) {
  MachineFacts facts;
  utsname name{};
  if (uname(&name) == 0) {
    facts.kernel_release = name.release;
  }
  facts.capabilities = effective_capabilities();
  facts.directory = directory;
  facts.bpffs = on_bpffs(directory);
  facts.may_mount = has(facts.capabilities, CAP_SYS_ADMIN);
  const Fd map(bpf_map_create(BPF_MAP_TYPE_ARRAY, "sluice_probe", 4, 8, 1, nullptr));
  facts.map_error = map ? 0 : errno;
  return judge(facts);
}

Status usable(const std::string& directory) {
  const auto findings = probe(directory);
  if (findings.empty()) {
    return {};
  }
  std::string text;
  for (const Finding& finding : findings) {
    text += (text.empty() ? "" : "; ") + finding.message;
  }
  ErrorKind kind = ErrorKind::denied;
  if (findings.front().lack == Lack::kernel_too_old) {
    kind = ErrorKind::not_supported;
  } else if (findings.front().lack == Lack::no_bpffs) {
    kind = ErrorKind::unavailable;
  }
  return because(reason(findings.front().lack), fail(kind, "open the dataplane", "", text));
}

}  // namespace sluice::agent::dataplane
