// Named places where a test kills, stops or fails the process. Compiled out of release builds.
//
// UPDAGENT_FAILPOINTS="NAME[#N[+]]=ACTION;..."  acts at the Nth time (default 1, 0: every time)
// that NAME is passed, with + also at each later one. ACTION: kill (SIGKILL to ourselves), stop
// (SIGSTOP), or an errno name (ENOSPC, EIO, EXDEV, ...), which makes the system call that stands at
// this place fail with it. UPDAGENT_FAILPOINTS_TRACE=FILE  appends a line with the name each time
// one is passed: a test enumerates them so and then kills at each.
//
// Names: "deploy.*" between side effects of a deployment (list: docs/failpoints.md), and
// "sys.fsync", "sys.write", "sys.rename", "sys.syncfs", "sys.symlink", "sys.link", "sys.create",
// "sys.mkdir", "sys.attributes" (mode and mtime), "sys.reflink", "sqlite.commit" at the calls.
#pragma once

#include <string_view>

namespace updagent::base::failpoint {

#ifdef UPDAGENT_FAILPOINTS
// May not return (kill). For places where nothing can fail.
void hit(std::string_view name);
// 0, or the errno that the call at this place shall fail with.
[[nodiscard]] int fail(std::string_view name);
#else
inline void hit(std::string_view) {}
[[nodiscard]] inline int fail(std::string_view) {
  return 0;
}
#endif

}  // namespace updagent::base::failpoint
