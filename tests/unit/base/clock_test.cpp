#include "agent/base/clock.hpp"

#include <gtest/gtest.h>

namespace updagent::base {
namespace {

constexpr std::int64_t kSecond = 1'000'000;

TEST(Rfc3339, It_is_written_in_UTC_with_six_digits) {
  EXPECT_EQ(format_rfc3339(0), "1970-01-01T00:00:00.000000Z");
  EXPECT_EQ(format_rfc3339(1'786'958'400 * kSecond + 123), "2026-08-17T09:20:00.000123Z");
  EXPECT_EQ(format_rfc3339(-1), "1969-12-31T23:59:59.999999Z");
}

TEST(Rfc3339, What_was_written_is_read_back) {
  for (const std::int64_t us : {std::int64_t{0}, std::int64_t{-1}, wall_now_us(),
                                std::int64_t{253'402'300'799} * kSecond + 999'999})
    EXPECT_EQ(parse_rfc3339(format_rfc3339(us)), us);
}

TEST(Rfc3339, Fraction_offset_and_time_are_optional) {
  const std::int64_t at = *parse_rfc3339("2026-08-17T09:30:00Z");
  EXPECT_EQ(parse_rfc3339("2026-08-17T11:30:00+02:00"), at);
  EXPECT_EQ(parse_rfc3339("2026-08-17T04:00:00-05:30"), at);
  EXPECT_EQ(parse_rfc3339("2026-08-17 09:30"), at);
  EXPECT_EQ(parse_rfc3339("2026-08-17T09:30:00.5Z"), at + 500'000);
  EXPECT_EQ(parse_rfc3339("2026-08-17T09:30:00.1234567Z"), at + 123'456);
  EXPECT_EQ(parse_rfc3339("2026-08-17"), *parse_rfc3339("2026-08-17T00:00:00Z"));
}

TEST(Rfc3339, A_leap_second_is_the_first_second_of_the_next_minute) {
  EXPECT_EQ(parse_rfc3339("2016-12-31T23:59:60Z"), parse_rfc3339("2017-01-01T00:00:00Z"));
  EXPECT_FALSE(parse_rfc3339("2016-12-31T23:59:61Z"));
}

TEST(Rfc3339, Leap_days_are_those_of_the_calendar) {
  EXPECT_TRUE(parse_rfc3339("2024-02-29"));
  EXPECT_TRUE(parse_rfc3339("2000-02-29"));
  EXPECT_FALSE(parse_rfc3339("2023-02-29"));
  EXPECT_FALSE(parse_rfc3339("2100-02-29"));
}

TEST(Rfc3339, What_is_no_time_is_refused) {
  for (const char* bad :
       {"", "now", "2026", "2026-8-17", "2026-13-01", "2026-00-01", "2026-01-32", "2026-01-00",
        "2026-08-17T", "2026-08-17T24:00:00Z", "2026-08-17T09:60:00Z", "2026-08-17T09:30:00.Z",
        "2026-08-17T09:30:00+2:00", "2026-08-17T09:30:00+24:00", "2026-08-17T09:30:00z ",
        "2026-08-17T09:30:00Zx", "-026-08-17", "2026-08-17T09:30:00+0200", "20260817T093000Z"})
    EXPECT_FALSE(parse_rfc3339(bad)) << bad;
}

TEST(HttpDate, The_fixed_form_of_RFC_9110_is_read) {
  EXPECT_EQ(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), 784'111'777 * kSecond);
  EXPECT_EQ(parse_http_date("Mon, 17 Aug 2026 09:30:00 GMT"),
            parse_rfc3339("2026-08-17T09:30:00Z"));
  EXPECT_EQ(parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT"),
            parse_rfc3339("2017-01-01T00:00:00Z"));
}

TEST(HttpDate, Other_forms_and_dates_that_are_none_are_refused) {
  for (const char* bad : {"", "120", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
                          "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Nov 1994 08:49:37 GMT ",
                          "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 31 Feb 1994 08:49:37 GMT",
                          "Sun, 06 Xxx 1994 08:49:37 GMT", "Xxx, 06 Nov 1994 08:49:37 GMT",
                          "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08-49-37 GMT",
                          "Sun, -6 Nov 1994 08:49:37 GMT"})
    EXPECT_FALSE(parse_http_date(bad)) << bad;
}

TEST(Duration, Units_and_their_sums_are_read) {
  EXPECT_EQ(parse_duration("0s"), Milliseconds(0));
  EXPECT_EQ(parse_duration("500ms"), Milliseconds(500));
  EXPECT_EQ(parse_duration("30s"), Milliseconds(30'000));
  EXPECT_EQ(parse_duration("5m"), Milliseconds(300'000));
  EXPECT_EQ(parse_duration("2h"), Milliseconds(7'200'000));
  EXPECT_EQ(parse_duration("7d"), Milliseconds(604'800'000));
  EXPECT_EQ(parse_duration("1m30s"), Milliseconds(90'000));
}

TEST(Duration, What_is_none_or_longer_than_ten_years_is_refused) {
  EXPECT_TRUE(parse_duration("3660d"));
  for (const char* bad : {"", "5", "s", "-1s", "+1s", "1.5s", "1 s", "1w", "1S", "s1", "1s2",
                          "3661d", "3660d1ms", "18446744073709551615ms", "99999999999999999999s"})
    EXPECT_FALSE(parse_duration(bad)) << bad;
}

TEST(Duration, The_short_form_is_read_back) {
  EXPECT_EQ(format_duration(Milliseconds(90'000)), "90s");
  EXPECT_EQ(format_duration(Milliseconds(500)), "500ms");
  for (const std::int64_t ms : {0, 1, 999, 1000, 1001, 86'400'000})
    EXPECT_EQ(parse_duration(format_duration(Milliseconds(ms))), Milliseconds(ms));
}

TEST(Duration, The_form_for_people_grows_with_the_span) {
  EXPECT_EQ(human_duration(0), "0 us");
  EXPECT_EQ(human_duration(999), "999 us");
  EXPECT_EQ(human_duration(431'000), "431 ms");
  EXPECT_EQ(human_duration(12'400'000), "12.4 s");
  EXPECT_EQ(human_duration(185 * kSecond), "3m05s");
  EXPECT_EQ(human_duration(7800 * kSecond), "2h10m");
}

TEST(Deadline, It_is_never_negative_and_fits_poll) {
  EXPECT_EQ(Deadline::in(Milliseconds(-5)).left(), Milliseconds(0));
  EXPECT_TRUE(Deadline::in(Milliseconds(0)).passed());
  const Deadline far = Deadline::in(Milliseconds(INT64_C(10) * 366 * 24 * 3600 * 1000));
  EXPECT_FALSE(far.passed());
  EXPECT_EQ(far.left(), Milliseconds(24 * 3600 * 1000));
}

TEST(Clock, The_monotonic_clock_never_goes_back) {
  const std::int64_t first = monotonic_now_us();
  EXPECT_GE(monotonic_now_us(), first);
}

TEST(Clock, The_boot_id_is_a_uuid_and_a_test_may_fake_it) {
  EXPECT_EQ(boot_id().size(), 36U);
  ::setenv("UPDAGENT_TEST_BOOT_ID", "another", 1);
  EXPECT_EQ(boot_id(), "another");
  ::unsetenv("UPDAGENT_TEST_BOOT_ID");
}

}  // namespace
}  // namespace updagent::base
