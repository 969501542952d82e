#include "node-agent/agent/state_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/api/convert.h"
#include "node-agent/agent/single_instance.h"

namespace sluice::agent {
namespace {

constexpr int kVersion = 1;
constexpr size_t kStep = size_t{1} << 20;  // bytes
constexpr const char* kAside = ".unreadable";

Status write_whole(int fd, const std::string& text, const std::string& path) {
  size_t written = 0;
  while (written < text.size()) {
    const ssize_t step = write(fd, text.data() + written, text.size() - written);
    if (step < 0 && errno == EINTR) continue;
    if (step < 0) return fail_errno(errno, "write", path);
    written += static_cast<size_t>(step);
  }
  if (fsync(fd) < 0) return fail_errno(errno, "write", path);
  return {};
}

// Whatever its length: it is what this agent has written, as large as the state that was pushed.
Result<std::string> read_whole(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail_errno(errno, "read", path);
  std::string text;
  for (size_t length = 0;;) {
    text.resize(length + kStep);
    const ssize_t step = read(fd, text.data() + length, kStep);
    if (step < 0 && errno == EINTR) continue;
    if (step <= 0) {
      const int error = errno;
      close(fd);
      text.resize(length);
      if (step < 0) return fail_errno(error, "read", path);
      return text;
    }
    length += static_cast<size_t>(step);
  }
}

std::string directory_of(const std::string& path) {
  const std::string directory = std::filesystem::path(path).parent_path().string();
  return directory.empty() ? "." : directory;
}

Status sync_directory(const std::string& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail_errno(errno, "sync", directory);
  const int outcome = fsync(fd);
  const int error = errno;
  close(fd);
  if (outcome < 0) return fail_errno(error, "sync", directory);
  return {};
}

}  // namespace

Result<Memory> StateFile::load() const {
  std::error_code gone;
  if (!std::filesystem::exists(path_, gone)) return Memory{};
  const auto text = read_whole(path_);
  if (!text) return tl::unexpected(text.error());
  try {
    const auto json = nlohmann::json::parse(*text);
    if (json.at("version").get<int>() != kVersion) {
      return fail(ErrorKind::not_supported, "load", path_, "was written by another version");
    }
    Memory memory;
    memory.epochs = json.at("epochs").get<std::map<std::string, state::Epoch>>();
    if (json.contains("state")) {
      auto state = api::from_json(json.at("state").dump());
      if (!state) return tl::unexpected(state.error());
      if (auto valid = state::validate(*state); !valid) return tl::unexpected(valid.error());
      memory.state = std::move(*state);
    }
    return memory;
  } catch (const nlohmann::json::exception& error) {
    return fail(ErrorKind::invalid, "load", path_, error.what());
  }
}

Status StateFile::save(const Memory& memory) const {
  std::string text =
      R"({"version":)" + std::to_string(kVersion) + R"(,"epochs":)" + nlohmann::json(memory.epochs).dump();
  if (memory.state) text += R"(,"state":)" + api::to_json(*memory.state);
  text += "}\n";

  const std::string directory = directory_of(path_);
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  const std::string next = path_ + ".new";
  const int fd = open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
  if (fd < 0) return fail_errno(errno, "write", next);
  auto written = write_whole(fd, text, next);
  close(fd);
  if (!written) return written;
  if (rename(next.c_str(), path_.c_str()) < 0) return fail_errno(errno, "write", path_);
  return sync_directory(directory);
}

Status StateFile::remove() const {
  for (const std::string& path : {path_, path_ + ".new", path_ + kAside, lock_beside(path_)}) {
    if (unlink(path.c_str()) < 0 && errno != ENOENT) return fail_errno(errno, "remove", path);
  }
  return {};
}

Result<std::string> StateFile::set_aside() const {
  const std::string aside = path_ + kAside;
  if (rename(path_.c_str(), aside.c_str()) < 0) return fail_errno(errno, "rename", path_);
  return aside;
}

}  // namespace sluice::agent
