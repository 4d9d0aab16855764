#include "agent/fetch/url.hpp"

#include <gtest/gtest.h>

#include "agent/fetch/fetch.hpp"

namespace updagent::fetch {
namespace {

TEST(Url, Sources_with_a_scheme_of_ours_are_urls) {
  for (const char* yes : {"https://h/x", "http://h/x", "HTTPS://h/x", "file:///x"})
    EXPECT_TRUE(is_url(yes)) << yes;
  for (const char* no : {"release.tar.gz", "/x", "-", "", "httpsx", "ftp://h/x", "./http:/x"})
    EXPECT_FALSE(is_url(no)) << no;
}

TEST(Url, Redaction_leaves_out_user_password_query_values_and_fragment) {
  EXPECT_EQ(redacted_url("https://karl:s3cret@h.example/a/b"), "https://h.example/a/b");
  EXPECT_EQ(redacted_url("https://token@h.example/a"), "https://h.example/a");
  EXPECT_EQ(redacted_url("https://h.example:8443/a?X-Sig=abc&v=1&flag#frag"),
            "https://h.example:8443/a?X-Sig=***&v=***&***");
  EXPECT_EQ(redacted_url("https://h.example/a"), "https://h.example/a");
  EXPECT_EQ(redacted_url("file:///var/x.tar.gz"), "file:///var/x.tar.gz");
}

TEST(Url, Redaction_of_what_can_not_be_read_shows_only_the_scheme) {
  for (const char* odd : {"https://karl:s3/cret@h:x/", "https://karl:s3 cret@h/", "https://",
                          "https://karl:s3cret@[::1/", "https:\\\\karl:s3cret@h"}) {
    EXPECT_EQ(redacted_url(odd).find("cret"), std::string::npos) << redacted_url(odd);
    EXPECT_EQ(redacted_url(odd).find("karl"), std::string::npos) << redacted_url(odd);
  }
  EXPECT_EQ(redacted_url("https://karl:s3 cret@h/"), "https://***");
}

TEST(Url, Parts_are_decoded_and_the_location_holds_no_credentials) {
  const auto url = parse_url("HTTPS://k%40rl:s%3Acret@h.example/a%20b?q=1#f");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->scheme, "https");
  EXPECT_EQ(url->user, "k@rl");
  EXPECT_EQ(url->password, "s:cret");
  EXPECT_EQ(url->location, "https://h.example/a%20b?q=1");
  EXPECT_EQ(url->origin, "https://h.example:443");
}

TEST(Url, The_storage_key_depends_on_the_location_alone) {
  const auto key = [](const char* text) { return storage_key(*parse_url(text)); };
  EXPECT_EQ(key("https://a:b@h/x"), key("https://h/x"));
  EXPECT_NE(key("https://h/x"), key("https://h/y"));
  EXPECT_NE(key("https://h/x"), key("http://h/x"));
  EXPECT_EQ(key("https://h/x").size(), 64U);
}

TEST(Url, File_urls_give_a_decoded_path) {
  EXPECT_EQ(parse_url("file:///tmp/a%20b")->path, "/tmp/a b");
  EXPECT_EQ(parse_url("file://localhost/tmp/x")->path, "/tmp/x");
  EXPECT_FALSE(parse_url("file://other.host/tmp/x"));
}

TEST(Url, Other_schemes_and_unreadable_text_are_refused_by_name) {
  const auto ftp = parse_url("ftp://karl:s3cret@h/x");
  ASSERT_FALSE(ftp);
  EXPECT_EQ(ftp.error().code(), base::Code::usage);
  EXPECT_EQ(ftp.error().expected(), "https, http or file");
  EXPECT_EQ(ftp.error().got(), "ftp");
  const auto space = parse_url("https://karl:s3cret@h/a b");
  ASSERT_FALSE(space);
  EXPECT_EQ(space.error().line().find("s3cret"), std::string::npos);
  EXPECT_FALSE(parse_url("https://h/" + std::string(kMaxUrlBytes, 'x')));
  EXPECT_FALSE(parse_url(std::string("https://h/a\0b", 13)));
  EXPECT_FALSE(parse_url("https://h/a\nb"));
}

TEST(Url, A_location_header_may_be_absolute_relative_or_have_spaces) {
  const Url base = *parse_url("https://karl:s3cret@h.example/dir/file?q=1");
  EXPECT_EQ(resolve_reference(base, "other"), "https://h.example/dir/other");
  EXPECT_EQ(resolve_reference(base, "/root"), "https://h.example/root");
  EXPECT_EQ(resolve_reference(base, "//cdn.example/x"), "https://cdn.example/x");
  EXPECT_EQ(resolve_reference(base, "http://cdn.example/x"), "http://cdn.example/x");
  EXPECT_EQ(resolve_reference(base, "a b"), "https://h.example/dir/a%20b");
  EXPECT_EQ(resolve_reference(base, ""), "");
}

}  // namespace
}  // namespace updagent::fetch
