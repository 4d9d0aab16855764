#include "agent/base/text.hpp"

#include <gtest/gtest.h>

namespace updagent::base {
namespace {

TEST(Printable, Control_bytes_are_escaped_and_text_is_kept) {
  EXPECT_EQ(printable("plain \xC3\xA4 \xE2\x82\xAC \xF0\x9F\x98\x80"),
            "plain \xC3\xA4 \xE2\x82\xAC \xF0\x9F\x98\x80");
  EXPECT_EQ(printable("\x1b[31m\x07\x7f"), "\\x1b[31m\\x07\\x7f");
  EXPECT_EQ(printable(std::string("a\0b", 3)), "a\\x00b");
}

TEST(Printable, Marks_of_direction_and_line_separators_are_shown) {
  EXPECT_EQ(printable("a\xE2\x80\xAEtxt.exe"), "a\\xe2\\x80\\xaetxt.exe");  // U+202E
  EXPECT_EQ(printable("\xE2\x80\x8E\xE2\x80\x8F"), "\\xe2\\x80\\x8e\\xe2\\x80\\x8f");
  EXPECT_EQ(printable("\xE2\x81\xA6\xE2\x81\xA9"), "\\xe2\\x81\\xa6\\xe2\\x81\\xa9");
  EXPECT_EQ(printable("\xD8\x9C\xE2\x80\xA8"), "\\xd8\\x9c\\xe2\\x80\\xa8");
  // neighbours: joiners that scripts and emoji need, a dash, an arabic letter
  for (const char* kept :
       {"\xE2\x80\x8C", "\xE2\x80\x8D", "\xE2\x80\x94", "\xE2\x81\xA0", "\xD8\xA7"})
    EXPECT_EQ(printable(kept), kept);
}

TEST(Printable, C1_controls_in_UTF8_are_escaped_too) {
  EXPECT_EQ(printable("\xC2\x9B"
                      "31m"),
            "\\xc2\\x9b31m");
  EXPECT_EQ(printable("\xC2\xA0"), "\xC2\xA0");  // the first one that is not a control
}

TEST(Printable, Bytes_that_are_not_UTF8_are_escaped) {
  EXPECT_EQ(printable("\xFF\xC3"), "\\xff\\xc3");
  EXPECT_EQ(printable("\xED\xA0\x80"), "\\xed\\xa0\\x80");  // a surrogate
}

TEST(Printable, Lines_are_kept_only_when_asked_for) {
  EXPECT_EQ(printable("a\tb\nc\r"), "a\\x09b\\x0ac\\x0d");
  EXPECT_EQ(printable("a\tb\nc\r", true), "a\tb\nc\\x0d");
}

TEST(Utf8, The_whole_range_is_valid_and_what_RFC_3629_excludes_is_not) {
  for (const char* valid : {"", "a", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF",
                            "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"})
    EXPECT_TRUE(is_valid_utf8(valid)) << printable(valid);
  for (const char* invalid :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xC2", "\xE0\x9F\xBF", "\xE2\x82", "\xED\xA0\x80",
        "\xF0\x8F\xBF\xBF", "\xF0\x9F\x98", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "a\xFF"})
    EXPECT_FALSE(is_valid_utf8(invalid)) << printable(invalid);
}

TEST(Utf8, Each_invalid_byte_becomes_a_replacement_character) {
  EXPECT_EQ(to_valid_utf8("a\xFF\xE2\x82z"), "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz");
  EXPECT_EQ(to_valid_utf8("\xC3\xA4"), "\xC3\xA4");
}

TEST(Hex, It_goes_both_ways) {
  const std::vector<std::uint8_t> bytes = {0x00, 0x7f, 0xab, 0xff};
  EXPECT_EQ(to_hex(bytes), "007fabff");
  EXPECT_EQ(from_hex("007fABff"), bytes);
  EXPECT_EQ(from_hex(""), std::vector<std::uint8_t>());
}

TEST(Hex, Odd_lengths_and_other_characters_are_refused) {
  for (const char* bad : {"0", "0g", "0 ", "0x12", "-1"}) EXPECT_FALSE(from_hex(bad)) << bad;
}

TEST(ParseU64, Only_a_whole_decimal_number_that_fits) {
  EXPECT_EQ(parse_u64("0"), 0U);
  EXPECT_EQ(parse_u64("18446744073709551615"), UINT64_MAX);
  for (const char* bad : {"", "18446744073709551616", "-1", "+1", " 1", "1 ", "0x1", "1.0"})
    EXPECT_FALSE(parse_u64(bad)) << bad;
}

TEST(HumanBytes, Three_digits_and_a_binary_unit) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(812), "812 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.00 KiB");
  EXPECT_EQ(human_bytes(1'500'000), "1.43 MiB");
  EXPECT_EQ(human_bytes(15'000'000), "14.3 MiB");
  EXPECT_EQ(human_bytes(150'000'000), "143 MiB");
  EXPECT_EQ(human_bytes(UINT64_MAX), "16.0 EiB");
}

