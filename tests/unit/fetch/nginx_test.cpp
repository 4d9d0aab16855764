// The good cases, against a real server.
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "tests/unit/fetch/fetch_fixture.hpp"

namespace updagent::fetch::test {
namespace {

// The fields of nginx's access log, in its order: see Nginx.
enum Field : std::size_t {
  kStatus,
  kRange,
  kIfRange,
  kAuthorization,
  kProtocol,
  kAgent,
  kEncoding
};

std::string field(const std::string& line, Field which) {
  std::size_t at = 0;
  for (std::size_t i = 0; i < which; ++i) at = line.find('|', at) + 1;
  return line.substr(at, line.find('|', at) - at);
}

// A fetch that was cut short on purpose, as `inspect` does: leaves a part file.
void leave_part(Request request, std::size_t bytes) {
  request.head_bytes = bytes;
  request.on_head = [](std::string_view) -> base::Result<bool> { return false; };
  const auto stopped = fetch(request);
  ASSERT_TRUE(stopped) << stopped.error().line();
  ASSERT_TRUE(stopped->stopped_early);
  ASSERT_FALSE(stopped->file);
}

class NginxFetch : public FetchTest {
 protected:
  // A file that has not changed for a day.
  static void publish(const Nginx& nginx, const std::string& name, const std::string& bytes,
                      const char* touched = "yesterday") {
    const std::string path = nginx.publish(name, bytes);
    ASSERT_EQ(std::system(("touch -d '" + std::string(touched) + "' " + path).c_str()), 0);
  }
};

TEST_F(NginxFetch, A_whole_file_arrives_byte_for_byte) {
  Nginx nginx("");
  const std::string file = content("whole", 300'000);
  nginx.publish("release.tar.gz", file);
  Fetched result;
  EXPECT_TRUE(same_bytes(fetched(request(nginx.url("release.tar.gz")), &result), file));
  EXPECT_EQ(result.downloaded, file.size());
  EXPECT_EQ(result.resumed_from, 0U);
  EXPECT_FALSE(result.stopped_early);
  ASSERT_FALSE(progress_.empty());
  EXPECT_EQ(progress_.back().bytes, file.size());
  EXPECT_EQ(progress_.back().total, file.size());
  EXPECT_EQ(progress_.back().waiting, Waiting::none);
  nginx.stop();
  ASSERT_EQ(nginx.log().size(), 1U);
  EXPECT_EQ(nginx.log()[0], "200|-|-|-|HTTP/1.1|updagent/" UPDAGENT_VERSION "|identity");
}

TEST_F(NginxFetch, An_empty_file_is_whole_at_once) {
  Nginx nginx("");
  nginx.publish("empty", "");
  Fetched result;
  EXPECT_EQ(fetched(request(nginx.url("empty")), &result), "");
  EXPECT_TRUE(result.file);
}

TEST_F(NginxFetch, A_whole_part_file_is_confirmed_and_not_fetched_again) {
  Nginx nginx("");
  const std::string file = content("again", 100'000);
  publish(nginx, "file", file);
  EXPECT_TRUE(same_bytes(fetched(request(nginx.url("file"))), file));
  Fetched second;
  EXPECT_TRUE(same_bytes(fetched(request(nginx.url("file")), &second), file));
  EXPECT_EQ(second.downloaded, 0U);
  EXPECT_EQ(second.resumed_from, file.size());
  nginx.stop();
  ASSERT_EQ(nginx.log().size(), 2U);
  EXPECT_EQ(field(nginx.log()[1], kStatus), "304");
}

TEST_F(NginxFetch, A_whole_part_file_of_an_older_version_is_replaced) {
  Nginx nginx("");
  publish(nginx, "file", content("old", 100'000));
  EXPECT_TRUE(same_bytes(fetched(request(nginx.url("file"))), content("old", 100'000)));
  publish(nginx, "file", content("new", 100'000), "2 days ago");
  Fetched second;
  EXPECT_TRUE(same_bytes(fetched(request(nginx.url("file")), &second), content("new", 100'000)));
  EXPECT_EQ(second.downloaded, 100'000U);
  EXPECT_EQ(second.resumed_from, 0U);
}

TEST_F(NginxFetch, A_part_file_is_continued_by_range_and_if_range) {
  Nginx nginx("");
  const std::string file = content("part", 400'000);
  publish(nginx, "file", file);
  const Request wanted = request(nginx.url("file"));
  leave_part(wanted, 100'000);
  const std::uint64_t kept = part_size();
  ASSERT_GE(kept, 100'000U);
  ASSERT_LT(kept, file.size());
  Fetched result;
  EXPECT_TRUE(same_bytes(fetched(wanted, &result), file));
  EXPECT_EQ(result.resumed_from, kept);
  EXPECT_EQ(result.downloaded, file.size() - kept);
  nginx.stop();
  const std::string last = nginx.log().back();
  EXPECT_EQ(field(last, kStatus), "206");
  EXPECT_EQ(field(last, kRange), "bytes=" + std::to_string(kept) + "-");
  EXPECT_EQ(field(last, kIfRange).substr(0, 4), "\\x22") << "a quoted entity tag, as nginx logs it";
}

TEST_F(NginxFetch, Without_an_entity_tag_an_old_last_modified_is_used_for_if_range) {
  Nginx nginx("etag off;");
  const std::string file = content("dated", 400'000);
  publish(nginx, "file", file);
  const Request wanted = request(nginx.url("file"));
  leave_part(wanted, 100'000);
  Fetched result;
  EXPECT_TRUE(same_bytes(fetched(wanted, &result), file));
  EXPECT_GT(result.resumed_from, 0U);
  EXPECT_LT(result.downloaded, file.size());
  result = Fetched();  // lets go of the part file's lock
  EXPECT_TRUE(same_bytes(fetched(wanted, &result), file));
  EXPECT_EQ(result.downloaded, 0U) << "If-Modified-Since confirms a whole part file";
}

TEST_F(NginxFetch, A_last_modified_of_this_minute_is_too_weak_to_resume_by) {
  Nginx nginx("etag off;");
  const std::string file = content("fresh", 400'000);
  publish(nginx, "file", file, "now");
  const Request wanted = request(nginx.url("file"));
  leave_part(wanted, 100'000);
  Fetched result;
  EXPECT_TRUE(same_bytes(fetched(wanted, &result), file));
  EXPECT_EQ(result.resumed_from, 0U);
  EXPECT_EQ(result.downloaded, file.size());
}

TEST_F(NginxFetch, A_file_that_was_replaced_meanwhile_starts_from_zero_and_is_never_a_mix) {
  Nginx nginx("");
  publish(nginx, "file", content("old", 400'000));
  const Request wanted = request(nginx.url("file"));
  leave_part(wanted, 100'000);
  publish(nginx, "file", content("new", 300'000), "2 days ago");
  Fetched result;
  EXPECT_TRUE(same_bytes(fetched(wanted, &result), content("new", 300'000)));
  EXPECT_EQ(result.resumed_from, 0U);
  EXPECT_EQ(result.downloaded, 300'000U);
}

TEST_F(NginxFetch, The_head_is_offered_on_resume_too_and_only_once) {
  Nginx nginx("");
  const std::string file = content("head", 400'000);
  publish(nginx, "file", file);
  Request wanted = request(nginx.url("file"));
  leave_part(wanted, 100'000);
  std::vector<std::string> heads;
  wanted.head_bytes = 5000;
  wanted.on_head = [&](std::string_view head) -> base::Result<bool> {
    heads.emplace_back(head);
    return true;
  };
  EXPECT_TRUE(same_bytes(fetched(wanted), file));
  ASSERT_EQ(heads.size(), 1U);
  EXPECT_TRUE(same_bytes(heads[0], file.substr(0, 5000)));
}

TEST_F(NginxFetch, A_file_shorter_than_the_head_is_offered_whole) {
  Nginx nginx("");
  nginx.publish("file", "short");
  Request wanted = request(nginx.url("file"));
  std::string seen;
  wanted.head_bytes = 5000;
  wanted.on_head = [&](std::string_view head) -> base::Result<bool> {
    seen = head;
    return false;
  };
  const auto result = fetch(wanted);
  ASSERT_TRUE(result);
  EXPECT_EQ(seen, "short");
  EXPECT_TRUE(result->stopped_early);
}

TEST_F(NginxFetch, An_error_of_on_head_is_the_error_of_the_fetch) {
  Nginx nginx("");
  nginx.publish("file", content("x", 50'000));
  Request wanted = request(nginx.url("file"));
  wanted.head_bytes = 10;
  wanted.on_head = [](std::string_view) -> base::Result<bool> {
    return base::Error(base::Code::not_an_artifact, "no artifact");
  };
  const auto result = fetch(wanted);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), base::Code::not_an_artifact);
}

TEST_F(NginxFetch, A_cap_on_the_rate_spreads_the_file_over_many_steps) {
  Nginx nginx("");
  const std::string file(1'500'000, 'x');
  nginx.publish("file", file);
  Request wanted = request(nginx.url("file"));
  wanted.limits.bytes_per_second = 500'000;
  EXPECT_TRUE(same_bytes(fetched(wanted), file));
  std::set<std::uint64_t> steps;
  for (const Progress& progress : progress_) steps.insert(progress.bytes);
  EXPECT_GE(steps.size(), 4U);  // without a cap it comes in one or two
}

TEST_F(NginxFetch, Credentials_in_the_url_are_sent_and_kept_out_of_everything_else) {
  Nginx nginx("auth_basic realm; auth_basic_user_file {root}/users;");
  nginx.directory().write("users", "karl:{PLAIN}s3cret/x\n");
  nginx.publish("file", "content");
  const std::string url = nginx.url("file");
  Request wanted = request(url.substr(0, 7) + "karl:s3cret%2Fx@" + url.substr(7));
  EXPECT_EQ(fetched(wanted), "content");
  for (const std::string& name : directory_.names("downloads")) {
    EXPECT_EQ(directory_.read("downloads/" + name).find("s3cret"), std::string::npos) << name;
    EXPECT_EQ(name.find("karl"), std::string::npos);
  }
  // refused with the wrong one: the message shows neither
  wanted.url = url.substr(0, 7) + "karl:wr0ng@" + url.substr(7);
  const auto refused = fetch(wanted);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), base::Code::fetch_failed);
  EXPECT_NE(refused.error().line().find("HTTP 401"), std::string::npos) << refused.error().line();
  EXPECT_EQ(refused.error().line().find("wr0ng"), std::string::npos);
  EXPECT_EQ(refused.error().line().find("karl"), std::string::npos);
}

TEST_F(NginxFetch, Netrc_gives_the_password_of_a_host) {
  Nginx nginx("auth_basic realm; auth_basic_user_file {root}/users;");
  nginx.directory().write("users", "karl:{PLAIN}s3cret\n");
  nginx.publish("file", "content");
  Request wanted = request(nginx.url("file"));
  wanted.credentials.use_netrc = true;
  wanted.credentials.netrc_file =
      directory_.write("netrc", "machine 127.0.0.1 login karl password s3cret\n");
  EXPECT_EQ(fetched(wanted), "content");
}

TEST_F(NginxFetch, A_redirect_to_another_host_carries_no_credentials_of_the_first) {
  Nginx other("", "", "127.0.0.2");
  other.publish("file", "content");
  Nginx first("return 302 " + other.url("file") + ";");
  Request wanted = request(first.url("start"));
  wanted.credentials.use_netrc = true;
  // "default" would fit any host: it is meant for the one that was named
  wanted.credentials.netrc_file = directory_.write("netrc", "default login karl password s3cret\n");
  EXPECT_EQ(fetched(wanted), "content");
  const std::string url = first.url("with-user");
  wanted.url = url.substr(0, 7) + "karl:s3cret@" + url.substr(7);
  EXPECT_EQ(fetched(wanted), "content");
  first.stop();
  other.stop();
  ASSERT_EQ(first.log().size(), 2U);
  ASSERT_EQ(other.log().size(), 2U);
  for (const std::string& line : first.log())
    EXPECT_EQ(field(line, kAuthorization).substr(0, 6), "Basic ") << line;
  for (const std::string& line : other.log()) EXPECT_EQ(field(line, kAuthorization), "-") << line;
}

TEST_F(NginxFetch, A_relative_redirect_on_the_same_host_keeps_credentials_and_resumes) {
  Nginx nginx("location = /latest { return 302 v1/file; }");
  const std::string file = content("moved", 400'000);
  publish(nginx, "v1/file", file);
  const std::string url = nginx.url("latest");
  const Request wanted = request(url.substr(0, 7) + "karl:s3cret@" + url.substr(7));
  leave_part(wanted, 100'000);
  Fetched result;
  EXPECT_TRUE(same_bytes(fetched(wanted, &result), file));
  EXPECT_GT(result.resumed_from, 0U);
  nginx.stop();
  for (const std::string& line : nginx.log())
    EXPECT_EQ(field(line, kAuthorization).substr(0, 6), "Basic ") << line;
}

TEST_F(NginxFetch, Link_loss_at_the_start_is_waited_for) {
  ReservedPort port;  // refuses
  Nginx nginx(std::move(port), "", "", "127.0.0.1", false);
  nginx.publish("file", "content");
  Request wanted = request(nginx.url("file"));
  int waits = 0;
  base::Milliseconds last_wait{-1};
  wanted.on_progress = [&](const Progress& progress) {
    if (progress.waiting == Waiting::none) return;
    EXPECT_EQ(progress.waiting, Waiting::link_lost);
    EXPECT_NE(progress.last_problem.find("Connection refused"), std::string::npos)
        << progress.last_problem;
    last_wait = progress.retry_in;
    if (++waits == 5) nginx.start();
  };
  EXPECT_EQ(fetched(wanted), "content");
  EXPECT_GE(waits, 5);
  EXPECT_GE(last_wait.count(), 0);
}

TEST_F(NginxFetch, A_link_that_does_not_come_back_ends_with_what_was_wrong) {
  const ReservedPort port;
  Request wanted = request("http://127.0.0.1:" + port.port() + "/file?token=s3cret");
  wanted.limits.give_up_after = base::Milliseconds(50);
  const auto result = fetch(wanted);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), base::Code::fetch_failed);
  EXPECT_EQ(result.error().exit(), base::Exit::not_fetched);
  EXPECT_NE(result.error().line().find("Connection refused"), std::string::npos);
  EXPECT_NE(result.error().line().find("/file?token=***"), std::string::npos);
  EXPECT_EQ(result.error().expected(), "a new byte within 50ms");
  EXPECT_EQ(result.error().got(), "none");
}

TEST_F(NginxFetch, A_missing_file_is_final) {
  Nginx nginx("");
  const auto result = fetch(request(nginx.url("nothing")));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), base::Code::fetch_failed);
  EXPECT_NE(result.error().line().find("HTTP 404"), std::string::npos);
  EXPECT_EQ(result.error().hint(), "check the URL");
  nginx.stop();
  EXPECT_EQ(nginx.log().size(), 1U);
}

}  // namespace
}  // namespace updagent::fetch::test
