#include "agent/base/child_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <initializer_list>
#include <utility>

#include "agent/base/bounded_output.hpp"
#include "agent/base/files.hpp"
#include "agent/base/keeper.hpp"
#include "agent/base/pidfd.hpp"
#include "agent/base/start_error.hpp"
#include "agent/base/text.hpp"

namespace updagent::base {
namespace {

constexpr std::size_t kMaxStandardInput = 1024 * 1024;  // a webhook's JSON is far below
// One chatty command must not keep a loop with other children from its next poll.
constexpr std::size_t kMaxReadPerEvent = 1024 * 1024;
// What a keeper may take past the time limit (10 s to kill, the rest to be scheduled) before it is
// taken to be stopped or stuck itself.
constexpr Milliseconds kKeeperGrace{15'000};

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error(errno, "cannot make a pipe");
  Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
  // only ours: O_NONBLOCK on the other end would surprise the command
  if (::fcntl(pipe.read_end.get(), F_SETFL, O_NONBLOCK) != 0)
    return system_error(errno, "cannot set a pipe to O_NONBLOCK");
  return pipe;
}

// A file in memory instead of a pipe: a command that never reads it can't block us.
Result<UniqueFd> open_standard_input(const std::string& content) {
  if (content.empty()) return open_path("/dev/null", O_RDONLY);
  UniqueFd file(::memfd_create("stdin", MFD_CLOEXEC));
  if (!file) return system_error(errno, "cannot make a file in memory");
  UPD_TRY(write_all(file.get(), content, "standard input"));
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return system_error(errno, "cannot rewind a file");
  return file;
}

bool has_nul(const std::vector<std::string>& words) {
  for (const std::string& word : words)
    if (word.find('\0') != std::string::npos) return true;
  return false;
}

Status check(const ChildSpec& spec) {
  if (spec.argv.empty() || spec.argv.front().empty())
    return Error(Code::config_invalid, "a command without a program");
  if (has_nul(spec.argv) || has_nul(spec.environment) || has_nul({spec.working_directory}))
    return Error(Code::config_invalid, "a NUL byte in the command '" + spec.argv.front() + "'");
  if (spec.standard_input.size() > kMaxStandardInput)
    return Error(Code::config_invalid, "too much standard input for '" + spec.argv.front() + "'")
        .expected("at most " + std::to_string(kMaxStandardInput) + " bytes")
        .got(std::to_string(spec.standard_input.size()));
  return ok();
}

std::vector<std::string> candidates_for(const std::string& program) {
  if (program.find('/') != std::string::npos) return {program};
  std::vector<std::string> candidates;
  std::string_view path = kSafePath;
  while (!path.empty()) {
    const std::size_t colon = std::min(path.find(':'), path.size());
    candidates.push_back(std::string(path.substr(0, colon)) + "/" + program);
    path.remove_prefix(std::min(colon + 1, path.size()));
  }
  return candidates;
}

std::vector<const char*> null_terminated(const std::vector<std::string>& words) {
  std::vector<const char*> pointers;
  pointers.reserve(words.size() + 1);
  for (const std::string& word : words) pointers.push_back(word.c_str());
  pointers.push_back(nullptr);
  return pointers;
}

// An unprivileged agent that is asked to run something as itself has nothing to change.
bool changes_identity(const ChildSpec& spec) {
  return spec.identity && (::geteuid() == 0 || spec.identity->uid != ::geteuid() ||
                           spec.identity->gid != ::getegid());
}

// What execve(2) is given, made before fork(2): afterwards nothing may be allocated.
struct StartStrings {
  explicit StartStrings(const ChildSpec& spec)
      : candidates(candidates_for(spec.argv.front())),
        paths(null_terminated(candidates)),
        argv(null_terminated(spec.argv)),
        environment(null_terminated(spec.environment)) {}

