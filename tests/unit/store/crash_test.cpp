// A deployment of 2.0.0 over 1.0.0 by a child that is killed, or whose system calls fail, at every
// place in turn. Whatever happens, both links name whole trees, and the next run ends it.
#include <algorithm>
#include <sstream>

#include "agent/base/files.hpp"
#include "agent/store/durability.hpp"
#include "support.hpp"

namespace updagent::store {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace)

constexpr int kMaxPlaces = 500;  // more calls of one kind than the small tree makes

struct Node {
  explicit Node(const std::string& scenario)
      : tree(scenario == "many" ? many_files(100) : sample_tree()) {
    const base::Status deployed = deploy(store, "1.0.0", release_of("1.0.0", tree), {});
    EXPECT_TRUE(deployed) << deployed.error().line();
  }
  TempDir root{true};
  AppStore store = open_store(root);
  Recipe tree;
};

void expect_whole(const AppStore& store, const std::string& where) {
  const auto links = store.links();
  ASSERT_TRUE(links) << where << links.error().line();
  ASSERT_TRUE(links->current && links->committed) << where;
  EXPECT_EQ(damage_of(store, *links->current), "") << where;
  EXPECT_EQ(damage_of(store, *links->committed), "") << where;
}

void expect_next_run_ends_it(const Node& node, const std::string& scenario,
                             const std::string& where) {
  const ChildResult next = run_child(scenario, node.root.path(), "");
  ASSERT_EQ(next.exit_code, 0) << where << ": " << next.output;
  const auto links = node.store.links();
  ASSERT_TRUE(links) << where;
  EXPECT_EQ(links->current, "2.0.0") << where;
  EXPECT_EQ(links->committed, "2.0.0") << where;
  EXPECT_EQ(damage_of(node.store, "2.0.0"), "") << where;
  EXPECT_EQ(damage_of(node.store, "1.0.0"), "") << where;
  AppStore store = std::move(*AppStore::open(node.root / "app", "app", false));
  EXPECT_TRUE(store.sweep(base::Milliseconds(0), 0, "")) << where;
  EXPECT_TRUE(base::list_directory(node.root / "app/incoming", 10)->empty()) << where;
}

// How often the child passed through the place before it had no more of them.
int each_place(const std::string& scenario, const std::string& name, const std::string& action) {
  for (int n = 1; n <= kMaxPlaces; ++n) {
    const std::string failpoint = name + "#" + std::to_string(n) + "=" + action;
    const Node node(scenario);
    const ChildResult result = run_child(scenario, node.root.path(), failpoint);
    if (result.exit_code == 0) return n - 1;
    EXPECT_EQ(result.killed, action == "kill") << failpoint << ": " << result.output;
    if (action != "kill") {
      const std::string wanted = action == "ENOSPC" ? "no_space: " : "io_error: ";
      EXPECT_EQ(result.output.substr(0, wanted.size()), wanted)
          << failpoint << ": " << result.output;
    }
    expect_whole(node.store, failpoint);
    expect_next_run_ends_it(node, scenario, failpoint);
    if (::testing::Test::HasFatalFailure()) return n;
  }
  return kMaxPlaces;
}

TEST(Crash, Killed_at_any_write_or_creation) {
  EXPECT_GE(each_place("small", "sys.write", "kill"), 4);
  EXPECT_GE(each_place("small", "sys.create", "kill"), 3);
  EXPECT_GE(each_place("small", "sys.mkdir", "kill"), 3);
}

TEST(Crash, Killed_at_any_link_or_attribute) {
  EXPECT_GE(each_place("small", "sys.link", "kill"), 3);
  EXPECT_GE(each_place("small", "sys.symlink", "kill"), 3);
  EXPECT_GE(each_place("small", "sys.attributes", "kill"), 3);
}

TEST(Crash, Killed_at_any_fsync_or_rename) {
  EXPECT_GE(each_place("small", "sys.fsync", "kill"), 10);
  EXPECT_GE(each_place("small", "sys.rename", "kill"), 3);
}

TEST(Crash, Killed_at_the_flush_of_a_large_release) {
  EXPECT_EQ(each_place("many", "sys.syncfs", "kill"), 1);
}

TEST(Crash, Any_failing_write_or_creation_ends_it_cleanly) {
  EXPECT_GE(each_place("small", "sys.write", "ENOSPC"), 4);
  EXPECT_GE(each_place("small", "sys.create", "ENOSPC"), 3);
  EXPECT_GE(each_place("small", "sys.mkdir", "ENOSPC"), 3);
}

