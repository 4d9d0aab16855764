// On real small file systems: tmpfs for full disks, btrfs or xfs (if their mkfs is here) for
// reflinks.
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "agent/base/files.hpp"
#include "support.hpp"

namespace updagent::store {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace)
using base::Code;

class Mount {
 public:
  Mount(const std::string& source, const std::string& where, const char* type, const char* options)
      : where_(where) {
    ::mkdir(where.c_str(), 0755);
    mounted_ = ::mount(source.c_str(), where.c_str(), type, 0, options) == 0;
  }
  ~Mount() {
    if (mounted_) ::umount2(where_.c_str(), MNT_DETACH);
  }
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  bool is_mounted() const { return mounted_; }

 private:
  std::string where_;
  bool mounted_ = false;
};

std::string noise(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>((i * 2654435761U) >> 13);
  return text;
}

void expect_still_at(const AppStore& store, const std::string& version) {
  const auto links = store.links();
  ASSERT_TRUE(links) << links.error().line();
  EXPECT_EQ(links->current, version);
  EXPECT_EQ(links->committed, version);
  EXPECT_EQ(damage_of(store, version), "");
}

AppStore store_on(const std::string& mount) {
  auto store = AppStore::open(mount + "/app", "app", true);
  EXPECT_TRUE(store) << store.error().line();
  return std::move(*store);
}

struct FullDisk : ::testing::Test {
  TempDir root;
  std::string place = root / "mount";
};

TEST_F(FullDisk, Too_few_bytes_are_told_before_anything_is_written) {
  const Mount disk("none", place, "tmpfs", "size=1m,mode=755");
  if (!disk.is_mounted()) GTEST_SKIP() << "may not mount here";
  AppStore store = store_on(place);
  ASSERT_TRUE(deploy(store, "1.0.0", release_of("1.0.0", sample_tree()), {}));
  const auto staging = begin(store, release_of("2.0.0", {file("big", noise(1'500'000))}));
  ASSERT_FALSE(staging);
  EXPECT_EQ(staging.error().code(), Code::no_space);
  EXPECT_EQ(staging.error().expected().substr(0, 4), "1.43") << staging.error().line();
  EXPECT_NE(staging.error().got().find("KiB"), std::string::npos) << staging.error().line();
  expect_still_at(store, "1.0.0");
}

TEST_F(FullDisk, Too_few_inodes_are_told_before_anything_is_written) {
  const Mount disk("none", place, "tmpfs", "size=4m,nr_inodes=60,mode=755");
  if (!disk.is_mounted()) GTEST_SKIP() << "may not mount here";
  AppStore store = store_on(place);
  ASSERT_TRUE(deploy(store, "1.0.0", release_of("1.0.0", sample_tree()), {}));
  const auto staging = begin(store, release_of("2.0.0", many_files(60)));
  ASSERT_FALSE(staging);
  EXPECT_EQ(staging.error().code(), Code::no_space);
  EXPECT_NE(staging.error().expected().find(" and 61 inodes"), std::string::npos)
      << staging.error().line();
  expect_still_at(store, "1.0.0");
}

