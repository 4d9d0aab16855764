// Packing a tarball: what npm, git and stock tar make, and the oddities that tar allows.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/support/tar_builder.hpp"
#include "tests/unit/release_pack/support.hpp"

namespace updagent::release::test {
namespace {

using testing::directory_fields;
using testing::end_of_archive;
using testing::file_fields;
using testing::gzip_member;
using testing::link_fields;
using testing::pax_header;
using testing::pax_record;
using testing::tar_entry;
using testing::zstd_frame;

constexpr std::int64_t kNpmTime = 499162500;  // 1985-10-26T08:15:00Z, in every npm tarball

class PackTarball : public PackTest {
 protected:
  std::string out() const { return scratch_.path("out.tar.gz"); }
  // Packs a tarball of these bytes.
  PackResult pack_bytes(const std::string& name, const std::string& bytes) const {
    scratch_.file(name, bytes);
    return packed(request(scratch_.path(name), out()));
  }
  ReadBack read(const PackResult& result) const { return read_back(out(), result.manifest_digest); }
};

std::string npm_tar() {
  return tar_entry(file_fields("package/package.json", 43, 0644, kNpmTime),
                   R"({"name":"@acme/shop-web","version":"5.4.5"}

)")
             .substr(0, 1024) +
         tar_entry(file_fields("package/lib/a.js", 2, 0644, kNpmTime), "a\n") +
         tar_entry(file_fields("package/bin/run", 2, 0755, kNpmTime + 7), "r\n") + end_of_archive();
}

TEST_F(PackTarball, An_npm_package_loses_its_folder_and_gets_its_missing_directories) {
  const PackResult result = pack_bytes("shop.tgz", gzip_member(npm_tar()));
  const ReadBack back = read(result);
  EXPECT_EQ(listing(back.manifest),
            (std::vector<std::string>{"bin/", "bin/run", "lib/", "lib/a.js", "package.json"}));
  const EntryTable& table = back.manifest.entries;
  EXPECT_EQ(table.at(*table.find("bin")).mtime, kNpmTime + 7) << "the newest of what it holds";
  EXPECT_EQ(table.at(*table.find("lib")).mtime, kNpmTime);
  EXPECT_EQ(table.at(*table.find("bin/run")).mode, 0755);
  EXPECT_EQ(table.at(*table.find("lib/a.js")).mode, 0644);
  EXPECT_EQ(back.manifest.created, kNpmTime + 7);
  EXPECT_EQ(back.contents.at("lib/a.js"), "a\n");
  EXPECT_EQ(result.notes, (std::vector<std::string>{"stripped the common folder: 'package'"}));
}

TEST_F(PackTarball, Without_app_and_version_the_error_offers_those_of_package_json) {
  scratch_.file("shop.tgz", gzip_member(npm_tar()));
  PackRequest wanted = request(scratch_.path("shop.tgz"), out());
  wanted.app.reset();
  wanted.version.reset();
  auto refused = refusal(wanted);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->code(), base::Code::usage);
  EXPECT_EQ(refused->hint(),
            "add --app shop-web --version 5.4.5 (as package.json of the input says)");
  wanted.app = "web";
  refused = refusal(wanted);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->hint(), "add --version 5.4.5 (as package.json of the input says)");
}

TEST_F(PackTarball, All_three_compressions_and_the_order_in_them_give_the_same_file) {
  const std::string a = tar_entry(file_fields("a", 1, 0644, 5), "x");
  const std::string b = tar_entry(directory_fields("b/", 0755, 6));
  const std::string c = tar_entry(file_fields("b/c", 1, 0644, 7), "y");
  pack_bytes("t.tar", a + b + c + end_of_archive());
  const std::string first = scratch_.read("out.tar.gz");
  pack_bytes("t.tgz", gzip_member(c + b + a + end_of_archive()));
  EXPECT_EQ(scratch_.read("out.tar.gz"), first);
  pack_bytes("t.tar.zst", zstd_frame(b + a + c + end_of_archive()));
  EXPECT_EQ(scratch_.read("out.tar.gz"), first);
}

