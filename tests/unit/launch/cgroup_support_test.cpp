#include "agent/launch/cgroup_support.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace updagent::launch {
namespace {

constexpr std::string_view kUnified =
    "22 28 0:21 / /proc rw,nosuid - proc proc rw\n"
    "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr std::string_view kHybrid =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

CgroupSupport judged(std::string_view mountinfo, std::string_view membership) {
  return judge_cgroups(parse_cgroup_mounts(mountinfo), membership);
}

TEST(CgroupSupport, A_unified_hierarchy_is_usable_where_we_are) {
  const CgroupSupport support = judged(kUnified, "0::/system.slice/updagent@shop.service\n");
  EXPECT_EQ(support.kind, CgroupKind::unified);
  EXPECT_TRUE(support.usable);
  EXPECT_EQ(support.reason, "");
  EXPECT_EQ(support.mount_folder, "/sys/fs/cgroup");
  EXPECT_EQ(support.own_folder, "/sys/fs/cgroup/system.slice/updagent@shop.service");
}

TEST(CgroupSupport, A_hybrid_has_a_usable_tree_without_controllers) {
  const CgroupSupport support =
      judged(kHybrid, "4:memory:/a\n2:cpu,cpuacct:/b\n1:name=systemd:/c\n0::/c\n");
  EXPECT_EQ(support.kind, CgroupKind::hybrid);
  EXPECT_TRUE(support.usable);
  EXPECT_EQ(support.own_folder, "/sys/fs/cgroup/unified/c");
}

TEST(CgroupSupport, Version_1_alone_and_nothing_at_all_say_what_is_lost) {
  const std::string v1(kHybrid.substr(0, kHybrid.find("41 31")));
  CgroupSupport support = judged(v1, "4:memory:/a\n");
  EXPECT_EQ(support.kind, CgroupKind::v1);
  EXPECT_FALSE(support.usable);
  EXPECT_NE(support.reason.find("only cgroup version 1"), std::string::npos);
  EXPECT_NE(support.reason.find("escapes"), std::string::npos);
  support = judged("22 28 0:21 / /proc rw - proc proc rw\n", "");
  EXPECT_EQ(support.kind, CgroupKind::none);
  EXPECT_NE(support.reason.find("no cgroup file system"), std::string::npos);
}

TEST(CgroupSupport, A_container_that_sees_a_part_of_the_tree_is_placed_within_it) {
  const std::string_view bound =
      "30 23 0:26 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";
  EXPECT_EQ(judged(bound, "0::/docker/abc\n").own_folder, "/sys/fs/cgroup");
  EXPECT_EQ(judged(bound, "0::/docker/abc/x\n").own_folder, "/sys/fs/cgroup/x");
  const CgroupSupport outside = judged(bound, "0::/docker/abcd\n");
  EXPECT_FALSE(outside.usable);
  EXPECT_NE(outside.reason.find("outside of what is mounted"), std::string::npos);
  EXPECT_FALSE(judged(kUnified, "0::/../other\n").usable);
}

TEST(CgroupSupport, Folders_of_version_1_are_found_by_controller) {
  const auto mounts = parse_cgroup_mounts(kHybrid);
  ASSERT_EQ(mounts.size(), 4U);
  const std::string_view membership = "4:memory:/app\n2:cpu,cpuacct:/b\n0::/c\n";
  EXPECT_EQ(folder_under(mounts[0], membership), "/sys/fs/cgroup/cpu,cpuacct/b");
  EXPECT_EQ(folder_under(mounts[1], membership), "/sys/fs/cgroup/memory/app");
  EXPECT_EQ(folder_under(mounts[2], membership), std::nullopt);
}

TEST(CgroupSupport, Blanks_in_paths_are_unescaped_and_nonsense_is_passed_over) {
  const auto mounts = parse_cgroup_mounts(
      "30 23 0:26 / /a\\040b\\134 rw - cgroup2 cgroup2 rw\nnonsense\n1 2 - cgroup2\n\n - \n");
  ASSERT_EQ(mounts.size(), 1U);
  EXPECT_EQ(mounts[0].folder, "/a b\\");
}

TEST(CgroupSupport, Of_this_machine_has_a_reason_or_a_folder) {
  const CgroupSupport support = find_cgroup_support();
  EXPECT_NE(support.usable, support.reason.size() > 0);
  EXPECT_EQ(support.usable, std::filesystem::is_directory(support.own_folder));
}

}  // namespace
}  // namespace updagent::launch
