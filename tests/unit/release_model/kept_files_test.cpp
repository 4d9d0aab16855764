#include "agent/release/kept_files.hpp"

#include <gtest/gtest.h>

#include "support.hpp"

namespace updagent::release {
namespace {

using testing::file;
using testing::TextSource;

// `letter` stands for the contents.
EntryView file_of(std::string_view path, char letter, std::int64_t mtime = 1) {
  EntryView entry = file(path, 10);
  entry.sha256.bytes.fill(static_cast<std::uint8_t>(letter));
  entry.mtime = mtime;
  return entry;
}

EntryTable table_of(const std::vector<EntryView>& entries) {
  EntryTable table;
  for (const EntryView& entry : entries) EXPECT_OK(table.add(entry));
  return table;
}

std::string manifest_of(const std::vector<EntryView>& entries) {
  Manifest manifest = testing::small_manifest();
  manifest.entries = table_of(entries);
  return testing::write(manifest);
}

bool same_time(const EntryView& kept, const EntryView& wanted) {
  return kept.mtime == wanted.mtime;
}

using Paths = std::vector<std::string_view>;

TEST(KeptFiles, Files_that_stayed_and_files_that_moved_are_found_by_their_digest) {
  const EntryTable table = table_of({file_of("a", 'a'), file_of("b", 'b'), file_of("c2", 'c'),
                                     file_of("d", 'D'), file("empty", 0)});
  const WantedFiles wanted(table);
  TextSource kept(manifest_of({file_of("a", 'a'), file_of("b2", 'b'), file_of("c1", 'c'),
                               file_of("d", 'd'), file("empty", 0)}));
  const auto found = KeptFiles::find(wanted, kept, same_time);
  ASSERT_TRUE(found.has_value()) << found.error().line();
  EXPECT_EQ(found->candidates(table.at(0)), Paths{"a"});
  EXPECT_EQ(found->candidates(table.at(1)), Paths{"b2"});
  EXPECT_EQ(found->candidates(table.at(2)), Paths{"c1"});
  EXPECT_EQ(found->candidates(table.at(3)), Paths{});  // other contents under the same path
  EXPECT_EQ(found->candidates(table.at(4)), Paths{});
}

TEST(KeptFiles, The_one_at_the_same_path_comes_first_and_copies_after_it) {
  const EntryTable table =
      table_of({file_of("a", 'x'), file_of("b", 'x'), file_of("new", 'x'), file_of("z", 'x')});
  const WantedFiles wanted(table);
  TextSource kept(manifest_of({file_of("a", 'x'), file_of("b", 'x'), file_of("old", 'x')}));
  const auto found = KeptFiles::find(wanted, kept, same_time);
  ASSERT_TRUE(found.has_value()) << found.error().line();
  EXPECT_EQ(found->candidates(table.at(1)), (Paths{"b", "a", "old"}));
  EXPECT_EQ(found->candidates(table.at(2)), (Paths{"a", "b", "old"}));
}

TEST(KeptFiles, What_differs_in_more_than_its_bytes_is_a_candidate_only_where_it_is_alike) {
  const EntryTable table = table_of({file_of("a", 'x', 1), file_of("b", 'x', 2)});
  const WantedFiles wanted(table);
  const std::string text = manifest_of({file_of("a", 'x', 2), file_of("b", 'x', 3)});
  TextSource kept(text);
  const auto found = KeptFiles::find(wanted, kept, same_time);
  ASSERT_TRUE(found.has_value()) << found.error().line();
  EXPECT_EQ(found->candidates(table.at(0)), Paths{});
  EXPECT_EQ(found->candidates(table.at(1)), Paths{"a"});
  TextSource again(text);
  const auto any = KeptFiles::find(wanted, again, [](const auto&, const auto&) { return true; });
  ASSERT_TRUE(any.has_value()) << any.error().line();
  EXPECT_EQ(any->candidates(table.at(0)), (Paths{"a", "b"}));
}

TEST(KeptFiles, A_thousand_copies_give_a_few_candidates) {
  std::vector<std::string> names;
  for (int i = 1000; i < 2000; ++i) names.push_back(std::to_string(i));
  std::vector<EntryView> kept_entries;
  for (const std::string& name : names) kept_entries.push_back(file_of(name, 'x'));
  const EntryTable table = table_of({file_of("1500", 'x'), file_of("new", 'x')});
  const WantedFiles wanted(table);
  TextSource kept(manifest_of(kept_entries));
  const auto found = KeptFiles::find(wanted, kept, same_time);
  ASSERT_TRUE(found.has_value()) << found.error().line();
  EXPECT_EQ(found->candidates(table.at(0)), (Paths{"1500", "1000", "1001", "1002"}));
  EXPECT_EQ(found->candidates(table.at(1)), (Paths{"1500", "1000", "1001", "1002"}));
}

TEST(KeptFiles, What_is_remembered_of_moved_files_is_bounded) {
  constexpr std::size_t kFiles = 20'000;
  const std::string folder(200, 'f');
  std::vector<std::string> names;
  std::vector<EntryView> before;
  std::vector<EntryView> after;
  for (std::size_t i = 0; i < kFiles; ++i) {
    names.push_back(folder + std::to_string(100'000 + i));
    names.push_back(std::to_string(100'000 + i));
  }
  for (std::size_t i = 0; i < kFiles; ++i) {
    EntryView entry = file_of(names[2 * i], 'x');
    entry.sha256.bytes[0] = static_cast<std::uint8_t>(i);
    entry.sha256.bytes[1] = static_cast<std::uint8_t>(i >> 8);
    before.push_back(entry);
    entry.path = names[2 * i + 1];
    after.push_back(entry);
  }
  const EntryTable table = table_of(after);
  const WantedFiles wanted(table);
  TextSource kept(manifest_of(before));
  const auto found = KeptFiles::find(wanted, kept, same_time);
  ASSERT_TRUE(found.has_value()) << found.error().line();
  EXPECT_EQ(found->candidates(table.at(0)), Paths{names[0]});
  EXPECT_EQ(found->candidates(table.at(kFiles - 1)), Paths{});
  EXPECT_LE(found->memory_bytes(), 2 * KeptFiles::kMaxMovedBytes);
}

TEST(KeptFiles, A_kept_manifest_that_cannot_be_read_is_an_error) {
  const EntryTable table = table_of({file_of("a", 'a')});
  const WantedFiles wanted(table);
  TextSource kept("{");
  EXPECT_FALSE(KeptFiles::find(wanted, kept, same_time).has_value());
}

}  // namespace
}  // namespace updagent::release
