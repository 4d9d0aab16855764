// Services for tests: started, looked at through /proc, and ended with the object.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/launch/process_watch.hpp"
#include "agent/launch/service_start.hpp"
#include "tests/unit/base/test_directory.hpp"

namespace updagent::launch {

inline constexpr int kPatienceMs = 30'000;  // a bound for a loaded machine, never what is measured
inline constexpr uid_t kNobody = 65534;

inline base::Identity nobody() {
  return {"nobody", kNobody, 65533, {4242, 65533}, "/nonexistent"};
}

inline bool readable_within(int fd, int timeout_ms = kPatienceMs) {
  pollfd waiting{fd, POLLIN, 0};
  return ::poll(&waiting, 1, timeout_ms) > 0;
}

// For what has no event to wait for: another process's state in /proc.
inline bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < kPatienceMs / 5; ++i) {
    if (condition()) return true;
    ::poll(nullptr, 0, 5);
  }
  return false;
}

inline std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline base::UniqueFd open_null() {
  return base::UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC));
}

// A spec that lacks nothing; stdout and stderr are /dev/null.
class TestSpec {
 public:
  explicit TestSpec(std::vector<std::string> argv) : null_(open_null()) {
    spec.argv = std::move(argv);
    spec.environment = {"PATH=/usr/bin:/bin"};
    spec.working_directory = "/";
    spec.identity = base::own_identity();
    spec.stdout_fd = null_.get();
    spec.stderr_fd = null_.get();
  }
  ServiceSpec spec;

 private:
  base::UniqueFd null_;
};

inline std::vector<std::string> sleeper() {
  return {"/bin/sleep", "1000"};
}

// Where its program has its environment execve(2) is over. The start is reported a moment earlier,
// when the kernel closes what is close-on-exec: what /proc says then may be half of each.
inline bool runs_its_program(const StartedService& service) {
  const std::string environment = "/proc/" + std::to_string(service.identity.pid) + "/environ";
  return eventually(
      [&] { return !slurp(environment).empty() || readable_within(service.pidfd.get(), 0); });
}

// Looks at a service and kills it in the end.
class Running {
 public:
  explicit Running(const ServiceSpec& spec) {
    auto started = start_service(spec);
    EXPECT_TRUE(started.has_value()) << started.error().line();
    if (!started) return;
    service = std::move(*started);
    EXPECT_TRUE(runs_its_program(service));
  }
  ~Running() { stop(); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  void stop() {
    if (!service.pidfd) return;
    auto watch = ProcessWatch::own(service.identity, std::move(service.pidfd));
    EXPECT_TRUE(watch.send_signal(SIGKILL).has_value());
    EXPECT_TRUE(readable_within(watch.event_fd()));
    watch.on_event();
  }

  pid_t pid() const { return service.identity.pid; }
  std::string proc(const std::string& name) const {
    return "/proc/" + std::to_string(pid()) + "/" + name;
  }
  // The value of a line of /proc/PID/status.
  std::string status(const std::string& key) const {
    std::ifstream file(proc("status"));
    for (std::string line; std::getline(file, line);)
      if (line.starts_with(key + ":\t")) return line.substr(key.size() + 2);
    return "(no " + key + ")";
  }
  std::string link(const std::string& name) const {
    std::error_code ignored;
    return std::filesystem::read_symlink(proc(name), ignored).string();
  }
  std::vector<std::string> environment() const {
    std::vector<std::string> entries;
    std::ifstream file(proc("environ"));
    for (std::string entry; std::getline(file, entry, '\0');) entries.push_back(entry);
    return entries;
  }
  std::map<int, std::string> descriptors() const {
    std::map<int, std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(proc("fd")))
      found[std::stoi(entry.path().filename())] = std::filesystem::read_symlink(entry).string();
    return found;
  }

  StartedService service;
};

// What `work` says in a process of its own, which may limit itself beyond repair.
inline std::string said_in_child(const std::function<std::string()>& work) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return "no pipe";
  base::UniqueFd reader(ends[0]);
  base::UniqueFd writer(ends[1]);
  const pid_t pid = ::fork();
  if (pid == 0) {
    const std::string said = work();
    static_cast<void>(!::write(writer.get(), said.data(), said.size()));
    ::_exit(0);
  }
  writer.reset();
  std::string said;
  char buffer[4096];
  for (;;) {
    const ssize_t count =
        readable_within(reader.get()) ? ::read(reader.get(), buffer, sizeof buffer) : -1;
    if (count <= 0) break;
    said.append(buffer, static_cast<std::size_t>(count));
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  return said;
}

inline std::string line_of(const base::Result<StartedService>& started) {
  return started ? "it started" : started.error().line() + " | " + started.error().hint();
}

}  // namespace updagent::launch
