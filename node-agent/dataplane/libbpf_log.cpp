#include "node-agent/dataplane/libbpf_log.h"

#include <bpf/libbpf.h>

#include <cstdarg>
#include <cstdio>
#include <string>
#include <string_view>

#include "common/log/spdlog.h"

namespace sluice::agent::dataplane {
namespace {

constexpr size_t kMost = 4096;  // of one message

int print(libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG || !spdlog::should_log(spdlog::level::debug)) {
    return 0;
  }
  va_list again;
  va_copy(again, arguments);
  const int length = std::vsnprintf(nullptr, 0, format, arguments);
  if (length > 0) {
    std::string line(static_cast<size_t>(length) + 1, '\0');
    std::vsnprintf(line.data(), line.size(), format, again);
    line.erase(line.find_last_not_of(std::string_view("\n\0", 2)) + 1);
    // Of the verifier's account its end says why.
    if (line.size() > kMost) {
      line.erase(0, line.size() - kMost);
    }
    spdlog::debug("{}", line);
  }
  va_end(again);
  return 0;
}

}  // namespace

void route_libbpf_log() {
  libbpf_set_print(print);
}

}  // namespace sluice::agent::dataplane
