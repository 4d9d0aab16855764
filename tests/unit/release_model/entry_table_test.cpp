#include <gtest/gtest.h>

#include "agent/release/manifest.hpp"
#include "support.hpp"

namespace updagent::release {
namespace {

using base::Code;
using testing::directory;
using testing::expect_error;
using testing::file;
using testing::hardlink;
using testing::symlink;

EntryTable table_of(std::initializer_list<EntryView> entries) {
  EntryTable table;
  for (const EntryView& entry : entries) EXPECT_OK(table.add(entry));
  return table;
}

// The entry is refused and leaves the table as it was.
void expect_refused(EntryTable table, const EntryView& entry, Code code, std::string_view line) {
  const std::size_t before = table.size();
  expect_error(table.add(entry), code, line);
  EXPECT_EQ(table.size(), before);
}

EntryView with_mode(EntryView entry, unsigned mode) {
  entry.mode = static_cast<std::uint16_t>(mode);
  return entry;
}

TEST(EntryTable, Gives_back_what_was_added) {
  const EntryTable table =
      table_of({directory("bin"), file("bin/x", 7), symlink("cur", "bin"), hardlink("y", "bin/x")});
  ASSERT_EQ(table.size(), 4U);
  EXPECT_EQ(table.total_file_bytes(), 7U);
  const EntryView x = table.at(1);
  EXPECT_EQ(x.path, "bin/x");
  EXPECT_EQ(x.type, EntryType::file);
  EXPECT_EQ(x.mode, 0644);
  EXPECT_EQ(x.size, 7U);
  EXPECT_EQ(x.sha256, base::sha256("bin/x"));
  EXPECT_EQ(x.link_target, "");
  EXPECT_EQ(table.at(2).link_target, "bin");
  EXPECT_EQ(table.at(3).link_target, "bin/x");
  EXPECT_EQ(table.find("bin/x"), 1U);
  EXPECT_EQ(table.find("y"), 3U);
  for (const std::string_view absent : {"", "a", "bin/", "bin/xx", "z"})
    EXPECT_FALSE(table.find(absent).has_value()) << absent;
}

TEST(EntryTable, Paths_that_are_not_portable_are_refused) {
  const auto refused = [](std::string_view path, std::string_view line) {
    expect_refused(EntryTable(), file(path), Code::path_unsafe, line);
  };
  refused("", "the path '' is not portable (expected 1 to 4095 bytes, got 0)");
  refused("/etc", "the path '/etc' is not portable (expected a relative path, got a leading '/')");
  refused("a/", "the path 'a/' is not portable (expected no '/' at the end, got one)");
  refused("a//b",
          "the path 'a//b' is not portable (expected components between single slashes, got an "
          "empty one)");
  refused(".", "the path '.' is not portable (expected no '.' and no '..', got '.')");
  refused("a/../b", "the path 'a/../b' is not portable (expected no '.' and no '..', got '..')");
  refused("a/..", "the path 'a/..' is not portable (expected no '.' and no '..', got '..')");
  refused("a\nb",
          "the path 'a\\x0ab' is not portable (expected UTF-8 without control bytes, got a control "
          "byte)");
  refused(std::string_view("a\0b", 3),
          "the path 'a\\x00b' is not portable (expected UTF-8 without control bytes, got a control "
          "byte)");
  refused("a\x7F",
          "the path 'a\\x7f' is not portable (expected UTF-8 without control bytes, got a control "
          "byte)");
  refused(
      "a\xC2\x9B",
      "the path 'a\\xc2\\x9b' is not portable (expected UTF-8 without control bytes, got a control "
      "character)");
  EXPECT_OK(EntryTable().add(file("a\xC2\xA0")));
  refused("a\xFF",
          "the path 'a\\xff' is not portable (expected UTF-8 without control bytes, got bytes that "
          "are not UTF-8)");
  refused(".updagent",
          "the path '.updagent' is not portable (expected nothing in '.updagent', got an entry of "
          "the release there)");
  refused(".updagent/x",
          "the path '.updagent/x' is not portable (expected nothing in '.updagent', got an entry "
          "of the release there)");
}

TEST(EntryTable, Paths_are_bounded_in_length_depth_and_component) {
  EXPECT_OK(EntryTable().add(file(std::string(255, 'a'))));
  const std::string long_name(256, 'a');
  expect_refused(EntryTable(), file(long_name), Code::path_unsafe,
                 "the path '" + std::string(120, 'a') +
                     "...' is not portable (expected components of at most 255 bytes, got 256)");
  EntryTable table;
  std::string path = "d";
  for (int depth = 1; depth < 200; ++depth, path += "/d") ASSERT_TRUE(table.add(directory(path)));
  EXPECT_OK(table.add(directory(path)));
  expect_error(table.add(directory(path + "/d")), Code::path_unsafe,
               "the path '" + (path + "/d").substr(0, 120) +
                   "...' is not portable (expected at most 200 components, got 201)");
  std::string too_long;
  while (too_long.size() <= kMaxPathBytes) too_long += std::string(250, 'b') + '/';
  too_long += 'b';
  expect_refused(EntryTable(), file(too_long), Code::path_unsafe,
                 "the path '" + std::string(120, 'b') +
                     "...' is not portable (expected 1 to 4095 bytes, got " +
                     std::to_string(too_long.size()) + ")");
}

TEST(EntryTable, Unusual_but_harmless_names_are_taken) {
  EXPECT_OK(table_of({file("...")}).check_twins());
  table_of({file("-rf"), file(".hidden"), file(".updagent2"), file("C:\\x"), file("a b"),
            file("a\"b"), file("\xC3\xBC")});
}

TEST(EntryTable, Order_and_duplicates) {
  expect_refused(
      table_of({file("b")}), file("a"), Code::manifest_invalid,
      "the entries are not sorted (expected a path after 'b' in the order of bytes, got 'a')");
  expect_refused(table_of({file("b")}), file("b"), Code::path_unsafe,
                 "the path 'b' stands twice (expected each path once, got two entries)");
  // bytes, not characters of a locale: '-' is before '/', and UTF-8 after ASCII
  table_of({directory("a"), file("a-b"), file("a/b"), file("z"), file("\xC3\xA4")});
}

TEST(EntryTable, A_parent_is_a_listed_directory) {
  expect_refused(
      table_of({}), file("a/b"), Code::manifest_invalid,
      "'a/b' lies in a directory that is not listed (expected an entry 'a' before it, got none)");
  expect_refused(table_of({directory("a"), file("a/x")}), file("a/x/y"), Code::path_unsafe,
                 "'a/x/y' lies below something that is not a directory (expected 'a/x' as a "
                 "directory, got a file)");
  expect_refused(table_of({directory("d"), symlink("l", "d")}), file("l/x"), Code::path_unsafe,
                 "'l/x' lies below something that is not a directory (expected 'l' as a directory, "
                 "got a symlink)");
  expect_refused(table_of({file("f"), hardlink("h", "f")}), file("h/x"), Code::path_unsafe,
                 "'h/x' lies below something that is not a directory (expected 'h' as a directory, "
                 "got a hardlink)");
  // a neighbour between a directory and its children
  table_of({directory("a"), directory("a-b"), file("a-b/x"), file("a/x"), file("a/y")});
}

TEST(EntryTable, Modes) {
  const auto refused = [](const EntryView& entry, std::string_view line) {
    expect_refused(EntryTable(), entry, Code::mode_unsafe, line);
  };
  refused(with_mode(file("f"), 04755),
          "the mode of 'f' is not allowed (expected permission bits 0777 alone, got 4755)");
  refused(with_mode(file("f"), 02755),
          "the mode of 'f' is not allowed (expected permission bits 0777 alone, got 2755)");
  refused(with_mode(directory("d"), 01777),
          "the mode of 'd' is not allowed (expected permission bits 0777 alone, got 1777)");
  refused(
      with_mode(file("f"), 0244),
      "the mode of 'f' is not allowed (expected a file that its owner can read (0400), got 0244)");
  refused(with_mode(directory("d"), 0400),
          "the mode of 'd' is not allowed (expected a directory that its owner can read and search "
          "(0500), got 0400)");
  refused(with_mode(symlink("l", "x"), 0755),
          "the mode of 'l' is not allowed (expected 0777 for a symlink, got 0755)");
  for (const unsigned mode : {0400U, 0777U, 0644U})
    EXPECT_OK(EntryTable().add(with_mode(file("f"), mode)));
  EXPECT_OK(EntryTable().add(with_mode(directory("d"), 0500)));
}

TEST(EntryTable, Values_that_do_not_belong_to_the_type_are_refused) {
  EntryView sized = directory("d");
  sized.size = 1;
  expect_refused(EntryTable(), sized, Code::manifest_invalid,
                 "'d' has a size or a digest (expected neither for a directory, got 1 bytes)");
  EntryView hashed = symlink("l", "x");
  hashed.sha256 = base::sha256("x");
  expect_refused(EntryTable(), hashed, Code::manifest_invalid,
                 "'l' has a size or a digest (expected neither for a symlink, got 0 bytes)");
  EntryView linked = file("f");
  linked.link_target = "x";
  expect_refused(EntryTable(), linked, Code::manifest_invalid,
                 "'f' has a link target (expected none for a file, got 'x')");
  EntryView old = file("f");
  old.mtime = -1;
  expect_refused(EntryTable(), old, Code::manifest_invalid,
                 "the mtime of 'f' is out of range (expected 0 to 8589934591, got -1)");
  old.mtime = kMaxTime + 1;
  expect_refused(EntryTable(), old, Code::manifest_invalid,
                 "the mtime of 'f' is out of range (expected 0 to 8589934591, got 8589934592)");
}

TEST(EntryTable, The_sum_of_all_sizes_is_bounded) {
  EntryTable table = table_of({file("a", kMaxTotalBytes - 1)});
  EXPECT_OK(table.add(file("b", 1)));
  expect_error(table.add(file("c", 1)), Code::manifest_too_large,
               "the files are too large together (expected at most 2^53 bytes, got more with 'c' "
               "of 1 bytes)");
  expect_error(EntryTable().add(file("a", UINT64_MAX)), Code::manifest_too_large,
               "the files are too large together (expected at most 2^53 bytes, got more with 'a' "
               "of 18446744073709551615 bytes)");
}

TEST(EntryTable, A_hard_link_repeats_an_earlier_file) {
  const auto refused = [](const EntryTable& table, std::string_view target) {
    expect_refused(table, hardlink("h", target), Code::link_unsafe,
                   "the hard link 'h' has no file to share (expected the path of an earlier file "
                   "entry, got '" +
                       std::string(target) + "')");
  };
  const EntryTable table =
      table_of({directory("d"), file("d/f"), hardlink("d/g", "d/f"), symlink("d/l", "f")});
  for (const std::string_view target :
       {"", "x", "d", "d/l", "d/g", "h", "/d/f", "d/../d/f", "../d/f", "d/f/"})
    refused(table, target);
  expect_refused(table, with_mode(hardlink("h", "d/f"), 0755), Code::manifest_invalid,
                 "the hard link 'h' differs from its file (expected mode 0644 and mtime "
                 "1718730000, got mode 0755 and mtime 1718730000)");
  EntryView late = hardlink("h", "d/f");
  late.mtime += 1;
  expect_refused(table, late, Code::manifest_invalid,
                 "the hard link 'h' differs from its file (expected mode 0644 and mtime "
                 "1718730000, got mode 0644 and mtime 1718730001)");
}

TEST(EntryTable, A_symlink_that_leaves_the_tree_as_it_is_spelt_is_refused) {
  const EntryTable table = table_of({directory("a"), directory("a/b")});
  const auto refused = [&](std::string_view path, std::string_view target) {
    expect_refused(table, symlink(path, target), Code::link_unsafe,
                   "the link '" + std::string(path) +
                       "' is not safe (expected a target inside the release, got '" +
                       std::string(target) + "')");
  };
  refused("l", "..");
  refused("l", "../x");
  refused("l", "a/../..");
  refused("l", "a/./..//../x");
  refused("a/b/l", "../../..");
  refused("a/b/l", "../../../etc/passwd");
  expect_refused(table, symlink("l", "/etc/passwd"), Code::link_unsafe,
                 "the link 'l' is not safe (expected a relative target, got '/etc/passwd')");
  expect_refused(table, symlink("l", ""), Code::link_unsafe,
                 "the link 'l' is not safe (expected a target of 1 to 4095 bytes, got 0)");
  expect_refused(table, symlink("l", std::string(4096, 'x')), Code::link_unsafe,
                 "the link 'l' is not safe (expected a target of 1 to 4095 bytes, got 4096)");
  expect_refused(table, symlink("l", "a\x1B[2J"), Code::link_unsafe,
                 "the link 'l' is not safe (expected a target in UTF-8 without control bytes, got "
                 "a control byte)");
  expect_refused(table, symlink("l", "a\xC0\x80"), Code::link_unsafe,
                 "the link 'l' is not safe (expected a target in UTF-8 without control bytes, got "
                 "bytes that are not UTF-8)");
  for (const std::string_view target :
       {"..", "../..", "../../a", "./x", "x/../y", "missing/../../../a/b"})
    EXPECT_OK(EntryTable(table).add(symlink("a/b/l", target)));
}

TEST(EntryTable, A_symlink_may_point_at_another_one_inside_the_tree) {
  EXPECT_OK(table_of({directory("a"), file("a/f"), symlink("l", "a"), symlink("m", "l/f")})
                .check_links());
  EXPECT_OK(table_of({symlink("l", "nowhere"), symlink("m", "l/x/../y")}).check_links());
  EXPECT_OK(table_of({directory("a"), symlink("a/self", "."), symlink("a/up", "self/../a")})
                .check_links());
}

TEST(EntryTable, A_symlink_that_leaves_the_tree_through_another_one_is_refused) {
  // lexically 'd/e/l/..' is 'd/e', but the kernel goes up from where 'l' leads
  const auto refused = [](const EntryTable& table, std::string_view path, std::string_view target) {
    expect_error(
        table.check_links(), Code::link_unsafe,
        "the link '" + std::string(path) +
            "' is not safe (expected a target inside the release, other links followed, got '" +
            std::string(target) + "')");
  };
  refused(table_of({symlink("here", "."), symlink("out", "here/../x")}), "out", "here/../x");
  refused(table_of({directory("d"), directory("d/e"), symlink("d/e/l", "../.."),
                    symlink("m", "d/e/l/../etc")}),
          "m", "d/e/l/../etc");
  refused(
      table_of({directory("d"), symlink("d/up", ".."), symlink("m", "n/.."), symlink("n", "d/up")}),
      "m", "n/..");
}

TEST(EntryTable, Loops_and_long_chains_of_symlinks_are_refused) {
  const auto line = [](std::string_view path) {
    return "the link '" + std::string(path) +
           "' is not safe (expected at most 40 links in a row, got a longer chain or a loop)";
  };
  expect_error(table_of({symlink("a", "a")}).check_links(), Code::link_unsafe, line("a"));
  expect_error(table_of({symlink("a", "b/x"), symlink("b", "a/y")}).check_links(),
               Code::link_unsafe, line("a"));
  const auto name = [](int i) { return "l" + std::to_string(100 + i); };
  EntryTable chain;
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(chain.add(symlink(name(i), name(i + 1))));
  EXPECT_OK(chain.check_links());
  ASSERT_TRUE(chain.add(symlink(name(40), "end")));
  expect_error(chain.check_links(), Code::link_unsafe, line("l100"));
}

TEST(EntryTable, The_work_of_following_links_is_bounded) {
  EntryTable table;
  std::string target = "x";
  while (target.size() + 2 <= kMaxPathBytes) target += "/.";
  ASSERT_TRUE(table.add(symlink("a", target)));
  for (int i = 1; i < 40; ++i)
    ASSERT_TRUE(table.add(symlink("a" + std::to_string(100 + i), target)));
  EXPECT_OK(table.check_links());
  // 2,048 steps each
  for (int i = 0; i < 9'000; ++i)
    ASSERT_TRUE(table.add(symlink("b" + std::to_string(10'000 + i), "a")));
  const auto status = table.check_links();
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code(), Code::manifest_too_large);
  EXPECT_EQ(status.error().expected(), "at most 16777216 path components on all ways");
}

TEST(EntryTable, Twins_by_case_and_by_normalisation_are_refused) {
  const auto refused = [](const EntryTable& table, std::string_view got) {
    expect_error(table.check_twins(), Code::path_unsafe,
                 "two paths differ only by case or Unicode normalisation form (expected paths that "
                 "stay different on every file system, got " +
                     std::string(got) + ")");
  };
  refused(table_of({file("README"), file("readme")}), "'README' and 'readme'");
  refused(table_of({directory("A"), file("A/x"), directory("a")}), "'A' and 'a'");
  refused(table_of({file("e\xCC\x81"), file("\xC3\xA9")}),
          "'e\xCC\x81' and '\xC3\xA9'");  // é in NFD and NFC
  refused(table_of({file("\xC3\x84"), file("\xC3\xA4")}), "'\xC3\x84' and '\xC3\xA4'");  // Ä ä
  refused(table_of({file("STRASSE"), file("stra\xC3\x9F"
                                          "e")}),
          "'STRASSE' and 'stra\xC3\x9F"
          "e'");                                                                   // ß folds to ss
  refused(table_of({file("k"), file("\xE2\x84\xAA")}), "'k' and '\xE2\x84\xAA'");  // Kelvin sign
  refused(table_of({file("\xCE\xA3"), file("\xCF\x82")}),
          "'\xCE\xA3' and '\xCF\x82'");  // Σ and final ς
  // α with iota below and acute, in both orders of the marks
  refused(table_of({file("\xCE\xB1\xCC\x81\xCD\x85"), file("\xCE\xB1\xCD\x85\xCC\x81")}),
          "'\xCE\xB1\xCC\x81\xCD\x85' and '\xCE\xB1\xCD\x85\xCC\x81'");
  refused(table_of({directory(".Updagent")}), "'.Updagent' and '.updagent'");
  EXPECT_OK(table_of({file("a"), file("a1"), file("b"), file("\xC3\xA4"), file("\xC3\xB6")})
                .check_twins());
  EXPECT_OK(EntryTable().check_twins());
}

TEST(EntryTable, The_number_of_entries_is_bounded_and_rows_are_small) {
  EntryTable table;
  for (std::size_t i = 0; i < kMaxEntries; ++i)
    ASSERT_TRUE(table.add(file("f" + std::to_string(1'000'000 + i), 0)));
  expect_error(table.add(file("z")), Code::manifest_too_large,
               "too many entries (expected at most 262144, got more, the next is 'z')");
  // 8 bytes of path each; the rest is the row. What the limits allow stays far below 64 MB.
  EXPECT_LE(table.memory_bytes(), kMaxEntries * (60 + 8 + 1));
}

TEST(EntryTable, Paths_and_link_targets_are_bounded_together) {
  EntryTable table;
  std::string target = "x";
  while (target.size() < 4'000) target += "/x";
  std::size_t rows = 0;
  while (table.add(symlink("l" + std::to_string(100'000 + rows), target))) ++rows;
  EXPECT_EQ(rows, kMaxNameBytes / (target.size() + 7));
  expect_error(table.add(symlink("m", target)), Code::manifest_too_large,
               "the paths and link targets are too long together (expected at most 33554432 bytes, "
               "got more with 'm')");
  EXPECT_LE(table.memory_bytes(), kMaxNameBytes * 9 / 8);
}

TEST(EntryTable, The_largest_values_come_back_as_they_were) {
  EntryTable table;
  EntryView entry = file("f", kMaxTotalBytes);
  entry.mode = 0777;
  entry.mtime = kMaxTime;
  ASSERT_TRUE(table.add(entry));
  ASSERT_TRUE(table.add(symlink("g", std::string(kMaxPathBytes, 'x'))));
  EXPECT_EQ(table.at(0).size, kMaxTotalBytes);
  EXPECT_EQ(table.at(0).mode, 0777);
  EXPECT_EQ(table.at(0).mtime, kMaxTime);
  EXPECT_EQ(table.at(1).type, EntryType::symlink);
  EXPECT_EQ(table.at(1).link_target, std::string(kMaxPathBytes, 'x'));
}

}  // namespace
}  // namespace updagent::release