// Somebody else fills the disk after the check.
TEST_F(FullDisk, A_disk_that_fills_up_meanwhile_fails_cleanly_and_discard_frees_it) {
  const Mount disk("none", place, "tmpfs", "size=4m,mode=755");
  if (!disk.is_mounted()) GTEST_SKIP() << "may not mount here";
  AppStore store = store_on(place);
  ASSERT_TRUE(deploy(store, "1.0.0", release_of("1.0.0", sample_tree()), {}));
  for (const std::size_t size :
       {std::size_t{300'000}, std::size_t{2'000'000}}) {  // by write and by fallocate
    const Built built = release_of("2.0.0", {file("big", noise(size))});
    auto staging = begin(store, built);
    ASSERT_TRUE(staging) << staging.error().line();
    write_text(place + "/hog", "");
    const base::UniqueFd hog(::open((place + "/hog").c_str(), O_WRONLY));
    while (::write(hog.get(), noise(4096).data(), 4096) == 4096) {
    }
    const base::Status sent = send_all(**staging, built);
    ASSERT_FALSE(sent);
    EXPECT_EQ(sent.error().code(), Code::no_space) << sent.error().line();
    (*staging)->discard();
    EXPECT_TRUE(base::list_directory(place + "/app/incoming", 10)->empty());
    expect_still_at(store, "1.0.0");
    ASSERT_EQ(::unlink((place + "/hog").c_str()), 0);
  }
}

TEST_F(FullDisk, Remains_of_a_killed_run_that_stand_in_the_way_go) {
  const Mount disk("none", place, "tmpfs", "size=4m,mode=755");
  if (!disk.is_mounted()) GTEST_SKIP() << "may not mount here";
  AppStore store = store_on(place);
  const Built built = release_of("1.0.0", {file("big", noise(2'500'000))});
  {
    auto killed = begin(store, built);
    ASSERT_TRUE(killed);
    ASSERT_TRUE(send_all(**killed, built));
  }
  const base::Status installed = install(store, "1.0.0", built);
  ASSERT_TRUE(installed) << installed.error().line();
  EXPECT_EQ(damage_of(store, "1.0.0"), "");
}

TEST_F(FullDisk, Kept_files_need_no_room_twice) {
  const Mount disk("none", place, "tmpfs", "size=4m,mode=755");
  if (!disk.is_mounted()) GTEST_SKIP() << "may not mount here";
  AppStore store = store_on(place);
  const Recipe recipe = {file("big", noise(2'500'000))};
  ASSERT_TRUE(install(store, "1.0.0", release_of("1.0.0", recipe)));
  EXPECT_EQ(install(store, "2.0.0", release_of("2.0.0", recipe)).error().code(), Code::no_space);
  StagingOptions options;
  options.reuse_from = {"1.0.0"};
  const base::Status installed = install(store, "2.0.0", release_of("2.0.0", recipe), options);
  ASSERT_TRUE(installed) << installed.error().line();
  EXPECT_EQ(damage_of(store, "2.0.0"), "");
}

// --- reflinks
// -------------------------------------------------------------------------------------

class LoopDisk {
 public:
  explicit LoopDisk(const std::string& image) {
    const base::UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    const int number = control ? ::ioctl(control.get(), LOOP_CTL_GET_FREE) : -1;
    const base::UniqueFd backing(::open(image.c_str(), O_RDWR | O_CLOEXEC));
    if (number < 0 || !backing) return;
    name_ = "/dev/loop" + std::to_string(number);
    device_.reset(::open(name_.c_str(), O_RDWR | O_CLOEXEC));
    attached_ = device_ && ::ioctl(device_.get(), LOOP_SET_FD, backing.get()) == 0;
  }
  ~LoopDisk() {
    if (attached_) ::ioctl(device_.get(), LOOP_CLR_FD, 0);
  }
  LoopDisk(const LoopDisk&) = delete;
  LoopDisk& operator=(const LoopDisk&) = delete;
  bool is_attached() const { return attached_; }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  base::UniqueFd device_;
  bool attached_ = false;
};

bool make_image(const std::string& image, const char* mkfs) {
  constexpr off_t kBytes = 320LL << 20;  // xfs makes none below 300 MB
  const base::UniqueFd file(::open(image.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file || ::ftruncate(file.get(), kBytes) != 0) return false;
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    const base::UniqueFd quiet(::open("/dev/null", O_WRONLY));
    ::dup2(quiet.get(), STDOUT_FILENO);
    ::dup2(quiet.get(), STDERR_FILENO);
    ::execlp(mkfs, mkfs, image.c_str(), nullptr);
    ::_exit(127);
  }
  int status = 0;
  return ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

struct Reflink : ::testing::TestWithParam<const char*> {
  TempDir root;
};

TEST_P(Reflink, Unchanged_files_share_blocks_but_no_inode_and_damage_is_found_in_the_clone) {
  const std::string type = GetParam();
  if (!make_image(root / "image", ("mkfs." + type).c_str())) GTEST_SKIP() << "no mkfs." << type;
  const LoopDisk disk(root / "image");
  if (!disk.is_attached()) GTEST_SKIP() << "no loop devices";
  const Mount mounted(disk.name(), root / "mount", type.c_str(), "");
  if (!mounted.is_mounted()) GTEST_SKIP() << "may not mount " << type;
  AppStore store = store_on(root / "mount");
  const Recipe recipe = {file("big", noise(500'000)), file("bad", noise(100'000)),
                         file("touched", noise(70'000))};
  ASSERT_TRUE(install(store, "1.0.0", release_of("1.0.0", recipe)));
  write_text(store.path("1.0.0") + "/bad", noise(100'000).replace(5, 1, "!"));
  StagingOptions options;
  options.reuse_from = {"1.0.0"};
  StagingReport report;
  const Built built =
      release_of("2.0.0", with(recipe, file("touched", noise(70'000), 0755, 12345)));
  const base::Status installed = install(store, "2.0.0", built, options, &report);
  ASSERT_TRUE(installed) << installed.error().line();
  EXPECT_EQ(report.cloned_files, 2U);
  EXPECT_EQ(report.linked_files, 0U);
  EXPECT_EQ(report.written_bytes, 100'000U);
  ASSERT_EQ(report.damaged_kept.size(), 1U);
  EXPECT_EQ(report.damaged_kept[0].substr(0, 10), "1.0.0/bad:");
  EXPECT_NE(stat_of(store.path("1.0.0") + "/big").st_ino,
            stat_of(store.path("2.0.0") + "/big").st_ino);
  EXPECT_EQ(stat_of(store.path("2.0.0") + "/touched").st_mtim.tv_sec, 12345);
  EXPECT_EQ(damage_of(store, "2.0.0"), "");
}

INSTANTIATE_TEST_SUITE_P(FileSystems, Reflink, ::testing::Values("btrfs", "xfs"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace updagent::store
