#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/files.hpp"
#include "support.hpp"

namespace updagent::store {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace)
using base::Milliseconds;

constexpr Milliseconds kWeek{7LL * 24 * 3600 * 1000};
constexpr std::uint64_t kPlenty = 1ULL << 40;

struct Sweep : ::testing::Test {
  std::string incoming(const std::string& name) const { return root / ("app/incoming/" + name); }
  void leave(const std::string& name, std::int64_t age_seconds, std::size_t bytes = 10) const {
    ASSERT_EQ(::mkdir(incoming(name).c_str(), 0700), 0);
    write_text(incoming(name) + "/part", std::string(bytes, 'x'));
    const timespec then{static_cast<time_t>(base::wall_now_us() / 1'000'000 - age_seconds), 0};
    const timespec times[2] = {then, then};
    ASSERT_EQ(::utimensat(AT_FDCWD, incoming(name).c_str(), times, 0), 0);
  }
  std::vector<std::string> left() const {
    return *base::list_directory(root / "app/incoming", 100);
  }

  TempDir root;
  AppStore store = open_store(root);
};

TEST_F(Sweep, What_is_of_use_to_nobody_goes_at_once) {
  leave(".removed-1.0.0-aa", 1);
  leave(".dry-bb", 1);
  write_text(incoming(".envelope-cc"), "{}");
  leave("digest", 1);
  ASSERT_EQ(::symlink("releases/1", (root / "app/.current.new").c_str()), 0);
  ASSERT_EQ(::symlink("releases/1", (root / "app/.committed.new").c_str()), 0);
  ASSERT_EQ(::mkdir((root / "app/.data.new").c_str(), 0700), 0);
  const base::Status swept = store.sweep(kWeek, kPlenty, "");
  ASSERT_TRUE(swept) << swept.error().line();
  EXPECT_EQ(left(), std::vector<std::string>{"digest"});
  EXPECT_EQ(*base::list_directory(root / "app", 100),
            (std::vector<std::string>{"incoming", "releases"}));
}

TEST_F(Sweep, What_is_too_old_goes_but_not_what_is_kept) {
  leave("aaaa", 8 * 24 * 3600);
  leave("bbbb", 8 * 24 * 3600);
  leave("bbbb.left", 9 * 24 * 3600);
  leave("bbbbb", 9 * 24 * 3600);
  leave("cccc", 3600);
  ASSERT_TRUE(store.sweep(kWeek, kPlenty, "bbbb"));
  EXPECT_EQ(left(), (std::vector<std::string>{"bbbb", "bbbb.left", "cccc"}));
}

TEST_F(Sweep, Past_the_bound_the_oldest_go_first_but_not_what_is_kept) {
  constexpr std::size_t kSize = 100'000;
  leave("kept", 5000, kSize);
  leave("old", 4000, kSize);
  leave("middle", 3000, kSize);
  leave("new", 2000, kSize);
  ASSERT_TRUE(store.sweep(kWeek, 2 * kSize + kSize / 2 + 20'000, "kept"));
  EXPECT_EQ(left(), (std::vector<std::string>{"kept", "new"}));
}

}  // namespace
}  // namespace updagent::store
