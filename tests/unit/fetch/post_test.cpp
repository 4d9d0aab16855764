// Webhooks: one POST, bounded in time and in what is read, that goes where it was sent and nowhere
// else.
#include "agent/fetch/post.hpp"

#include <gtest/gtest.h>

#include "tests/unit/fetch/fetch_fixture.hpp"

namespace updagent::fetch::test {
namespace {

using base::Code;

PostRequest post_to(const std::string& url) {
  PostRequest request;
  request.url = url;
  request.body = R"({"outcome":"rolled_back"})";
  return request;
}

TEST(Post, Sends_the_document_once_with_its_type_and_token) {
  const FaultyServer server;
  server.script("hook", Json::array({{{"size", 5}}}));
  PostRequest request = post_to(server.url("hook"));
  request.bearer_token = "s3cret";
  const base::Status sent = post_json(request);
  ASSERT_TRUE(sent) << sent.error().line();
  const std::vector<Json> seen = server.requests("hook");
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].at("(body)"), request.body);
  EXPECT_EQ(seen[0].at("content-type"), "application/json");
  EXPECT_EQ(seen[0].at("authorization"), "Bearer s3cret");
}

TEST(Post, Without_a_token_there_is_no_authorization) {
  const FaultyServer server;
  server.script("hook", Json::array({{{"status", 204}}}));
  ASSERT_TRUE(post_json(post_to(server.url("hook"))));
  EXPECT_FALSE(server.requests("hook").at(0).contains("authorization"));
}

TEST(Post, Anything_but_2xx_is_a_failure_that_names_the_status) {
  const FaultyServer server;
  for (const int status : {400, 404, 500, 503}) {
    server.script("hook", Json::array({{{"status", status}}}));
    const base::Status sent = post_json(post_to(server.url("hook")));
    ASSERT_FALSE(sent) << status;
    EXPECT_EQ(sent.error().code(), Code::fetch_failed);
    EXPECT_EQ(sent.error().got(), "HTTP " + std::to_string(status));
  }
}

// The token is for the receiver that the operator named.
TEST(Post, A_redirect_is_not_followed) {
  const FaultyServer server;
  server.script("other", Json::array({{{"status", 200}}}));
  server.script("hook",
                Json::array({{{"status", 307}, {"headers", {{"Location", server.url("other")}}}}}));
  PostRequest request = post_to(server.url("hook"));
  request.bearer_token = "s3cret";
  const base::Status sent = post_json(request);
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().got(), "HTTP 307");
  EXPECT_TRUE(server.requests("other").empty());
}

TEST(Post, A_silent_receiver_costs_no_more_than_the_time_limit) {
  const FaultyServer server;
  server.script("hook", Json::array({{{"silent", true}}}));
  PostRequest request = post_to(server.url("hook"));
  request.timeout = base::Milliseconds(200);
  const base::Status sent = post_json(request);
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code(), Code::fetch_failed);
}

TEST(Post, An_endless_answer_ends_the_call) {
  const FaultyServer server;
  server.script("hook", Json::array({{{"endless", true}, {"size", 4096}}}));
  EXPECT_FALSE(post_json(post_to(server.url("hook"))));
}

TEST(Post, Nobody_listening_is_a_failure_and_the_url_is_shown_without_its_password) {
  const ReservedPort nobody;
  const base::Status sent =
      post_json(post_to("http://user:pass@127.0.0.1:" + nobody.port() + "/hook?token=abc"));
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().line().find("pass"), std::string::npos) << sent.error().line();
  EXPECT_EQ(sent.error().line().find("abc"), std::string::npos) << sent.error().line();
}

TEST(Post, Only_http_and_https) {
  for (const char* url : {"file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", ""})
    EXPECT_FALSE(post_json(post_to(url))) << url;
}

}  // namespace
}  // namespace updagent::fetch::test
