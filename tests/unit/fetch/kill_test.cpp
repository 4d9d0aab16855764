// What survives a kill, a full disk and a failing one. Each runs this binary as `fetch-child`.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/fetch/fetch_fixture.hpp"

namespace updagent::fetch::test {
namespace {

constexpr std::size_t kSize = 1'000'000;

class KilledFetch : public FetchTest {
 protected:
  KilledFetch() : nginx_("") {
    const std::string path = nginx_.publish("file", file_);
    EXPECT_EQ(std::system(("touch -d yesterday " + path).c_str()), 0);
  }

  void SetUp() override {
    if (!kHasFailpoints) GTEST_SKIP() << "built without failpoints";
  }

  // The child's answer, line by line: readable until it has ended.
  base::UniqueFd start_child(const std::string& options,
                             const std::vector<std::string>& environment) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const base::UniqueFd output(ends[1]);
    child_ = Process(child_command(nginx_.url("file"), downloads(), options), environment, -1,
                     output.get());
    return base::UniqueFd(ends[0]);
  }
  std::string run_child(const std::vector<std::string>& environment) {
    const base::UniqueFd output = start_child("", environment);
    std::string text = read_all(output.get());
    status_ = child_.wait();
    return text;
  }
  bool was_killed() const { return WIFSIGNALED(status_) && WTERMSIG(status_) == SIGKILL; }

  // A fetch in this process afterwards brings the file, and only what was missing.
  void expect_resumed_from(std::uint64_t kept) {
    Fetched result;
    EXPECT_TRUE(same_bytes(fetched(request(nginx_.url("file")), &result), file_));
    EXPECT_EQ(result.resumed_from, kept);
    EXPECT_EQ(result.downloaded, kSize - kept);
  }

  const std::string file_ = content("kill", kSize);
  Nginx nginx_;
  Process child_;
  int status_ = 0;
};

TEST_F(KilledFetch, Killed_midway_it_goes_on_where_it_was) {
  // at 50 kB/s the rest would take the child ten seconds and more
  const base::UniqueFd output = start_child("rate=50000,report_at=1", {});
  char first = 0;
  ASSERT_EQ(::read(output.get(), &first, 1), 1) << "bytes are on disk";
  child_.signal(SIGKILL);
  status_ = child_.wait();
  ASSERT_TRUE(was_killed());
  const std::uint64_t kept = part_size();
  ASSERT_GT(kept, 0U);
  ASSERT_LT(kept, kSize);
  expect_resumed_from(kept);
}

TEST_F(KilledFetch, Killed_at_any_write_it_never_mixes_and_never_stays_stuck) {
  for (const int at : {1, 2, 3, 4, 10, 20}) {
    run_child({"UPDAGENT_FAILPOINTS=sys.write#" + std::to_string(at) + "=kill"});
    EXPECT_TRUE(was_killed()) << at;
  }
  Fetched result;
  EXPECT_TRUE(same_bytes(fetched(request(nginx_.url("file")), &result), file_));
  EXPECT_GT(result.resumed_from, 0U);
  EXPECT_LT(result.downloaded, kSize);
}

TEST_F(KilledFetch, Killed_at_a_sync_or_a_rename_it_can_be_run_again) {
  for (const char* place :
       {"sys.fsync#1", "sys.fsync#2", "sys.fsync#3", "sys.fsync#4", "sys.rename#1"}) {
    run_child({"UPDAGENT_FAILPOINTS=" + std::string(place) + "=kill"});
    EXPECT_TRUE(was_killed()) << place;
    forget(downloads(), nginx_.url("file"));
  }
  run_child({"UPDAGENT_FAILPOINTS=sys.fsync#5=kill"});  // the state is there, the file is whole
  EXPECT_TRUE(same_bytes(fetched(request(nginx_.url("file"))), file_));
}

TEST_F(KilledFetch, A_full_disk_is_said_with_figures_and_what_came_is_kept) {
  const std::string answer = run_child({"UPDAGENT_FAILPOINTS=sys.write#20=ENOSPC"});
  EXPECT_EQ(answer.substr(0, 9), "no_space ") << answer;
  EXPECT_NE(answer.find(" more to fit, got "), std::string::npos) << answer;
  EXPECT_NE(answer.find(" are kept: free some space"), std::string::npos) << answer;
  const std::uint64_t kept = part_size();
  ASSERT_GT(kept, 0U);
  expect_resumed_from(kept);
}

TEST_F(KilledFetch, Bytes_whose_sync_failed_are_not_trusted) {
  // the last fsync of the part file, that of the whole: after the truncation's and the state's two
  const std::string answer = run_child({"UPDAGENT_FAILPOINTS=sys.fsync#4=EIO"});
  EXPECT_EQ(answer.substr(0, 9), "io_error ") << answer;
  EXPECT_EQ(part_size(), 0U);
  expect_resumed_from(0);
}

TEST_F(KilledFetch, After_a_reboot_only_what_was_synced_is_kept) {
  run_child({"UPDAGENT_FAILPOINTS=sys.write#20=ENOSPC", "UPDAGENT_TEST_BOOT_ID=first"});
  const std::uint64_t synced = part_size();  // it syncs when it ends in an error
  ASSERT_GT(synced, 0U);
  run_child({"UPDAGENT_FAILPOINTS=sys.write#5=kill", "UPDAGENT_TEST_BOOT_ID=first"});
  ASSERT_GT(part_size(), synced);
  expect_resumed_from(synced);  // this process runs in another boot
}

}  // namespace
}  // namespace updagent::fetch::test
