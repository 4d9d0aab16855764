#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/base/files.hpp"
#include "fake_clone.hpp"
#include "support.hpp"

namespace updagent::store {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace)

// The tests of links are about file systems without reflinks; file_system_test.cpp has the others.
bool has_reflinks(const TempDir& root) {
  write_text(root / "probe", "x");
  const base::UniqueFd from(::open((root / "probe").c_str(), O_RDONLY));
  const base::UniqueFd into(::open((root / "probe2").c_str(), O_RDWR | O_CREAT, 0600));
  return ::ioctl(into.get(), FICLONE, from.get()) == 0;
}

struct ReuseTest : ::testing::Test {
  void SetUp() override {
    if (has_reflinks(root)) GTEST_SKIP() << "files are cloned here";
    install_first();
  }
  void install_first() {
    const base::Status installed = install(store, "1.0.0", release_of("1.0.0", sample_tree()));
    ASSERT_TRUE(installed) << installed.error().line();
  }
  StagingReport install_reusing(const std::string& version, const Recipe& recipe,
                                std::vector<std::string> from = {"1.0.0"}) {
    StagingOptions options;
    options.reuse_from = std::move(from);
    StagingReport report;
    const base::Status installed =
        install(store, version, release_of(version, recipe), options, &report);
    EXPECT_TRUE(installed) << installed.error().line();
    EXPECT_EQ(damage_of(store, version), "");
    return report;
  }
  bool same_inode(const std::string& a, const std::string& b) const {
    return stat_of(root / ("app/releases/" + a)).st_ino ==
           stat_of(root / ("app/releases/" + b)).st_ino;
  }
  TempDir root;
  AppStore store = open_store(root);
};

