#include <unistd.h>

#include "tests/unit/trust/support.hpp"

namespace updagent::trust {
namespace {

using namespace test;

// ROOT/etc/trust.d with the permissions that a package gives it.
class TrustSetTest : public ::testing::Test {
 protected:
  TrustSetTest() {
    std::filesystem::create_directories(trust());
    for (const std::string& path : {root_.file("etc"), trust()}) ::chmod(path.c_str(), 0755);
  }
  std::string trust() const { return root_.file("etc/trust.d"); }
  // A new key in trust.d/NAME.pub; its id.
  std::string add(const std::string& name, mode_t mode = 0644) const {
    const PublicKey half = half_of(make_key());
    root_.write("etc/trust.d/" + name + ".pub", public_key_pem(half).value(), mode);
    return half.key_id;
  }
  static std::vector<std::string> ids(const TrustSet& set) {
    std::vector<std::string> out;
    for (const PublicKey& key : set.keys) out.push_back(key.key_id);
    return out;
  }
  std::vector<std::string> loaded(const std::string& app) const {
    const auto set = load_trust(trust(), app, 1);
    EXPECT_TRUE(set) << set.error().line();
    return set ? ids(*set) : std::vector<std::string>{};
  }

  Folder root_;
};
using Ids = std::vector<std::string>;

TEST_F(TrustSetTest, Is_empty_without_a_folder) {
  std::filesystem::remove_all(root_.file("etc"));
  EXPECT_EQ(loaded("shop"), Ids{});
}

TEST_F(TrustSetTest, Has_every_pub_file_in_order_of_the_names) {
  const std::string b = add("b");
  const std::string a = add("a");
  const auto set = load_trust(trust(), "", 2);
  ASSERT_TRUE(set) << set.error().line();
  EXPECT_EQ(ids(*set), (Ids{a, b}));
  EXPECT_EQ(set->keys[0].name, "a");
  EXPECT_EQ(set->keys[0].path, trust() + "/a.pub");
  EXPECT_EQ(set->threshold, 2);
  EXPECT_EQ(set->where, trust());
}

TEST_F(TrustSetTest, Ignores_other_and_hidden_files) {
  const std::string a = add("a");
  root_.write("etc/trust.d/README", "hello");
  root_.write("etc/trust.d/.b.pub", "half-written");
  EXPECT_EQ(loaded(""), Ids{a});
}

TEST_F(TrustSetTest, Of_an_app_with_keys_of_its_own_has_only_those) {
  const std::string all = add("a");
  const std::string own = add("shop/s");
  EXPECT_EQ(loaded("shop"), Ids{own});
  EXPECT_EQ(load_trust(trust(), "shop", 1).value().where, trust() + "/shop");
  EXPECT_EQ(loaded("other"), Ids{all});
  EXPECT_EQ(loaded(""), Ids{all});
}

TEST_F(TrustSetTest, Of_an_app_with_an_empty_folder_has_the_keys_for_all) {
  const std::string all = add("a");
  std::filesystem::create_directories(trust() + "/shop");
  root_.write("etc/trust.d/shop/README", "");
  EXPECT_EQ(loaded("shop"), Ids{all});
}

TEST_F(TrustSetTest, Takes_an_app_that_is_called_like_a_key_file) {
  const std::string all = add("release");
  EXPECT_EQ(loaded("release.pub"), Ids{all});
  const std::string own = add("x.pub/s");
  EXPECT_EQ(loaded("x.pub"), Ids{own});
  EXPECT_EQ(loaded(""), Ids{all});
}

TEST_F(TrustSetTest, Refuses_an_app_name_that_leaves_the_folder) {
  for (const char* app : {"..", "../x", "/etc", "a/b", "A"})
    EXPECT_REFUSED(load_trust(trust(), app, 1), usage);
}

TEST_F(TrustSetTest, Has_a_key_under_two_names_once) {
  const std::string a = add("a");
  std::filesystem::copy(trust() + "/a.pub", trust() + "/b.pub");
  EXPECT_EQ(loaded(""), Ids{a});
}

TEST_F(TrustSetTest, Follows_a_link_to_a_file_that_only_root_can_change) {
  const std::string a = add("a");
  std::filesystem::rename(trust() + "/a.pub", root_.file("elsewhere.pub"));
  std::filesystem::create_symlink(root_.file("elsewhere.pub"), trust() + "/a.pub");
  EXPECT_EQ(loaded(""), Ids{a});
  ::chmod(root_.file("elsewhere.pub").c_str(), 0666);
  EXPECT_REFUSED(load_trust(trust(), "", 1), key_unusable);
}

TEST_F(TrustSetTest, Refuses_a_dangling_link_and_what_is_no_file) {
  std::filesystem::create_symlink("/nonexistent/k.pub", trust() + "/a.pub");
  EXPECT_REFUSED(load_trust(trust(), "", 1), key_unusable);
  std::filesystem::remove(trust() + "/a.pub");
  ASSERT_EQ(::mkfifo((trust() + "/a.pub").c_str(), 0644), 0);
  EXPECT_REFUSED(load_trust(trust(), "", 1), key_unusable);
}

TEST_F(TrustSetTest, Refuses_a_file_that_others_may_write_with_the_chmod_line) {
  add("a", 0664);
  const auto set = load_trust(trust(), "", 1);
  EXPECT_REFUSED(set, key_unusable);
  EXPECT_EQ(set.error().got(), "mode 0664");
  EXPECT_EQ(set.error().hint(), "chmod go-w " + trust() + "/a.pub");
  EXPECT_EQ(set.error().exit(), base::Exit::usage);
  ::chmod((trust() + "/a.pub").c_str(), 0646);
  EXPECT_REFUSED(load_trust(trust(), "", 1), key_unusable);
}

TEST_F(TrustSetTest, Refuses_folders_that_others_may_write) {
  add("a");
  add("shop/s");
  for (const std::string& folder : {trust(), root_.file("etc"), trust() + "/shop"}) {
    ::chmod(folder.c_str(), 0775);
    const auto set = load_trust(trust(), "shop", 1);
    EXPECT_REFUSED(set, key_unusable);
    EXPECT_EQ(set.error().got(), "mode 0775");
    EXPECT_EQ(set.error().hint(), "chmod go-w " + folder);
    ::chmod(folder.c_str(), 0755);
  }
  EXPECT_TRUE(load_trust(trust(), "shop", 1));
}

// In a sticky folder nobody can rename what is not theirs, but anyone can add.
TEST_F(TrustSetTest, Takes_a_sticky_parent_but_no_sticky_trust_folder) {
  add("a");
  ::chmod(root_.file("etc").c_str(), 01777);
  EXPECT_TRUE(load_trust(trust(), "", 1));
  ::chmod(trust().c_str(), 01777);
  EXPECT_REFUSED(load_trust(trust(), "", 1), key_unusable);
}

TEST_F(TrustSetTest, Refuses_what_belongs_to_someone_else) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  add("a");
  for (const std::string& path : {trust() + "/a.pub", trust(), root_.file("etc")}) {
    ASSERT_EQ(::chown(path.c_str(), 12345, 0), 0);
    const auto set = load_trust(trust(), "", 1);
    EXPECT_REFUSED(set, key_unusable);
    EXPECT_EQ(set.error().expected(), "owner root");
    EXPECT_EQ(set.error().got(), "owner uid 12345");
    EXPECT_EQ(set.error().hint(), "chown root " + path);
    ASSERT_EQ(::chown(path.c_str(), 0, 0), 0);
  }
}

TEST_F(TrustSetTest, Refuses_the_whole_set_for_one_file_that_is_no_key) {
  add("a");
  root_.write("etc/trust.d/b.pub", "not a key");
  const auto set = load_trust(trust(), "", 1);
  EXPECT_REFUSED(set, key_unusable);
  EXPECT_NE(set.error().message().find("b.pub"), std::string::npos);
}

TEST_F(TrustSetTest, Has_at_most_64_keys) {
  for (std::size_t i = 0; i < kMaxTrustedKeys; ++i) add("k" + std::to_string(i));
  EXPECT_EQ(loaded("").size(), kMaxTrustedKeys);
  add("one-more");
  EXPECT_REFUSED(load_trust(trust(), "", 1), key_unusable);
}

TEST_F(TrustSetTest, Refuses_a_threshold_that_can_not_be) {
  for (const int threshold : {0, -1, 65}) {
    EXPECT_REFUSED(load_trust(trust(), "", threshold), config_invalid);
    EXPECT_REFUSED(load_trust_from({}, threshold), config_invalid);
  }
}

TEST_F(TrustSetTest, From_the_command_line_takes_files_and_folders) {
  const std::string a = add("a");
  const std::string b = add("more/b");
  const auto set = load_trust_from({trust() + "/more", trust() + "/a.pub"}, 1);
  ASSERT_TRUE(set) << set.error().line();
  EXPECT_EQ(ids(*set), (Ids{b, a}));
  EXPECT_EQ(set->where, "--trust " + trust() + "/more --trust " + trust() + "/a.pub");
}

TEST_F(TrustSetTest, From_the_command_line_may_belong_to_anyone_but_not_be_writable_by_others) {
  const std::string a = add("a");
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown((trust() + "/a.pub").c_str(), 12345, 0), 0);
  }
  EXPECT_EQ(ids(load_trust_from({trust() + "/a.pub"}, 1).value()), Ids{a});
  ::chmod((trust() + "/a.pub").c_str(), 0664);
  EXPECT_REFUSED(load_trust_from({trust() + "/a.pub"}, 1), key_unusable);
}

TEST_F(TrustSetTest, From_the_command_line_refuses_a_file_that_is_not_there) {
  const auto set = load_trust_from({trust() + "/none.pub"}, 1);
  EXPECT_REFUSED(set, key_unusable);
  EXPECT_NE(set.error().message().find("none.pub"), std::string::npos);
}

}  // namespace
}  // namespace updagent::trust
