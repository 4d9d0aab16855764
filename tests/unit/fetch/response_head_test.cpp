#include "agent/fetch/response_head.hpp"

#include <gtest/gtest.h>

namespace updagent::fetch {
namespace {

ResponseHead head_of(std::initializer_list<const char*> lines) {
  ResponseHead head;
  for (const char* line : lines) head.take_line(std::string(line) + "\r\n");
  return head;
}

TEST(ResponseHead, Fields_are_found_in_any_case_and_trimmed) {
  const ResponseHead head = head_of({"HTTP/1.1 206 Partial Content", "content-length:  12 ",
                                     "CONTENT-RANGE: bytes 3-14/15", "ETag: \"v1\"", ""});
  EXPECT_EQ(head.status, 206);
  EXPECT_EQ(head.content_length, 12U);
  EXPECT_EQ(head.content_range, "bytes 3-14/15");
  EXPECT_EQ(head.etag, "\"v1\"");
}

TEST(ResponseHead, The_last_response_counts_and_nothing_of_the_one_before) {
  const ResponseHead head =
      head_of({"HTTP/1.1 103 Early Hints", "ETag: \"old\"", "", "HTTP/2 200", "Date: x", ""});
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.etag, "");
  EXPECT_EQ(head.date, "x");
}

TEST(ResponseHead, A_trailer_changes_nothing) {
  const ResponseHead head = head_of({"HTTP/1.1 200 OK", "ETag: \"a\"", "", "ETag: \"b\""});
  EXPECT_EQ(head.etag, "\"a\"");
}

TEST(ResponseHead, Odd_lines_are_ignored) {
  const ResponseHead head =
      head_of({"HTTP/1.1 abc", "no colon", ": no name", "Content-Length: -5", ""});
  EXPECT_EQ(head.status, 0);
  EXPECT_FALSE(head.content_length);
  EXPECT_EQ(head_of({"HTTP/1.1"}).status, 0);
  EXPECT_EQ(head_of({"HTTP/1.1 99"}).status, 0);
}

TEST(ContentRange, All_three_forms_are_read) {
  const auto full = parse_content_range("bytes 100-199/1000");
  ASSERT_TRUE(full);
  EXPECT_EQ(full->first, 100U);
  EXPECT_EQ(full->last, 199U);
  EXPECT_EQ(full->total, 1000U);
  EXPECT_FALSE(parse_content_range("bytes 100-199/*")->total);
  EXPECT_EQ(parse_content_range("bytes */1000")->total, 1000U);
  EXPECT_FALSE(parse_content_range("bytes */1000")->first);
}

TEST(ContentRange, What_makes_no_sense_is_nothing) {
  for (const char* text :
       {"", "bytes", "bytes ", "bytes 1-2", "items 1-2/3", "bytes 5-2/10", "bytes 5-10/10",
        "bytes */*", "bytes -5/10", "bytes 1-/10", "bytes 1-2/x", "bytes 99999999999999999999-1/2"})
    EXPECT_FALSE(parse_content_range(text)) << text;
}

ResponseHead with(const char* etag, const char* last_modified, const char* date) {
  ResponseHead head;
  head.etag = etag;
  head.last_modified = last_modified;
  head.date = date;
  return head;
}

TEST(Version, A_strong_entity_tag_is_the_validator) {
  EXPECT_EQ(version_of(with("\"a-1\"", "", "")).etag, "\"a-1\"");
  for (const char* bad : {"W/\"a\"", "a", "\"", "\"a", "\"a\" b\"", "\"\x80\"", "\"a\tb\""})
    EXPECT_FALSE(version_of(with(bad, "", "")).has_validator()) << bad;
  const std::string long_tag = "\"" + std::string(kMaxValidatorBytes, 'a') + "\"";
  EXPECT_FALSE(version_of(with(long_tag.c_str(), "", "")).has_validator());
}

TEST(Version, Last_modified_counts_only_a_minute_before_date_and_without_any_entity_tag) {
  const char* modified = "Mon, 17 Aug 2026 09:30:00 GMT";
  const char* at_once = "Mon, 17 Aug 2026 09:30:59 GMT";
  const char* later = "Mon, 17 Aug 2026 09:31:00 GMT";
  EXPECT_EQ(version_of(with("", modified, later)).last_modified, modified);
  EXPECT_FALSE(version_of(with("", modified, at_once)).has_validator());
  EXPECT_FALSE(version_of(with("", modified, "")).has_validator());
  EXPECT_FALSE(version_of(with("", later, modified)).has_validator());
  // RFC 9110 13.1.5: no date when there is an entity tag, even a weak one
  EXPECT_FALSE(version_of(with("W/\"a\"", modified, later)).has_validator());
  EXPECT_EQ(version_of(with("\"a\"", modified, later)).last_modified, "");
}

}  // namespace
}  // namespace updagent::fetch