TEST_F(ReuseTest, Unchanged_files_are_linked_and_the_changed_one_is_written) {
  const StagingReport report =
      install_reusing("2.0.0", with(sample_tree(), file("lib/a.js", "new", 0644, 1'600'000'000)));
  EXPECT_TRUE(same_inode("1.0.0/bin/tool", "2.0.0/bin/tool"));
  EXPECT_FALSE(same_inode("1.0.0/lib/a.js", "2.0.0/lib/a.js"));
  EXPECT_EQ(report.linked_files, 1U);
  EXPECT_EQ(report.reused_files, 1U);
  EXPECT_EQ(report.reused_bytes, 19U);
  EXPECT_EQ(report.written_bytes, 3U);
  EXPECT_TRUE(report.damaged_kept.empty());
  EXPECT_EQ(damage_of(store, "1.0.0"), "");
}

TEST_F(ReuseTest, A_file_that_moved_is_found_by_its_digest) {
  Recipe recipe = sample_tree();
  recipe.push_back(file("bin/renamed", "#!/bin/sh\necho one\n", 0755));
  const StagingReport report = install_reusing("2.0.0", recipe);
  EXPECT_TRUE(same_inode("1.0.0/bin/tool", "2.0.0/bin/renamed"));
  EXPECT_EQ(report.linked_files, 3U);
}

TEST_F(ReuseTest, Another_mtime_or_mode_is_written_anew_and_the_kept_file_keeps_its_own) {
  const Recipe recipe =
      with(with(sample_tree(), file("bin/tool", "#!/bin/sh\necho one\n", 0755, 1'700'000'001)),
           file("lib/a.js", "console.log('a')\n", 0755, 1'600'000'000));
  const StagingReport report = install_reusing("2.0.0", recipe);
  EXPECT_EQ(report.linked_files, 0U);
  EXPECT_EQ(report.written_bytes, 19U + 17U);
  EXPECT_EQ(stat_of(root / "app/releases/2.0.0/bin/tool").st_mtim.tv_sec, 1'700'000'001);
  EXPECT_EQ(stat_of(root / "app/releases/1.0.0/bin/tool").st_mtim.tv_sec, 1'700'000'000);
  EXPECT_EQ(stat_of(root / "app/releases/1.0.0/lib/a.js").st_mode & 07777U, 0444U);
  EXPECT_EQ(damage_of(store, "1.0.0"), "");
}

TEST_F(ReuseTest, A_kept_file_that_somebody_touched_or_chmodded_is_not_linked) {
  const std::string kept = root / "app/releases/1.0.0/bin/tool";
  ASSERT_EQ(::chmod(kept.c_str(), 0755), 0);
  const timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (root / "app/releases/1.0.0/lib/a.js").c_str(), now, 0), 0);
  EXPECT_EQ(install_reusing("2.0.0", sample_tree()).linked_files, 0U);
}

TEST_F(ReuseTest, A_kept_file_with_another_owner_is_not_linked) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  ASSERT_EQ(::chown((root / "app/releases/1.0.0/bin/tool").c_str(), 12345, 12345), 0);
  EXPECT_EQ(install_reusing("2.0.0", sample_tree()).linked_files, 1U);
  EXPECT_FALSE(same_inode("1.0.0/bin/tool", "2.0.0/bin/tool"));
}

TEST_F(ReuseTest, Capabilities_given_to_a_kept_file_do_not_come_along) {
  const unsigned char data[20] = {1, 0, 0, 2, 0, 4};  // struct vfs_cap_data, version 2
  const std::string kept = root / "app/releases/1.0.0/bin/tool";
  if (::setxattr(kept.c_str(), "security.capability", data, sizeof data, 0) != 0)
    GTEST_SKIP() << "no file capabilities here";
  install_reusing("2.0.0", sample_tree());
  EXPECT_FALSE(same_inode("1.0.0/bin/tool", "2.0.0/bin/tool"));
  EXPECT_LT(
      ::getxattr((root / "app/releases/2.0.0/bin/tool").c_str(), "security.capability", nullptr, 0),
      0);
}

TEST_F(ReuseTest, A_damaged_kept_file_is_not_taken_and_is_named) {
  const std::string kept = root / "app/releases/1.0.0/bin/tool";
  const struct stat before = stat_of(kept);
  write_text(kept, "#!/bin/sh\necho bad\n");  // same size, mode and time: only the hash can tell
  ASSERT_EQ(::chmod(kept.c_str(), 0555), 0);
  const timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, kept.c_str(), times, 0), 0);
  const StagingReport report = install_reusing("2.0.0", sample_tree());
  EXPECT_EQ(read_text(root / "app/releases/2.0.0/bin/tool"), "#!/bin/sh\necho one\n");
  ASSERT_EQ(report.damaged_kept.size(), 1U);
  EXPECT_EQ(report.damaged_kept[0], "1.0.0/bin/tool: expected sha256 " +
                                        base::sha256("#!/bin/sh\necho one\n").hex() + ", got " +
                                        base::sha256("#!/bin/sh\necho bad\n").hex());
  EXPECT_EQ(report.written_bytes, 19U);
}

TEST_F(ReuseTest, A_kept_file_that_is_gone_cut_off_or_a_link_is_not_taken_and_is_named) {
  const std::string kept = root / "app/releases/1.0.0";
  ASSERT_EQ(::unlink((kept + "/bin/tool").c_str()), 0);
  ASSERT_EQ(::symlink("/etc/hostname", (kept + "/bin/tool").c_str()), 0);
  ASSERT_EQ(::truncate((kept + "/lib/a.js").c_str(), 3), 0);
  const StagingReport report = install_reusing("2.0.0", sample_tree());
  EXPECT_EQ(report.reused_files, 0U);
  EXPECT_GE(report.damaged_kept.size(), 1U);
  EXPECT_EQ(read_text(root / "app/releases/2.0.0/bin/tool"), "#!/bin/sh\necho one\n");
}

TEST_F(ReuseTest, A_release_whose_manifest_is_gone_is_no_source) {
  ASSERT_EQ(::unlink((root / "app/releases/1.0.0/.updagent/manifest.json").c_str()), 0);
  const StagingReport report = install_reusing("2.0.0", sample_tree());
  EXPECT_EQ(report.reused_files, 0U);
  ASSERT_EQ(report.damaged_kept.size(), 1U);
  EXPECT_EQ(report.damaged_kept[0].substr(0, 7), "1.0.0: ");
}

TEST_F(ReuseTest, Two_releases_are_sources_a_third_is_not) {
  install_reusing("2.0.0", {file("two", "only in 2")}, {});
  install_reusing("3.0.0", {file("three", "only in 3")}, {});
  const Recipe all = {folder("bin"), file("bin/tool", "#!/bin/sh\necho one\n", 0755),
                      file("two", "only in 2"), file("three", "only in 3")};
  const StagingReport report = install_reusing("4.0.0", all, {"3.0.0", "2.0.0", "1.0.0"});
  EXPECT_TRUE(same_inode("2.0.0/two", "4.0.0/two"));
  EXPECT_TRUE(same_inode("3.0.0/three", "4.0.0/three"));
  EXPECT_FALSE(same_inode("1.0.0/bin/tool", "4.0.0/bin/tool"));
  EXPECT_EQ(report.linked_files, 2U);
}

TEST_F(ReuseTest, Removing_the_kept_release_leaves_the_new_one_whole) {
  install_reusing("2.0.0", sample_tree());
  ASSERT_TRUE(store.remove("1.0.0"));
  EXPECT_EQ(damage_of(store, "2.0.0"), "");
}

// --- where files can be cloned
// ---------------------------------------------------------------------

struct CloneTest : ReuseTest {
  void SetUp() override { install_first(); }
  FakeClone clone;
};

TEST_F(CloneTest, A_clone_has_an_inode_of_its_own_so_mode_and_time_may_differ) {
  const StagingReport report = install_reusing(
      "2.0.0", with(sample_tree(), file("bin/tool", "#!/bin/sh\necho one\n", 0700, 12'345)));
  EXPECT_EQ(report.cloned_files, 2U);
  EXPECT_EQ(report.linked_files, 0U);
  EXPECT_EQ(report.reused_bytes, 19U + 17U);
  EXPECT_EQ(report.written_bytes, 0U);
  EXPECT_FALSE(same_inode("1.0.0/lib/a.js", "2.0.0/lib/a.js"));
  EXPECT_EQ(stat_of(root / "app/releases/2.0.0/bin/tool").st_mode & 07777U, 0500U);
  EXPECT_EQ(stat_of(root / "app/releases/2.0.0/bin/tool").st_mtim.tv_sec, 12'345);
  EXPECT_EQ(damage_of(store, "1.0.0"), "");
}

TEST_F(CloneTest, A_clone_of_a_damaged_file_is_dropped_and_written_anew) {
  write_text(root / "app/releases/1.0.0/bin/tool", "#!/bin/sh\necho bad\n");
  const StagingReport report = install_reusing("2.0.0", sample_tree());
  EXPECT_EQ(report.cloned_files, 1U);
  EXPECT_EQ(report.written_bytes, 19U);
  ASSERT_EQ(report.damaged_kept.size(), 1U);
  EXPECT_EQ(report.damaged_kept[0].substr(0, 15), "1.0.0/bin/tool:");
  EXPECT_EQ(read_text(root / "app/releases/2.0.0/bin/tool"), "#!/bin/sh\necho one\n");
}

TEST_F(CloneTest, A_clone_that_fails_is_written_anew) {
  const int before = clone.clones();
  clone.fail_from(3);  // the first is the try of begin()
  const StagingReport report = install_reusing("2.0.0", sample_tree());
  EXPECT_EQ(clone.clones() - before, 2);
  EXPECT_EQ(report.cloned_files, 1U);
  EXPECT_EQ(report.written_bytes, 17U);
}

// --- a killed run's own tree
// ----------------------------------------------------------------------

struct ResumeTest : ::testing::Test {
  // Entries [0, count) arrive, then the run ends as if killed.
  void cut_off_after(std::size_t count) {
    auto staging = begin(store, built);
    ASSERT_TRUE(staging) << staging.error().line();
    for (std::size_t i = 0; i < count; ++i)
      ASSERT_TRUE(send(**staging, built.items[i], built.items));
  }
  StagingReport resume() {
    StagingReport report;
    const base::Status installed = install(store, "1.0.0", built, {}, &report);
    EXPECT_TRUE(installed) << installed.error().line();
    EXPECT_EQ(damage_of(store, "1.0.0"), "");
    EXPECT_TRUE(base::list_directory(root / "app/incoming", 10)->empty());
    return report;
  }
  std::string left(const std::string& path) const {
    return root / ("app/incoming/" + built.digest.hex() + "/" + path);
  }
  TempDir root;
  AppStore store = open_store(root);
  Built built = release_of("1.0.0", sample_tree());
};

TEST_F(ResumeTest, What_was_unpacked_is_not_written_again) {
  cut_off_after(4);
  const ino_t tool = stat_of(left("bin/tool")).st_ino;
  const StagingReport report = resume();
  EXPECT_EQ(report.reused_files, 2U);
  EXPECT_EQ(report.reused_bytes, 19U + 17U);
  EXPECT_EQ(report.written_bytes, 0U);
  EXPECT_EQ(report.linked_files, 0U);
  EXPECT_EQ(stat_of(store.path("1.0.0") + "/bin/tool").st_ino, tool);
  EXPECT_EQ(stat_of(store.path("1.0.0") + "/bin/tool").st_nlink, 1U);
}

TEST_F(ResumeTest, A_damaged_or_cut_off_remain_is_written_again_without_a_word) {
  cut_off_after(4);
  write_text(left("bin/tool"), "#!/bin/sh\necho bad\n");
  ASSERT_EQ(::truncate(left("lib/a.js").c_str(), 5), 0);
  const StagingReport report = resume();
  EXPECT_EQ(report.reused_files, 0U);
  EXPECT_EQ(report.written_bytes, 19U + 17U);
  EXPECT_TRUE(report.damaged_kept.empty());
}

TEST_F(ResumeTest, A_link_in_the_remains_is_not_followed) {
  cut_off_after(2);
  write_text(root / "same", "#!/bin/sh\necho one\n");
  ASSERT_EQ(::unlink(left("bin/tool").c_str()), 0);
  ASSERT_EQ(::symlink((root / "same").c_str(), left("bin/tool").c_str()), 0);
  EXPECT_EQ(resume().reused_files, 0U);
}

TEST_F(ResumeTest, A_second_cut_does_not_lose_what_the_first_had) {
  cut_off_after(4);
  cut_off_after(2);  // shorter than the first: the first one's tree stays the source
  EXPECT_EQ(resume().reused_files, 2U);
}

TEST_F(ResumeTest, A_remain_that_a_kept_release_shares_is_not_changed) {
  ASSERT_TRUE(install(store, "0.9.0", release_of("0.9.0", sample_tree())));
  cut_off_after(1);
  // as if a run that was killed had linked it and then died: other mode and time than the new one's
  ASSERT_EQ(::link((store.path("0.9.0") + "/lib/a.js").c_str(), left("bin/tool").c_str()), 0);
  const struct stat before = stat_of(store.path("0.9.0") + "/lib/a.js");
  built = release_of("1.0.0", with(sample_tree(), file("bin/tool", "console.log('a')\n", 0755)));
  const std::string other = root / ("app/incoming/" + built.digest.hex());
  const std::string mine =
      root / ("app/incoming/" + release_of("1.0.0", sample_tree()).digest.hex());
  ASSERT_EQ(::rename(mine.c_str(), other.c_str()), 0);
  const StagingReport report = resume();
  EXPECT_EQ(report.written_bytes, 2 * 17U);
  EXPECT_EQ(stat_of(store.path("0.9.0") + "/lib/a.js").st_mode, before.st_mode);
  EXPECT_EQ(damage_of(store, "0.9.0"), "");
}

}  // namespace
}  // namespace updagent::store
