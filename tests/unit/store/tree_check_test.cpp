#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <functional>

#include "agent/base/files.hpp"
#include "support.hpp"

namespace updagent::store {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace)

struct TreeCheck : ::testing::Test {
  void SetUp() override {
    built = release_of("1.0.0", sample_tree());
    const base::Status installed = install(store, "1.0.0", built);
    ASSERT_TRUE(installed) << installed.error().line();
    tree = store.path("1.0.0");
  }
  std::string problems() const {
    const auto report = verify_tree(tree, built.manifest, nullptr);
    return report ? problems_of(*report) : "error: " + report.error().line();
  }
  TempDir root;
  AppStore store = open_store(root);
  Built built;
  std::string tree;
};

TEST_F(TreeCheck, A_whole_tree_has_no_problems_and_every_entry_was_seen) {
  const auto report = verify_tree(tree, built.manifest, nullptr);
  ASSERT_TRUE(report) << report.error().line();
  EXPECT_EQ(problems_of(*report), "");
  EXPECT_EQ(report->entries, built.items.size());
  const std::uint64_t tool =
      19;  // bytes of bin/tool; lib/a.js counts twice, as itself and as lib/b.js
  EXPECT_EQ(report->bytes, tool + 2 * 17);
}

TEST_F(TreeCheck, One_edited_byte_is_found_with_both_digests) {
  write_text(tree + "/bin/tool", "#!/bin/sh\necho two\n");
  ASSERT_EQ(::chmod((tree + "/bin/tool").c_str(), 0555), 0);
  EXPECT_EQ(problems(), "bin/tool: expected sha256 " + base::sha256("#!/bin/sh\necho one\n").hex() +
                            ", got " + base::sha256("#!/bin/sh\necho two\n").hex());
}

TEST_F(TreeCheck, Damage_through_a_hard_link_is_found_under_both_names) {
  write_text(tree + "/lib/a.js", "console.log('x')\n");
  ASSERT_EQ(::chmod((tree + "/lib/a.js").c_str(), 0444), 0);
  const std::string found = problems();
  EXPECT_NE(found.find("lib/a.js: expected sha256"), std::string::npos) << found;
  EXPECT_NE(found.find("lib/b.js: expected sha256"), std::string::npos) << found;
}

struct Damage {
  const char* what;
  std::function<bool(const std::string& tree)> make;
  std::string expected;
};

std::vector<Damage> all_damages() {
  const auto in = [](const std::string& tree, const char* name) { return tree + "/" + name; };
  return {
      {"longer",
       [=](const std::string& t) {
         write_text(in(t, "lib/empty"), "x");
         return ::chmod(in(t, "lib/empty").c_str(), 0444) == 0;
       },
       "lib/empty: expected 0 bytes, got 1"},
      {"missing file",
       [=](const std::string& t) { return ::unlink(in(t, "bin/tool").c_str()) == 0; },
       "bin/tool: missing"},
      {"missing link", [=](const std::string& t) { return ::unlink(in(t, "tool").c_str()) == 0; },
       "tool: missing"},
      {"extra file",
       [=](const std::string& t) {
         write_text(in(t, "bin/x"), "");
         return true;
       },
       "bin/x: extra"},
      {"extra folder", [=](const std::string& t) { return ::mkdir(in(t, "x").c_str(), 0755) == 0; },
       "x: extra"},
      {"extra name with control bytes",
       [=](const std::string& t) {
         write_text(in(t, "x\x1b[2J"), "");
         return true;
       },
       "x\\x1b[2J: extra"},
      {"mode", [=](const std::string& t) { return ::chmod(in(t, "bin/tool").c_str(), 0444) == 0; },
       "bin/tool: expected mode 0555, got 0444"},
      {"setuid",
       [=](const std::string& t) { return ::chmod(in(t, "bin/tool").c_str(), 04555) == 0; },
       "bin/tool: expected mode 0555, got 4555"},
      {"link target",
       [=](const std::string& t) {
         return ::unlink(in(t, "tool").c_str()) == 0 &&
                ::symlink("bin/zool", in(t, "tool").c_str()) == 0;
       },
       "tool: expected a link to 'bin/tool', got 'bin/zool'"},
      {"file for a link",
       [=](const std::string& t) {
         if (::unlink(in(t, "tool").c_str()) != 0) return false;
         write_text(in(t, "tool"), "");
         return true;
       },
       "tool: expected a symlink, got a file"},
      {"link for a file",
       [=](const std::string& t) {
         return ::unlink(in(t, "lib/empty").c_str()) == 0 &&
                ::symlink("/dev/null", in(t, "lib/empty").c_str()) == 0;
       },
       "lib/empty: expected a file, got a symlink"},
      {"fifo for a file",
       [=](const std::string& t) {
         return ::unlink(in(t, "lib/empty").c_str()) == 0 &&
                ::mkfifo(in(t, "lib/empty").c_str(), 0444) == 0;
       },
       "lib/empty: expected a file, got a special file"},
      {"writable folder",
       [=](const std::string& t) { return ::chmod(in(t, "bin").c_str(), 0775) == 0; },
       "bin: expected not writable by group or others, got mode 0775\nbin: expected mode 0755, got "
       "0775"},
      {"writable root", [=](const std::string& t) { return ::chmod(t.c_str(), 0777) == 0; },
       ".: expected not writable by group or others, got mode 0777"},
      {"no manifest",
       [=](const std::string& t) {
         return ::unlink(in(t, ".updagent/manifest.json").c_str()) == 0;
       },
       ".updagent/manifest.json: missing"},
      {"extra beside the manifest",
       [=](const std::string& t) {
         write_text(in(t, ".updagent/x"), "");
         return true;
       },
       ".updagent/x: extra"},
      {"writable manifest",
       [=](const std::string& t) {
         return ::chmod(in(t, ".updagent/manifest.json").c_str(), 0666) == 0;
       },
       ".updagent/manifest.json: expected not writable by group or others, got mode 0666"},
  };
}

