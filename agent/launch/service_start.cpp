#include "agent/launch/service_start.hpp"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <set>
#include <utility>

#include "agent/base/child_process.hpp"
#include "agent/base/files.hpp"
#include "agent/base/pidfd.hpp"
#include "agent/launch/start_child.hpp"
#include "agent/launch/start_failure.hpp"

namespace updagent::launch {
namespace {

// A child that was killed or has said why it failed dies at once, unless it hangs in the kernel.
constexpr base::Milliseconds kDeathPatience{1000};
constexpr rlim_t kStandardDescriptors = 3;

// --- what is refused before anything is done

base::Error wrong(const ServiceSpec& spec, const std::string& what) {
  return {
      base::Code::config_invalid,
      "cannot start '" + (spec.argv.empty() ? std::string() : spec.argv.front()) + "': " + what};
}

bool any_nul(const std::vector<std::string>& words) {
  for (const std::string& word : words)
    if (word.find('\0') != std::string::npos) return true;
  return false;
}

base::Status check_words(const ServiceSpec& spec) {
  if (spec.argv.empty() || spec.argv.front().empty())
    return base::Error(base::Code::config_invalid, "a service without a command");
  if (any_nul(spec.argv) || any_nul(spec.environment) || any_nul({spec.working_directory}))
    return wrong(spec, "a NUL byte in its command, environment or working directory");
  if (!spec.working_directory.starts_with('/'))
    return wrong(spec, "its working directory must be absolute").got(spec.working_directory);
  std::set<std::string> names(spec.pid_variables.begin(), spec.pid_variables.end());
  if (names.size() != spec.pid_variables.size()) return wrong(spec, "a variable is there twice");
  for (const std::string& entry : spec.environment) {
    const std::size_t equals = entry.find('=');
    if (equals == 0 || equals == std::string::npos)
      return wrong(spec, "an entry of its environment is not NAME=value");
    if (!names.insert(entry.substr(0, equals)).second)
      return wrong(spec, "the variable '" + entry.substr(0, equals) + "' is there twice");
  }
  return base::ok();
}

base::Status check_descriptors(const ServiceSpec& spec) {
  if (spec.stdout_fd < 0 || spec.stderr_fd < 0) return wrong(spec, "it has no stdout or no stderr");
  if (spec.descriptors.size() > kMaxPassedDescriptors)
    return wrong(spec, "too many descriptors for it")
        .expected("at most " + std::to_string(kMaxPassedDescriptors))
        .got(std::to_string(spec.descriptors.size()));
  const rlim_t needed = kStandardDescriptors + spec.descriptors.size();
  for (const ResourceLimit& limit : spec.limits)
    if (limit.resource == RLIMIT_NOFILE && limit.soft < needed)
      return wrong(spec, "its limit 'nofile' is below what it is given")
          .expected("at least " + std::to_string(needed))
          .got(std::to_string(limit.soft));
  return base::ok();
}

base::Status check_capabilities(const ServiceSpec& spec) {
  const CapabilitySet lacking = spec.capabilities.value_or(kNoCapabilities) & ~own_capabilities();
  if (spec.identity.uid == 0 || lacking == kNoCapabilities) return base::ok();
  return wrong(spec, "it is to have capabilities that this process doesn't have itself")
      .got(capability_names(lacking))
      .hint("run updagent as root, and not in a container that takes them away");
}

// --- what is prepared before the fork

std::vector<std::string> paths_to_try(const std::string& program) {
  if (program.find('/') != std::string::npos) return {program};
  std::vector<std::string> paths;
  std::string_view folders = base::kSafePath;
  while (!folders.empty()) {
    const std::string_view folder = folders.substr(0, folders.find(':'));
    paths.push_back(std::string(folder) + "/" + program);
    folders.remove_prefix(std::min(folder.size() + 1, folders.size()));
  }
  return paths;
}

std::vector<const char*> pointers_to(const std::vector<std::string>& words) {
  std::vector<const char*> pointers;
  pointers.reserve(words.size() + 1);
  for (const std::string& word : words) pointers.push_back(word.c_str());
  pointers.push_back(nullptr);
  return pointers;
}

// An unprivileged supervisor that starts something as itself has nothing to change.
bool becomes_another(const base::Identity& identity) {
  return ::geteuid() == 0 || identity.uid != ::geteuid() || identity.gid != ::getegid();
}

class SharedProgress {
 public:
  static base::Result<SharedProgress> make() {
    void* const page = ::mmap(nullptr, sizeof(StartProgress), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return base::system_error(errno, "cannot map a page");
    return SharedProgress(new (page) StartProgress);
  }
  SharedProgress(SharedProgress&& other) noexcept : page_(std::exchange(other.page_, nullptr)) {}
  SharedProgress& operator=(SharedProgress&& other) noexcept {
    std::swap(page_, other.page_);
    return *this;
  }
  ~SharedProgress() {
    if (page_ != nullptr) ::munmap(page_, sizeof(StartProgress));
  }
  StartProgress* get() const { return page_; }

 private:
  explicit SharedProgress(StartProgress* page) : page_(page) {}
  StartProgress* page_ = nullptr;
};

// Everything that the plan of the child points to.
struct Prepared {
  explicit Prepared(const ServiceSpec& spec);

