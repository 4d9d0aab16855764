#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "agent/base/files.hpp"
#include "support.hpp"

namespace updagent::store {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace)
using base::Code;
using release::EntryType;
using release::EntryView;

std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

EntryView view(std::string_view path, EntryType type, std::string_view target = "") {
  return {path, type, 0755, 0, 1'700'000'000, {}, target};
}

struct StagingTest : ::testing::Test {
  std::unique_ptr<Staging> started(const Built& built, const StagingOptions& options = {}) {
    auto staging = begin(store, built, options);
    EXPECT_TRUE(staging) << staging.error().line();
    return staging ? std::move(*staging) : nullptr;
  }
  std::vector<std::string> incoming() const {
    return *base::list_directory(root / "app/incoming", 100);
  }
  TempDir root;
  AppStore store = open_store(root);
};

TEST_F(StagingTest, A_tree_is_put_down_with_the_modes_and_times_of_its_manifest) {
  StagingReport report;
  const base::Status installed =
      install(store, "1.0.0", release_of("1.0.0", sample_tree()), {}, &report);
  ASSERT_TRUE(installed) << installed.error().line();
  const std::string tree = store.path("1.0.0");
  EXPECT_EQ(read_text(tree + "/bin/tool"), "#!/bin/sh\necho one\n");
  EXPECT_EQ(stat_of(tree + "/bin/tool").st_mode & 07777U, 0555U);
  EXPECT_EQ(stat_of(tree + "/bin/tool").st_mtim.tv_sec, 1'700'000'000);
  EXPECT_EQ(stat_of(tree + "/bin/tool").st_mtim.tv_nsec, 0);
  EXPECT_EQ(stat_of(tree + "/lib/a.js").st_mode & 07777U, 0444U);
  EXPECT_EQ(stat_of(tree + "/lib/a.js").st_mtim.tv_sec, 1'600'000'000);
  EXPECT_EQ(stat_of(tree + "/lib/a.js").st_ino, stat_of(tree + "/lib/b.js").st_ino);
  EXPECT_EQ(stat_of(tree + "/lib").st_mode & 07777U, 0755U);
  EXPECT_EQ(stat_of(tree + "/lib").st_mtim.tv_sec, 1'700'000'100);
  EXPECT_EQ(stat_of(tree + "/tool").st_mtim.tv_sec, 1'700'000'200);
  EXPECT_EQ(*base::read_link_at(AT_FDCWD, tree + "/tool"), "bin/tool");
  EXPECT_EQ(stat_of(tree).st_mode & 07777U, 0755U);
  EXPECT_EQ(stat_of(tree + "/.updagent/manifest.json").st_mode & 07777U, 0444U);
  EXPECT_EQ(damage_of(store, "1.0.0"), "");
  EXPECT_EQ(report.written_bytes, 19U + 17U);
  EXPECT_EQ(report.reused_files, 0U);
  EXPECT_TRUE(incoming().empty());
}

TEST_F(StagingTest, Folders_that_nobody_may_write_in_are_filled_first) {
  const Recipe recipe = {folder("a", 0555), folder("a/b", 0500), file("a/b/c", "deep", 0400)};
  ASSERT_TRUE(install(store, "1.0.0", release_of("1.0.0", recipe)));
  EXPECT_EQ(stat_of(store.path("1.0.0") + "/a").st_mode & 07777U, 0555U);
  EXPECT_EQ(stat_of(store.path("1.0.0") + "/a/b").st_mode & 07777U, 0500U);
  EXPECT_EQ(stat_of(store.path("1.0.0") + "/a/b/c").st_mode & 07777U, 0400U);
  EXPECT_EQ(damage_of(store, "1.0.0"), "");
}

TEST_F(StagingTest, A_large_file_in_pieces_arrives_whole) {
  std::string content(20 * 1024 * 1024 + 123, '\0');
  for (std::size_t i = 0; i < content.size(); ++i)
    content[i] = static_cast<char>(i * 2654435761U >> 24);
  ASSERT_TRUE(install(store, "1.0.0", release_of("1.0.0", {file("big", content)})));
  EXPECT_EQ(static_cast<std::size_t>(stat_of(store.path("1.0.0") + "/big").st_size),
            content.size());
  EXPECT_EQ(damage_of(store, "1.0.0"), "");
}

TEST_F(StagingTest, More_files_than_are_fsynced_one_by_one_are_whole_too) {
  ASSERT_TRUE(install(store, "1.0.0", release_of("1.0.0", many_files(150))));
  EXPECT_EQ(damage_of(store, "1.0.0"), "");
}

TEST_F(StagingTest, While_it_is_filled_nobody_else_can_enter) {
  const Built built = release_of("1.0.0", sample_tree());
  const auto staging = started(built);
  ASSERT_TRUE(send_all(*staging, built));
  EXPECT_EQ(stat_of(staging->path()).st_mode & 07777U, 0700U);
  EXPECT_EQ(stat_of(root / "app/incoming").st_mode & 07777U, 0700U);
}

TEST_F(StagingTest, A_manifest_with_another_digest_is_not_parsed) {
  const Built built = release_of("1.0.0", sample_tree());
  auto staging = Staging::begin(store, built.digest, kEnvelope, {});
  ASSERT_TRUE(staging);
  ASSERT_TRUE((*staging)->manifest_bytes(built.manifest_text + " "));
  const auto parsed = (*staging)->parse_manifest();
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code(), Code::manifest_digest);
  EXPECT_EQ(parsed.error().expected(), "sha256 " + built.digest.hex());
  EXPECT_EQ(parsed.error().got(), base::sha256(built.manifest_text + " ").hex());
}

struct Hostile {
  const char* what;
  EntryView view;
};

TEST_F(StagingTest, Nothing_leaves_the_tree_even_if_the_table_let_it_through) {
  ASSERT_EQ(::mkdir((root / "outside").c_str(), 0755), 0);
  const std::string outside = root / "outside";
  const auto staging = started(release_of("1.0.0", sample_tree()));
  ASSERT_TRUE(staging->directory(view("d", EntryType::directory)));
  ASSERT_TRUE(staging->symlink(view("out", EntryType::symlink, outside)));
  ASSERT_TRUE(staging->symlink(view("up", EntryType::symlink, "../../..")));
  ASSERT_TRUE(staging->symlink(view("in", EntryType::symlink, "d")));
  const std::string_view with_nul("d/a\0b", 5);
  const std::string long_name(256, 'x');
  for (const std::string_view path :
       {std::string_view("out/x"), std::string_view("up/x"), std::string_view("in/x"),
        std::string_view("../x"), std::string_view("d/../../x"), std::string_view("d/../x"),
        std::string_view("/x"), std::string_view(""), std::string_view("."), std::string_view(".."),
        std::string_view("d/"), std::string_view("d//x"), std::string_view("d/./x"),
        std::string_view("none/x"), std::string_view(".updagent/manifest.json"),
        std::string_view(".updagent/x"), std::string_view(".updagent"), with_nul,
        std::string_view(long_name)}) {
    EXPECT_FALSE(staging->directory(view(path, EntryType::directory))) << path;
    EXPECT_FALSE(staging->begin_file(view(path, EntryType::file))) << path;
    EXPECT_FALSE(staging->symlink(view(path, EntryType::symlink, "d"))) << path;
    EXPECT_FALSE(staging->hardlink(view(path, EntryType::hardlink, "out"))) << path;
  }
  const base::Status refused = staging->directory(view("../x", EntryType::directory));
  EXPECT_EQ(refused.error().code(), Code::path_unsafe);
  EXPECT_EQ(refused.error().expected(), "a relative path inside the release");
  EXPECT_TRUE(base::list_directory(outside, 10)->empty());
  EXPECT_TRUE(base::list_directory(staging->path() + "/d", 10)->empty());
  EXPECT_FALSE(base::exists(root / "x"));
  EXPECT_FALSE(base::exists(root / "app/incoming/x"));
}

TEST_F(StagingTest, A_hard_link_takes_no_other_file_than_one_of_the_tree) {
  write_text(root / "secret", "not yours");
  const auto staging = started(release_of("1.0.0", sample_tree()));
  ASSERT_TRUE(staging->symlink(view("s", EntryType::symlink, root / "secret")));
  for (const std::string& target :
       {std::string("s"), root / "secret", std::string("../../../secret"), std::string("none"),
        std::string(".updagent/manifest.json")})
    EXPECT_FALSE(staging->hardlink(view("h", EntryType::hardlink, target))) << target;
  EXPECT_FALSE(base::exists(staging->path() + "/h"));
}

TEST_F(StagingTest, An_entry_that_is_there_is_never_replaced_or_followed) {
  const auto staging = started(release_of("1.0.0", sample_tree()));
  write_text(root / "target", "old");
  ASSERT_TRUE(staging->symlink(view("x", EntryType::symlink, root / "target")));
  EXPECT_FALSE(staging->begin_file(view("x", EntryType::file)));
  EXPECT_FALSE(staging->directory(view("x", EntryType::directory)));
  EXPECT_FALSE(staging->symlink(view("x", EntryType::symlink, "y")));
  EXPECT_EQ(read_text(root / "target"), "old");
}

TEST_F(StagingTest, Bytes_past_or_short_of_the_size_are_refused) {
  const auto staging = started(release_of("1.0.0", sample_tree()));
  EntryView entry = view("x", EntryType::file);
  entry.size = 4;
  ASSERT_TRUE(staging->begin_file(entry));
  ASSERT_TRUE(staging->file_bytes(bytes_of("abc")));
  const base::Status past = staging->file_bytes(bytes_of("de"));
  ASSERT_FALSE(past);
  EXPECT_EQ(past.error().code(), Code::entry_mismatch);
  EXPECT_EQ(past.error().expected(), "4 bytes");
  const base::Status ended = staging->end_file();
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().got(), "3");
}

TEST_F(StagingTest, A_tree_that_lacks_an_entry_is_neither_finished_nor_published) {
  const Built built = release_of("1.0.0", sample_tree());
  const auto staging = started(built);
  for (std::size_t i = 0; i + 1 < built.items.size(); ++i)
    ASSERT_TRUE(send(*staging, built.items[i], built.items));
  EXPECT_EQ(staging->publish("1.0.0").error().code(), Code::internal);
  const base::Status finished = staging->finish(built.manifest.entries);
  ASSERT_FALSE(finished);
  EXPECT_EQ(finished.error().expected(), "7 whole entries");
  EXPECT_EQ(finished.error().got(), "6");
  EXPECT_FALSE(store.has("1.0.0"));
}

TEST_F(StagingTest, A_tree_that_is_there_changes_places_with_the_new_one_and_is_gone) {
  const Built built = release_of("1.0.0", sample_tree());
  ASSERT_TRUE(install(store, "1.0.0", built));
  ASSERT_TRUE(store.set_current("1.0.0"));
  const ino_t before = stat_of(store.path("1.0.0")).st_ino;
  EXPECT_TRUE(install(store, "1.0.0", built));
  EXPECT_NE(stat_of(store.path("1.0.0")).st_ino, before);
  EXPECT_TRUE(std::filesystem::is_empty(store.directory() + "/incoming"));
  EXPECT_EQ(install(store, "../evil", built).error().code(), Code::path_unsafe);
  EXPECT_EQ(damage_of(store, "1.0.0"), "");
}

TEST_F(StagingTest, A_dry_run_leaves_nothing_and_touches_no_remains) {
  const Built built = release_of("1.0.0", sample_tree());
  {
    const auto killed = started(built);
  }
  StagingOptions options;
  options.throw_away = true;
  {
    const auto staging = started(built, options);
    ASSERT_TRUE(send_all(*staging, built));
    ASSERT_TRUE(staging->finish(built.manifest.entries));
    EXPECT_EQ(incoming().size(), 2U);
    const auto report = verify_tree(staging->path(), built.manifest, nullptr);
    ASSERT_TRUE(report);
    EXPECT_EQ(problems_of(*report), "");
    EXPECT_EQ(staging->publish("1.0.0").error().code(), Code::internal);
  }
  EXPECT_EQ(incoming(), std::vector<std::string>{built.digest.hex()});
}

TEST_F(StagingTest, What_is_discarded_is_gone_and_what_was_cut_off_stays) {
  const Built built = release_of("1.0.0", sample_tree());
  {
    const auto staging = started(built);
    ASSERT_TRUE(send(*staging, built.items[0], built.items));
  }
  EXPECT_EQ(incoming(), std::vector<std::string>{built.digest.hex()});
  {
    const auto staging = started(built);
    EXPECT_EQ(incoming(),
              (std::vector<std::string>{built.digest.hex(), built.digest.hex() + ".left"}));
    staging->discard();
    EXPECT_TRUE(incoming().empty());
    EXPECT_FALSE(staging->publish("1.0.0"));
  }
}

TEST_F(StagingTest, Space_and_inodes_are_checked_with_figures) {
  const Built built = release_of("1.0.0", sample_tree());
  StagingOptions options;
  options.min_free_bytes = 1ULL << 62;
  const auto staging = begin(store, built, options);
  ASSERT_FALSE(staging);
  EXPECT_EQ(staging.error().code(), Code::no_space);
  EXPECT_NE(staging.error().message().find(root / "app"), std::string::npos);
  EXPECT_NE(staging.error().expected().find("and 6 inodes, and "), std::string::npos)
      << staging.error().line();
  EXPECT_NE(staging.error().expected().find("to stay free"), std::string::npos);
  EXPECT_NE(staging.error().got().find(" inodes"), std::string::npos);
}

}  // namespace
}  // namespace updagent::store
