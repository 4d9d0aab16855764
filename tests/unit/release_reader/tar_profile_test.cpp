#include "agent/release/tar_profile.hpp"

#include <gtest/gtest.h>

#include "tests/unit/release_reader/sample.hpp"

namespace updagent::testing {
namespace {

using base::Code;
using release::TarProfile;

base::Status check(std::string_view archive, std::size_t piece) {
  TarProfile profile;
  while (!archive.empty()) {
    const std::string_view bytes = archive.substr(0, piece);
    archive.remove_prefix(bytes.size());
    const std::span data(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    if (profile.feed(data) != data.size()) {
      EXPECT_TRUE(profile.failure());
      EXPECT_FALSE(profile.finish());
      return *profile.failure();
    }
    EXPECT_FALSE(profile.failure());
  }
  return profile.finish();
}

// The answer may not depend on how the bytes were cut.
base::Status check(const std::string& archive) {
  const base::Status whole = check(archive, archive.size() + 1);
  for (const std::size_t piece : {1UL, 7UL, 511UL, 512UL, 513UL, 4096UL}) {
    const base::Status cut = check(archive, piece);
    EXPECT_EQ(whole.has_value(), cut.has_value()) << piece;
    if (!whole && !cut) {
      EXPECT_EQ(whole.error().line(), cut.error().line()) << piece;
    }
  }
  return whole;
}

const std::string kFile = tar_entry(file_fields("a", 3), "abc");
const std::string kLongPath = std::string(120, 'p');
const std::string kPaxFile = pax_header(pax_record("path", kLongPath)) + kFile;

TEST(Tar_profile, lets_good_archives_through_and_gives_their_headers) {
  const std::string archive =
      tar_entry(directory_fields("d/")) + kFile + kPaxFile + end_of_archive();
  EXPECT_TRUE(check(archive));
  TarProfile profile;
  const std::span data(reinterpret_cast<const std::uint8_t*>(archive.data()), archive.size());
  ASSERT_EQ(profile.feed(data), data.size());
  EXPECT_EQ(profile.take_header()->path, "d");
  EXPECT_EQ(profile.take_header()->path, "a");
  EXPECT_EQ(profile.take_header()->path, kLongPath);
  EXPECT_FALSE(profile.take_header());
}

TEST(Tar_profile, asks_for_exactly_two_zero_blocks_at_the_end) {
  const std::string zeros(512, '\0');
  EXPECT_TRUE(check(kFile + zeros + zeros));
  expect_refused(check(kFile), Code::artifact_damaged, "two zero blocks", "the end");
  expect_refused(check(kFile + zeros), Code::artifact_damaged, "two zero blocks", "the end");
  expect_refused(check(kFile + zeros + zeros + zeros), Code::artifact_damaged, "then nothing",
                 "more");
  expect_refused(check(kFile + zeros + zeros + "x"), Code::artifact_damaged, "then nothing",
                 "more");
  expect_refused(check(kFile + zeros + kFile + zeros + zeros), Code::artifact_damaged,
                 "two zero blocks", "one");
}

TEST(Tar_profile, notices_every_truncation) {
  const std::string archive = kFile + kPaxFile + end_of_archive();
  for (std::size_t size = 0; size < archive.size(); size += 100)
    expect_refused(check(archive.substr(0, size), 4096), Code::artifact_damaged, "two zero blocks",
                   "the end");
}

TEST(Tar_profile, asks_for_zero_bytes_as_padding) {
  expect_refused(check(tar_block(file_fields("a", 3)) + to_blocks("abc", 'x') + end_of_archive()),
                 Code::header_unsupported, "zero bytes", "other");
  std::string pax = pax_header(pax_record("path", kLongPath));
  pax.back() = 'x';
  expect_refused(check(pax + kFile + end_of_archive()), Code::header_unsupported, "zero bytes",
                 "other");
}

TEST(Tar_profile, takes_one_pax_header_before_an_entry_and_none_elsewhere) {
  const std::string pax = pax_header(pax_record("path", kLongPath));
  expect_refused(check(pax + pax + kFile + end_of_archive()), Code::header_unsupported, "",
                 "behind a pax header");
  const auto alone = check(kFile + pax + end_of_archive());
  expect_refused(alone, Code::header_unsupported, "", "");
  expect_refused(check(pax_header(pax_record("path", kLongPath), 'g') + kFile + end_of_archive()),
                 Code::header_unsupported, "", "a pax global header");
}

TEST(Tar_profile, bounds_a_pax_header_before_it_reads_it) {
  TarFields fields = file_fields("pax", release::kMaxPaxBytes + 1);
  fields.typeflag = 'x';
  expect_refused(check(tar_block(fields)), Code::header_unsupported, "16384", "16385");
  fields.size = octal_field(0, 12);
  expect_refused(check(tar_block(fields)), Code::header_unsupported, "1 to", "0");
}

TEST(Tar_profile, applies_the_same_rules_to_the_header_of_pax_records) {
  const std::string records = pax_record("path", kLongPath);
  TarFields fields = file_fields("pax", records.size());
  fields.typeflag = 'x';
  EXPECT_TRUE(check(tar_entry(fields, records) + kFile + end_of_archive()));
  fields.uid = octal_field(7, 8);
  expect_refused(check(tar_entry(fields, records) + kFile + end_of_archive()),
                 Code::header_unsupported, "0", "7");
}

TEST(Tar_profile, names_the_entry_in_what_it_refuses) {
  TarFields fields = file_fields("bin/tool", 0);
  fields.uid = octal_field(1000, 8);
  EXPECT_EQ(check(tar_block(fields)).error().line(),
            "entry 'bin/tool': tar header field uid (expected 0, got 1000)");
}

}  // namespace
}  // namespace updagent::testing