  StartPlan plan;
  std::vector<std::string> candidates;

 private:
  void set_capabilities(const ServiceSpec& spec);

  std::vector<std::string> variables_;
  std::vector<PidVariable> pid_variables_;
  std::vector<const char*> argv_;
  std::vector<const char*> environment_;
  std::vector<const char*> paths_;
  std::vector<StartLimit> limits_;
  std::vector<int> descriptors_;
  std::string oom_score_;
};

Prepared::Prepared(const ServiceSpec& spec)
    : candidates(paths_to_try(spec.argv.front())),
      variables_(spec.environment),
      argv_(pointers_to(spec.argv)),
      paths_(pointers_to(candidates)) {
  for (const std::string& name : spec.pid_variables)
    variables_.push_back(name + "=" + std::string(kPidRoom, '\0'));
  for (std::size_t i = 0; i < spec.pid_variables.size(); ++i)
    pid_variables_.push_back(
        {variables_[spec.environment.size() + i].data(), spec.pid_variables[i].size() + 1});
  environment_ = pointers_to(variables_);
  for (const ResourceLimit& limit : spec.limits)
    limits_.push_back({limit.resource, {limit.soft, limit.hard}});
  for (const PassedDescriptor& passed : spec.descriptors) descriptors_.push_back(passed.fd);
  if (spec.oom_score_adj) oom_score_ = std::to_string(*spec.oom_score_adj);

  plan.argv = argv_.data();
  plan.environment = environment_.data();
  plan.pid_variables = pid_variables_.data();
  plan.pid_variable_count = pid_variables_.size();
  plan.candidates = paths_.data();
  plan.working_directory = spec.working_directory.c_str();
  plan.change_identity = becomes_another(spec.identity);
  plan.uid = spec.identity.uid;
  plan.gid = spec.identity.gid;
  plan.groups = spec.identity.groups.data();
  plan.group_count = spec.identity.groups.size();
  plan.limits = limits_.data();
  plan.limit_count = limits_.size();
  plan.umask = spec.umask;
  plan.oom_score = spec.oom_score_adj ? oom_score_.c_str() : nullptr;
  plan.stdout_fd = spec.stdout_fd;
  plan.stderr_fd = spec.stderr_fd;
  plan.descriptors = descriptors_.data();
  plan.descriptor_count = descriptors_.size();
  plan.guard = spec.guard;
  set_capabilities(spec);
}

void Prepared::set_capabilities(const ServiceSpec& spec) {
  constexpr int kSetPcap = 8;  // CAP_SETPCAP: without it the bounding set can't be lowered
  const CapabilitySet own = own_capabilities();
  const bool root = spec.identity.uid == 0;
  const CapabilitySet asked = spec.capabilities.value_or(root ? kAllCapabilities : kNoCapabilities);
  plan.last_capability = last_capability();
  plan.permitted = asked & own;
  plan.ambient = root ? kNoCapabilities : plan.permitted;  // root gets its own by execve(2)
  plan.bounding = asked;
  plan.drop_bounding = (own & capability_bit(kSetPcap)) != 0;
}

// --- clone

struct Cloned {
  pid_t pid = -1;  // -1 with errno set, 0 in the child
  int pidfd = -1;
};

Cloned clone_once(int cgroup_fd) {
  Cloned cloned;
  clone_args arguments{};
  arguments.flags = CLONE_PIDFD;
  arguments.pidfd = static_cast<__u64>(reinterpret_cast<std::uintptr_t>(&cloned.pidfd));
  arguments.exit_signal = SIGCHLD;
  if (cgroup_fd >= 0) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = static_cast<__u64>(cgroup_fd);
  }
  cloned.pid = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
  return cloned;
}

bool out_of_something(int errno_value) {
  return errno_value == EAGAIN || errno_value == ENOMEM;
}

// Straight into the cgroup if the kernel can; else the child joins by itself. A sandbox that hides
// clone3(2) still has fork(2).
Cloned clone_service(StartPlan& plan, int cgroup_fd) {
  if (cgroup_fd >= 0) {
    const Cloned cloned = clone_once(cgroup_fd);
    if (cloned.pid >= 0 || out_of_something(errno)) return cloned;
    plan.cgroup_fd = cgroup_fd;
  }
  Cloned cloned = clone_once(-1);
  if (cloned.pid >= 0 || out_of_something(errno)) return cloned;
  cloned.pid = ::fork();
  return cloned;
}

base::Result<std::pair<base::UniqueFd, base::UniqueFd>> make_channel() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return base::system_error(errno, "cannot make a pair of sockets");
  return std::pair(base::UniqueFd(ends[0]), base::UniqueFd(ends[1]));
}

// The descriptor that came with a message, if one did.
base::UniqueFd received_descriptor(const msghdr& message) {
  base::UniqueFd received;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(const_cast<msghdr*>(&message), part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    int raw_fd = -1;
    ::memcpy(&raw_fd, CMSG_DATA(part), sizeof raw_fd);
    received.reset(raw_fd);
  }
  return received;
}

// On an ended process: takes it out of the process table.
ProcessEnd end_of(const ProcessIdentity& identity, base::UniqueFd pidfd) {
  pollfd death{pidfd.get(), POLLIN, 0};
  ::poll(&death, 1, static_cast<int>(kDeathPatience.count()));
  return ProcessWatch::own(identity, std::move(pidfd)).on_event().value_or(ProcessEnd{});
}

}  // namespace

