// The durable writes of files.hpp, killed and failed at each of their system calls: whoever looks
// afterwards sees the old content or the new one.
#include <gtest/gtest.h>
#include <signal.h>

#include <sstream>

#include "tests/unit/base/roles.hpp"
#include "tests/unit/base/test_directory.hpp"

namespace updagent::base {
namespace {

using test::TestDirectory;

// "sys.write#1", "sys.fsync#1", ... in the order in which the role passes them.
std::vector<std::string> places_of(const std::vector<std::string>& role) {
  const TestDirectory directory;
  const std::string trace = directory.path("trace");
  EXPECT_TRUE(test::run_role(role, {{"UPDAGENT_FAILPOINTS_TRACE", trace}}).success());
  std::istringstream lines(directory.read("trace"));
  std::map<std::string, int> count;
  std::vector<std::string> places;
  for (std::string name; std::getline(lines, name);)
    places.push_back(name + "#" + std::to_string(++count[name]));
  return places;
}

std::size_t entries_in(const TestDirectory& directory) {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator(directory.path()),
                    std::filesystem::directory_iterator()));
}

TEST(WriteFileDurably, It_writes_syncs_renames_and_syncs_the_folder) {
  const TestDirectory directory;
  EXPECT_EQ(
      places_of({"write-file", directory.path("f"), "new"}),
      (std::vector<std::string>{"sys.write#1", "sys.fsync#1", "sys.rename#1", "sys.fsync#2"}));
  struct stat about{};
  ASSERT_EQ(::stat(directory.path("f").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0640U);
  EXPECT_EQ(directory.read("f"), "new");
}

TEST(WriteFileDurably, Killed_anywhere_it_leaves_the_old_or_the_new_content) {
  const TestDirectory scratch;
  for (const std::string& place : places_of({"write-file", scratch.path("f"), "new"})) {
    const TestDirectory directory;
    directory.write("f", "old");
    const ChildResult result = test::run_role({"write-file", directory.path("f"), "new"},
                                              {{"UPDAGENT_FAILPOINTS", place + "=kill"}});
    EXPECT_EQ(result.signal_number, SIGKILL) << place;
    EXPECT_EQ(directory.read("f"), place == "sys.fsync#2" ? "new" : "old") << place;
    EXPECT_TRUE(test::run_role({"write-file", directory.path("f"), "next"}).success()) << place;
    EXPECT_EQ(directory.read("f"), "next") << place;
  }
}

TEST(WriteFileDurably, Failed_anywhere_it_says_so_and_leaves_no_temporary_file) {
  const TestDirectory scratch;
  for (const std::string& place : places_of({"write-file", scratch.path("f"), "new"})) {
    for (const std::string error : {"ENOSPC", "EIO"}) {
      const TestDirectory directory;
      directory.write("f", "old");
      const ChildResult result = test::run_role({"write-file", directory.path("f"), "new"},
                                                {{"UPDAGENT_FAILPOINTS", place + "=" + error}});
      EXPECT_EQ(result.exit_status, 1) << place;
      const char* words = error == "EIO" ? "Input/output error" : "No space left on device";
      EXPECT_NE(result.output.find(words), std::string::npos) << place << ": " << result.output;
      EXPECT_EQ(directory.read("f"), place == "sys.fsync#2" ? "new" : "old") << place;
      EXPECT_EQ(entries_in(directory), 1U) << place;
    }
  }
}

TEST(ReplaceSymlinkDurably, Killed_or_failed_anywhere_the_link_names_the_old_or_the_new_target) {
  const auto role = [](const TestDirectory& directory) {
    return std::vector<std::string>{"replace-link", directory.path(), "current", "new"};
  };
  const TestDirectory scratch;
  const auto places = places_of(role(scratch));
  EXPECT_EQ(places, (std::vector<std::string>{"sys.symlink#1", "sys.rename#1", "sys.fsync#1"}));
  for (const std::string& place : places) {
    for (const std::string action : {"kill", "EIO", "ENOSPC"}) {
      const TestDirectory directory;
      ASSERT_EQ(::symlink("old", directory.path("current").c_str()), 0);
      const ChildResult result =
          test::run_role(role(directory), {{"UPDAGENT_FAILPOINTS", place + "=" + action}});
      EXPECT_FALSE(result.success()) << place;
      const auto target = std::filesystem::read_symlink(directory.path("current")).string();
      EXPECT_EQ(target, place == "sys.fsync#1" ? "new" : "old") << place << "=" << action;
      // the next one replaces what the crash left
      EXPECT_TRUE(test::run_role(role(directory)).success()) << place;
      EXPECT_EQ(std::filesystem::read_symlink(directory.path("current")), "new");
      EXPECT_EQ(entries_in(directory), 1U) << place << "=" << action;
    }
  }
}

TEST(RenameDurably, Both_folders_are_synced) {
  const TestDirectory from;
  const TestDirectory to;
  from.write("a", "1");
  EXPECT_EQ(places_of({"rename", from.path(), "a", to.path(), "b"}),
            (std::vector<std::string>{"sys.rename#1", "sys.fsync#1", "sys.fsync#2"}));
  EXPECT_EQ(to.read("b"), "1");
}

}  // namespace
}  // namespace updagent::base