TEST_F(PackTarball, A_git_archive_says_its_commit_and_loses_its_folder) {
  make_tree();
  const std::string git = "cd " + scratch_.path("tree") +
                          " && git -c user.name=t -c user.email=t@example.org "
                          "-c commit.gpgsign=false ";
  ASSERT_EQ(shell(git + "init -q"), 0);
  ASSERT_EQ(shell(git + "add ."), 0);
  ASSERT_EQ(shell(git + "commit -q -m x"), 0);
  ASSERT_EQ(shell(git + "rev-parse HEAD > " + scratch_.path("head.txt")), 0);
  ASSERT_EQ(shell(git + "archive --format=tar.gz --prefix=shop-1.4.2/ -o " +
                  scratch_.path("shop.tar.gz") + " HEAD"),
            0);
  ::setenv("GITHUB_SHA", "0123456789abcdef0123456789abcdef01234567", 1);
  ::setenv("GITHUB_REPOSITORY", "acme/packaging", 1);
  const PackResult result = packed(request(scratch_.path("shop.tar.gz"), out()));
  const ReadBack back = read(result);
  EXPECT_EQ(back.manifest.source_revision + "\n", scratch_.read("head.txt"));
  EXPECT_EQ(back.manifest.source_repository, "") << "the URL is that of another commit";
  EXPECT_TRUE(back.manifest.entries.find("lib/\xc3\xa9t\xc3\xa9"));
  EXPECT_EQ(result.notes, (std::vector<std::string>{"stripped the common folder: 'shop-1.4.2'"}));
}

TEST_F(PackTarball, What_stock_tar_makes_of_a_tree_packs_to_the_same_entries_as_the_tree) {
  make_tree();
  const PackResult tree = packed(request(scratch_.path("tree"), out()));
  for (const char* format : {"gnu", "pax", "ustar"}) {
    ASSERT_EQ(shell("tar -C " + scratch_.path("tree") + " --format=" + format + " -czf " +
                    scratch_.path("t.tar.gz") + " ."),
              0);
    const PackResult tarball = packed(request(scratch_.path("t.tar.gz"), out()));
    EXPECT_EQ(tarball.manifest_digest, tree.manifest_digest) << format;
    EXPECT_TRUE(tarball.notes.empty());
  }
}

TEST_F(PackTarball, Names_of_any_length_and_normalisation_form_come_through_unchanged) {
  const std::string decomposed = "e\xcc\x81";  // two code points: NFC would make one of them
  const std::string name = decomposed + std::string(150, 'n');
  const std::string target = decomposed + std::string(120, 't');
  const std::string records = pax_record("path", "top/" + name);
  const std::string link =
      pax_record("path", "top/l" + decomposed) + pax_record("linkpath", target);
  const PackResult result = pack_bytes(
      "t.tar", pax_header(records) + tar_entry(file_fields("clipped", 1), "x") + pax_header(link) +
                   tar_entry(link_fields('2', "clipped", "clipped", 0777)) + end_of_archive());
  EXPECT_EQ(listing(read(result).manifest),
            (std::vector<std::string>{name, "l" + decomposed + " -> " + target}));
}

TEST_F(PackTarball, Odd_spellings_of_paths_are_cleaned) {
  const PackResult result =
      pack_bytes("t.tar", tar_entry(directory_fields("./")) + tar_entry(directory_fields(".//d/")) +
                              tar_entry(file_fields("./d//./f", 1), "x") +
                              tar_entry(link_fields('1', "./h", "./d/f", 0644)) + end_of_archive());
  EXPECT_EQ(listing(read(result).manifest), (std::vector<std::string>{"d/", "d/f", "h = d/f"}));
}

TEST_F(PackTarball, Of_entries_with_the_same_name_the_last_stays) {
  const PackResult result = pack_bytes(
      "t.tar", tar_entry(file_fields("a", 3), "old") + tar_entry(link_fields('1', "h", "a", 0644)) +
                   tar_entry(file_fields("a", 3), "new") + end_of_archive());
  const ReadBack back = read(result);
  EXPECT_EQ(listing(back.manifest), (std::vector<std::string>{"a", "h"}));
  EXPECT_EQ(back.contents.at("a"), "new");
  EXPECT_EQ(back.contents.at("h"), "old") << "the link was made to the first one";
  EXPECT_EQ(result.notes,
            (std::vector<std::string>{"took the last of the entries with the same name: 'a'"}));
}

