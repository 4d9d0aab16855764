#include <grp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "tests/unit/journal/support.hpp"

namespace updagent::journal::testing {
namespace {

constexpr const char* kGroup = "adm";  // of Debian's base-passwd: on every system
constexpr uid_t kNobody = 65534;
constexpr gid_t kNobodyGroup = 65534;

gid_t audit_group() {
  const group* entry = ::getgrnam(kGroup);
  return entry == nullptr ? kNobodyGroup : entry->gr_gid;
}

std::vector<std::string> read_as(const std::string& root, gid_t group) {
  return {"read", root, std::to_string(kNobody), std::to_string(group)};
}

class Access : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  }
  TempDirectory root_;
};

TEST_F(Access, The_group_reads_a_journal_that_nobody_has_open) {
  {
    Journal journal = open_journal(root_.path(), kGroup);
    record_events(journal, 5);
  }
  EXPECT_TRUE(std::filesystem::exists(paths_in(root_.path()).database + "-wal"));
  EXPECT_TRUE(std::filesystem::exists(paths_in(root_.path()).database + "-shm"));
  Child reader(read_as(root_.path(), audit_group()));
  EXPECT_EQ(reader.read_line(), "5 events, problem ''");
  EXPECT_EQ(reader.wait(), 0);
}

TEST_F(Access, The_group_reads_while_it_is_written) {
  Journal journal = open_journal(root_.path(), kGroup);
  record_events(journal, 5);
  Child reader(read_as(root_.path(), audit_group()));
  EXPECT_EQ(reader.read_line(), "5 events, problem ''");
  EXPECT_EQ(reader.wait(), 0);
  record_events(journal, 1, 9);
  EXPECT_EQ(must(journal.verify(std::nullopt)).problem, "");
}

TEST_F(Access, The_group_reads_what_a_killed_writer_left_in_the_wal) {
  open_journal(root_.path(), kGroup);
  {
    Child writer({"record", root_.path(), "1000000", kGroup});
    for (int i = 0; i < 5; ++i) writer.read_line();
    writer.kill();
    EXPECT_EQ(writer.wait(), -9);
  }
  Child reader(read_as(root_.path(), audit_group()));
  const std::string answer = reader.read_line();
  EXPECT_TRUE(answer.ends_with(" events, problem ''")) << answer;
  EXPECT_EQ(reader.wait(), 0);
}

TEST_F(Access, Files_belong_to_the_group_and_only_the_owner_writes) {
  Journal journal = open_journal(root_.path(), kGroup);
  for (const char* suffix : {"", "-wal", "-shm"}) {
    struct stat about{};
    ASSERT_EQ(::stat((paths_in(root_.path()).database + suffix).c_str(), &about), 0);
    EXPECT_EQ(about.st_mode & 07777U, 0640U) << suffix;
    EXPECT_EQ(about.st_gid, audit_group()) << suffix;
  }
}

TEST_F(Access, Others_are_refused_and_told_what_helps) {
  {
    open_journal(root_.path(), kGroup);
  }
  Child reader(read_as(root_.path(), kNobodyGroup));
  const std::string answer = reader.read_line();
  EXPECT_TRUE(answer.starts_with("journal_unusable: cannot read the journal")) << answer;
  EXPECT_EQ(reader.wait(), 1);
}

TEST_F(Access, Without_a_group_the_files_are_private_again) {
  {
    open_journal(root_.path(), kGroup);
  }
  Journal journal = open_journal(root_.path(), "");
  struct stat about{};
  ASSERT_EQ(::stat(paths_in(root_.path()).database.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777U, 0600U);
}

TEST_F(Access, A_group_that_does_not_exist_is_a_warning) {
  Journal journal = open_journal(root_.path(), "no-such-group");
  const auto warnings = journal.take_warnings();
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_EQ(warnings[0], "the group 'no-such-group' does not exist on this node");
  record_events(journal, 1);
}

}  // namespace
}  // namespace updagent::journal::testing
