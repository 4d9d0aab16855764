#include "agent/launch/notify_message.hpp"

#include <gtest/gtest.h>

#include <string>

namespace {

using namespace updagent::launch;

NotifyMessage parsed(std::string_view text) {
  auto message = parse_notify_message(text);
  EXPECT_TRUE(message.has_value()) << message.error().line();
  return message ? *message : NotifyMessage{};
}

TEST(NotifyMessage, Reads_what_a_service_says_when_it_is_ready) {
  const auto message = parsed("READY=1\nSTATUS=serving 3 users\nMAINPID=4711\n");
  EXPECT_EQ(message.lifecycle, Lifecycle::ready);
  EXPECT_EQ(message.status, "serving 3 users");
  EXPECT_EQ(message.main_pid, 4711);
  EXPECT_TRUE(message.malformed.empty());
}

TEST(NotifyMessage, Reads_every_other_assignment_of_the_protocol) {
  const auto message = parsed(
      "RELOADING=1\nMONOTONIC_USEC=8430000\nWATCHDOG=1\nWATCHDOG_USEC=20000000\n"
      "EXTEND_TIMEOUT_USEC=30000000\nERRNO=2\nFDSTORE=1\nFDNAME=conn:x\nFDPOLL=0");
  EXPECT_EQ(message.lifecycle, Lifecycle::reloading);
  EXPECT_EQ(message.monotonic_usec, 8'430'000U);
  EXPECT_EQ(message.watchdog, WatchdogSign::alive);
  EXPECT_EQ(message.watchdog_usec, 20'000'000U);
  EXPECT_EQ(message.extend_timeout_usec, 30'000'000U);
  EXPECT_EQ(message.errno_value, 2);
  EXPECT_TRUE(message.store);
  EXPECT_FALSE(message.store_watch);
  EXPECT_EQ(message.store_name, "") << "a colon divides names in LISTEN_FDNAMES";
  EXPECT_EQ(message.malformed, std::vector<std::string>{"FDNAME=conn:x"});
}

TEST(NotifyMessage, Of_several_states_stopping_wins_and_ready_beats_reloading) {
  EXPECT_EQ(parsed("READY=1\nRELOADING=1").lifecycle, Lifecycle::ready);
  EXPECT_EQ(parsed("RELOADING=1\nREADY=1").lifecycle, Lifecycle::ready);
  EXPECT_EQ(parsed("STOPPING=1\nREADY=1").lifecycle, Lifecycle::stopping);
  EXPECT_EQ(parsed("STATUS=x").lifecycle, Lifecycle::unchanged);
}

TEST(NotifyMessage, A_malformed_value_never_takes_effect_and_is_named) {
  for (const char* line :
       {"READY=0", "READY=yes", "STOPPING=", "MAINPID=0", "MAINPID=-1", "MAINPID=12x",
        "MAINPID=99999999999999999999", "MAINPID=4194305", "WATCHDOG=2", "WATCHDOG_USEC=soon",
        "EXTEND_TIMEOUT_USEC=-1", "MONOTONIC_USEC= 1", "ERRNO=4096", "ERRNO=ENOENT", "BARRIER=0",
        "FDSTORE=2", "FDPOLL=yes", "FDNAME=", "RELOADING=10"}) {
    const auto message = parsed(line);
    EXPECT_EQ(message.malformed, std::vector<std::string>{line});
    EXPECT_EQ(message.lifecycle, Lifecycle::unchanged) << line;
    EXPECT_FALSE(message.main_pid || message.watchdog_usec || message.extend_timeout_usec ||
                 message.monotonic_usec || message.errno_value)
        << line;
    EXPECT_EQ(message.watchdog, WatchdogSign::none) << line;
    EXPECT_FALSE(message.store || message.barrier) << line;
    EXPECT_TRUE(message.store_watch) << line;
  }
}

TEST(NotifyMessage, A_malformed_value_leaves_the_other_lines_alone) {
  const auto message = parsed("MAINPID=x\nREADY=1");
  EXPECT_EQ(message.lifecycle, Lifecycle::ready);
  EXPECT_EQ(message.malformed.size(), 1U);
}

TEST(NotifyMessage, The_first_of_two_assignments_counts_even_when_it_is_malformed) {
  EXPECT_EQ(parsed("MAINPID=5\nMAINPID=6").main_pid, 5);
  EXPECT_FALSE(parsed("MAINPID=x\nMAINPID=6").main_pid);
}

TEST(NotifyMessage, Unknown_names_and_lines_without_one_are_left_out_in_silence) {
  const auto message = parsed("NOTIFYACCESS=all\nX_OWN=1\nnonsense\n\nREADY=1");
  EXPECT_TRUE(message.malformed.empty());
  EXPECT_EQ(message.lifecycle, Lifecycle::ready);
}

TEST(NotifyMessage, A_status_drives_no_terminal_and_stays_short) {
  EXPECT_EQ(parsed("STATUS=a\x1b[31mred\x07\x7f\tb\xc2\x9b"
                   "c")
                .status,
            "a[31mredbc");
  EXPECT_EQ(parsed("STATUS=gr\xc3\xbc\xc3\x9f"
                   "e")
                .status,
            "gr\xc3\xbc\xc3\x9f"
            "e");
  EXPECT_EQ(parsed("STATUS=\xff").status, "\xef\xbf\xbd");
  EXPECT_EQ(parsed("STATUS=").status, "") << "an empty one takes the status back";
  std::string long_one = "STATUS=";
  for (int i = 0; i < 600; ++i) long_one += "\xc3\xbc";
  const auto status = parsed(long_one).status.value();
  EXPECT_EQ(status.size(), kMaxStatusBytes);
  EXPECT_EQ(static_cast<unsigned char>(status[status.size() - 2]), 0xC3U) << "not cut in two";
}

TEST(NotifyMessage, A_longer_time_is_granted_only_up_to_its_bound) {
  EXPECT_EQ(parsed("EXTEND_TIMEOUT_USEC=18446744073709551615").extend_timeout_usec, kMaxExtendUsec);
  EXPECT_EQ(parsed("WATCHDOG_USEC=18446744073709551615").watchdog_usec, kMaxWatchdogUsec);
  EXPECT_EQ(parsed("EXTEND_TIMEOUT_USEC=0").extend_timeout_usec, 0U);
}

TEST(NotifyMessage, A_barrier_comes_alone_or_is_refused_as_a_whole) {
  EXPECT_TRUE(parsed("BARRIER=1").barrier);
  EXPECT_TRUE(parsed("BARRIER=1\n").barrier);
  for (const char* text : {"BARRIER=1\nREADY=1", "STATUS=x\nBARRIER=1", "BARRIER=1\nX"})
    EXPECT_FALSE(parse_notify_message(text).has_value()) << text;
}

TEST(NotifyMessage, Descriptors_are_removed_only_by_a_valid_name) {
  EXPECT_TRUE(parsed("FDSTOREREMOVE=1\nFDNAME=state").store_remove);
  for (const char* text : {"FDSTOREREMOVE=1", "FDSTOREREMOVE=1\nFDNAME=a:b"}) {
    const auto message = parsed(text);
    EXPECT_FALSE(message.store_remove) << text;
    EXPECT_FALSE(message.malformed.empty()) << text;
  }
}

TEST(NotifyMessage, A_name_of_a_descriptor_is_short_printable_ascii_without_a_colon) {
  EXPECT_TRUE(is_store_name("state"));
  EXPECT_TRUE(is_store_name(std::string(kMaxStoreNameBytes, 'n')));
  EXPECT_FALSE(is_store_name(std::string(kMaxStoreNameBytes + 1, 'n')));
  for (const char* name : {"", "a:b",
                           "a\x01"
                           "b",
                           "a\x7f", "\xc3\xbc"})
    EXPECT_FALSE(is_store_name(name)) << name;
}

TEST(NotifyMessage, A_datagram_is_bounded_in_bytes_and_lines) {
  EXPECT_TRUE(parse_notify_message(std::string(kMaxNotifyBytes, 'x')).has_value());
  EXPECT_FALSE(parse_notify_message(std::string(kMaxNotifyBytes + 1, 'x')).has_value());
  std::string lines;
  for (std::size_t i = 0; i < kMaxNotifyLines; ++i) lines += "x\n\n";
  EXPECT_TRUE(parse_notify_message(lines).has_value());
  EXPECT_FALSE(parse_notify_message(lines + "x").has_value());
}

TEST(NotifyMessage, A_zero_byte_is_taken_at_the_end_and_nowhere_else) {
  EXPECT_EQ(parsed(std::string_view("READY=1\0", 8)).lifecycle, Lifecycle::ready);
  EXPECT_FALSE(parse_notify_message(std::string_view("READY=1\0\nX=1", 12)).has_value());
  EXPECT_TRUE(parse_notify_message("").has_value());
}

TEST(NotifyMessage, A_malformed_line_is_shown_short_and_printable) {
  const auto message = parsed("MAINPID=\x1b]0;" + std::string(500, 'z'));
  ASSERT_EQ(message.malformed.size(), 1U);
  EXPECT_LT(message.malformed[0].size(), 120U);
  EXPECT_EQ(message.malformed[0].find('\x1b'), std::string::npos);
}

}  // namespace