TEST(TreeCheckTable, Each_kind_of_damage_is_named_with_expected_and_got) {
  const Built built = release_of("1.0.0", sample_tree());
  for (const Damage& damage : all_damages()) {
    const TempDir root;
    const AppStore store = open_store(root);
    ASSERT_TRUE(install(store, "1.0.0", built)) << damage.what;
    ASSERT_TRUE(damage.make(store.path("1.0.0"))) << damage.what;
    const auto report = verify_tree(store.path("1.0.0"), built.manifest, nullptr);
    ASSERT_TRUE(report) << damage.what << report.error().line();
    EXPECT_EQ(problems_of(*report), damage.expected) << damage.what;
  }
}

TEST_F(TreeCheck, An_owner_that_is_neither_root_nor_we_is_named) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  ASSERT_EQ(::lchown((tree + "/tool").c_str(), 12345, 0), 0);
  ASSERT_EQ(::chown((tree + "/bin").c_str(), 12346, 0), 0);
  EXPECT_EQ(problems(),
            "bin: expected owner root or uid 0, got uid 12346\ntool: expected owner root or uid 0, "
            "got uid 12345");
}

TEST_F(TreeCheck, File_capabilities_are_found) {
  // struct vfs_cap_data, version 2, cap_net_bind_service permitted and effective
  const unsigned char data[20] = {1, 0, 0, 2, 0, 4};
  if (::setxattr((tree + "/bin/tool").c_str(), "security.capability", data, sizeof data, 0) != 0)
    GTEST_SKIP() << "no file capabilities here";
  EXPECT_EQ(problems(), "bin/tool: expected no file capabilities, got some");
}

TEST_F(TreeCheck, The_list_of_problems_is_bounded) {
  for (int i = 0; i < 50; ++i) write_text(tree + "/extra" + std::to_string(i), "");
  const auto report = verify_tree(tree, built.manifest, nullptr);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->problems.size(), kMaxProblems);
}

TEST_F(TreeCheck, A_tree_that_is_not_there_is_an_error_and_a_link_is_not_followed) {
  EXPECT_FALSE(verify_tree(tree + "-none", built.manifest, nullptr));
  ASSERT_EQ(::symlink("1.0.0", (root / "app/releases/link").c_str()), 0);
  EXPECT_FALSE(verify_tree(root / "app/releases/link", built.manifest, nullptr));
}

// In a child: the signal mask and the signal stay there.
TEST_F(TreeCheck, A_signal_stops_it) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    auto interrupt = base::Interrupt::install();
    if (!interrupt || ::kill(::getpid(), SIGTERM) != 0) ::_exit(2);
    const auto report = verify_tree(tree, built.manifest, &*interrupt);
    ::_exit(!report && report.error().code() == base::Code::interrupted ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace updagent::store
