// A followed file: written in place, replaced by rename, swapped behind a link as ConfigMaps are, gone and back.
#include "node-agent/config/file_follower.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <vector>

namespace sluice::agent::config {
namespace {

namespace fs = std::filesystem;
constexpr std::chrono::seconds kDeadline{20};

class FileFollowerTest : public testing::Test {
 protected:
  FileFollowerTest() {
    std::string pattern = (fs::temp_directory_path() / "sluice-agent-follow-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    path_ = directory_ / "lb.yaml";
  }
  ~FileFollowerTest() override {
    follower_.reset();
    fs::remove_all(directory_);
  }
  void follow(const std::string& known) {
    auto follower = FileFollower::start(path_, known, [this](const Result<std::string>& text) {
      const std::scoped_lock lock(mutex_);
      seen_.push_back(text ? *text : "ERROR " + text.error().message());
      changed_.notify_all();
    });
    ASSERT_TRUE(follower.has_value());
    follower_ = std::move(*follower);
  }
  static void put(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }
  // The next thing that the follower says.
  std::string next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kDeadline, [this] { return seen_.size() > taken_; })) return "(nothing)";
    return seen_[taken_++];
  }
  fs::path directory_;
  fs::path path_;
  std::unique_ptr<FileFollower> follower_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> seen_;
  size_t taken_ = 0;
};

TEST_F(FileFollowerTest, TellsOfAFileWrittenInPlace) {
  put(path_, "one");
  follow("one");
  put(path_, "two");
  EXPECT_EQ(next(), "two");
}

TEST_F(FileFollowerTest, TellsOfAFileReplacedByRename) {
  put(path_, "one");
  follow("one");
  put(directory_ / ".lb.yaml.swp", "two");
  fs::rename(directory_ / ".lb.yaml.swp", path_);
  EXPECT_EQ(next(), "two");
  put(directory_ / ".lb.yaml.swp", "three");
  fs::rename(directory_ / ".lb.yaml.swp", path_);
  EXPECT_EQ(next(), "three");
}

TEST_F(FileFollowerTest, TellsOfALinkSwappedAsInAConfigMap) {
  fs::create_directory(directory_ / "..v1");
  fs::create_directory(directory_ / "..v2");
  put(directory_ / "..v1" / "lb.yaml", "one");
  put(directory_ / "..v2" / "lb.yaml", "two");
  fs::create_directory_symlink("..v1", directory_ / "..data");
  fs::create_symlink("..data/lb.yaml", path_);
  follow("one");
  fs::create_directory_symlink("..v2", directory_ / "..data_tmp");
  fs::rename(directory_ / "..data_tmp", directory_ / "..data");
  EXPECT_EQ(next(), "two");
}

TEST_F(FileFollowerTest, TellsOfAFileBehindALinkToElsewhere) {
  fs::create_directory(directory_ / "elsewhere");
  put(directory_ / "elsewhere" / "real.yaml", "one");
  fs::create_symlink("elsewhere/real.yaml", path_);
  follow("one");
  put(directory_ / "elsewhere" / "real.yaml", "two");
  EXPECT_EQ(next(), "two");
}

TEST_F(FileFollowerTest, TellsOfAFileThatIsGoneAndOfItsReturnEvenUnchanged) {
  put(path_, "one");
  follow("one");
  fs::remove(path_);
  EXPECT_EQ(next(), "ERROR read " + path_.string() + ": No such file or directory");
  put(path_, "one");
  EXPECT_EQ(next(), "one");
}

TEST_F(FileFollowerTest, SaysNothingOfAnotherFileOrTheSameContent) {
  put(path_, "one");
  follow("one");
  put(directory_ / "other.yaml", "x");
  put(path_, "one");
  put(path_, "two");
  EXPECT_EQ(next(), "two") << "the first thing said";
}

TEST(ReadFile, RefusesWhatIsNoFile) {
  EXPECT_FALSE(read_file("/tmp"));
  EXPECT_FALSE(read_file("/dev/null"));
  EXPECT_FALSE(read_file("/does/not/exist"));
}

}  // namespace
}  // namespace sluice::agent::config