TEST_F(PackTarball, A_hard_link_that_sorts_first_becomes_the_file) {
  const PackResult result =
      pack_bytes("t.tar", tar_entry(file_fields("z", 1, 0755, 9), "x") +
                              tar_entry(link_fields('1', "a", "z", 0644, 3)) +
                              tar_entry(link_fields('1', "m", "a", 0644, 3)) + end_of_archive());
  const ReadBack back = read(result);
  EXPECT_EQ(listing(back.manifest), (std::vector<std::string>{"a", "m = a", "z = a"}));
  const EntryView file = back.manifest.entries.at(0);
  EXPECT_EQ(file.mode, 0755) << "mode and time of the inode, not of the link's header";
  EXPECT_EQ(file.mtime, 9);
}

TEST_F(PackTarball, A_hard_link_to_a_symlink_is_that_symlink_again) {
  const PackResult result =
      pack_bytes("t.tar", tar_entry(link_fields('2', "s", "f", 0777)) +
                              tar_entry(link_fields('1', "t", "s", 0777)) +
                              tar_entry(file_fields("f", 1), "x") + end_of_archive());
  EXPECT_EQ(listing(read(result).manifest), (std::vector<std::string>{"f", "s -> f", "t -> f"}));
}

TEST_F(PackTarball, Two_top_entries_keep_their_folders) {
  const PackResult result =
      pack_bytes("t.tar", tar_entry(file_fields("d/a", 1), "x") +
                              tar_entry(file_fields("dd", 1), "y") + end_of_archive());
  EXPECT_EQ(listing(read(result).manifest), (std::vector<std::string>{"d/", "d/a", "dd"}));
  EXPECT_TRUE(result.notes.empty());
}

TEST_F(PackTarball, A_single_file_is_no_common_folder) {
  const PackResult result =
      pack_bytes("t.tar", tar_entry(file_fields("one", 1), "x") + end_of_archive());
  EXPECT_EQ(listing(read(result).manifest), (std::vector<std::string>{"one"}));
}

TEST_F(PackTarball, The_description_inside_of_it_is_found_behind_the_folder) {
  const std::string toml = "app = \"shop\"\nversion = \"9.9.9\"\n";
  scratch_.file("t.tar", tar_entry(file_fields("top/updagent.toml", toml.size()), toml) +
                             tar_entry(file_fields("top/a", 1), "x") + end_of_archive());
  PackRequest wanted = request(scratch_.path("t.tar"), out());
  wanted.app.reset();
  wanted.version.reset();
  EXPECT_EQ(packed(wanted).version, "9.9.9");
}

TEST_F(PackTarball, File_capabilities_are_left_out_and_that_is_said) {
  const std::string capability = pax_record("SCHILY.xattr.security.capability", "raw");
  const PackResult result =
      pack_bytes("t.tar", pax_header(capability) + tar_entry(file_fields("bin", 1, 0755), "x") +
                              end_of_archive());
  ASSERT_EQ(result.notes.size(), 1U);
  EXPECT_NE(result.notes[0].find("capabilities"), std::string::npos) << result.notes[0];
  EXPECT_NE(result.notes[0].find("'bin'"), std::string::npos) << result.notes[0];
}

TEST_F(PackTarball, A_sparse_file_has_its_holes_filled) {
  scratch_.folder("tree");
  const std::string content = std::string(1'000'000, '\0') + "end";
  scratch_.file("tree/x", "");
  std::filesystem::resize_file(scratch_.path("tree/x"), 1'000'000);
  ASSERT_EQ(shell("printf end >> " + scratch_.path("tree/x")), 0);
  for (const char* format : {"gnu", "pax"}) {
    ASSERT_EQ(shell("tar -C " + scratch_.path("tree") + " --sparse --format=" + format + " -cf " +
                    scratch_.path("t.tar") + " x"),
              0);
    const PackResult result = packed(request(scratch_.path("t.tar"), out()));
    EXPECT_TRUE(read(result).contents.at("x") == content) << format;
  }
}

TEST_F(PackTarball, Leaves_nothing_behind_in_TMPDIR) {
  scratch_.folder("tmp");
  const Variable tmpdir("TMPDIR", scratch_.path("tmp"));
  pack_bytes("shop.tgz", gzip_member(npm_tar()));
  EXPECT_TRUE(scratch_.names("tmp").empty());
}

}  // namespace
}  // namespace updagent::release::test