struct ServiceStart::State {
  State(const ServiceSpec& asked, SharedProgress page)
      : spec(asked), prepared(spec), progress(std::move(page)) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { end_now(); }

  base::Status fork(int stdin_fd, base::UniqueFd child_end);
  base::Status hold(const Cloned& cloned);
  // False: nothing to read yet. True: the channel ended.
  base::Result<bool> read_channel();
  base::Result<std::optional<StartedService>> finish();
  ProcessEnd end_now();

  ServiceSpec spec;  // for the words of errors
  Prepared prepared;
  SharedProgress progress;
  base::UniqueFd channel;
  bool expects_listener = false;
  StartedService service;  // its pidfd: there as long as the start has not ended
};

base::Status ServiceStart::State::fork(int stdin_fd, base::UniqueFd child_end) {
  prepared.plan.stdin_fd = stdin_fd;
  prepared.plan.channel_fd = child_end.get();
  prepared.plan.progress = progress.get();
  // no handler of ours may run in the child
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const Cloned cloned = clone_service(prepared.plan, spec.cgroup_fd);
  if (cloned.pid == 0) run_start(prepared.plan);
  const int failed = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (cloned.pid < 0)
    return base::system_error(failed, "cannot start '" + spec.argv.front() + "': clone3")
        .hint("processes (RLIMIT_NPROC, pids.max) or memory have run out");
  return hold(cloned);
}

