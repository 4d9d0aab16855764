#include "agent/listen/mechanism.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

#include "support.hpp"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080  // linux/sched.h, which clashes with sched.h
#endif

namespace updagent::listen {
namespace {

using namespace testing;

int open_descriptors() {
  int count = 0;
  DIR* listing = ::opendir("/proc/self/fd");
  while (::readdir(listing) != nullptr) ++count;
  ::closedir(listing);
  return count;
}

// What the child found, as "steered" or "shared: why".
std::string found_by(const std::function<void()>& prepare) {
  const Child child([&](const auto& ready) {
    prepare();
    const MechanismFound found = find_mechanism();
    ready(std::string(mechanism_name(found.mechanism)) + ": " + found.reason);
  });
  return child.report();
}

TEST(MechanismTest, Trying_leaves_nothing_behind) {
  rlimit before{};
  ::getrlimit(RLIMIT_MEMLOCK, &before);
  const int descriptors = open_descriptors();
  const MechanismFound found = find_mechanism();
  EXPECT_EQ(found.reason.empty(), found.mechanism == Mechanism::steered) << found.reason;
  EXPECT_EQ(open_descriptors(), descriptors);
  rlimit after{};
  ::getrlimit(RLIMIT_MEMLOCK, &after);
  EXPECT_EQ(after.rlim_cur, before.rlim_cur);
}

TEST(MechanismTest, An_ordinary_user_gets_shared_and_the_reason) {
  const std::string found = found_by([] { static_cast<void>(!::setresuid(65534, 65534, 65534)); });
  EXPECT_TRUE(found.starts_with("shared: ")) << found;
  EXPECT_NE(found.find("Operation not permitted"), std::string::npos) << found;
}

TEST(MechanismTest, Without_loopback_it_is_shared_and_the_reason_says_so) {
  if (!in_own_network()) GTEST_SKIP() << "no network namespace may be made here";
  if (!why_not_steered().empty()) GTEST_SKIP() << why_not_steered();
  const std::string found = found_by([] { static_cast<void>(!::unshare(CLONE_NEWNET)); });
  EXPECT_TRUE(found.starts_with("shared: ")) << found;
  EXPECT_NE(found.find("cannot connect to a socket of our own"), std::string::npos) << found;
}

// The program's clock does not know time namespaces: every lease would seem over, or never be.
TEST(MechanismTest, In_a_time_namespace_it_is_shared_and_the_reason_says_so) {
  if (!why_not_steered().empty()) GTEST_SKIP() << why_not_steered();
  for (const std::string offset : {"monotonic 86400 0\n", "monotonic -60 0\n"}) {
    const std::string found = found_by([&] {
      if (::unshare(CLONE_NEWTIME) != 0) return;
      std::ofstream("/proc/self/timens_offsets") << offset;
      const base::UniqueFd fd(::open("/proc/self/ns/time_for_children", O_RDONLY));
      static_cast<void>(!::setns(fd.get(), CLONE_NEWTIME));
    });
    if (found.starts_with("steered") && ::access("/proc/self/ns/time", F_OK) != 0)
      GTEST_SKIP() << "no time namespaces here";
    EXPECT_TRUE(found.starts_with("shared: ")) << offset << found;
    EXPECT_NE(found.find("did not go where"), std::string::npos) << found;
  }
}

}  // namespace
}  // namespace updagent::listen
