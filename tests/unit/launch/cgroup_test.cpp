#include "agent/launch/cgroup.hpp"

#include <seccomp.h>

#include <cerrno>
#include <set>

#include "agent/launch/proc_stat.hpp"
#include "tests/unit/launch/launch_support.hpp"

namespace updagent::launch {
namespace {

constexpr base::Milliseconds kPatience{kPatienceMs};

// Leaves two processes in sessions of their own, which nobody is the parent of.
std::vector<std::string> double_forker() {
  return {"/bin/sh", "-c",
          "(setsid sh -c 'sleep 1000 & exec sleep 1000' &) ; (setsid sleep 1000 &) ; "
          "exec sleep 1000"};
}

class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const CgroupSupport support = find_cgroup_support();
    if (!support.usable) GTEST_SKIP() << support.reason;
    base_ = support.mount_folder + "/updagent-test-" + std::to_string(::getpid()) + "/shop";
    auto tree = CgroupTree::open(base_);
    ASSERT_TRUE(tree.has_value()) << tree.error().line();
    tree_.emplace(std::move(*tree));
  }
  void TearDown() override {
    if (!tree_) return;
    const auto swept = tree_->sweep({}, kPatience);
    EXPECT_TRUE(swept && swept->left.empty());
    ::rmdir((base_ + "/supervisor").c_str());
    EXPECT_EQ(::rmdir(base_.c_str()), 0) << base_;
    ::rmdir(std::filesystem::path(base_).parent_path().c_str());
  }

  GenerationCgroup make(std::uint64_t generation) {
    auto made = tree_->make(generation);
    if (!made) throw std::runtime_error(made.error().line());
    return std::move(*made);
  }

  std::string base_;
  std::optional<CgroupTree> tree_;
};

// A service in that cgroup, with its children there.
void start_in(const GenerationCgroup& cgroup, const std::vector<std::string>& argv,
              std::size_t processes, std::optional<Running>& running) {
  TestSpec spec(argv);
  spec.spec.cgroup_fd = cgroup.directory_fd();
  running.emplace(spec.spec);
  EXPECT_TRUE(eventually([&] { return cgroup.processes().value().size() == processes; }))
      << cgroup.processes().value().size();
}

bool wait_until_empty(GenerationCgroup& cgroup) {
  for (;;) {
    if (!cgroup.on_event().value_or(true)) return true;
    if (!readable_within(cgroup.event_fd())) return false;
  }
}

TEST_F(CgroupTest, A_service_is_in_its_cgroup_and_told_apart_from_others) {
  const GenerationCgroup seven = make(7);
  const GenerationCgroup eight = make(8);
  std::optional<Running> running;
  start_in(seven, sleeper(), 1, running);
  EXPECT_EQ(seven.processes().value(), std::vector<pid_t>{running->pid()});
  EXPECT_TRUE(seven.contains(running->pid()));
  EXPECT_FALSE(eight.contains(running->pid()));
  EXPECT_FALSE(seven.contains(::getpid()));
  EXPECT_TRUE(seven.populated().value());
  EXPECT_FALSE(eight.populated().value());
  EXPECT_TRUE(seven.usage().cpu_us.has_value());
}

TEST_F(CgroupTest, Daemons_that_fork_twice_are_killed_with_the_rest) {
  GenerationCgroup cgroup = make(1);
  std::optional<Running> running;
  start_in(cgroup, double_forker(), 4, running);
  ASSERT_TRUE(cgroup.kill().has_value());
  EXPECT_TRUE(wait_until_empty(cgroup));
  running->stop();
  EXPECT_TRUE(cgroup.remove().value_or(false));
  EXPECT_FALSE(std::filesystem::exists(cgroup.folder()));
}

TEST_F(CgroupTest, Without_cgroup_kill_they_are_killed_one_by_one) {
  GenerationCgroup cgroup = make(1);
  std::optional<Running> running;
  start_in(cgroup, double_forker(), 4, running);
  ASSERT_TRUE(cgroup.kill_each().has_value());
  EXPECT_TRUE(wait_until_empty(cgroup));
}

TEST_F(CgroupTest, The_event_comes_when_the_last_process_is_gone_and_not_before) {
  GenerationCgroup cgroup = make(1);
  std::optional<Running> running;
  start_in(cgroup, sleeper(), 1, running);
  EXPECT_TRUE(cgroup.on_event().value());
  EXPECT_FALSE(readable_within(cgroup.event_fd(), 50)) << "an event without a change";
  running->stop();
  ASSERT_TRUE(readable_within(cgroup.event_fd()));
  EXPECT_FALSE(cgroup.on_event().value());
  EXPECT_FALSE(readable_within(cgroup.event_fd(), 0)) << "the event was not taken";
}

TEST_F(CgroupTest, A_cgroup_with_a_living_process_is_not_removed) {
  GenerationCgroup cgroup = make(1);
  std::optional<Running> running;
  start_in(cgroup, sleeper(), 1, running);
  EXPECT_FALSE(cgroup.remove().value());
  EXPECT_TRUE(std::filesystem::exists(cgroup.folder()));
}

