#include "agent/base/process_tree.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "agent/base/pidfd.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::base {
namespace {

constexpr pid_t kNoProcess = -1;
// Deeper trees are killed from the top in several passes: what loses its parent moves up.
constexpr std::size_t kMaxAncestors = 512;
// pid, name of at most 64 bytes (15 in user processes), state, parent: all that is read of stat.
constexpr std::size_t kStatBytes = 256;

pid_t parse_pid(std::string_view digits) {
  pid_t pid = kNoProcess;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), pid);
  const bool number = error == std::errc() && end == digits.data() + digits.size() && pid > 0;
  return number ? pid : kNoProcess;
}

UniqueFd open_stat(pid_t pid) {
  static constexpr std::string_view kBefore = "/proc/";
  static constexpr std::string_view kAfter = "/stat";
  std::array<char, 32> path{};  // ten digits at most
  char* at = std::copy(kBefore.begin(), kBefore.end(), path.data());
  at = std::to_chars(at, path.data() + path.size() - kAfter.size() - 1, pid).ptr;
  std::copy(kAfter.begin(), kAfter.end(), at);
  return UniqueFd(::open(path.data(), O_RDONLY | O_CLOEXEC));
}

// proc_pid_stat(5): "PID (NAME) STATE PPID ..."; the name may hold anything, also ") ".
pid_t parent_of(pid_t pid) {
  const UniqueFd file = open_stat(pid);
  if (!file) return kNoProcess;
  std::array<char, kStatBytes> text{};
  const ssize_t count = ::read(file.get(), text.data(), text.size());
  if (count <= 0) return kNoProcess;
  std::string_view rest(text.data(), static_cast<std::size_t>(count));
  const std::size_t name_end = rest.rfind(')');
  constexpr std::size_t kToParent = 4;  // ") S "
  if (name_end == std::string_view::npos || name_end + kToParent > rest.size()) return kNoProcess;
  rest.remove_prefix(name_end + kToParent);
  return parse_pid(rest.substr(0, rest.find(' ')));
}

// Climbs from pid to ancestor, then reads the chain again from the top: a pid that was given to
// another process on the way would have changed its child's parent, so nobody else is ever hit.
bool descends_from(pid_t pid, pid_t ancestor) {
  std::array<pid_t, kMaxAncestors> chain{};
  std::size_t length = 0;
  for (pid_t at = pid; at != ancestor; at = parent_of(at)) {
    if (at <= 1 || length == chain.size()) return false;
    chain[length++] = at;
  }
  pid_t above = ancestor;
  while (length > 0) {
    const pid_t below = chain[--length];
    if (parent_of(below) != above) return false;
    above = below;
  }
  return pid != ancestor;
}

void kill_if_descendant(pid_t pid, pid_t ancestor) {
  if (!descends_from(pid, ancestor)) return;
  // The descriptor names one process for ever; that it is the one we judged is judged again.
  const UniqueFd process = open_pidfd(pid);
  if (process && descends_from(pid, ancestor)) signal_pidfd(process, SIGKILL);
}

}  // namespace

void kill_descendants(pid_t ancestor) {
  const UniqueFd proc(::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!proc) return;
  alignas(dirent64) std::array<char, 32 * 1024> names{};
  for (;;) {
    const ssize_t count = ::getdents64(proc.get(), names.data(), names.size());
    if (count <= 0) return;
    for (ssize_t at = 0; at < count;) {
      const auto* entry = reinterpret_cast<const dirent64*>(names.data() + at);
      at += entry->d_reclen;
      if (const pid_t pid = parse_pid(entry->d_name); pid != kNoProcess)
        kill_if_descendant(pid, ancestor);
    }
  }
}

}  // namespace updagent::base