  std::vector<std::string> candidates;
  std::vector<const char*> paths;
  std::vector<const char*> argv;
  std::vector<const char*> environment;
};

// Without the descriptors and the deadline.
keeper::Plan plan_for(const ChildSpec& spec, const StartStrings& strings) {
  keeper::Plan plan;
  plan.argv = strings.argv.data();
  plan.environment = strings.environment.data();
  plan.candidates = strings.paths.data();
  if (!spec.working_directory.empty()) plan.working_directory = spec.working_directory.c_str();
  plan.no_new_privs = spec.no_new_privs;
  if (!changes_identity(spec)) return plan;
  plan.change_identity = true;
  plan.uid = spec.identity->uid;
  plan.gid = spec.identity->gid;
  plan.groups = spec.identity->groups.data();
  plan.group_count = spec.identity->groups.size();
  return plan;
}

// Scripts open /dev/stdin and /dev/stderr anew, which asks for the owner of the pipe or file.
void give_away(const Identity& identity, std::initializer_list<int> fds) {
  for (const int fd : fds) {
    struct stat about{};
    const bool device =
        ::fstat(fd, &about) != 0 || S_ISCHR(about.st_mode);  // /dev/null is everyone's
    if (!device) static_cast<void>(!::fchown(fd, identity.uid, identity.gid));
  }
}

// Nothing: execve(2) succeeded. The keeper's own time limit ends a wait for a hung file system.
Result<std::optional<keeper::StartFailure>> await_start(int error_fd, Milliseconds limit) {
  const Deadline deadline = Deadline::in(limit);
  for (;;) {
    keeper::StartFailure failure;
    const ssize_t count = ::read(error_fd, &failure, sizeof failure);
    if (count == static_cast<ssize_t>(sizeof failure)) return std::optional(failure);
    if (count == 0) return std::optional<keeper::StartFailure>();
    if (errno != EAGAIN && errno != EINTR) return system_error(errno, "cannot read a pipe");
    if (deadline.passed()) return Error(Code::timed_out, "a command did not even start");
    pollfd waiting{error_fd, POLLIN, 0};
    ::poll(&waiting, 1, static_cast<int>(deadline.left().count()));
  }
}

std::string signal_name(int number) {
  const char* name = ::sigabbrev_np(number);
  return std::to_string(number) + (name != nullptr ? " (" + std::string(name) + ")" : "");
}

}  // namespace

std::string ChildResult::describe(Milliseconds time_limit) const {
  const std::string killed = processes_left ? "killed, but some of its processes would not die"
                                            : "killed with its children";
  if (interrupted) return "interrupted: " + killed;
  if (timed_out) return "still running after " + format_duration(time_limit) + ": " + killed;
  if (signal_number != 0) return "killed by signal " + signal_name(signal_number);
  return "exit status " + std::to_string(exit_status);
}

struct ChildProcess::State {
  UniqueFd keeper;    // pidfd
  UniqueFd lifeline;  // the keeper kills when this closes
  UniqueFd status;
  UniqueFd output;
  UniqueFd patience;  // timerfd: the keeper itself hangs
  UniqueFd events;    // epoll over the three above
  BoundedOutput kept;
  ChildResult result;
  std::int64_t started_us = monotonic_now_us();
  bool out_of_patience = false;
  bool ended = false;

  explicit State(std::size_t output_limit) : kept(output_limit) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { end_now(); }

  Status watch_all(Milliseconds patience_span);
  Status fork_keeper(const keeper::Plan& plan, const std::string& program);
  void set_patience(Milliseconds span) const;
  std::size_t take_output(std::size_t at_most);
  bool on_event();
  void finish(const keeper::EndReport& report);
  void kill_tree();
  void end_now();
};

Status ChildProcess::State::watch_all(Milliseconds patience_span) {
  patience.reset(::timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK));
  events.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!patience || !events) return system_error(errno, "cannot make a timer and an epoll");
  for (const int fd : {status.get(), output.get(), patience.get()}) {
    epoll_event readable{};
    readable.events = EPOLLIN;
    if (::epoll_ctl(events.get(), EPOLL_CTL_ADD, fd, &readable) != 0)
      return system_error(errno, "cannot watch a pipe");
  }
  set_patience(patience_span);
  return ok();
}

