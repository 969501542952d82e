// What is remembered across restarts.
#include "node-agent/agent/state_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "node-agent/agent/single_instance.h"
#include "tests/unit/agent/fixtures.h"

namespace sluice::agent {
namespace {

TEST(StateFile, GivesBackWhatWasSaved) {
  const TemporaryDirectory directory;
  const StateFile file(directory.file("deep/er/state.json"));
  Memory memory;
  memory.epochs = {{"cluster-1", 7}, {"cluster-2", 1}};
  memory.state = small_state(7, 42);
  ASSERT_TRUE(file.save(memory));
  const auto loaded = file.load();
  ASSERT_TRUE(loaded) << loaded.error().message();
  EXPECT_EQ(loaded->epochs, memory.epochs);
  EXPECT_EQ(loaded->state, memory.state);
}

TEST(StateFile, IsForItsOwnerOnlyAndLeavesNothingBeside) {
  const TemporaryDirectory directory;
  const StateFile file(directory.file("state.json"));
  ASSERT_TRUE(file.save({}));
  struct stat info {};
  ASSERT_EQ(stat(file.path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  EXPECT_FALSE(std::filesystem::exists(file.path() + ".new"));
}

TEST(StateFile, NoFileIsAnEmptyMemory) {
  const TemporaryDirectory directory;
  const auto loaded = StateFile(directory.file("state.json")).load();
  ASSERT_TRUE(loaded);
  EXPECT_TRUE(loaded->epochs.empty());
  EXPECT_FALSE(loaded->state);
}

TEST(StateFile, HasNoLimitThatAPushedStateMayPass) {
  const TemporaryDirectory directory;
  const StateFile file(directory.file("state.json"));
  // A push may have 256 MiB; a configuration file 64.
  std::ofstream(file.path()) << R"({"version":1,"epochs":{"cluster-1":7})" << std::string(size_t{65} << 20, ' ') << "}";
  const auto loaded = file.load();
  ASSERT_TRUE(loaded) << loaded.error().message();
  EXPECT_EQ(loaded->epochs.at("cluster-1"), 7U);
}

TEST(StateFile, WhatCannotBeUnderstoodIsToldAndCanBeSetAside) {
  const TemporaryDirectory directory;
  const StateFile file(directory.file("state.json"));
  for (const char* text :
       {"", "{", "{}", R"({"version":2,"epochs":{}})", R"({"version":1,"epochs":{},"state":{"x":1}})"}) {
    std::ofstream(file.path()) << text;
    EXPECT_FALSE(file.load()) << text;
  }
  const auto aside = file.set_aside();
  ASSERT_TRUE(aside);
  EXPECT_TRUE(std::filesystem::exists(*aside));
  EXPECT_TRUE(file.load());
}

TEST(StateFile, WhatWasSetAsideGoesWithTheRest) {
  const TemporaryDirectory directory;
  const StateFile file(directory.file("state.json"));
  std::ofstream(file.path()) << "{";
  const auto aside = file.set_aside();
  ASSERT_TRUE(aside);
  ASSERT_TRUE(file.save({}));
  std::ofstream(lock_beside(file.path())) << "";
  ASSERT_TRUE(file.remove());
  EXPECT_TRUE(std::filesystem::is_empty(std::filesystem::path(*aside).parent_path()));
}

TEST(StateFile, KeepsTheOldContentWhereItCannotWrite) {
  const TemporaryDirectory directory;
  const StateFile file(directory.file("state.json"));
  Memory memory;
  memory.epochs["c"] = 1;
  ASSERT_TRUE(file.save(memory));
  // The name of the new file is taken by a folder: the write fails before the old file is touched.
  std::filesystem::create_directory(file.path() + ".new");
  memory.epochs["c"] = 2;
  EXPECT_FALSE(file.save(memory));
  EXPECT_EQ(file.load()->epochs.at("c"), 1U);
}

TEST(StateFile, RemovedTwiceIsRemoved) {
  const TemporaryDirectory directory;
  const StateFile file(directory.file("state.json"));
  ASSERT_TRUE(file.save({}));
  EXPECT_TRUE(file.remove());
  EXPECT_TRUE(file.remove());
  EXPECT_FALSE(std::filesystem::exists(file.path()));
}

}  // namespace
}  // namespace sluice::agent
