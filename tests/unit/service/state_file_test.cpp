#include "agent/service/state_file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/files.hpp"
#include "tests/unit/base/test_directory.hpp"

namespace updagent::service {
namespace {

constexpr std::size_t kSmall = 100;

TEST(StateFile, It_is_replaced_as_a_whole_and_nobody_else_may_read_it) {
  const test::TestDirectory folder;
  const std::string path = folder.path() + "/state";
  ASSERT_TRUE(replace_file(path, "a long first state"));
  ASSERT_TRUE(replace_file(path, "second"));
  EXPECT_EQ(base::read_file(path, kSmall).value_or(""), "second");
  struct stat about{};
  ASSERT_EQ(::stat(path.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777U, 0600U);
  EXPECT_FALSE(base::exists(path + ".new"));
}

TEST(StateFile, A_link_in_its_place_is_not_followed) {
  const test::TestDirectory folder;
  const std::string victim = folder.path() + "/victim";
  ASSERT_TRUE(replace_file(victim, "mine"));
  const std::string path = folder.path() + "/state";
  ASSERT_EQ(::symlink(victim.c_str(), (path + ".new").c_str()), 0);
  EXPECT_FALSE(replace_file(path, "theirs"));
  ASSERT_EQ(::unlink((path + ".new").c_str()), 0);
  ASSERT_EQ(::symlink(victim.c_str(), path.c_str()), 0);
  EXPECT_TRUE(replace_file(path, "theirs"));
  EXPECT_EQ(base::read_file(victim, kSmall).value_or(""), "mine");
}

}  // namespace
}  // namespace updagent::service
