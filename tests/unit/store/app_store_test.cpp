#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/files.hpp"
#include "support.hpp"

namespace updagent::store {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace): the helpers of this folder's
                          // tests
using base::Code;

void install_ok(const AppStore& store, const std::string& version, const Recipe& recipe) {
  const base::Status installed = install(store, version, release_of(version, recipe));
  ASSERT_TRUE(installed) << installed.error().line();
}

TEST(AppStore, Opening_an_unknown_app_says_not_found_and_makes_nothing) {
  const TempDir root;
  const auto store = AppStore::open(root / "app", "shop", false);
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code(), Code::not_found);
  EXPECT_NE(store.error().line().find("'shop'"), std::string::npos);
  EXPECT_FALSE(base::exists(root / "app"));
}

TEST(AppStore, A_folder_with_only_the_drivers_lock_is_no_app) {
  const TempDir root;
  ASSERT_EQ(::mkdir((root / "app").c_str(), 0755), 0);
  write_text(root / "app/lock", "");
  const auto store = AppStore::open(root / "app", "app", false);
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code(), Code::not_found);
}

TEST(AppStore, Folders_have_the_modes_of_the_design) {
  const TempDir root;
  const mode_t before = ::umask(077);
  open_store(root);
  ::umask(before);
  EXPECT_EQ(stat_of(root / "app").st_mode & 07777U, 0755U);
  EXPECT_EQ(stat_of(root / "app/releases").st_mode & 07777U, 0755U);
  EXPECT_EQ(stat_of(root / "app/incoming").st_mode & 07777U, 0700U);
  EXPECT_FALSE(base::exists(root / "app/data"));
}

TEST(AppStore, A_folder_that_others_may_write_in_is_refused) {
  const TempDir root;
  open_store(root);
  ASSERT_EQ(::chmod((root / "app").c_str(), 0775), 0);
  const auto store = AppStore::open(root / "app", "app", false);
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code(), Code::config_invalid);
  EXPECT_NE(store.error().got().find("0775"), std::string::npos);
  EXPECT_NE(store.error().expected().find("not writable"), std::string::npos);
}

TEST(AppStore, The_data_folder_is_made_once_for_its_owner) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  const TempDir root;
  AppStore store = open_store(root);
  const base::Identity service{"service", 12345, 12346, {}, "/"};
  ASSERT_TRUE(store.prepare_data(service));
  struct stat about = stat_of(root / "app/data");
  EXPECT_EQ(about.st_uid, 12345U);
  EXPECT_EQ(about.st_gid, 12346U);
  EXPECT_EQ(about.st_mode & 07777U, 0750U);
  write_text(root / "app/data/state", "kept");
  ASSERT_TRUE(store.prepare_data({"other", 999, 999, {}, "/"}));
  about = stat_of(root / "app/data");
  EXPECT_EQ(about.st_uid, 12345U);
  EXPECT_EQ(read_text(root / "app/data/state"), "kept");
}

TEST(AppStore, Data_on_another_file_system_is_a_link_that_stays) {
  const TempDir root;
  AppStore store = open_store(root);
  ASSERT_EQ(::mkdir((root / "elsewhere").c_str(), 0755), 0);
  ASSERT_EQ(::symlink((root / "elsewhere").c_str(), (root / "app/data").c_str()), 0);
  EXPECT_TRUE(store.prepare_data(base::own_identity()));
  EXPECT_TRUE(S_ISLNK(stat_of(root / "app/data").st_mode));
}

TEST(AppStore, A_file_in_the_place_of_data_is_refused) {
  const TempDir root;
  AppStore store = open_store(root);
  write_text(root / "app/data", "");
  const base::Status prepared = store.prepare_data(base::own_identity());
  ASSERT_FALSE(prepared);
  EXPECT_EQ(prepared.error().code(), Code::config_invalid);
  EXPECT_EQ(prepared.error().expected(), "a folder");
}

TEST(AppStore, Links_are_relative_and_go_from_release_to_release) {
  const TempDir root;
  AppStore store = open_store(root);
  install_ok(store, "1.0.0", sample_tree());
  install_ok(store, "2.0.0", sample_tree());
  ASSERT_FALSE(store.links()->current);
  ASSERT_TRUE(store.set_current("1.0.0"));
  ASSERT_TRUE(store.set_committed("1.0.0"));
  ASSERT_TRUE(store.set_current("2.0.0"));
  const auto links = store.links();
  ASSERT_TRUE(links);
  EXPECT_EQ(links->current, "2.0.0");
  EXPECT_EQ(links->committed, "1.0.0");
  EXPECT_EQ(*base::read_link_at(store.directory_fd(), "current"), "releases/2.0.0");
  ASSERT_TRUE(store.set_current(std::nullopt));
  ASSERT_TRUE(store.set_current(std::nullopt));
  EXPECT_FALSE(store.links()->current);
}

