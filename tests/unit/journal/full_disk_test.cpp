#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "agent/base/files.hpp"
#include "tests/unit/journal/support.hpp"

namespace updagent::journal::testing {
namespace {

using base::Code;

// A disk of its own that can be full.
class SmallDisk {
 public:
  explicit SmallDisk(const std::string& size) {
    mounted_ = ::mount("tmpfs", path().c_str(), "tmpfs", 0, ("mode=755,size=" + size).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path().c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }
  const std::string& path() const { return directory_.path(); }
  bool resize(const std::string& size) const {
    return ::mount("tmpfs", path().c_str(), "tmpfs", MS_REMOUNT, ("size=" + size).c_str()) == 0;
  }
  // Takes what is left, in steps that leave less than a page.
  void fill() const {
    std::ofstream filler(filler_path(), std::ios::binary | std::ios::app);
    const std::string page(4096, 'x');
    while (filler.write(page.data(), static_cast<std::streamsize>(page.size())).flush()) {
    }
  }
  void empty() const { std::filesystem::remove(filler_path()); }

 private:
  std::string filler_path() const { return path() + "/filler"; }
  TempDirectory directory_;
  bool mounted_ = false;
};

TEST(FullDisk, A_record_that_does_not_fit_says_so_and_the_log_stays_whole) {
  const SmallDisk disk("1m");
  if (!disk.mounted()) GTEST_SKIP() << "cannot mount a tmpfs: " << std::strerror(errno);
  Journal journal = open_journal(disk.path());
  EXPECT_FALSE(std::filesystem::exists(paths_in(disk.path()).reserve)) << "no room for it";
  std::int64_t recorded = 0;
  base::Status status;
  constexpr int kMoreThanFits = 2000;
  while (recorded < kMoreThanFits) {
    status = journal.record(std::vector{sample_event(recorded)});
    if (!status) break;
    ++recorded;
  }
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code(), Code::no_space) << status.error().line();
  EXPECT_GT(recorded, 0);
  EXPECT_EQ(must(journal.verify(std::nullopt)).problem, "");
  EXPECT_EQ(must(journal.head()).count, recorded);

  ASSERT_TRUE(disk.resize("16m"));
  record_events(journal, 1);
  const VerifyReport report = must(journal.verify(std::nullopt));
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.events, recorded + 1);
}

TEST(FullDisk, A_journal_opens_on_a_full_disk) {
  const SmallDisk disk("2m");
  if (!disk.mounted()) GTEST_SKIP() << "cannot mount a tmpfs: " << std::strerror(errno);
  {
    Journal journal = open_journal(disk.path());
    record_events(journal, 3);
  }
  must(spool(paths_in(disk.path()), "node-1", std::vector{sample_event(9)}, nullptr, nullptr,
             nullptr));
  disk.fill();
  Journal journal = open_journal(disk.path());
  EXPECT_GE(all_events(journal).size(), 3U);
  EXPECT_EQ(must(journal.verify(std::nullopt)).problem, "");
}

TEST(FullDisk, A_new_journal_that_does_not_fit_is_an_error_and_can_be_made_later) {
  const SmallDisk disk("1m");
  if (!disk.mounted()) GTEST_SKIP() << "cannot mount a tmpfs: " << std::strerror(errno);
  disk.fill();
  const auto refused = try_open(disk.path(), Journal::Mode::read_write);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::no_space) << refused.error().line();
  disk.empty();
  Journal journal = open_journal(disk.path());
  record_events(journal, 1);
  EXPECT_EQ(must(journal.verify(std::nullopt)).problem, "");
}

TEST(FullDisk, The_spool_gets_the_reserve_and_the_journal_gets_the_events_later) {
  const SmallDisk disk("20m");
  if (!disk.mounted()) GTEST_SKIP() << "cannot mount a tmpfs: " << std::strerror(errno);
  const Paths paths = paths_in(disk.path());
  Journal journal = open_journal(disk.path());
  ASSERT_TRUE(std::filesystem::exists(paths.reserve));
  disk.fill();
  base::Status refused;
  for (int i = 0; i < 2000 && refused; ++i) refused = journal.record(std::vector{sample_event(i)});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::no_space) << refused.error().line();
  const std::int64_t recorded = must(journal.head()).count;

  for (int i = 0; i < 30; ++i)
    must(spool(paths, "node-1", std::vector{sample_event(5000 + i)}, nullptr, nullptr, nullptr));
  EXPECT_FALSE(std::filesystem::exists(paths.reserve));

  disk.empty();
  Journal next = open_journal(disk.path());
  EXPECT_TRUE(next.take_warnings().empty());
  EXPECT_TRUE(std::filesystem::exists(paths.reserve));
  const VerifyReport report = must(next.verify(std::nullopt));
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.events, recorded + 60);  // and a note for each file
}

TEST(FullDisk, A_spool_without_a_reserve_says_that_there_is_no_space) {
  const SmallDisk disk("1m");
  if (!disk.mounted()) GTEST_SKIP() << "cannot mount a tmpfs: " << std::strerror(errno);
  disk.fill();
  const auto refused = spool(paths_in(disk.path()), "node-1", std::vector{sample_event()}, nullptr,
                             nullptr, nullptr);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::no_space);
}

}  // namespace
}  // namespace updagent::journal::testing
