#include "agent/launch/proc_stat.hpp"

#include <array>
#include <charconv>
#include <string_view>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"

namespace updagent::launch {
namespace {

constexpr std::size_t kMaxStatBytes = 4096;  // 52 numbers and a name of 64 bytes
// Numbers of proc_pid_stat(5), counted from the state, which is field 3.
constexpr std::size_t kParentField = 1;
constexpr std::size_t kSessionField = 3;
constexpr std::size_t kFlagsField = 6;
constexpr std::size_t kStartField = 19;
constexpr std::size_t kEnvironmentEndField = 48;
constexpr std::uint64_t kKernelThread = 0x00200000;  // PF_KTHREAD of the kernel's sched.h

template <class Number>
bool parse_number(std::string_view word, Number& number) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  return error == std::errc() && end == word.data() + word.size();
}

// "PID (NAME) STATE PPID ..."; the name may hold anything, also ") ".
std::optional<ProcStat> parse_proc_stat(std::string_view text) {
  const std::size_t name_end = text.rfind(") ");
  if (name_end == std::string_view::npos) return std::nullopt;
  text.remove_prefix(name_end + 2);
  std::array<std::string_view, kEnvironmentEndField + 1> fields;
  for (std::string_view& field : fields) {
    field = text.substr(0, text.find(' '));
    if (field.empty()) return std::nullopt;
    text.remove_prefix(std::min(field.size() + 1, text.size()));
  }
  ProcStat stat;
  stat.state = fields[0].front();
  std::uint64_t flags = 0;
  std::uint64_t environment_end = 0;
  const bool complete = parse_number(fields[kParentField], stat.parent) &&
                        parse_number(fields[kSessionField], stat.session) &&
                        parse_number(fields[kStartField], stat.start_ticks) &&
                        parse_number(fields[kFlagsField], flags) &&
                        parse_number(fields[kEnvironmentEndField], environment_end);
  stat.kernel_thread = (flags & kKernelThread) != 0;
  stat.has_program = environment_end != 0;
  return complete ? std::optional(stat) : std::nullopt;
}

}  // namespace

std::optional<ProcStat> read_proc_stat(pid_t pid) {
  const auto text = base::read_file("/proc/" + std::to_string(pid) + "/stat", kMaxStatBytes);
  return text ? parse_proc_stat(*text) : std::nullopt;
}

base::Result<std::vector<pid_t>> list_processes() {
  UPD_ASSIGN(const std::vector<std::string> names, base::list_directory("/proc", kMaxProcesses));
  std::vector<pid_t> pids;
  for (const std::string& name : names) {
    pid_t pid = 0;
    if (parse_number(std::string_view(name), pid)) pids.push_back(pid);
  }
  return pids;
}

}  // namespace updagent::launch
