#include "agent/fetch/part_file.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>

#include "tests/unit/fetch/fetch_fixture.hpp"

namespace updagent::fetch::test {
namespace {

const std::string kKey(64, 'a');

class PartFileTest : public testing::Test {
 protected:
  void TearDown() override { ::unsetenv("UPDAGENT_TEST_BOOT_ID"); }

  PartFile open() {
    auto part = PartFile::open(directory_.path() + "/downloads", kKey);
    if (!part) {
      ADD_FAILURE() << part.error().line();
      std::abort();
    }
    return std::move(*part);
  }
  static Version version(const char* etag, std::optional<std::uint64_t> total = {}) {
    return {etag, "", total};
  }
  std::string state() const { return "downloads/" + kKey + ".json"; }

  TemporaryDirectory directory_;
};

TEST_F(PartFileTest, A_new_one_is_empty_and_knows_nothing) {
  const PartFile part = open();
  EXPECT_EQ(part.length(), 0U);
  EXPECT_FALSE(part.version().has_validator());
  EXPECT_FALSE(part.is_whole());
  EXPECT_FALSE(part.is_resumable());
}

TEST_F(PartFileTest, A_kill_loses_no_byte_even_without_a_checkpoint) {
  {
    PartFile part = open();
    ASSERT_TRUE(part.start_over(version("\"v1\"", 100)));
    ASSERT_TRUE(part.append("hello"));
  }
  const PartFile again = open();
  EXPECT_EQ(again.length(), 5U);
  EXPECT_EQ(again.version().etag, "\"v1\"");
  EXPECT_EQ(again.version().total, 100U);
  EXPECT_TRUE(again.is_resumable());
  EXPECT_EQ(*again.head(99), "hello");
}

TEST_F(PartFileTest, After_a_reboot_only_synced_bytes_count) {
  if (!kHasFailpoints) GTEST_SKIP() << "built without failpoints";
  ::setenv("UPDAGENT_TEST_BOOT_ID", "first", 1);
  {
    PartFile part = open();
    ASSERT_TRUE(part.start_over(version("\"v1\"", 100)));
    ASSERT_TRUE(part.append("synced"));
    ASSERT_TRUE(part.checkpoint());
    ASSERT_TRUE(part.append(" and not"));
  }
  ::setenv("UPDAGENT_TEST_BOOT_ID", "second", 1);
  {
    const PartFile again = open();
    EXPECT_EQ(*again.head(99), "synced");
  }
  EXPECT_EQ(std::filesystem::file_size(directory_.path() + "/downloads/" + kKey + ".part"), 6U);
}

TEST_F(PartFileTest, Without_a_validator_there_is_nothing_to_go_on_from) {
  {
    PartFile part = open();
    ASSERT_TRUE(part.start_over(Version()));
    ASSERT_TRUE(part.append("hello"));
    EXPECT_FALSE(part.is_resumable());
  }
  EXPECT_EQ(open().length(), 0U);
}

TEST_F(PartFileTest, A_new_version_replaces_the_bytes_of_the_old_one) {
  PartFile part = open();
  ASSERT_TRUE(part.start_over(version("\"v1\"")));
  ASSERT_TRUE(part.append("old bytes"));
  ASSERT_TRUE(part.start_over(version("\"v2\"")));
  EXPECT_EQ(part.length(), 0U);
  ASSERT_TRUE(part.append("new"));
  EXPECT_EQ(*part.head(99), "new");
}

TEST_F(PartFileTest, A_state_that_is_damaged_or_of_another_file_counts_for_nothing) {
  const auto leave = [&] {
    PartFile part = open();
    ASSERT_TRUE(part.start_over(version("\"v1\"", 100)));
    ASSERT_TRUE(part.append("hello"));
  };
  leave();
  const std::string good = directory_.read(state());
  const Json parsed = Json::parse(good);
  const auto with = [&](const char* name, const Json& value) {
    Json changed = parsed;
    changed[name] = value;
    return changed.dump();
  };
  for (const std::string& bad :
       {std::string(), good.substr(0, good.size() / 2), std::string("[]"), with("format", 2),
        with("inode", "1"), with("etag", ""), with("total", 3), with("etag", 7), good + "x"}) {
    leave();
    directory_.write(state(), bad);
    EXPECT_EQ(open().length(), 0U) << bad;
  }
  leave();
  directory_.write(state(), with("synced", 2));  // the same boot: the kernel has the rest
  EXPECT_EQ(open().length(), 5U);
}

TEST_F(PartFileTest, While_one_process_has_it_another_gets_a_file_of_its_own) {
  PartFile first = open();
  ASSERT_TRUE(first.start_over(version("\"v1\"")));
  ASSERT_TRUE(first.append("first"));
  {
    PartFile second = open();
    EXPECT_EQ(second.length(), 0U);
    ASSERT_TRUE(second.start_over(version("\"v2\"")));
    ASSERT_TRUE(second.append("second one"));
    ASSERT_TRUE(second.checkpoint());
    EXPECT_FALSE(second.is_resumable());
    EXPECT_EQ(*second.head(99), "second one");
  }
  EXPECT_EQ(*first.head(99), "first");
  EXPECT_EQ(Json::parse(directory_.read(state()))["etag"], "\"v1\"");
  EXPECT_EQ(directory_.names("downloads").size(), 2U);
}

TEST_F(PartFileTest, The_lock_lives_as_long_as_the_descriptor_that_was_handed_over) {
  base::UniqueFd reader;
  {
    PartFile part = open();
    ASSERT_TRUE(part.start_over(version("\"v1\"", 5)));
    ASSERT_TRUE(part.append("hello"));
    EXPECT_TRUE(part.is_whole());
    reader = std::move(*std::move(part).hand_over());
  }
  EXPECT_EQ(open().length(), 0U) << "another file: this one is being read";
  EXPECT_EQ(read_all(reader.get()), "hello");
  reader.reset();
  EXPECT_EQ(open().length(), 5U);
}

TEST_F(PartFileTest, Discard_removes_the_file_and_its_state) {
  PartFile part = open();
  ASSERT_TRUE(part.start_over(version("\"v1\"")));
  ASSERT_TRUE(part.append("hello"));
  ASSERT_TRUE(part.discard());
  EXPECT_TRUE(directory_.names("downloads").empty());
}

TEST_F(PartFileTest, A_symbolic_link_or_a_second_name_is_refused) {
  const std::string path = directory_.path() + "/downloads/" + kKey + ".part";
  directory_.write("precious", "precious");
  directory_.write("downloads/other", "");
  std::filesystem::create_symlink(directory_.path() + "/precious", path);
  EXPECT_FALSE(PartFile::open(directory_.path() + "/downloads", kKey));
  std::filesystem::remove(path);
  std::filesystem::create_hard_link(directory_.path() + "/precious", path);
  const auto linked = PartFile::open(directory_.path() + "/downloads", kKey);
  ASSERT_FALSE(linked);
  EXPECT_EQ(linked.error().expected(), "a regular file with one link");
  EXPECT_EQ(directory_.read("precious"), "precious");
}

TEST_F(PartFileTest, Files_and_directory_are_for_their_owner_alone) {
  PartFile part = open();
  ASSERT_TRUE(part.start_over(version("\"v1\"")));
  using std::filesystem::perms;
  const auto mode = [&](const std::string& name) {
    return std::filesystem::status(directory_.path() + "/" + name).permissions() & perms::mask;
  };
  EXPECT_EQ(mode("downloads"), perms::owner_all);
  EXPECT_EQ(mode(state()), perms::owner_read | perms::owner_write);
  EXPECT_EQ(mode("downloads/" + kKey + ".part"), perms::owner_read | perms::owner_write);
}

TEST_F(PartFileTest, More_than_the_disk_has_is_refused_with_figures) {
  const PartFile part = open();
  const base::Status status = part.require_space(std::uint64_t{1} << 60);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code(), base::Code::no_space);
  EXPECT_EQ(status.error().expected(), "1.00 EiB free");
  EXPECT_FALSE(status.error().got().empty());
  EXPECT_TRUE(part.require_space(0));
}

}  // namespace
}  // namespace updagent::fetch::test