Status ChildProcess::State::fork_keeper(const keeper::Plan& plan, const std::string& program) {
  // no handler of the agent may run in the child, which has its memory but not its threads
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  if (pid == 0) keeper::run(plan);
  const int failed = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return system_error(failed, "cannot start '" + program + "': fork");
  keeper = open_pidfd(pid);
  if (keeper) return ok();
  const Error error = system_error(errno, "cannot start '" + program + "': pidfd_open");
  lifeline.reset();  // it ends soon
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return error;
}

void ChildProcess::State::set_patience(Milliseconds span) const {
  itimerspec at{};
  at.it_value.tv_sec = span.count() / 1000;
  at.it_value.tv_nsec = span.count() % 1000 * 1'000'000 + 1;  // 0 would disarm it
  ::timerfd_settime(patience.get(), 0, &at, nullptr);
}

// Bytes taken; at the end of file the descriptor is closed.
std::size_t ChildProcess::State::take_output(std::size_t at_most) {
  std::array<char, 64 * 1024> buffer{};
  std::size_t taken = 0;
  while (output && taken < at_most) {
    const ssize_t count = ::read(output.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count <= 0) {
      output.reset();
      break;
    }
    kept.add(std::string_view(buffer.data(), static_cast<std::size_t>(count)));
    taken += static_cast<std::size_t>(count);
  }
  return taken;
}

bool ChildProcess::State::on_event() {
  if (ended) return true;
  std::uint64_t expirations = 0;
  if (::read(patience.get(), &expirations, sizeof expirations) > 0) {
    signal_pidfd(keeper, SIGKILL);  // the command dies by PR_SET_PDEATHSIG
    if (out_of_patience) {
      // Killed, and its pipe is still open: a process that hangs in the kernel before its
      // execve(2), on a dead network file system for one. It is left to the kernel.
      finish({SIGKILL, keeper::Reason::time_limit, 1});
      return true;
    }
    out_of_patience = true;
    set_patience(kKeeperGrace);
  }
  take_output(kMaxReadPerEvent);
  keeper::EndReport report;
  const ssize_t count = ::read(status.get(), &report, sizeof report);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (count != static_cast<ssize_t>(sizeof report)) {
    // the keeper died without a word: someone killed it, perhaps we did
    report = {SIGKILL, out_of_patience ? keeper::Reason::time_limit : keeper::Reason::ended, 1};
  }
  finish(report);
  return true;
}

void ChildProcess::State::finish(const keeper::EndReport& report) {
  // All that the command wrote is in the pipe by now; what a daemon that it left keeps writing
  // after that is not waited for.
  const int capacity = output ? ::fcntl(output.get(), F_GETPIPE_SZ) : 0;
  if (capacity > 0) take_output(static_cast<std::size_t>(capacity));
  output.reset();
  // It has said its word and exits; should someone have stopped it just now, it exits too.
  signal_pidfd(keeper, SIGKILL);
  siginfo_t ignored{};
  while (::waitid(P_PIDFD, static_cast<id_t>(keeper.get()), &ignored, WEXITED) != 0 &&
         errno == EINTR) {
  }
  if (WIFEXITED(report.wait_status)) result.exit_status = WEXITSTATUS(report.wait_status);
  if (WIFSIGNALED(report.wait_status)) result.signal_number = WTERMSIG(report.wait_status);
  result.timed_out = report.reason == keeper::Reason::time_limit;
  result.interrupted = report.reason == keeper::Reason::asked;
  result.processes_left = report.processes_left != 0;
  result.output = to_valid_utf8(kept.text());
  result.output_truncated = kept.truncated();
  result.duration_us = monotonic_now_us() - started_us;
  ended = true;
}

