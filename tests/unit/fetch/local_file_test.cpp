// file: URLs.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/unit/fetch/fetch_fixture.hpp"

namespace updagent::fetch::test {
namespace {

using LocalFetch = FetchTest;

TEST_F(LocalFetch, A_file_url_opens_the_file_itself) {
  const std::string path = directory_.write("a b.tar.gz", "content");
  Fetched result;
  EXPECT_EQ(fetched(request("file://" + directory_.path() + "/a%20b.tar.gz"), &result), "content");
  EXPECT_EQ(result.downloaded, 0U);
  EXPECT_TRUE(directory_.names("downloads").empty());
}

TEST_F(LocalFetch, The_head_decides_here_too) {
  directory_.write("file", "0123456789");
  Request wanted = request("file://" + directory_.path() + "/file");
  std::string seen;
  wanted.head_bytes = 4;
  wanted.on_head = [&](std::string_view head) -> base::Result<bool> {
    seen = head;
    return head != "0123";
  };
  const auto result = fetch(wanted);
  ASSERT_TRUE(result);
  EXPECT_EQ(seen, "0123");
  EXPECT_TRUE(result->stopped_early);
  EXPECT_FALSE(result->file);
  wanted.head_bytes = 99;
  EXPECT_EQ(fetched(wanted), "0123456789") << "reading the head does not move the position";
}

TEST_F(LocalFetch, What_is_not_a_regular_file_is_refused_by_kind) {
  ASSERT_EQ(::mkfifo((directory_.path() + "/fifo").c_str(), 0600), 0);
  const auto refusal = [&](const std::string& name) {
    const auto result = fetch(request("file://" + directory_.path() + name));
    EXPECT_FALSE(result);
    return result ? base::Error(base::Code::internal, "") : result.error();
  };
  EXPECT_EQ(refusal("/fifo").got(), "a device, pipe or socket");
  EXPECT_EQ(refusal("").got(), "a directory");
  EXPECT_EQ(refusal("").expected(), "a regular file");
  EXPECT_EQ(refusal("/none").code(), base::Code::fetch_failed);
  EXPECT_NE(refusal("/none").message().find("No such file"), std::string::npos);
}

TEST_F(LocalFetch, A_file_larger_than_allowed_is_refused_with_both_sizes) {
  directory_.write("file", std::string(2000, 'x'));
  Request wanted = request("file://" + directory_.path() + "/file");
  wanted.limits.max_bytes = 1000;
  const auto result = fetch(wanted);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), base::Code::too_large);
  EXPECT_EQ(result.error().expected(), "at most 1000 B");
  EXPECT_EQ(result.error().got(), "1.95 KiB");
}

}  // namespace
}  // namespace updagent::fetch::test
