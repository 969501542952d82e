// What stands in the way of forwarding, each in one word: `Error::cause` of what this folder gives, and from there the
// reason of the condition Ready. They follow what was attempted and how it failed, not the errno alone: the same ENOENT
// is a missing interface here and a missing kernel option there.
#pragma once

#include <string_view>

namespace sluice::agent::dataplane::cause {

inline constexpr std::string_view kKernelTooOld = "KernelTooOld";
inline constexpr std::string_view kMissingKernelFeature = "MissingKernelFeature";  // an option it is built without
inline constexpr std::string_view kMissingCapability = "MissingCapability";
inline constexpr std::string_view kNoBpffs = "NoBpffs";
inline constexpr std::string_view kBpfRefused = "BpfRefused";          // bpf(2) or bpffs, with every capability
inline constexpr std::string_view kProgramRefused = "ProgramRefused";  // the verifier
inline constexpr std::string_view kInterfaceNotFound = "InterfaceNotFound";
inline constexpr std::string_view kNotEthernet = "NotEthernet";
inline constexpr std::string_view kNativeModeNotSupported = "NativeModeNotSupported";
inline constexpr std::string_view kForeignProgram = "ForeignProgram";

}  // namespace sluice::agent::dataplane::cause
