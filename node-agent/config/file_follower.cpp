#include "node-agent/config/file_follower.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <set>
#include <thread>
#include <utility>

namespace sluice::agent::config {
namespace {

constexpr off_t kMaxFile = off_t{64} << 20;
constexpr std::chrono::milliseconds kQuiet{100};  // editors write in several steps
// Changes that no event tells of (a network file system, a directory that came back) are found at this pace.
constexpr std::chrono::milliseconds kLook{5000};
constexpr uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ATTRIB;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

class Follower final : public FileFollower {
 public:
  Follower(std::string path, std::string known, Callback callback)
      : path_(std::move(path)), last_(std::move(known)), callback_(std::move(callback)) {}
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;
  ~Follower() override {
    if (!thread_.joinable()) return;
    const uint64_t one = 1;
    std::ignore = write(stop_.get(), &one, sizeof one);
    thread_.join();
  }

  Status begin() {
    if (inotify_.get() < 0 || stop_.get() < 0) return fail_errno(errno, "follow", path_);
    watch();
    thread_ = std::thread([this] { run(); });
    return {};
  }

 private:
  // The directory of the name, and that of the file behind it where the name is a link to elsewhere.
  void watch() {
    namespace fs = std::filesystem;
    std::error_code error;
    std::set<std::string> directories = {fs::absolute(path_, error).parent_path().string()};
    const fs::path target = fs::canonical(path_, error);
    if (!error) directories.insert(target.parent_path().string());
    for (const std::string& directory : directories) inotify_add_watch(inotify_.get(), directory.c_str(), kEvents);
  }

  void run() {
    for (;;) {
      std::array<pollfd, 2> waiting = {{{stop_.get(), POLLIN, 0}, {inotify_.get(), POLLIN, 0}}};
      if (poll(waiting.data(), waiting.size(), static_cast<int>(kLook.count())) < 0 && errno != EINTR) return;
      if (waiting[0].revents != 0) return;
      if (waiting[1].revents != 0 && !settle()) return;
      watch();
      look();
    }
  }

  // Waits until no event came for a while; false when told to stop.
  bool settle() {
    for (;;) {
      alignas(inotify_event) std::array<char, 4096> events{};
      while (read(inotify_.get(), events.data(), events.size()) > 0) {
      }
      std::array<pollfd, 2> waiting = {{{stop_.get(), POLLIN, 0}, {inotify_.get(), POLLIN, 0}}};
      const int ready = poll(waiting.data(), waiting.size(), static_cast<int>(kQuiet.count()));
      if (waiting[0].revents != 0) return false;
      if (ready == 0) return true;
    }
  }

  void look() {
    auto text = read_file(path_);
    if (!text) {
      if (std::exchange(last_error_, text.error().message()) != text.error().message()) callback_(text);
      return;
    }
    const bool recovered = !std::exchange(last_error_, {}).empty();
    if (*text == last_ && !recovered) return;
    last_ = *text;
    callback_(text);
  }

  std::string path_;
  std::string last_;
  std::string last_error_;
  Callback callback_;
  Descriptor inotify_{inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
  Descriptor stop_{eventfd(0, EFD_CLOEXEC)};
  std::thread thread_;
};

}  // namespace

Result<std::string> read_file(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return fail_errno(errno, "read", path);
  struct stat info {};
  if (fstat(file.get(), &info) < 0) return fail_errno(errno, "read", path);
  if (!S_ISREG(info.st_mode)) return fail(ErrorKind::invalid, "read", path, "is no regular file");
  if (info.st_size > kMaxFile) return fail(ErrorKind::invalid, "read", path, "is larger than 64 MiB");
  std::string text;
  std::array<char, 65536> part{};
  for (;;) {
    const ssize_t got = read(file.get(), part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "read", path);
    if (got == 0) return text;
    text.append(part.data(), static_cast<size_t>(got));
    if (text.size() > static_cast<size_t>(kMaxFile))
      return fail(ErrorKind::invalid, "read", path, "is larger than 64 MiB");
  }
}

Result<std::unique_ptr<FileFollower>> FileFollower::start(const std::string& path, std::string known_text,
                                                          Callback callback) {
  auto follower = std::make_unique<Follower>(path, std::move(known_text), std::move(callback));
  if (auto begun = follower->begin(); !begun) return tl::unexpected(begun.error());
  return std::unique_ptr<FileFollower>(std::move(follower));
}

}  // namespace sluice::agent::config
