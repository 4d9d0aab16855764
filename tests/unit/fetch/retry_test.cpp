// Which failures pass by themselves, and how long to wait: pure functions.
#include "agent/fetch/retry.hpp"

#include <curl/curl.h>
#include <gtest/gtest.h>

namespace updagent::fetch {
namespace {

using base::Milliseconds;

constexpr std::uint32_t kLowest = 0;
constexpr std::uint32_t kHighest = UINT32_MAX;
constexpr Milliseconds kLong{3'600'000};

Limits limits() {
  Limits out;
  out.backoff_first = Milliseconds(1000);
  out.backoff_max = Milliseconds(60'000);
  return out;
}

TEST(Retry, Waits_double_up_to_the_maximum_with_jitter_of_half) {
  const auto low = [&](int n) {
    return wait_before_retry(limits(), n, kLowest, {}, kLong).count();
  };
  const auto high = [&](int n) {
    return wait_before_retry(limits(), n, kHighest, {}, kLong).count();
  };
  EXPECT_EQ(low(1), 500);
  EXPECT_EQ(high(1), 1500);
  EXPECT_EQ(low(2), 1000);
  EXPECT_EQ(high(3), 6000);
  EXPECT_EQ(low(7), 30'000);
  EXPECT_EQ(high(7), 90'000);
  EXPECT_EQ(high(1'000'000), 90'000);
}

TEST(Retry, A_wait_is_never_nothing_and_never_past_the_end_of_patience) {
  Limits none = limits();
  none.backoff_first = Milliseconds(0);
  none.backoff_max = Milliseconds(0);
  EXPECT_EQ(wait_before_retry(none, 1, kLowest, {}, kLong).count(), 1);
  EXPECT_EQ(wait_before_retry(limits(), 9, kHighest, {}, Milliseconds(700)).count(), 700);
  EXPECT_EQ(wait_before_retry(limits(), 9, kHighest, {}, Milliseconds(0)).count(), 1);
}

TEST(Retry, Retry_after_lengthens_a_wait_up_to_give_up_after_and_never_shortens_it) {
  EXPECT_EQ(wait_before_retry(limits(), 1, kLowest, Milliseconds(300'000), kLong).count(), 300'000);
  EXPECT_EQ(wait_before_retry(limits(), 1, kLowest, Milliseconds(0), kLong).count(), 500);
  EXPECT_EQ(wait_before_retry(limits(), 1, kLowest, Milliseconds(9'000'000), kLong), kLong);
}

TEST(Retry, Retry_after_is_seconds_or_a_date) {
  const std::int64_t now_us = *base::parse_http_date("Mon, 17 Aug 2026 09:30:00 GMT");
  EXPECT_EQ(parse_retry_after("120", now_us), Milliseconds(120'000));
  EXPECT_EQ(parse_retry_after("Mon, 17 Aug 2026 09:30:05 GMT", now_us), Milliseconds(5000));
  EXPECT_EQ(parse_retry_after("Mon, 17 Aug 2026 09:00:00 GMT", now_us), Milliseconds(0));
  EXPECT_FALSE(parse_retry_after("", now_us));
  EXPECT_FALSE(parse_retry_after("-1", now_us));
  EXPECT_FALSE(parse_retry_after("soon", now_us));
  EXPECT_FALSE(parse_retry_after("1.5", now_us));
  // must not overflow into a short or negative wait
  EXPECT_GT(*parse_retry_after("18446744073709551615", now_us), kLong);
}

TEST(Retry, Busy_servers_are_waited_for_and_other_refusals_are_final) {
  for (const int status : {408, 429, 500, 502, 503, 504, 599}) {
    const Failure failure = failure_of_status(status, "7", 0);
    EXPECT_EQ(failure.remedy, Remedy::wait_for_server) << status;
    EXPECT_EQ(failure.retry_after, Milliseconds(7000));
    EXPECT_EQ(failure.problem, "HTTP " + std::to_string(status));
  }
  for (const int status : {201, 204, 300, 304, 400, 401, 403, 404, 410, 416, 600})
    EXPECT_EQ(failure_of_status(status, "7", 0).remedy, Remedy::give_up) << status;
}

TEST(Retry, Link_loss_is_waiting) {
  for (const int code :
       {CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY, CURLE_COULDNT_CONNECT,
        CURLE_OPERATION_TIMEDOUT, CURLE_PARTIAL_FILE, CURLE_GOT_NOTHING, CURLE_RECV_ERROR,
        CURLE_SEND_ERROR, CURLE_SSL_CONNECT_ERROR, CURLE_HTTP2_STREAM})
    EXPECT_EQ(failure_of_transport(code, "", 0).remedy, Remedy::wait_for_link) << code;
}

TEST(Retry, What_can_not_pass_by_itself_is_final) {
  for (const int code :
       {CURLE_PEER_FAILED_VERIFICATION, CURLE_UNSUPPORTED_PROTOCOL, CURLE_URL_MALFORMAT,
        CURLE_OUT_OF_MEMORY, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER, CURLE_TOO_MANY_REDIRECTS})
    EXPECT_EQ(failure_of_transport(code, "", 0).remedy, Remedy::give_up) << code;
  EXPECT_EQ(failure_of_transport(CURLE_SSL_CERTPROBLEM, "", 0).code, base::Code::config_invalid);
  EXPECT_EQ(failure_of_transport(CURLE_PEER_FAILED_VERIFICATION, "", 0).code,
            base::Code::fetch_failed);
}

TEST(Retry, A_problem_names_the_systems_reason_once_and_no_control_bytes) {
  EXPECT_EQ(failure_of_transport(CURLE_COULDNT_CONNECT, "cannot connect", ECONNREFUSED).problem,
            "cannot connect: Connection refused");
  EXPECT_EQ(failure_of_transport(CURLE_COULDNT_CONNECT, "Connection refused", ECONNREFUSED).problem,
            "Connection refused");
  EXPECT_EQ(failure_of_transport(CURLE_RECV_ERROR, "a\x1b[2Jb", 0).problem, "a\\x1b[2Jb");
  EXPECT_FALSE(failure_of_transport(CURLE_GOT_NOTHING, "", 0).problem.empty());
}

TEST(Retry, Two_attempts_of_one_outage_read_as_one_problem) {
  const auto problem = [](std::string_view detail) {
    return failure_of_transport(CURLE_COULDNT_CONNECT, detail, 0).problem;
  };
  EXPECT_EQ(problem("Failed to connect to ::1 port 80 after 0 ms: refused"),
            "Failed to connect to ::1 port 80: refused");
  EXPECT_EQ(problem("Connection timed out after 10001 milliseconds"), "Connection timed out");
  EXPECT_EQ(problem("gone after after 3 ms"), "gone after");
  for (const std::string_view kept :
       {"closed after 3 tries", "after 3 ms", "closed after", "x after 3"})
    EXPECT_EQ(problem(kept), kept);
}

TEST(StallWatch, Sees_a_link_below_the_rate_only_after_a_whole_window) {
  constexpr std::int64_t kSecondUs = 1'000'000;
  StallWatch watch(100, Milliseconds(10'000));
  EXPECT_FALSE(watch.is_dead(5 * kSecondUs, 0));
  EXPECT_FALSE(watch.is_dead(14 * kSecondUs, 0));
  EXPECT_TRUE(watch.is_dead(15 * kSecondUs, 999));
}

TEST(StallWatch, Lets_a_slow_link_live_and_measures_each_window_anew) {
  constexpr std::int64_t kSecondUs = 1'000'000;
  StallWatch watch(100, Milliseconds(10'000));
  EXPECT_FALSE(watch.is_dead(0, 50'000));
  EXPECT_FALSE(watch.is_dead(10 * kSecondUs, 51'000));
  EXPECT_FALSE(watch.is_dead(20 * kSecondUs, 52'000));
  EXPECT_TRUE(watch.is_dead(30 * kSecondUs, 52'001)) << "much came long ago: that does not count";
}

}  // namespace
}  // namespace updagent::fetch
