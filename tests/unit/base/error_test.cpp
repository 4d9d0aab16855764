#include "agent/base/error.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <set>

namespace updagent::base {
namespace {

std::string exit_codes_document() {
  std::ifstream file(UPDAGENT_SOURCE_DIR "/docs/exit-codes.md");
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Codes, The_table_has_the_order_of_the_enum_and_is_whole) {
  const auto& codes = all_codes();
  ASSERT_EQ(codes.size(), static_cast<std::size_t>(Code::damaged) + 1);
  for (std::size_t i = 0; i < codes.size(); ++i)
    EXPECT_EQ(static_cast<std::size_t>(codes[i].code), i) << codes[i].name;
}

TEST(Codes, Names_are_unique_and_meanings_are_given) {
  std::set<std::string_view> names;
  for (const CodeInfo& code : all_codes()) {
    EXPECT_TRUE(names.insert(code.name).second) << code.name;
    EXPECT_FALSE(code.meaning.empty()) << code.name;
    EXPECT_NE(code.exit, Exit::done) << code.name;
  }
}

TEST(Codes, The_document_lists_every_code_with_its_exit_and_meaning) {
  const std::string document = exit_codes_document();
  ASSERT_FALSE(document.empty());
  for (const CodeInfo& code : all_codes()) {
    const std::string row = "| `" + std::string(code.name) + "` | " +
                            std::to_string(static_cast<int>(code.exit)) + " | " +
                            std::string(code.meaning) + " | ";
    EXPECT_NE(document.find(row), std::string::npos) << "missing: " << row;
  }
}

TEST(Codes, The_document_lists_every_exit_and_no_other_code) {
  const std::string document = exit_codes_document();
  for (int exit = 0; exit <= static_cast<int>(Exit::damaged); ++exit)
    EXPECT_NE(document.find("| " + std::to_string(exit) + " | "), std::string::npos) << exit;
  std::size_t rows = 0;
  for (std::size_t at = document.find("\n| `"); at != std::string::npos;
       at = document.find("\n| `", at + 1))
    ++rows;
  EXPECT_EQ(rows, all_codes().size());
}

TEST(ErrorLine, Context_message_expected_and_got_stand_on_one_line) {
  const Error error = Error(Code::entry_digest, "the entry 'a' is damaged")
                          .expected("1234")
                          .got("5678")
                          .hint("fetch it again")
                          .with_context("reading 'x.tar.gz'")
                          .with_context("staging release '1.0.0'");
  EXPECT_EQ(error.line(),
            "staging release '1.0.0': reading 'x.tar.gz': the entry 'a' is damaged (expected 1234, "
            "got 5678)");
  EXPECT_EQ(error.code_name(), "entry_digest");
  EXPECT_EQ(error.exit(), Exit::refused);
}

TEST(ErrorLine, One_of_expected_and_got_is_enough) {
  EXPECT_EQ(Error(Code::usage, "m").expected("e").line(), "m (expected e)");
  EXPECT_EQ(Error(Code::usage, "m").got("g").line(), "m (got g)");
  EXPECT_EQ(Error(Code::usage, "m").line(), "m");
}

TEST(ErrorLine, A_hostile_name_cannot_drive_the_terminal) {
  EXPECT_EQ(Error(Code::path_unsafe, "the path 'a\x1b[2J\nb'").line(),
            "the path 'a\\x1b[2J\\x0ab'");
}

TEST(SystemError, A_full_disk_has_a_code_of_its_own) {
  EXPECT_EQ(system_error(ENOSPC, "cannot write").code(), Code::no_space);
  EXPECT_EQ(system_error(EDQUOT, "cannot write").code(), Code::no_space);
  EXPECT_EQ(system_error(EIO, "cannot write").code(), Code::io_error);
  EXPECT_EQ(system_error(EIO, "cannot write").line(), "cannot write: Input/output error");
  EXPECT_EQ(system_error(99999, "cannot write").line(), "cannot write: unknown error");
}

Status fails() {
  return Error(Code::busy, "inner");
}
Status tries() {
  UPD_TRY_CONTEXT(fails(), "outer");
  return ok();
}
Result<int> assigns() {
  UPD_ASSIGN(const int value, Result<int>(41));
  UPD_TRY(tries());
  return value + 1;
}

TEST(Result, Errors_pass_through_with_their_context) {
  const Result<int> result = assigns();
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().line(), "outer: inner");
}

}  // namespace
}  // namespace updagent::base
