#include "node-agent/dataplane/mapping.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace sluice::agent::dataplane {
namespace {

size_t whole_pages(size_t bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

}  // namespace

Result<Mapping> Mapping::of(int map, size_t bytes, Access access, const std::string& name) {
  const int protection = access == Access::write ? PROT_READ | PROT_WRITE : PROT_READ;
  void* data = mmap(nullptr, whole_pages(bytes), protection, MAP_SHARED, map, 0);
  if (data == MAP_FAILED) {
    return fail_errno(errno, "map into memory", name);
  }
  Mapping mapping;
  mapping.data_ = data;
  mapping.bytes_ = bytes;
  return mapping;
}

Mapping::~Mapping() {
  if (data_ != nullptr) {
    munmap(data_, whole_pages(bytes_));
  }
}

}  // namespace sluice::agent::dataplane
