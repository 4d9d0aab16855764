#include "agent/base/files.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <functional>

#include "tests/unit/base/test_directory.hpp"

namespace updagent::base {
namespace {

using test::TestDirectory;

UniqueFd opened(const std::string& path) {
  auto directory = open_directory(path);
  EXPECT_TRUE(directory.has_value()) << directory.error().line();
  return directory ? std::move(*directory) : UniqueFd();
}

// In a process of its own, for what changes the whole process.
int in_child(const std::function<bool()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body() ? 0 : 1);
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return status;
}

void make_deep(const std::string& path, int levels) {
  UniqueFd at = opened(path);
  for (int i = 0; i < levels; ++i) {
    ASSERT_EQ(::mkdirat(at.get(), "d", 0755), 0);
    at.reset(::openat(at.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(at);
  }
}

// --- open -------------------------------------------------------------------------------------

class OpenBeneath : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(directory_.path("tree/sub"));
    directory_.write("outside", "secret");
    directory_.write("tree/sub/file", "content");
    std::filesystem::create_symlink("sub/file", directory_.path("tree/link"));
    std::filesystem::create_symlink("sub", directory_.path("tree/linked"));
    std::filesystem::create_symlink("../outside", directory_.path("tree/leaves"));
    tree_ = opened(directory_.path("tree"));
  }
  Result<UniqueFd> open(const std::string& relative) const {
    return open_beneath(tree_.get(), relative, O_RDONLY);
  }

  TestDirectory directory_;
  UniqueFd tree_;
};

TEST_F(OpenBeneath, A_file_in_the_tree_is_opened_with_close_on_exec) {
  const auto file = open("sub/file");
  ASSERT_TRUE(file.has_value()) << file.error().line();
  EXPECT_EQ(read_fd(file->get(), "file", 100).value(), "content");
  EXPECT_EQ(::fcntl(file->get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST_F(OpenBeneath, No_link_is_followed_wherever_it_stands_and_leads) {
  for (const char* path : {"link", "linked/file", "leaves"}) {
    const auto file = open(path);
    ASSERT_FALSE(file.has_value()) << path;
    EXPECT_EQ(file.error().line(),
              "cannot open '" + std::string(path) + "': Too many levels of symbolic links");
  }
}

TEST_F(OpenBeneath, Nothing_leaves_the_tree) {
  for (const char* path : {"../outside", "sub/../../outside", "/etc/passwd", ".."}) {
    const auto file = open(path);
    ASSERT_FALSE(file.has_value()) << path;
    EXPECT_EQ(file.error().line(),
              "cannot open '" + std::string(path) + "': Invalid cross-device link");
  }
}

TEST_F(OpenBeneath, A_new_file_has_the_asked_mode_and_never_replaces_a_link) {
  const mode_t before = ::umask(0);
  const auto made = open_beneath(tree_.get(), "new", O_WRONLY | O_CREAT | O_EXCL, 0640);
  ::umask(before);
  ASSERT_TRUE(made.has_value());
  struct stat about{};
  ASSERT_EQ(::fstat(made->get(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0640U);
  EXPECT_FALSE(open_beneath(tree_.get(), "leaves", O_WRONLY | O_CREAT, 0640).has_value());
}

// --- read -------------------------------------------------------------------------------------

TEST(ReadFile, The_bound_itself_is_allowed_and_one_byte_more_is_not) {
  const TestDirectory directory;
  const std::string path = directory.write("f", "12345");
  EXPECT_EQ(read_file(path, 5).value(), "12345");
  const auto refused = read_file(path, 4);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().line(),
            "cannot read '" + path + "' (expected at most 4 bytes, got more)");
}

TEST(ReadFile, A_missing_file_is_named) {
  EXPECT_EQ(read_file("/no/such/file", 1).error().line(),
            "cannot open '/no/such/file': No such file or directory");
}

TEST(ReadLink, It_tells_a_missing_link_from_something_else) {
  const TestDirectory directory;
  directory.write("file", "");
  std::filesystem::create_symlink("there", directory.path("link"));
  const UniqueFd at = opened(directory.path());
  EXPECT_EQ(read_link_at(at.get(), "link").value(), "there");
  EXPECT_EQ(read_link_at(at.get(), "none").value(), std::nullopt);
  EXPECT_FALSE(read_link_at(at.get(), "file").has_value());
}

TEST(ListDirectory, Names_are_sorted_and_bounded) {
  const TestDirectory directory;
  for (const char* name : {"b", "a", ".hidden"}) directory.write(name, "");
  EXPECT_EQ(list_directory(directory.path(), 3).value(),
            (std::vector<std::string>{".hidden", "a", "b"}));
  const auto refused = list_directory(directory.path(), 2);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().expected(), "at most 2 names");
  EXPECT_EQ(refused.error().got(), "more");
}

TEST(Exists, A_dangling_link_exists) {
  const TestDirectory directory;
  std::filesystem::create_symlink("nowhere", directory.path("link"));
  const UniqueFd at = opened(directory.path());
  EXPECT_TRUE(exists(directory.path("link")));
  EXPECT_TRUE(exists_at(at.get(), "link"));
  EXPECT_FALSE(exists(directory.path("none")));
  EXPECT_FALSE(exists_at(at.get(), "none"));
}

// --- write ------------------------------------------------------------------------------------

TEST(MakeDirectories, Modes_are_exact_whatever_the_umask_and_what_is_there_stays) {
  const TestDirectory directory;
  std::filesystem::create_directory(directory.path("a"));
  ::chmod(directory.path("a").c_str(), 0700);
  const mode_t before = ::umask(077);
  const Status made = make_directories(directory.path("a/b/c"), 0755);
  const Status again = make_directories(directory.path("a/b/c"), 0700);
  ::umask(before);
  ASSERT_TRUE(made.has_value() && again.has_value());
  const std::vector<std::pair<std::string, mode_t>> expected = {
      {"a", 0700}, {"a/b", 0755}, {"a/b/c", 0755}};
  for (const auto& [name, mode] : expected) {
    struct stat about{};
    ASSERT_EQ(::stat(directory.path(name).c_str(), &about), 0);
    EXPECT_EQ(about.st_mode & 07777, mode) << name;
  }
}

TEST(MakeDirectories, A_file_in_the_way_is_named) {
  const TestDirectory directory;
  const std::string path = directory.write("file", "");
  EXPECT_EQ(make_directories(path, 0755).error().line(),
            "cannot use '" + path + "': Not a directory");
}

TEST(WriteFile, Its_mode_does_not_depend_on_the_umask) {
  const TestDirectory directory;
  const mode_t before = ::umask(0);
  ASSERT_TRUE(write_file_durably(directory.path("f"), "x", 0600).has_value());
  ::umask(before);
  struct stat about{};
  ASSERT_EQ(::stat(directory.path("f").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0600U);
}

TEST(DeadTemporaries, Those_of_a_process_that_is_gone_go_and_nothing_else_does) {
  const TestDirectory directory;
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  ASSERT_EQ(::waitpid(gone, nullptr, 0), gone);
  const std::string dead = ".audit.head." + std::to_string(gone) + ".new";
  const std::string alive = ".audit.head." + std::to_string(::getpid()) + ".new";
  for (const std::string& name : {dead, alive, std::string("audit.head"), std::string(".mine.new"),
                                  std::string(".mine.0.new"), std::string("shown.1.new")})
    directory.write(name, "x");
  ASSERT_TRUE(remove_dead_temporaries(directory.path()));
  EXPECT_EQ(
      list_directory(directory.path(), 10).value(),
      (std::vector<std::string>{alive, ".mine.0.new", ".mine.new", "audit.head", "shown.1.new"}));
}

TEST(Rename, With_no_replace_an_existing_target_stays) {
  const TestDirectory directory;
  directory.write("a", "new");
  directory.write("b", "old");
  const UniqueFd at = opened(directory.path());
  const Status refused = rename_durably(at.get(), "a", at.get(), "b", true);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().line(), "cannot rename 'a' to 'b': File exists");
  EXPECT_EQ(directory.read("b"), "old");
  EXPECT_TRUE(rename_durably(at.get(), "a", at.get(), "b").has_value());
  EXPECT_EQ(directory.read("b"), "new");
}

TEST(RemoveFile, One_that_is_absent_is_fine_and_a_folder_is_not) {
  const TestDirectory directory;
  directory.write("f", "");
  std::filesystem::create_directory(directory.path("d"));
  const UniqueFd at = opened(directory.path());
  EXPECT_TRUE(remove_file_durably(at.get(), "f").has_value());
  EXPECT_TRUE(remove_file_durably(at.get(), "f").has_value());
  EXPECT_FALSE(exists(directory.path("f")));
  EXPECT_FALSE(remove_file_durably(at.get(), "d").has_value());
}

TEST(Sync, A_descriptor_that_cannot_be_synced_is_an_error) {
  const UniqueFd null(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  const Status status = fsync_fd(null.get(), "it");
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().line(), "cannot fsync 'it': Invalid argument");
  const TestDirectory directory;
  EXPECT_TRUE(fsync_directory(directory.path()).has_value());
  EXPECT_TRUE(syncfs_fd(opened(directory.path()).get(), "it").has_value());
}

// --- trees ------------------------------------------------------------------------------------

TEST(RemoveTree, Everything_in_it_goes_and_nothing_that_links_name) {
  const TestDirectory directory;
  std::filesystem::create_directories(directory.path("tree/a/b"));
  directory.write("tree/a/b/file", "1");
  directory.write("kept", "1");
  std::filesystem::create_directory(directory.path("other"));
  directory.write("other/kept", "1");
  std::filesystem::create_symlink("../kept", directory.path("tree/link"));
  std::filesystem::create_symlink("../other", directory.path("tree/linked"));
  ASSERT_EQ(::mkfifo(directory.path("tree/fifo").c_str(), 0600), 0);
  const UniqueFd at = opened(directory.path());
  ASSERT_TRUE(remove_tree(at.get(), "tree").has_value());
  EXPECT_FALSE(exists(directory.path("tree")));
  EXPECT_TRUE(exists(directory.path("kept")));
  EXPECT_TRUE(exists(directory.path("other/kept")));
}

TEST(RemoveTree, Absent_a_file_and_a_link_are_fine) {
  const TestDirectory directory;
  std::filesystem::create_directory(directory.path("kept"));
  directory.write("file", "");
  std::filesystem::create_symlink("kept", directory.path("link"));
  const UniqueFd at = opened(directory.path());
  for (const char* name : {"none", "file", "link"}) {
    EXPECT_TRUE(remove_tree(at.get(), name).has_value()) << name;
    EXPECT_FALSE(exists(directory.path(name)));
  }
  EXPECT_TRUE(exists(directory.path("kept")));
}

TEST(RemoveTree, A_deep_tree_takes_one_descriptor_a_level) {
  constexpr int kLevels = 200;
  const TestDirectory directory;
  std::filesystem::create_directory(directory.path("tree"));
  make_deep(directory.path("tree"), kLevels);
  EXPECT_EQ(in_child([&] {
              const rlimit few{kLevels + 32, kLevels + 32};
              const UniqueFd at = opened(directory.path());
              return ::setrlimit(RLIMIT_NOFILE, &few) == 0 &&
                     disk_usage(directory.path()).has_value() &&
                     remove_tree(at.get(), "tree").has_value();
            }),
            0);
  EXPECT_FALSE(exists(directory.path("tree")));
}

TEST(RemoveTree, A_tree_past_the_bound_is_refused) {
  const TestDirectory directory;
  std::filesystem::create_directory(directory.path("tree"));
  make_deep(directory.path("tree"), kMaxTreeDepth + 1);
  const UniqueFd at = opened(directory.path());
  const Status refused = remove_tree(at.get(), "tree");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().expected(), "at most 256 levels of directories");
  EXPECT_EQ(disk_usage(directory.path()).error().expected(), "at most 256 levels of directories");
}

TEST(RemoveTree, Folders_without_our_own_mode_bits_go_too) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become someone else";
  const TestDirectory directory;
  ASSERT_EQ(::chown(directory.path().c_str(), 65534, 65534), 0);
  EXPECT_EQ(in_child([&] {
              if (::setresuid(65534, 65534, 65534) != 0) return false;
              for (const mode_t mode : {0000U, 0200U, 0400U, 0500U, 0600U}) {
                std::filesystem::create_directories(directory.path("tree/sub/below"));
                directory.write("tree/sub/file", "");
                if (::chmod(directory.path("tree/sub").c_str(), mode) != 0) return false;
                const UniqueFd at = opened(directory.path());
                const Status removed = remove_tree(at.get(), "tree");
                EXPECT_TRUE(removed.has_value()) << mode << ": " << removed.error().line();
                if (!removed || exists(directory.path("tree"))) return false;
              }
              return true;
            }),
            0);
}

TEST(DiskUsage, A_file_with_several_names_counts_once) {
  const TestDirectory directory;
  std::filesystem::create_directory(directory.path("sub"));
  const auto empty = disk_usage(directory.path());
  directory.write("file", std::string(1'000'000, 'x'));
  ::sync();  // blocks are allocated late
  const auto one = disk_usage(directory.path());
  ASSERT_TRUE(empty.has_value() && one.has_value());
  EXPECT_GE(*one - *empty, 1'000'000U);
  ASSERT_EQ(::link(directory.path("file").c_str(), directory.path("sub/same").c_str()), 0);
  EXPECT_EQ(disk_usage(directory.path()).value(), *one);
}

TEST(DiskUsage, Links_are_not_followed) {
  const TestDirectory directory;
  std::filesystem::create_symlink("/usr", directory.path("usr"));
  EXPECT_LT(disk_usage(directory.path()).value(), 65536U);
}

}  // namespace
}  // namespace updagent::base