TEST_F(CgroupTest, Cgroups_that_the_service_made_below_are_ended_and_removed_too) {
  GenerationCgroup cgroup = make(1);
  std::optional<Running> running;
  start_in(cgroup, sleeper(), 1, running);
  std::filesystem::create_directories(cgroup.folder() + "/own/deeper");
  std::ofstream(cgroup.folder() + "/own/deeper/cgroup.procs") << running->pid() << std::flush;
  EXPECT_TRUE(cgroup.contains(running->pid()));
  EXPECT_EQ(cgroup.processes().value(), std::vector<pid_t>{running->pid()});
  struct stat about{};
  ASSERT_EQ(::stat((cgroup.folder() + "/own/deeper").c_str(), &about), 0);
  EXPECT_TRUE(cgroup.is_or_holds(about.st_ino));
  ASSERT_EQ(::stat(base_.c_str(), &about), 0);
  EXPECT_FALSE(cgroup.is_or_holds(about.st_ino));

  EXPECT_TRUE(cgroup.end(kPatience).value_or(false));
  EXPECT_FALSE(std::filesystem::exists(cgroup.folder()));
  EXPECT_TRUE(cgroup.remove().value_or(false)) << "gone already is gone";
}

TEST_F(CgroupTest, What_dead_generations_left_is_swept_and_the_living_are_spared) {
  const GenerationCgroup living = make(3);
  std::optional<Running> spared;
  start_in(living, sleeper(), 1, spared);
  std::optional<Running> left;
  start_in(make(2), double_forker(), 4, left);
  make(1);
  std::filesystem::create_directory(base_ + "/not-ours");
  const auto swept = tree_->sweep({3}, kPatience);
  ASSERT_TRUE(swept.has_value()) << swept.error().line();
  EXPECT_EQ(swept->removed, (std::vector<std::string>{"generation-1", "generation-2"}));
  EXPECT_TRUE(swept->left.empty());
  EXPECT_TRUE(living.populated().value());
  EXPECT_TRUE(std::filesystem::exists(base_ + "/not-ours"));
  std::filesystem::remove(base_ + "/not-ours");
}

TEST_F(CgroupTest, A_generation_is_found_again_by_its_number) {
  make(5);
  EXPECT_TRUE(tree_->find(5).has_value());
  EXPECT_EQ(tree_->find(6).error().code(), base::Code::not_found);
}

TEST_F(CgroupTest, The_supervisor_moves_into_a_leaf) {
  const std::string said = said_in_child([&] {
    const base::Status moved = tree_->move_in_supervisor();
    return moved ? slurp("/proc/self/cgroup") : moved.error().line();
  });
  EXPECT_NE(said.find("/updagent-test-" + std::to_string(::getpid()) + "/shop/supervisor\n"),
            std::string::npos)
      << said;
}

TEST_F(CgroupTest, Memory_figures_are_there_if_the_controller_is) {
  const auto enabled = tree_->enable_memory_figures();
  ASSERT_TRUE(enabled.has_value()) << enabled.error().line();
  const GenerationCgroup cgroup = make(1);
  std::optional<Running> running;
  start_in(cgroup, sleeper(), 1, running);
  EXPECT_EQ(cgroup.usage().memory_bytes.has_value(), *enabled);
}

// A sandbox that hides clone3(2): the service joins by itself, before it does anything else.
TEST_F(CgroupTest, Without_clone3_the_service_joins_its_cgroup_all_the_same) {
  const GenerationCgroup cgroup = make(1);
  const std::string said = said_in_child([&] {
    scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_ALLOW);
    if (::seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) != 0 ||
        ::seccomp_load(filter) != 0)
      return std::string("no filter");
    TestSpec spec(sleeper());
    spec.spec.cgroup_fd = cgroup.directory_fd();
    const auto started = start_service(spec.spec);
    if (!started) return started.error().line();
    return std::string(cgroup.contains(started->identity.pid) ? "inside" : "outside");
  });
  EXPECT_EQ(said, "inside");
}

TEST_F(CgroupTest, Two_hundred_generations_leave_nothing) {
  const auto count = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  const auto before = count();
  for (std::uint64_t generation = 0; generation < 200; ++generation) {
    GenerationCgroup cgroup = make(generation);
    EXPECT_TRUE(cgroup.end(kPatience).value_or(false));
  }
  EXPECT_EQ(count(), before);
}

TEST(Cgroup, A_folder_elsewhere_is_refused) {
  const test::TestDirectory directory;
  const auto tree = CgroupTree::open(directory.path("x/y"));
  ASSERT_FALSE(tree.has_value());
  EXPECT_NE(tree.error().line().find("not in a cgroup version 2 file system"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(directory.path("x")));
}

}  // namespace
}  // namespace updagent::launch
