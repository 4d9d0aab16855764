// Servers and links that misbehave: see tests/support/faulty_server.py for what each step means.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <filesystem>

#include "agent/base/interrupt.hpp"
#include "tests/unit/fetch/fetch_fixture.hpp"

namespace updagent::fetch::test {
namespace {

constexpr std::size_t kSize = 100'000;

// One server for all: each test has a name of its own on it.
class FaultyFetch : public FetchTest {
 protected:
  static void SetUpTestSuite() { server_ = new FaultyServer; }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }

  static std::string name() {
    return testing::UnitTest::GetInstance()->current_test_info()->name();
  }
  static Json step(const char* seed = "a", Json more = Json::object()) {
    Json out = {{"size", kSize}, {"seed", seed}, {"etag", std::string("\"") + seed + "\""}};
    out.update(more);
    return out;
  }
  static Json status(int code, const Json& headers = Json::object()) {
    Json out = {{"status", code}, {"reason_length", 200'000}};
    out["headers"] = headers;
    return out;
  }
  static Json closed() { return step("a", {{"close_at_once", true}}); }
  // Named arguments rather than a braced list: nlohmann reads {{"a", 1}} in two ways.
  template <class... Steps>
  static Json list(const Steps&... steps) {
    Json out = Json::array();
    (out.push_back(steps), ...);
    return out;
  }
  template <class... Steps>
  Request scripted(const Steps&... steps) {
    server_->script(name(), list(steps...));
    return request(server_->url(name()));
  }
  static std::vector<Json> requests() { return server_->requests(name()); }
  static std::string asked(std::size_t number, const char* header) {
    const auto all = requests();
    return number < all.size() ? all[number].value(header, "") : "no such request";
  }
  // The refusal of a fetch that must not succeed.
  base::Error refused(const Request& request) {
    const auto result = fetch(request);
    if (result) ADD_FAILURE() << "it succeeded";
    return result ? base::Error(base::Code::internal, "") : result.error();
  }

  static FaultyServer* server_;
};
FaultyServer* FaultyFetch::server_ = nullptr;

// --- cuts
// -----------------------------------------------------------------------------------------

TEST_F(FaultyFetch, A_cut_download_goes_on_where_it_was) {
  const Request wanted =
      scripted(step("a", {{"cut", 30'000}}), step("a", {{"cut", 20'000}}), step());
  Fetched result;
  EXPECT_TRUE(same_bytes(fetched(wanted, &result), content("a", kSize)));
  EXPECT_EQ(result.downloaded, kSize) << "no byte came twice";
  EXPECT_EQ(result.resumed_from, 0U) << "nothing was there from an earlier run";
  EXPECT_EQ(asked(0, "range"), "");
  EXPECT_EQ(asked(1, "range"), "bytes=30000-");
  EXPECT_EQ(asked(1, "if-range"), "\"a\"");
  EXPECT_EQ(asked(2, "range"), "bytes=50000-");
}

TEST_F(FaultyFetch, A_cut_before_any_answer_is_waited_for) {
  const Request wanted = scripted(closed(), closed(), step());
  EXPECT_TRUE(same_bytes(fetched(wanted), content("a", kSize)));
  EXPECT_EQ(requests().size(), 3U);
}

TEST_F(FaultyFetch, A_silent_link_is_given_up_and_resumed) {
  Request wanted = scripted(step("a", {{"stall", 30'000}}), step());
  wanted.limits.low_speed_time = base::Milliseconds(150);
  EXPECT_TRUE(same_bytes(fetched(wanted), content("a", kSize)));
  EXPECT_EQ(asked(1, "range"), "bytes=30000-");
  bool told = false;
  for (const Progress& progress : progress_)
    told = told || progress.last_problem == "fewer than 100 bytes per second for 150ms";
  EXPECT_TRUE(told);
}

TEST_F(FaultyFetch, A_server_that_never_answers_is_a_silent_link_too) {
  Request wanted = scripted(step("a", {{"silent", true}}), step());
  wanted.limits.low_speed_time = base::Milliseconds(150);
  EXPECT_TRUE(same_bytes(fetched(wanted), content("a", kSize)));
}

TEST_F(FaultyFetch, A_chunked_answer_without_a_length_is_whole_at_its_last_chunk) {
  const Request wanted =
      scripted(step("a", {{"chunked", true}, {"cut", 30'000}}), step("a", {{"chunked", true}}));
  EXPECT_TRUE(same_bytes(fetched(wanted), content("a", kSize)));
  EXPECT_EQ(asked(1, "range"), "bytes=30000-");
  ASSERT_FALSE(progress_.empty());
  EXPECT_EQ(progress_.back().total, kSize) << "known in the end";
}

TEST_F(FaultyFetch, A_chunked_answer_that_lost_only_its_end_is_recognised_by_416) {
  const Request wanted = scripted(step("a", {{"chunked", true}, {"extra", 10}, {"cut", kSize}}),
                                  step("a", {{"chunked", true}}));
  Fetched result;
  EXPECT_TRUE(same_bytes(fetched(wanted, &result), content("a", kSize)));
  EXPECT_EQ(result.downloaded, kSize);
  EXPECT_EQ(requests().size(), 2U);
}

TEST_F(FaultyFetch, A_server_that_sends_less_of_a_range_than_asked_for_is_asked_again) {
  const Request wanted =
      scripted(step("a", {{"cut", 20'000}}), step("a", {{"range", "short"}}), step());
  EXPECT_TRUE(same_bytes(fetched(wanted), content("a", kSize)));
  EXPECT_EQ(asked(2, "range"), "bytes=60001-");
}

TEST_F(FaultyFetch, Parts_of_an_unknown_total_are_asked_for_until_there_are_no_more) {
  const Json pieces =
      step("a", {{"range", "pieces"}, {"piece_length", 30'000}, {"until_close", true}});
  const Request wanted = scripted(step("a", {{"chunked", true}, {"cut", 10'000}}), pieces);
  Fetched result;
  EXPECT_TRUE(same_bytes(fetched(wanted, &result), content("a", kSize)));
  EXPECT_TRUE(result.end_is_certain);
  EXPECT_EQ(result.downloaded, kSize);
  // 10,000 and three pieces, and a last question that 416 answers
  EXPECT_EQ(requests().size(), 5U);
  EXPECT_EQ(asked(4, "range"), "bytes=100000-");
}

TEST_F(FaultyFetch, A_part_of_an_unknown_total_that_is_cut_is_not_the_end) {
  const Request wanted = scripted(
      step("a", {{"chunked", true}, {"cut", 10'000}}),
      step("a",
           {{"range", "pieces"}, {"piece_length", kSize}, {"until_close", true}, {"cut", 20'000}}),
      step());
  EXPECT_TRUE(same_bytes(fetched(wanted), content("a", kSize)));
  EXPECT_EQ(asked(2, "range"), "bytes=30000-");
}

TEST_F(FaultyFetch,
       An_end_that_only_the_closed_connection_shows_is_uncertain_and_can_be_asked_for) {
  const Request wanted = scripted(step("a", {{"until_close", true}, {"cut", 30'000}}), step());
  const auto first = fetch(wanted);
  ASSERT_TRUE(first) << first.error().line();
  EXPECT_FALSE(first->end_is_certain);
  EXPECT_EQ(first->bytes, 30'000U);
  const base::Error cut =
      cut_download(wanted.url, base::Error(base::Code::artifact_damaged, "the file is cut short"));
  EXPECT_EQ(cut.code(), base::Code::fetch_failed);
}

TEST_F(FaultyFetch, What_an_uncertain_end_left_is_gone_on_with_by_the_next_run) {
  const Request wanted = scripted(step("a", {{"until_close", true}, {"cut", 30'000}}), step());
  ASSERT_TRUE(fetch(wanted).has_value());
  Fetched second;
  EXPECT_TRUE(same_bytes(fetched(wanted, &second), content("a", kSize)));
  EXPECT_EQ(asked(1, "range"), "bytes=30000-");
  EXPECT_TRUE(second.end_is_certain);
  EXPECT_EQ(second.downloaded, kSize - 30'000);
}

TEST_F(FaultyFetch, An_uncertain_end_that_was_right_is_confirmed_by_416) {
  const Request wanted = scripted(step("a", {{"until_close", true}}));
  ASSERT_TRUE(fetch(wanted).has_value());
  Fetched second;
  EXPECT_TRUE(same_bytes(fetched(wanted, &second), content("a", kSize)));
  EXPECT_TRUE(second.end_is_certain);
  EXPECT_EQ(second.downloaded, 0U);
}

TEST_F(FaultyFetch, What_comes_past_the_announced_length_is_not_part_of_the_file) {
  const Request wanted = scripted(step("a", {{"extra", 500}}));
  EXPECT_TRUE(same_bytes(fetched(wanted), content("a", kSize)));
}

TEST_F(FaultyFetch, A_part_with_more_bytes_than_the_file_has_is_started_over) {
  const Request wanted = scripted(step("a", {{"cut", 30'000}}),
                                  step("a", {{"chunked", true}, {"extra", 500}}), step());
  EXPECT_TRUE(same_bytes(fetched(wanted), content("a", kSize)));
  EXPECT_EQ(asked(2, "range"), "");
}

// --- other versions
// -------------------------------------------------------------------------------

TEST_F(FaultyFetch, Another_version_after_a_cut_is_fetched_from_zero) {
  const Request wanted = scripted(step("a", {{"cut", 30'000}}), step("b"));
  EXPECT_TRUE(same_bytes(fetched(wanted), content("b", kSize)));
}

TEST_F(FaultyFetch, A_200_to_a_range_request_starts_from_zero) {
  const Request wanted = scripted(step("a", {{"cut", 30'000}}), step("a", {{"range", "ignore"}}));
  Fetched result;
  EXPECT_TRUE(same_bytes(fetched(wanted, &result), content("a", kSize)));
  EXPECT_EQ(result.downloaded, kSize + 30'000);
  EXPECT_EQ(asked(1, "range"), "bytes=30000-");
}

TEST_F(FaultyFetch, A_206_that_does_not_fit_is_never_appended) {
  const Json wrong[] = {
      step("b", {{"range", "blind"}}),                       // another entity tag
      step("a", {{"range", "wrong_start"}}),                 // another place
      step("a", {{"range", "wrong_total"}}),                 // of another length
      step("a", {{"range", "no_content_range"}}),            // says nothing
      {{"size", kSize}, {"seed", "b"}, {"range", "blind"}},  // no entity tag at all
      step("b", {{"range", "blind"}, {"headers", {{"ETag", ""}}}}),
  };
  int number = 0;
  for (const Json& bad : wrong) {
    const std::string path = name() + std::to_string(number++);
    server_->script(path, list(step("a", {{"cut", 30'000}}), bad, step("c")));
    EXPECT_TRUE(same_bytes(fetched(request(server_->url(path))), content("c", kSize)))
        << bad.dump();
    const auto all = server_->requests(path);
    ASSERT_EQ(all.size(), 3U) << bad.dump();
    EXPECT_EQ(all[2].count("range"), 0U) << "from zero";
  }
}

TEST_F(FaultyFetch, Without_a_validator_a_cut_download_starts_over) {
  const Json plain = {{"size", kSize}, {"seed", "a"}};
  Json cut = plain;
  cut["cut"] = 30'000;
  const Request wanted = scripted(cut, plain);
  Fetched result;
  EXPECT_TRUE(same_bytes(fetched(wanted, &result), content("a", kSize)));
  EXPECT_EQ(asked(1, "range"), "");
  EXPECT_EQ(result.downloaded, kSize + 30'000);
}

TEST_F(FaultyFetch, A_weak_entity_tag_is_no_validator) {
  const Json weak = step("a", {{"etag", "W/\"a\""}});
  Json cut = weak;
  cut["cut"] = 30'000;
  EXPECT_TRUE(same_bytes(fetched(scripted(cut, weak)), content("a", kSize)));
  EXPECT_EQ(asked(1, "range"), "");
}

TEST_F(FaultyFetch, A_416_for_a_file_that_became_shorter_starts_over) {
  const Json shorter = {{"size", 20'000}, {"seed", "b"}, {"etag", "\"b\""}};
  const Request wanted =
      scripted(step("a", {{"cut", 30'000}}), step("a", {{"not_satisfiable", true}}), shorter);
  EXPECT_TRUE(same_bytes(fetched(wanted), content("b", 20'000)));
}

TEST_F(FaultyFetch, A_whole_part_file_is_kept_when_a_200_proves_that_it_is_the_same) {
  const Request wanted = scripted(step(), step("a", {{"range", "ignore"}}));
  EXPECT_TRUE(same_bytes(fetched(wanted), content("a", kSize)));
  Fetched second;
  EXPECT_TRUE(same_bytes(fetched(wanted, &second), content("a", kSize)));
  EXPECT_EQ(second.downloaded, 0U);
  EXPECT_EQ(asked(1, "if-none-match"), "\"a\"");
}

TEST_F(FaultyFetch, A_304_that_nobody_asked_for_is_final) {
  const base::Error error = refused([&] {
    Request wanted = scripted(status(304));
    wanted.limits.give_up_after = base::Milliseconds(50);
    return wanted;
  }());
  EXPECT_EQ(error.code(), base::Code::fetch_failed);
}

TEST_F(FaultyFetch, A_new_version_with_another_head_is_offered_again) {
  Request wanted = scripted(step("a", {{"cut", 30'000}}),
                            step("a", {{"range", "ignore"}, {"cut", 40'000}}), step("b"));
  std::vector<std::string> heads;
  wanted.head_bytes = 100;
  wanted.on_head = [&](std::string_view head) -> base::Result<bool> {
    heads.emplace_back(head);
    return true;
  };
  EXPECT_TRUE(same_bytes(fetched(wanted), content("b", kSize)));
  ASSERT_EQ(heads.size(), 2U) << "once for each head, not for each attempt";
  EXPECT_TRUE(same_bytes(heads[0], content("a", 100)));
  EXPECT_TRUE(same_bytes(heads[1], content("b", 100)));
}

// Versions and cuts at random: whatever happens, the result is one version.
TEST_F(FaultyFetch, Random_cuts_and_versions_never_give_a_mix) {
  constexpr int kRounds = 25;
  constexpr std::size_t kSmall = 20'000;
  std::uint32_t state = 12345;  // fixed: a failure can be repeated
  const auto random = [&](std::uint32_t below) {
    state = state * 1664525U + 1013904223U;
    return (state >> 8) % below;
  };
  const char* seeds[] = {"a", "b", "c"};
  const char* ranges[] = {"honour", "honour",      "honour",      "ignore",          "blind",
                          "short",  "wrong_start", "wrong_total", "no_content_range"};
  for (int round = 0; round < kRounds; ++round) {
    Json steps = Json::array();
    const std::uint32_t count = 1 + random(6);
    for (std::uint32_t i = 0; i < count; ++i) {
      Json one = step(seeds[random(3)], {{"range", ranges[random(9)]}});
      one["size"] = kSmall + (one["seed"] == "c" ? 777 : 0);
      one["cut"] = random(kSmall);
      if (random(4) == 0) one["chunked"] = true;
      if (random(6) == 0) one = status(503, {{"Retry-After", "0"}});
      steps.push_back(one);
    }
    Json last = step(seeds[random(3)]);
    last["size"] = kSmall + (last["seed"] == "c" ? 777 : 0);
    steps.push_back(last);
    const std::string path = name() + std::to_string(round);
    server_->script(path, steps);
    const std::string got = fetched(request(server_->url(path)));
    const std::string first = content("a", kSmall);
    EXPECT_TRUE(got == first || got == content("b", kSmall) || got == content("c", kSmall + 777))
        << "round " << round << ": " << got.size() << " bytes by " << steps.dump();
  }
}

// --- refusals and busy servers
// --------------------------------------------------------------------

TEST_F(FaultyFetch, A_busy_server_is_waited_for_as_long_as_it_asks) {
  const Json busy = {
      {"status", 503}, {"headers", {{"Retry-After", "1"}}}, {"reason_length", 50'000}};
  const Request wanted = scripted(busy, step());
  EXPECT_TRUE(same_bytes(fetched(wanted), content("a", kSize)));
  bool told = false;
  for (const Progress& progress : progress_) {
    if (progress.waiting == Waiting::none) continue;
    EXPECT_EQ(progress.waiting, Waiting::server_busy);
    EXPECT_EQ(progress.last_problem, "HTTP 503");
    told = told || progress.retry_in > wanted.limits.backoff_max * 2;
  }
  EXPECT_TRUE(told) << "longer than the back-off alone could be";
}

TEST_F(FaultyFetch, Retry_after_is_capped_by_give_up_after) {
  Request wanted = scripted(status(429, {{"Retry-After", "86400"}}));
  wanted.limits.give_up_after = base::Milliseconds(100);
  const base::Error error = refused(wanted);
  EXPECT_EQ(error.code(), base::Code::fetch_failed);
  EXPECT_EQ(error.message(), "HTTP 429");
  EXPECT_EQ(requests().size(), 2U) << "one more try at the very end";
}

TEST_F(FaultyFetch, An_encoded_answer_is_refused) {
  const base::Error error =
      refused(scripted(step("a", {{"headers", {{"Content-Encoding", "gzip"}}}})));
  EXPECT_EQ(error.code(), base::Code::fetch_failed);
  EXPECT_EQ(error.expected(), "no Content-Encoding");
  EXPECT_EQ(error.got(), "gzip");
  EXPECT_EQ(asked(0, "accept-encoding"), "identity");
}

TEST_F(FaultyFetch, Content_encoding_identity_is_none) {
  EXPECT_TRUE(
      same_bytes(fetched(scripted(step("a", {{"headers", {{"Content-Encoding", "identity"}}}}))),
                 content("a", kSize)));
}

TEST_F(FaultyFetch, A_file_larger_than_allowed_is_refused_before_its_first_byte) {
  Request wanted = scripted(step());
  wanted.limits.max_bytes = 50'000;
  const base::Error error = refused(wanted);
  EXPECT_EQ(error.code(), base::Code::too_large);
  EXPECT_EQ(error.expected(), "at most 48.8 KiB");
  EXPECT_EQ(error.got(), "97.7 KiB");
  EXPECT_EQ(part_size(), 0U);
}

TEST_F(FaultyFetch, A_limit_that_was_lowered_holds_for_what_an_earlier_run_left) {
  Request wanted = scripted(step());
  EXPECT_TRUE(same_bytes(fetched(wanted), content("a", kSize)));
  wanted.limits.max_bytes = 50'000;
  EXPECT_EQ(refused(wanted).code(), base::Code::too_large);
}

TEST_F(FaultyFetch, An_endless_body_ends_at_the_limit_and_leaves_nothing) {
  Request wanted = scripted(step("a", {{"endless", true}}));
  wanted.limits.max_bytes = 250'000;
  const base::Error error = refused(wanted);
  EXPECT_EQ(error.code(), base::Code::too_large);
  EXPECT_EQ(error.expected(), "at most 244 KiB");
  EXPECT_TRUE(directory_.names("downloads").empty());
}

TEST_F(FaultyFetch, A_file_larger_than_the_disk_is_refused_before_its_first_byte) {
  Request wanted = scripted(step("a", {{"headers", {{"Content-Length", "4000000000000000"}}}}));
  wanted.limits.max_bytes = UINT64_MAX;
  const base::Error error = refused(wanted);
  EXPECT_EQ(error.code(), base::Code::no_space);
  EXPECT_EQ(error.expected(), "3.55 PiB free");
  EXPECT_FALSE(error.got().empty());
  EXPECT_EQ(part_size(), 0U);
}

TEST_F(FaultyFetch, Redirects_without_an_end_are_final) {
  Request wanted = scripted(status(302, {{"Location", "/" + name()}}));
  wanted.limits.max_redirects = 3;
  const base::Error error = refused(wanted);
  EXPECT_EQ(error.code(), base::Code::fetch_failed);
  EXPECT_EQ(error.message(), "more than 3 redirects");
  EXPECT_EQ(requests().size(), 4U);
}

TEST_F(FaultyFetch, A_redirect_to_a_local_file_or_another_protocol_is_refused) {
  for (const char* target : {"file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/"}) {
    const base::Error error = refused(scripted(status(302, {{"Location", target}})));
    EXPECT_EQ(error.code(), base::Code::fetch_failed) << target;
    EXPECT_NE(
        error.message().find(target[0] == 'f' && target[1] == 'i' ? "to file" : "not supported"),
        std::string::npos)
        << error.message();
  }
}

TEST_F(FaultyFetch, A_redirect_without_a_location_is_final) {
  EXPECT_EQ(refused(scripted(status(301))).message(), "HTTP 301 without a usable Location");
}

TEST_F(FaultyFetch, A_redirects_body_is_not_the_file) {
  const Json moved = {
      {"status", 307}, {"reason_length", 200'000}, {"headers", {{"Location", name() + "-target"}}}};
  server_->script(name() + "-target", list(step()));
  EXPECT_TRUE(same_bytes(fetched(scripted(moved)), content("a", kSize)));
}

TEST_F(FaultyFetch, An_error_page_is_not_the_file) {
  const base::Error error = refused(scripted(status(403)));
  EXPECT_EQ(error.message(), "HTTP 403");
  EXPECT_NE(error.hint().find("credentials"), std::string::npos);
  EXPECT_EQ(part_size(), 0U);
}

TEST_F(FaultyFetch, A_head_without_an_end_does_not_fill_the_memory) {
  Request wanted = scripted(step("a", {{"headers",
                                        {{"X", std::string(90'000, 'x')},
                                         {"Y", std::string(90'000, 'x')},
                                         {"Z", std::string(90'000, 'x')}}}}));
  wanted.limits.give_up_after = base::Milliseconds(10);
  EXPECT_EQ(refused(wanted).message(), "the head of the answer is too large");
}

TEST_F(FaultyFetch, What_is_kept_is_said) {
  Request wanted = scripted(step("a", {{"cut", 30'000}}), closed());
  wanted.limits.give_up_after = base::Milliseconds(30);
  const base::Error error = refused(wanted);
  EXPECT_EQ(error.hint(), "29.3 KiB of 97.7 KiB are kept: the same command goes on from there");
  EXPECT_EQ(part_size(), 30'000U);
}

TEST_F(FaultyFetch, Answers_that_never_continue_one_another_come_to_an_end) {
  // each attempt brings bytes, none brings a new one
  Request wanted = scripted(step("a", {{"cut", 30'000}, {"range", "ignore"}}));
  wanted.limits.give_up_after = base::Milliseconds(60);
  EXPECT_EQ(refused(wanted).got(), "none");
}

TEST_F(FaultyFetch, The_proxy_variables_are_honoured) {
  server_->script(name(), list(step()));
  ::setenv("http_proxy", server_->url("").c_str(), 1);
  EXPECT_TRUE(
      same_bytes(fetched(request("http://release.invalid/" + name())), content("a", kSize)));
  ::unsetenv("http_proxy");
  EXPECT_EQ(asked(0, "host"), "release.invalid");
}

// --- interrupts
// -----------------------------------------------------------------------------------

class InterruptedFetch : public FaultyFetch {
 protected:
  void SetUp() override {
    auto installed = base::Interrupt::install();
    ASSERT_TRUE(installed);
    interrupt_.emplace(std::move(*installed));
  }
  void TearDown() override {
    interrupt_->acknowledge();
    interrupt_.reset();
    sigset_t both;
    ::sigemptyset(&both);
    ::sigaddset(&both, SIGINT);
    ::sigaddset(&both, SIGTERM);
    ::sigprocmask(SIG_UNBLOCK, &both, nullptr);
  }
  template <class... Steps>
  Request interruptible(const Steps&... steps) {
    Request wanted = scripted(steps...);
    wanted.interrupt = &*interrupt_;
    return wanted;
  }
  std::optional<base::Interrupt> interrupt_;
};

TEST_F(InterruptedFetch, A_signal_ends_a_stalled_transfer_and_keeps_what_came) {
  Request wanted = interruptible(step("a", {{"stall", 30'000}}));
  wanted.on_progress = [](const Progress& progress) {
    if (progress.bytes == 30'000) ::kill(::getpid(), SIGTERM);
  };
  const base::Error error = refused(wanted);
  EXPECT_EQ(error.code(), base::Code::interrupted);
  EXPECT_EQ(error.hint(), "29.3 KiB of 97.7 KiB are kept: the same command goes on from there");
  EXPECT_EQ(part_size(), 30'000U);
}

TEST_F(InterruptedFetch, A_signal_ends_a_wait) {
  Request wanted = interruptible(status(503, {{"Retry-After", "1000"}}));
  wanted.limits.give_up_after = base::Milliseconds(2'000'000);
  wanted.on_progress = [](const Progress& progress) {
    if (progress.waiting == Waiting::server_busy) ::kill(::getpid(), SIGINT);
  };
  EXPECT_EQ(refused(wanted).code(), base::Code::interrupted);
}

TEST_F(InterruptedFetch, A_signal_that_came_before_starts_nothing) {
  ::kill(::getpid(), SIGTERM);
  EXPECT_EQ(refused(interruptible(step())).code(), base::Code::interrupted);
  EXPECT_TRUE(requests().empty());
}

}  // namespace
}  // namespace updagent::fetch::test