TEST(AppStore, A_link_to_a_release_that_is_not_there_is_refused) {
  const TempDir root;
  AppStore store = open_store(root);
  install_ok(store, "1.0.0", sample_tree());
  ASSERT_TRUE(store.set_current("1.0.0"));
  const base::Status set = store.set_current("9.9.9");
  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().code(), Code::not_found);
  EXPECT_NE(set.error().expected().find("releases/9.9.9"), std::string::npos);
  EXPECT_EQ(store.set_current("../1.0.0").error().code(), Code::path_unsafe);
  EXPECT_EQ(store.set_current("").error().code(), Code::path_unsafe);
  EXPECT_EQ(store.links()->current, "1.0.0");
}

TEST(AppStore, A_link_that_somebody_else_made_is_damage) {
  const TempDir root;
  const AppStore store = open_store(root);
  for (const char* target : {"/etc", "releases/../../x", "releases/", "elsewhere/1.0.0"}) {
    ASSERT_EQ(::symlink(target, (root / "app/current").c_str()), 0);
    const auto links = store.links();
    ASSERT_FALSE(links) << target;
    EXPECT_EQ(links.error().code(), Code::damaged);
    EXPECT_EQ(links.error().expected(), "releases/VERSION");
    EXPECT_EQ(links.error().got(), std::string("'") + target + "'");
    ASSERT_EQ(::unlink((root / "app/current").c_str()), 0);
  }
}

TEST(AppStore, Versions_are_the_folders_of_releases_by_name) {
  const TempDir root;
  AppStore store = open_store(root);
  install_ok(store, "2.0.0", sample_tree());
  install_ok(store, "1.0.0", sample_tree());
  write_text(root / "app/releases/a-file", "");
  ASSERT_EQ(::mkdir((root / "app/releases/.hidden").c_str(), 0755), 0);
  ASSERT_EQ(::symlink("1.0.0", (root / "app/releases/3.0.0").c_str()), 0);
  EXPECT_EQ(*store.versions(), (std::vector<std::string>{"1.0.0", "2.0.0"}));
  EXPECT_FALSE(store.has("3.0.0"));
  EXPECT_FALSE(store.has(".."));
}

TEST(AppStore, Manifest_and_envelope_of_an_installed_release_are_read_back) {
  const TempDir root;
  AppStore store = open_store(root);
  const Built built = release_of("1.0.0", sample_tree());
  ASSERT_TRUE(install(store, "1.0.0", built));
  const auto manifest = store.manifest("1.0.0");
  ASSERT_TRUE(manifest) << manifest.error().line();
  EXPECT_EQ(manifest->entries.size(), built.items.size());
  EXPECT_EQ(*store.manifest_digest("1.0.0"), built.digest);
  EXPECT_EQ(*store.envelope("1.0.0"), kEnvelope);
  EXPECT_EQ(store.manifest("4.0.0").error().code(), Code::not_found);
  EXPECT_EQ(store.envelope("../x").error().code(), Code::path_unsafe);
}

TEST(AppStore, A_new_envelope_replaces_the_old_one_and_leaves_nothing_else) {
  const TempDir root;
  AppStore store = open_store(root);
  install_ok(store, "1.0.0", sample_tree());
  const base::Status replaced = store.replace_envelope("1.0.0", "{\"two\":\"signatures\"}");
  ASSERT_TRUE(replaced) << replaced.error().line();
  EXPECT_EQ(*store.envelope("1.0.0"), "{\"two\":\"signatures\"}");
  EXPECT_EQ(stat_of(root / "app/releases/1.0.0/.updagent/release.dsse.json").st_mode & 07777U,
            0444U);
  EXPECT_EQ(damage_of(store, "1.0.0"), "");
  EXPECT_TRUE(base::list_directory(root / "app/incoming", 10)->empty());
  EXPECT_EQ(store.replace_envelope("2.0.0", "{}").error().code(), Code::not_found);
}

TEST(AppStore, Current_and_committed_are_never_removed) {
  const TempDir root;
  AppStore store = open_store(root);
  for (const char* version : {"1.0.0", "2.0.0", "3.0.0"}) install_ok(store, version, sample_tree());
  ASSERT_TRUE(store.set_current("2.0.0"));
  ASSERT_TRUE(store.set_committed("1.0.0"));
  const base::Status current = store.remove("2.0.0");
  ASSERT_FALSE(current);
  EXPECT_EQ(current.error().code(), Code::io_error);
  EXPECT_EQ(current.error().got(), "the current one");
  EXPECT_EQ(store.remove("1.0.0").error().got(), "the committed one");
  EXPECT_EQ(store.remove("9.0.0").error().code(), Code::not_found);
  ASSERT_TRUE(store.remove("3.0.0"));
  EXPECT_EQ(*store.versions(), (std::vector<std::string>{"1.0.0", "2.0.0"}));
  EXPECT_TRUE(base::list_directory(root / "app/incoming", 10)->empty());
}

}  // namespace
}  // namespace updagent::store
