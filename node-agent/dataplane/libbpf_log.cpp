#include "node-agent/dataplane/libbpf_log.h"

#include <bpf/libbpf.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <string>

#include "common/log/spdlog.h"

namespace sluice::agent::dataplane {
namespace {

int print(libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG || !spdlog::should_log(spdlog::level::debug)) {
    return 0;
  }
  std::array<char, 4096> text{};
  const int length = std::vsnprintf(text.data(), text.size(), format, arguments);
  if (length > 0) {
    std::string line = text.data();
    line.erase(line.find_last_not_of('\n') + 1);
    spdlog::debug("{}", line);
  }
  return 0;
}

}  // namespace

void route_libbpf_log() {
  libbpf_set_print(print);
}

}  // namespace sluice::agent::dataplane
