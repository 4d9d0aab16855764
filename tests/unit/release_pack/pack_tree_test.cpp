// Packing a directory: what comes out, and that it depends on the content alone.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <filesystem>
#include <string>

#include "agent/release/compress.hpp"
#include "tests/unit/release_pack/support.hpp"

namespace updagent::release::test {
namespace {

class PackTree : public PackTest {
 protected:
  std::string out(const std::string& name = "out.tar.gz") const { return scratch_.path(name); }
  // The bytes that packing `folder` gives.
  std::string bytes(const std::string& folder, const std::string& name = "out.tar.gz") const {
    packed(request(scratch_.path(folder), out(name)));
    return scratch_.read(name);
  }
};

TEST_F(PackTree, Lists_every_entry_in_byte_order_with_normalised_modes) {
  make_tree();
  const PackResult result = packed(request(scratch_.path("tree"), out()));
  const ReadBack back = read_back(out(), result.manifest_digest);
  EXPECT_EQ(back.envelope, kEnvelope);
  const std::vector<std::string> expected = {"bin/",
                                             "bin.txt",
                                             "bin/shop",
                                             "cur -> bin/shop",
                                             "empty",
                                             "lib/",
                                             "lib/data",
                                             "lib/same = bin/shop",
                                             "lib/\xc3\xa9t\xc3\xa9",
                                             "var/",
                                             "var/none/"};
  EXPECT_EQ(listing(back.manifest), expected);
  const EntryTable& table = back.manifest.entries;
  EXPECT_EQ(table.at(*table.find("bin")).mode, 0755);
  EXPECT_EQ(table.at(*table.find("bin.txt")).mode, 0644);
  EXPECT_EQ(table.at(*table.find("bin/shop")).mode, 0755);
  EXPECT_EQ(table.at(*table.find("lib/same")).mode, 0755);
  EXPECT_EQ(table.at(*table.find("cur")).mode, 0777);
  for (std::size_t i = 0; i < table.size(); ++i) EXPECT_EQ(table.at(i).mtime, kThen);
  EXPECT_EQ(back.manifest.created, kThen);
  EXPECT_EQ(back.manifest.app, "shop");
  EXPECT_EQ(back.manifest.version.text(), "1.4.2");
  EXPECT_EQ(back.manifest.strategy, "files");
  EXPECT_EQ(back.manifest.source_revision, "");
  EXPECT_EQ(back.contents.at("lib/data"), std::string(300'000, 'd'));
}

TEST_F(PackTree, Reports_what_it_made) {
  make_tree();
  base::Digest signed_digest;
  std::string signed_name;
  PackRequest wanted = request(scratch_.path("tree"), out());
  wanted.make_envelope = [&](const std::string& app, const std::string& version,
                             const base::Digest& digest) {
    signed_name = app + " " + version;
    signed_digest = digest;
    return base::Result<std::string>(kEnvelope);
  };
  std::uint64_t last_done = 0;
  std::uint64_t last_total = 0;
  wanted.on_progress = [&](std::uint64_t done, std::uint64_t total) {
    EXPECT_GE(done, last_done);
    last_done = done;
    last_total = total;
  };
  const PackResult result = packed(wanted);
  EXPECT_EQ(signed_name, "shop 1.4.2");
  EXPECT_EQ(result.app + " " + result.version, "shop 1.4.2");
  EXPECT_EQ(signed_digest, result.manifest_digest);
  EXPECT_EQ(result.file_digest, base::sha256(scratch_.read("out.tar.gz")));
  EXPECT_EQ(result.file_bytes, scratch_.read("out.tar.gz").size());
  EXPECT_EQ(result.entries, 11U);
  EXPECT_EQ(result.content_bytes, 300'000U + 20 + 31 + 7);
  EXPECT_EQ(last_done, last_total);
  EXPECT_EQ(last_total, 2 * result.content_bytes);
  EXPECT_TRUE(result.notes.empty());
}

TEST_F(PackTree, Stock_tar_lists_and_unpacks_both_compressions_to_the_same_tree) {
  make_tree();
  for (const auto& [name, flag] :
       {std::pair("out.tar.gz", "-z"), std::pair("out.tar.zst", "--zstd")}) {
    packed(request(scratch_.path("tree"), out(name)));
    const std::string folder = std::string("from-") + name;
    scratch_.folder(folder);
    EXPECT_EQ(shell("tar -t " + std::string(flag) + " -f " + out(name) + " > /dev/null"), 0);
    ASSERT_EQ(
        shell("tar -x " + std::string(flag) + " -f " + out(name) + " -C " + scratch_.path(folder)),
        0);
    EXPECT_EQ(scratch_.read(folder + "/.updagent/release.dsse.json"), kEnvelope);
    std::filesystem::remove_all(scratch_.path(folder + "/.updagent"));
    EXPECT_EQ(
        shell("diff -r --no-dereference " + scratch_.path("tree") + " " + scratch_.path(folder)),
        0);
    // Without the times of directories: GNU tar sets them when it has left a directory, and in byte
    // order "bin.txt" stands between "bin" and "bin/shop".
    const std::string print =
        " && find . -mindepth 1 \\( -type d -printf '%P %y\\n' \\) -o "
        "-printf '%P %y %Ts %l %n\\n' | sort) > ";
    ASSERT_EQ(shell("(cd " + scratch_.path("tree") + print + out("a.txt")), 0);
    ASSERT_EQ(shell("(cd " + scratch_.path(folder) + print + out("b.txt")), 0);
    EXPECT_EQ(scratch_.read("a.txt"), scratch_.read("b.txt"))
        << "types, times, targets, link counts";
  }
}

TEST_F(PackTree, Packing_twice_gives_the_same_bytes) {
  make_tree();
  for (const char* name : {"out.tar.gz", "out.tar.zst"}) {
    const std::string first = bytes("tree", name);
    EXPECT_EQ(bytes("tree", name), first);
  }
}

TEST_F(PackTree, Neither_access_times_nor_the_name_of_the_directory_nor_owners_modes_matter) {
  make_tree();
  const std::string first = bytes("tree");
  ASSERT_EQ(shell("cat " + scratch_.path("tree/lib/data") + " > /dev/null"), 0);
  const timespec times[2] = {{kThen + 999, 0}, {0, UTIME_OMIT}};
  ::utimensat(AT_FDCWD, scratch_.path("tree/empty").c_str(), times, 0);
  ::chmod(scratch_.path("tree/bin.txt").c_str(), 0664);
  ::chmod(scratch_.path("tree/var").c_str(), 0775);
  std::filesystem::rename(scratch_.path("tree"), scratch_.path("another name"));
  EXPECT_EQ(bytes("another name"), first);
  std::filesystem::create_symlink("another name", scratch_.path("link"));
  EXPECT_EQ(bytes("link"), first) << "the input itself may be named by a link";
}

TEST_F(PackTree, A_change_of_content_time_or_target_does_matter) {
  make_tree();
  const std::string first = bytes("tree");
  scratch_.set_time("tree/empty", kThen + 1);
  const std::string second = bytes("tree");
  EXPECT_NE(second, first);
  scratch_.file("tree/bin.txt", "Sorts between bin and bin/shop\n");
  scratch_.set_time("tree/bin.txt", kThen);
  EXPECT_NE(bytes("tree"), second);
}

TEST_F(PackTree, Created_is_the_newest_time_unless_SOURCE_DATE_EPOCH_says_another) {
  make_tree();
  scratch_.set_time("tree/lib/data", kThen + 500);
  PackResult result = packed(request(scratch_.path("tree"), out()));
  EXPECT_EQ(read_back(out(), result.manifest_digest).manifest.created, kThen + 500);
  ::setenv("SOURCE_DATE_EPOCH", "1600000000", 1);
  result = packed(request(scratch_.path("tree"), out()));
  const ReadBack back = read_back(out(), result.manifest_digest);
  EXPECT_EQ(back.manifest.created, 1600000000);
  const EntryTable& table = back.manifest.entries;
  EXPECT_EQ(table.at(*table.find("lib/data")).mtime, kThen + 500) << "the entries keep their own";
  ::setenv("SOURCE_DATE_EPOCH", "soon", 1);
  const auto refused = refusal(request(scratch_.path("tree"), out()));
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->code(), base::Code::usage);
}

TEST_F(PackTree, Git_gives_revision_repository_and_time_and_its_folder_stays_out) {
  make_tree();
  const std::string git = "cd " + scratch_.path("tree") +
                          " && GIT_COMMITTER_DATE='@1700000000 +0000' git -c user.name=t "
                          "-c user.email=t@example.org ";
  ASSERT_EQ(shell(git + "init -q"), 0);
  ASSERT_EQ(shell(git + "add . && git -c user.name=t -c user.email=t@example.org "
                        "-c commit.gpgsign=false commit -q -m x --date='@1700000000 +0000'"),
            0);
  ASSERT_EQ(shell(git + "-c commit.gpgsign=false commit -q --amend --no-edit"), 0);
  ASSERT_EQ(shell(git + "remote add origin https://u:p@example.org/shop.git"), 0);
  ASSERT_EQ(shell(git + "rev-parse HEAD > " + out("head.txt")), 0);
  ::setenv("GITHUB_SHA", "0123456789abcdef0123456789abcdef01234567", 1);
  ::setenv("GITHUB_REPOSITORY", "acme/other", 1);
  ::setenv("GITHUB_RUN_ID", "42", 1);
  const PackResult result = packed(request(scratch_.path("tree"), out()));
  const ReadBack back = read_back(out(), result.manifest_digest);
  EXPECT_EQ(back.manifest.source_revision + "\n", scratch_.read("head.txt"));
  EXPECT_EQ(back.manifest.source_repository, "https://example.org/shop.git");
  EXPECT_EQ(back.manifest.builder, "github-actions run 42");
  EXPECT_EQ(back.manifest.created, 1700000000);
  EXPECT_FALSE(back.manifest.entries.find(".git"));
  EXPECT_EQ(result.notes, (std::vector<std::string>{"left out what git keeps: '.git'"}));
  scratch_.file("tree/bin.txt", "changed\n");
  const PackResult dirty = packed(request(scratch_.path("tree"), out()));
  ASSERT_EQ(dirty.notes.size(), 2U);
  EXPECT_NE(dirty.notes[1].find("uncommitted changes"), std::string::npos) << dirty.notes[1];
}

TEST_F(PackTree, CI_variables_name_the_source_where_git_does_not) {
  make_tree();
  ::setenv("CI_COMMIT_SHA", "0123456789abcdef0123456789abcdef01234567", 1);
  ::setenv("CI_PROJECT_URL", "https://gitlab.example/acme/shop", 1);
  const PackResult result = packed(request(scratch_.path("tree"), out()));
  const ReadBack back = read_back(out(), result.manifest_digest);
  EXPECT_EQ(back.manifest.source_revision, "0123456789abcdef0123456789abcdef01234567");
  EXPECT_EQ(back.manifest.source_repository, "https://gitlab.example/acme/shop");
  EXPECT_EQ(back.manifest.builder, "gitlab-ci job");
}

TEST_F(PackTree, Long_paths_and_targets_go_through_pax_and_stock_tar_reads_them) {
  const std::string deep =
      "tree/" + std::string(120, 'a') + "/" + std::string(200, 'b') + "/" + std::string(200, 'c');
  scratch_.file(deep + "/file", "deep\n");
  scratch_.file("tree/" + std::string(101, 'n'), "long name\n");
  scratch_.symlink("tree/link", deep.substr(5));
  scratch_.link("tree/z-same", deep + "/file");
  scratch_.set_times("tree", kThen);
  const PackResult result = packed(request(scratch_.path("tree"), out()));
  const ReadBack back = read_back(out(), result.manifest_digest);
  EXPECT_EQ(back.contents.at(deep.substr(5) + "/file"), "deep\n");
  scratch_.folder("from");
  ASSERT_EQ(shell("tar -xzf " + out() + " -C " + scratch_.path("from")), 0);
  std::filesystem::remove_all(scratch_.path("from/.updagent"));
  EXPECT_EQ(
      shell("diff -r --no-dereference " + scratch_.path("tree") + " " + scratch_.path("from")), 0);
}

TEST_F(PackTree, A_link_partner_outside_of_the_tree_changes_nothing) {
  make_tree();
  const std::string first = bytes("tree");
  scratch_.link("partner", "tree/bin.txt");
  EXPECT_EQ(bytes("tree"), first);
}

TEST_F(PackTree, The_output_in_the_packed_directory_is_left_out) {
  make_tree();
  const PackRequest wanted = request(scratch_.path("tree"), scratch_.path("tree/out.tar.gz"));
  EXPECT_TRUE(packed(wanted).notes.empty());
  const std::string first = scratch_.read("tree/out.tar.gz");
  const PackResult again = packed(wanted);
  EXPECT_EQ(scratch_.read("tree/out.tar.gz"), first);
  EXPECT_EQ(again.notes, (std::vector<std::string>{"left out the output itself: 'out.tar.gz'"}));
}

TEST_F(PackTree, The_description_comes_from_the_tree_or_from_spec_and_options_win) {
  make_tree();
  scratch_.file("tree/updagent.toml",
                "app = \"inside\"\nversion = \"2.0.0\"\n[retention]\nkeep = 7\n");
  scratch_.file("other.toml", "app = \"outside\"\nversion = \"3.0.0\"\n");
  PackRequest wanted = request(scratch_.path("tree"), out());
  wanted.app.reset();
  wanted.version.reset();
  PackResult result = packed(wanted);
  EXPECT_EQ(result.app + " " + result.version, "inside 2.0.0");
  const ReadBack back = read_back(out(), result.manifest_digest);
  EXPECT_EQ(back.manifest.keep, 7);
  EXPECT_TRUE(back.manifest.entries.find("updagent.toml")) << "it stays a file of the release";
  wanted.spec_path = scratch_.path("other.toml");
  result = packed(wanted);
  EXPECT_EQ(result.app + " " + result.version, "outside 3.0.0");
  wanted.version = "3.0.1";
  result = packed(wanted);
  EXPECT_EQ(result.app + " " + result.version, "outside 3.0.1");
}

TEST_F(PackTree, Times_before_1970_move_to_1970_and_that_is_said) {
  make_tree();
  scratch_.set_time("tree/empty", -5);
  scratch_.set_time("tree/bin.txt", -5);
  const PackResult result = packed(request(scratch_.path("tree"), out()));
  const ReadBack back = read_back(out(), result.manifest_digest);
  const EntryTable& table = back.manifest.entries;
  EXPECT_EQ(table.at(*table.find("empty")).mtime, 0);
  EXPECT_EQ(result.notes,
            (std::vector<std::string>{
                "moved times outside of 1970 to 2242 to that limit: 'bin.txt' and 1 more"}));
}

TEST_F(PackTree, The_compression_level_is_taken) {
  make_tree();
  PackRequest wanted = request(scratch_.path("tree"), out("a.tgz"));
  packed(wanted);
  wanted.output = out("b.tgz");
  wanted.compression_level = kDefaultGzipLevel;
  packed(wanted);
  wanted.output = out("c.tgz");
  wanted.compression_level = 1;
  packed(wanted);
  EXPECT_EQ(scratch_.read("a.tgz"), scratch_.read("b.tgz"));
  EXPECT_NE(scratch_.read("a.tgz"), scratch_.read("c.tgz"));
}

TEST_F(PackTree, A_new_output_replaces_the_old_one_and_leaves_nothing_else) {
  make_tree();
  scratch_.folder("outputs");
  scratch_.file("outputs/out.tar.gz", "old");
  packed(request(scratch_.path("tree"), scratch_.path("outputs/out.tar.gz")));
  EXPECT_EQ(scratch_.names("outputs"), (std::vector<std::string>{"out.tar.gz"}));
  EXPECT_NE(scratch_.read("outputs/out.tar.gz"), "old");
}

TEST_F(PackTree, The_output_has_no_name_before_it_is_whole) {
  make_tree();
  PackRequest wanted = request(scratch_.path("tree"), out());
  int looks = 0;
  wanted.on_progress = [&](std::uint64_t, std::uint64_t) {
    ++looks;
    EXPECT_FALSE(std::filesystem::exists(out()));
  };
  packed(wanted);
  EXPECT_GT(looks, 0);
  EXPECT_TRUE(std::filesystem::exists(out()));
}

TEST_F(PackTree, Programs_of_hooks_and_probes_that_are_not_there_are_noted) {
  make_tree();
  scratch_.file("tree/updagent.toml", R"(
app = "shop"
version = "1.0.0"
[hooks]
pre_upgrade = { command = ["bin/migrate"] }
post_switch = { command = ["bin/shop"] }
post_commit = { command = ["true"] }
post_rollback = { command = ["/opt/tool"] }
[[probe]]
name = "data"
type = "exec"
command = ["./lib/data"]
)");
  EXPECT_EQ(packed(request(scratch_.path("tree"), out())).notes,
            (std::vector<std::string>{
                "the release does not hold this program of a hook or probe: 'bin/migrate'",
                "this program of a hook or probe is not executable: 'lib/data'"}));
}

TEST_F(PackTree, The_manifest_is_the_same_in_both_compressions) {
  make_tree();
  const PackResult gzip = packed(request(scratch_.path("tree"), out("out.tar.gz")));
  const PackResult zstd = packed(request(scratch_.path("tree"), out("out.tar.zst")));
  EXPECT_EQ(gzip.manifest_digest, zstd.manifest_digest);
  EXPECT_EQ(read_back(out("out.tar.gz"), gzip.manifest_digest).manifest_text,
            read_back(out("out.tar.zst"), zstd.manifest_digest).manifest_text);
}

// Fixtures of packages hold such files: it is for the packer to say whether they are meant to go.
TEST_F(PackTest, Private_keys_that_do_not_sign_are_packed_and_told) {
  make_tree();
  scratch_.file("tree/a.pem", "-----BEGIN RSA PRIVATE KEY-----\nMC4=\n");
  scratch_.file("tree/b.pem", "-----BEGIN PRIVATE KEY-----\nMC4=\n");
  scratch_.file("tree/c.pem", "-----BEGIN CERTIFICATE-----\nMC4=\n");
  scratch_.file("tree/d.js", std::string(100, ' ') + "-----BEGIN PRIVATE KEY-----");
  const std::vector<std::string> told = {
      "this is a private key, and every node will get it: 'a.pem' and 1 more"};
  PackRequest wanted = request(scratch_.path("tree"), scratch_.path("a.tar.gz"));
  EXPECT_EQ(packed(wanted).notes, told);
  ASSERT_EQ(shell("tar -C '" + scratch_.path("tree") + "' -cf '" + scratch_.path("t.tar") + "' ."),
            0);
  wanted.input = scratch_.path("t.tar");
  EXPECT_EQ(packed(wanted).notes, told);
}

}  // namespace
}  // namespace updagent::release::test
