#include "agent/service/state_file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/clock.hpp"
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

std::string state_with(const std::string& boot_id, int version) {
  return base::Json({{"boot_id", boot_id}, {"state_version", version}}).dump();
}

TEST(StateFile, One_of_this_boot_that_another_version_wrote_is_refused) {
  const test::TestDirectory folder;
  const std::string path = folder.path() + "/state";
  ASSERT_TRUE(replace_file(path, state_with(base::boot_id(), kStateVersion)));
  ASSERT_TRUE(read_state(path));
  EXPECT_TRUE(read_state(path)->is_object());
  ASSERT_TRUE(replace_file(path, state_with(base::boot_id(), kStateVersion + 1)));
  const auto later = read_state(path);
  ASSERT_FALSE(later);
  EXPECT_EQ(later.error().code(), base::Code::requires_agent);
  ASSERT_TRUE(replace_file(path, state_with("of before", kStateVersion + 1)));
  ASSERT_TRUE(read_state(path));
  EXPECT_TRUE(read_state(path)->is_null());
}

}  // namespace
}  // namespace updagent::service
