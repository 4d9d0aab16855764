// forget() and sweep().
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "agent/base/files.hpp"
#include "agent/fetch/part_file.hpp"
#include "agent/fetch/url.hpp"
#include "tests/unit/fetch/fetch_fixture.hpp"

namespace updagent::fetch::test {
namespace {

using base::Milliseconds;

constexpr Milliseconds kDay{24 * 3600 * 1000};
constexpr std::uint64_t kNoLimit = UINT64_MAX;

class Downloads : public testing::Test {
 protected:
  static std::string key(char c) { return std::string(64, c); }

  // A part of `bytes` with its state, touched `age` ago.
  void leave(char name, std::size_t bytes, Milliseconds age) {
    directory_.write("d/" + key(name) + ".json", "{}");
    touch(directory_.write("d/" + key(name) + ".part", std::string(bytes, 'x')), age);
  }
  static void touch(const std::string& path, Milliseconds age) {
    timeval at{};
    at.tv_sec = (base::wall_now_us() / 1000 - age.count()) / 1000;
    const timeval both[2] = {at, at};
    ASSERT_EQ(::utimes(path.c_str(), both), 0);
  }
  bool has(char name) const {
    const bool part = base::exists(directory_.path() + "/d/" + key(name) + ".part");
    EXPECT_EQ(part, base::exists(directory_.path() + "/d/" + key(name) + ".json"));
    return part;
  }
  base::Status sweep_now(Milliseconds older_than, std::uint64_t max_bytes) const {
    return sweep(directory_.path() + "/d", older_than, max_bytes);
  }

  TemporaryDirectory directory_;
};

TEST_F(Downloads, Sweep_removes_what_nobody_touched_for_long) {
  leave('a', 10, 3 * kDay);
  leave('b', 10, kDay / 2);
  ASSERT_TRUE(sweep_now(kDay, kNoLimit));
  EXPECT_FALSE(has('a'));
  EXPECT_TRUE(has('b'));
}

TEST_F(Downloads, Sweep_removes_the_oldest_until_the_rest_fits) {
  constexpr std::size_t kSize = 1 << 20;
  leave('a', kSize, 3 * Milliseconds(60'000));
  leave('b', kSize, 2 * Milliseconds(60'000));
  leave('c', kSize, 1 * Milliseconds(60'000));
  ASSERT_TRUE(sweep_now(kDay, kSize * 3 / 2));
  EXPECT_FALSE(has('a'));
  EXPECT_FALSE(has('b'));
  EXPECT_TRUE(has('c'));
}

TEST_F(Downloads, Sweep_never_removes_what_a_running_fetch_has_locked) {
  leave('a', 10, 3 * kDay);
  const std::string path = directory_.path() + "/d/" + key('a') + ".part";
  {
    const auto held = base::open_path(path, O_RDWR);
    ASSERT_EQ(::flock(held->get(), LOCK_EX), 0);
    ASSERT_TRUE(sweep_now(kDay, 0));
    EXPECT_TRUE(has('a'));
  }
  ASSERT_TRUE(sweep_now(kDay, 0));
  EXPECT_FALSE(has('a'));
}

TEST_F(Downloads, Sweep_removes_strays_of_its_own_and_nothing_else) {
  directory_.write("d/" + key('a') + ".json", "{}");  // its part is gone
  const std::string leftover = "d/." + key('b') + ".json.123.new";
  touch(directory_.write(leftover, "{"), 3 * kDay);
  directory_.write("d/." + key('c') + ".json.124.new", "{");  // someone may be writing it
  touch(directory_.write("d/notes.part", "x"), 9 * kDay);
  touch(directory_.write("d/README", "x"), 9 * kDay);
  ASSERT_TRUE(sweep_now(kDay, 0));
  EXPECT_EQ(directory_.names("d"),
            (std::vector<std::string>{"." + key('c') + ".json.124.new", "README", "notes.part"}));
}

TEST_F(Downloads, Sweep_of_a_directory_that_is_not_there_is_fine) {
  EXPECT_TRUE(sweep(directory_.path() + "/none", kDay, 0));
}

TEST_F(Downloads, Forget_removes_part_and_state_of_one_url) {
  const std::string d = directory_.path() + "/d";
  const std::string url = "https://karl:s3cret@h.example/file";
  for (const char* each : {"https://h.example/file", "https://h.example/other"}) {
    auto part = PartFile::open(d, storage_key(*parse_url(each)));
    ASSERT_TRUE(part);
    ASSERT_TRUE(part->start_over({"\"v\"", "", {}}));
  }
  ASSERT_EQ(directory_.names("d").size(), 4U);
  forget(d, url);
  EXPECT_EQ(directory_.names("d").size(), 2U);
  forget(d, url);  // absent is fine
  forget(d, "not a URL");
  forget(directory_.path() + "/none", url);
  EXPECT_EQ(directory_.names("d").size(), 2U);
}

TEST_F(Downloads, Forget_does_not_disturb_who_still_reads_the_file) {
  const std::string d = directory_.path() + "/d";
  auto part = PartFile::open(d, storage_key(*parse_url("https://h/file")));
  ASSERT_TRUE(part);
  ASSERT_TRUE(part->start_over({"\"v\"", "", {}}));
  ASSERT_TRUE(part->append("hello"));
  forget(d, "https://h/file");
  EXPECT_EQ(*part->head(9), "hello");
  ASSERT_TRUE(part->append(" again"));
  ASSERT_TRUE(part->checkpoint());
  EXPECT_TRUE(directory_.names("d").empty()) << "no state for a file without a name";
}

}  // namespace
}  // namespace updagent::fetch::test