void ChildProcess::State::kill_tree() {
  if (ended || !lifeline) return;
  lifeline.reset();
  set_patience(kKeeperGrace);
}

// Bounded by the patience timer, after which the keeper is killed and its status pipe ends.
void ChildProcess::State::end_now() {
  if (!keeper) return;
  kill_tree();
  while (!on_event()) {
    pollfd waiting{events.get(), POLLIN, 0};
    ::poll(&waiting, 1, -1);
  }
}

ChildProcess::ChildProcess(std::unique_ptr<State> state) : state_(std::move(state)) {}
ChildProcess::ChildProcess(ChildProcess&&) noexcept = default;
ChildProcess& ChildProcess::operator=(ChildProcess&&) noexcept = default;
ChildProcess::~ChildProcess() = default;

Result<ChildProcess> ChildProcess::start(const ChildSpec& spec) {
  UPD_TRY(check(spec));
  const StartStrings strings(spec);
  UPD_ASSIGN(const UniqueFd input, open_standard_input(spec.standard_input));
  UPD_ASSIGN(Pipe output, make_pipe());
  UPD_ASSIGN(Pipe error, make_pipe());
  UPD_ASSIGN(Pipe status, make_pipe());
  UPD_ASSIGN(Pipe lifeline, make_pipe());
  const UniqueFd agent = open_pidfd(::getpid());
  if (!agent) return system_error(errno, "cannot open a pidfd");

  auto state = std::make_unique<State>(spec.output_limit);
  state->status = std::move(status.read_end);
  state->output = std::move(output.read_end);
  state->lifeline = std::move(lifeline.write_end);
  UPD_TRY(state->watch_all(spec.time_limit + kKeeperGrace));

  keeper::Plan plan = plan_for(spec, strings);
  plan.deadline_us = state->started_us + spec.time_limit.count() * 1000;
  plan.stdin_fd = input.get();
  plan.output_fd = output.write_end.get();
  plan.error_fd = error.write_end.get();
  plan.lifeline_fd = lifeline.read_end.get();
  plan.status_fd = status.write_end.get();
  plan.agent_fd = agent.get();
  if (plan.change_identity) give_away(*spec.identity, {output.write_end.get(), input.get()});

  UPD_TRY(state->fork_keeper(plan, spec.argv.front()));
  for (UniqueFd* theirs : {&output.write_end, &error.write_end, &status.write_end}) theirs->reset();
  UPD_ASSIGN(const auto failure, await_start(error.read_end.get(), spec.time_limit + kKeeperGrace));
  if (failure) return start_error(spec, strings.candidates, *failure);
  return ChildProcess(std::move(state));
}

int ChildProcess::event_fd() const {
  return state_->events.get();
}
Result<bool> ChildProcess::on_event() {
  return state_->on_event();
}
void ChildProcess::kill_tree() {
  state_->kill_tree();
}
ChildResult ChildProcess::take_result() {
  return std::move(state_->result);
}

Result<ChildResult> run_child(const ChildSpec& spec, Interrupt* interrupt) {
  if (interrupt != nullptr && interrupt->requested()) {
    ChildResult never_started;
    never_started.interrupted = true;
    return never_started;
  }
  UPD_ASSIGN(ChildProcess child, ChildProcess::start(spec));
  std::array<pollfd, 2> waiting{
      {{child.event_fd(), POLLIN, 0}, {interrupt != nullptr ? interrupt->fd() : -1, POLLIN, 0}}};
  for (;;) {
    ::poll(waiting.data(), waiting.size(), -1);
    UPD_ASSIGN(const bool ended, child.on_event());
    if (ended) return child.take_result();
    if (waiting[1].fd < 0 || !interrupt->requested()) continue;
    child.kill_tree();
    waiting[1].fd = -1;  // it stays readable: the end of the tree is all that is waited for now
  }
}

}  // namespace updagent::base