TEST(HumanBytes, What_rounds_up_takes_the_next_form) {
  EXPECT_EQ(human_bytes(1024 * 1024 - 1), "1.00 MiB");
  EXPECT_EQ(human_bytes(10 * 1024 - 1), "10.0 KiB");
  EXPECT_EQ(human_bytes(100 * 1024 - 1), "100 KiB");
}

TEST(ParseBytes, Binary_units_in_any_case_with_or_without_B) {
  EXPECT_EQ(parse_bytes("0"), 0U);
  EXPECT_EQ(parse_bytes("512"), 512U);
  EXPECT_EQ(parse_bytes("512b"), 512U);
  EXPECT_EQ(parse_bytes("200k"), 200U * 1024);
  EXPECT_EQ(parse_bytes("5M"), 5U * 1024 * 1024);
  EXPECT_EQ(parse_bytes("5mb"), 5U * 1024 * 1024);
  EXPECT_EQ(parse_bytes("2GiB"), 2ULL << 30);
  EXPECT_EQ(parse_bytes("3T"), 3ULL << 40);
  EXPECT_EQ(parse_bytes("18446744073709551615"), UINT64_MAX);
}

TEST(ParseBytes, A_fraction_of_a_unit) {
  EXPECT_EQ(parse_bytes("1.5GiB"), 3ULL << 29);
  EXPECT_EQ(parse_bytes("0.5k"), 512U);
  EXPECT_EQ(parse_bytes("0.125p"), 1ULL << 47);
}

TEST(ParseBytes, What_does_not_fit_or_is_no_size_is_refused) {
  for (const char* bad : {"", "k", "-1", "1.5", "1.k", ".5k", "1.2345k", "5X", "5Mx", "5 M",
                          "5Mib ", "18446744073709551616", "16384p", "18446744073709551615k"})
    EXPECT_FALSE(parse_bytes(bad)) << bad;
  EXPECT_EQ(parse_bytes("16382p"), 16382ULL << 50);
}

TEST(Nearest, A_typing_error_finds_its_word_and_nonsense_finds_none) {
  const std::vector<std::string> words = {"apply", "rollback", "status", "releases"};
  EXPECT_EQ(nearest("aply", words), "apply");
  EXPECT_EQ(nearest("rolback", words), "rollback");
  EXPECT_EQ(nearest("stauts", words), "status");
  EXPECT_EQ(nearest("frobnicate", words), std::nullopt);
  EXPECT_EQ(nearest("x", {}), std::nullopt);
}

TEST(Join, The_separator_stands_between_the_parts_only) {
  EXPECT_EQ(join(std::vector<std::string>{}, ", "), "");
  EXPECT_EQ(join(std::vector<std::string>{"a"}, ", "), "a");
  EXPECT_EQ(join(std::vector<std::string>{"a", "b"}, ", "), "a, b");
}

}  // namespace
}  // namespace updagent::base