base::Status ServiceStart::State::hold(const Cloned& cloned) {
  service.pidfd.reset(cloned.pidfd);
  if (!service.pidfd) service.pidfd = base::open_pidfd(cloned.pid);
  auto identity = service.pidfd
                      ? identify_process(cloned.pid, service.pidfd)
                      : base::Result<ProcessIdentity>(base::system_error(errno, "pidfd_open"));
  if (identity) {
    service.identity = std::move(*identity);
    return base::ok();
  }
  ::kill(cloned.pid, SIGKILL);  // our unreaped child: the pid is its
  while (::waitpid(cloned.pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  service.pidfd.reset();
  return std::move(identity).error().with_context("starting '" + spec.argv.front() + "'");
}

base::Result<bool> ServiceStart::State::read_channel() {
  for (;;) {
    char word = 0;
    iovec text{&word, sizeof word};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &text;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t count = ::recvmsg(channel.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return false;
    if (count < 0) return base::system_error(errno, "cannot read what a starting service says");
    if (count == 0) return true;
    service.bind_listener = received_descriptor(message);
  }
}

// The channel ended: by execve(2), by a failure that is in the page, or by a death on the way.
base::Result<std::optional<StartedService>> ServiceStart::State::finish() {
  const StartProgress& page = *progress.get();
  const bool ran = !page.failed && page.step == StartStep::exec;
  const bool lost_listener = ran && expects_listener && !service.bind_listener;
  if (ran && !lost_listener) return std::optional(std::move(service));
  const ProcessEnd end = end_now();
  if (lost_listener)
    return base::Error(
        base::Code::io_error,
        "cannot start '" + spec.argv.front() +
            "': its seccomp notify listener did not arrive: our descriptors have run "
            "out (RLIMIT_NOFILE)");
  if (page.failed) return start_failed(spec, prepared.candidates, page);
  return died_on_the_way(spec, page.step, end);
}

ProcessEnd ServiceStart::State::end_now() {
  if (!service.pidfd) return {};
  // on the way out by itself, or to be stopped; nothing of the service ran
  if (!progress.get()->failed) base::signal_pidfd(service.pidfd, SIGKILL);
  return end_of(service.identity, std::move(service.pidfd));
}

ServiceStart::ServiceStart(std::unique_ptr<State> state) : state_(std::move(state)) {}
ServiceStart::ServiceStart(ServiceStart&&) noexcept = default;
ServiceStart& ServiceStart::operator=(ServiceStart&&) noexcept = default;
ServiceStart::~ServiceStart() = default;

base::Result<ServiceStart> ServiceStart::begin(const ServiceSpec& spec) {
  UPD_TRY(check_words(spec));
  UPD_TRY(check_descriptors(spec));
  UPD_TRY(check_capabilities(spec));
  UPD_ASSIGN(SharedProgress page, SharedProgress::make());
  UPD_ASSIGN(const base::UniqueFd input, base::open_path("/dev/null", O_RDONLY));
  UPD_ASSIGN(auto ends, make_channel());
  auto state = std::make_unique<State>(spec, std::move(page));
  state->channel = std::move(ends.first);
  UPD_TRY(state->fork(input.get(), std::move(ends.second)));
  state->expects_listener = spec.guard != nullptr && spec.guard->intercepts_bind();
  state->spec.guard = nullptr;  // the caller's, and no longer needed
  return ServiceStart(std::move(state));
}

int ServiceStart::event_fd() const {
  return state_->channel.get();
}

base::Result<std::optional<StartedService>> ServiceStart::on_event() {
  UPD_ASSIGN(const bool ended, state_->read_channel());
  if (!ended) return std::optional<StartedService>();
  return state_->finish();
}

base::Error ServiceStart::give_up() {
  const StartStep step = state_->progress.get()->step;
  state_->end_now();
  return hung_on_the_way(state_->spec, step);
}

base::Result<StartedService> start_service(const ServiceSpec& spec, base::Milliseconds patience) {
  const base::Deadline deadline = base::Deadline::in(patience);
  UPD_ASSIGN(ServiceStart start, ServiceStart::begin(spec));
  for (;;) {
    pollfd waiting{start.event_fd(), POLLIN, 0};
    ::poll(&waiting, 1, static_cast<int>(deadline.left().count()));
    UPD_ASSIGN(std::optional<StartedService> started, start.on_event());
    if (started) return std::move(*started);
    if (deadline.passed()) return start.give_up();
  }
}

}  // namespace updagent::launch