TEST(Crash, Any_failing_fsync_ends_it_cleanly) {
  EXPECT_GE(each_place("small", "sys.fsync", "EIO"), 10);
}

TEST(Crash, Any_failing_rename_or_link_ends_it_cleanly) {
  EXPECT_GE(each_place("small", "sys.rename", "EIO"), 3);
  EXPECT_GE(each_place("small", "sys.symlink", "EIO"), 3);
  EXPECT_GE(each_place("small", "sys.link", "EIO"), 3);
  EXPECT_GE(each_place("small", "sys.attributes", "EIO"), 3);
}

TEST(Crash, A_failing_syncfs_leaves_nothing_to_resume_from) {
  const Node node("many");
  const ChildResult result = run_child("many", node.root.path(), "sys.syncfs=EIO");
  EXPECT_EQ(result.exit_code, 1) << result.output;
  EXPECT_TRUE(base::list_directory(node.root / "app/incoming", 10)->empty());
  expect_whole(node.store, "syncfs");
  expect_next_run_ends_it(node, "many", "syncfs");
}

TEST(Crash, Where_files_can_not_be_linked_they_are_written) {
  for (const char* why : {"EMLINK", "EXDEV", "EOPNOTSUPP"}) {
    const Node node("small");
    const ChildResult result = run_child("small", node.root.path(),
                                         std::string("sys.reflink#0=EOPNOTSUPP;sys.link#0=") + why);
    ASSERT_EQ(result.exit_code, 0) << why << result.output;
    EXPECT_EQ(result.output, "reused 0 linked 0 written 44\n") << why;
    EXPECT_EQ(damage_of(node.store, "2.0.0"), "") << why;
    EXPECT_NE(stat_of(node.store.path("2.0.0") + "/lib/a.js").st_ino,
              stat_of(node.store.path("2.0.0") + "/lib/b.js").st_ino)
        << why;
  }
}

TEST(Crash, A_child_without_failpoints_links_what_did_not_change) {
  const Node node("small");
  const ChildResult result = run_child("small", node.root.path(), "sys.reflink#0=EOPNOTSUPP");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output, "reused 2 linked 2 written 8\n");
}

// The calls between the last change of the new tree and its way into releases/.
std::vector<std::string> calls_before_publish(const Node& node) {
  std::istringstream lines(read_text(node.root / "trace"));
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line);) names.push_back(line);
  const auto last_change = std::find(names.rbegin(), names.rend(), "sys.attributes").base();
  return {last_change, std::find(last_change, names.end(), "sys.rename")};
}

TEST(Crash, Each_new_file_and_folder_is_flushed_before_it_is_published) {
  const Node node("small");
  ASSERT_EQ(run_child("small", node.root.path(), "sys.reflink#0=EOPNOTSUPP").exit_code, 0);
  // files: changed, lib/empty, envelope, manifest (the others are links to what was flushed
  // before); folders: bin, lib, .updagent, the tree's own
  EXPECT_EQ(calls_before_publish(node), std::vector<std::string>(4 + 4, "sys.fsync"));
}

TEST(Crash, A_large_release_is_flushed_once_before_it_is_published) {
  const Node node("many");
  ASSERT_EQ(run_child("many", node.root.path(), "").exit_code, 0);
  EXPECT_EQ(calls_before_publish(node), std::vector<std::string>{"sys.syncfs"});
}

TEST(Crash, A_removal_that_is_killed_leaves_whole_trees_or_none) {
  for (int n = 1; n <= kMaxPlaces; ++n) {
    const Node node("small");
    ASSERT_TRUE(install(node.store, "0.9.0", release_of("0.9.0", node.tree)));
    const std::string failpoint =
        "sys.rename#" + std::to_string(n) + "=kill;sys.fsync#" + std::to_string(n) + "=kill";
    const ChildResult result = run_child("remove", node.root.path(), failpoint);
    if (result.exit_code == 0) {
      EXPECT_GT(n, 2);
      return;
    }
    EXPECT_TRUE(result.killed) << failpoint << result.output;
    if (node.store.has("0.9.0")) {
      EXPECT_EQ(damage_of(node.store, "0.9.0"), "") << failpoint;
    }
    expect_whole(node.store, failpoint);
    AppStore store = std::move(*AppStore::open(node.root / "app", "app", false));
    ASSERT_TRUE(store.sweep(base::Milliseconds(0), 0, ""));
    EXPECT_TRUE(base::list_directory(node.root / "app/incoming", 10)->empty()) << failpoint;
  }
}

}  // namespace
}  // namespace updagent::store
