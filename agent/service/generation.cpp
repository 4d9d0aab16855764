#include "agent/service/generation.hpp"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/base/files.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Status;

constexpr mode_t kRoleMode = 0644;
constexpr std::size_t kMaxRoleBytes = 64;  // of a word
// Without a cgroup nobody tells when the last process has gone.
constexpr base::Milliseconds kLookForRest{100};
constexpr int kScorePasses = 3;                     // who forks faster keeps what it has
constexpr base::Milliseconds kKillPatience{2'000};  // of one pass without a cgroup

}  // namespace

std::string_view life_name(Life life) {
  switch (life) {
    case Life::starting:
      return "starting";
    case Life::ready:
      return "ready";
    case Life::stopping:
      return "stopping";
    case Life::down:
      return "down";
    case Life::gone:
      return "gone";
  }
  return "";
}

std::string_view role_name(Role role) {
  switch (role) {
    case Role::candidate:
      return "candidate";
    case Role::active:
      return "active";
    case Role::standby:
      return "standby";
    case Role::draining:
      return "draining";
  }
  return "";
}

Generation::Generation(Loop& loop, const Places& places, launch::CgroupTree* cgroups,
                       GenerationPlan plan, GenerationEvents events)
    : loop_(loop),
      places_(places),
      cgroups_(cgroups),
      plan_(std::move(plan)),
      events_(std::move(events)),
      since_us_(base::wall_now_us()),
      begun_us_(base::monotonic_now_us()) {}

Generation::~Generation() = default;

std::string Generation::run_name() const {
  if (!plan_.worker.empty()) return "the worker '" + plan_.worker + "' (" + version() + ")";
  return "generation " + std::to_string(plan_.number) + " (" + version() + ")";
}

std::vector<std::string> Generation::listener_names() const {
  std::vector<std::string> names;
  names.reserve(plan_.run.service.listeners.size());
  for (const release::Listener& listener : plan_.run.service.listeners)
    names.push_back(listener.name);
  return names;
}

bool Generation::belongs(pid_t pid) const {
  return cgroup_ ? cgroup_->contains(pid) : launch::belongs_to(family(), pid);
}

launch::ProcessFamily Generation::family() const {
  launch::ProcessFamily family;
  if (process_) family.main = process_->identity();
  family.mark = "RUNTIME_DIRECTORY=" + places_.generation_runtime(plan_.number);
  return family;
}

launch::Membership Generation::membership() {
  launch::Membership membership;
  membership.has_process = [this](pid_t pid) { return belongs(pid); };
  if (cgroup_)
    membership.has_cgroup = [this](std::uint64_t id) { return cgroup_->is_or_holds(id); };
  return membership;
}

std::vector<pid_t> Generation::processes() const {
  auto found = cgroup_ ? cgroup_->processes() : launch::processes_of(family());
  return found ? std::move(*found) : std::vector<pid_t>();
}

Status Generation::watch_process() {
  process_watch_.reset();
  UPD_ASSIGN(process_watch_, loop_.watch(process_->event_fd(), EPOLLIN, [this] { on_main_end(); }));
  return base::ok();
}

Status Generation::watch_forked() {
  UPD_ASSIGN(forked_watch_, loop_.watch(forked_->event_fd(), EPOLLIN, [this] { let_forked_go(); }));
  return base::ok();
}

// Takes it out of the process table if it is dead.
void Generation::let_forked_go() {
  forked_watch_.reset();
  if (forked_) static_cast<void>(forked_->on_event());
  forked_.reset();
}

Status Generation::watch_cgroup() {
  UPD_ASSIGN(cgroup_watch_,
             loop_.watch(cgroup_->event_fd(), EPOLLIN, [this] { on_cgroup_event(); }));
  return base::ok();
}

Status Generation::watch_store() {
  store_watch_.reset();  // of the store before
  UPD_ASSIGN(store_watch_, loop_.watch(store_->event_fd(), EPOLLIN, [this] {
    if (!store_->on_event().empty()) events_.changed(*this);
  }));
  return base::ok();
}

// --- life

void Generation::enter(Life life) {
  life_ = life;
  since_us_ = base::wall_now_us();
  begun_us_ = base::monotonic_now_us();
}

void Generation::become_ready() {
  if (injector_) {
    // what it says counts when it has its sockets
    if (const Status bound = injector_->all_bound(); !bound) return;
  }
  restore_backlogs();
  timeout_.reset();
  enter(Life::ready);
  arm_watchdog();
  events_.ready(*this);
}

// Most servers call listen(2) on the socket that they are given, with a length of their own
// (Python's 5), which is the socket's from then on. The release's word counts. One that was shut
// down stays so.
void Generation::restore_backlogs() {
  const std::vector<release::Listener>& listeners = plan_.run.service.listeners;
  for (std::size_t i = 0; i < plan_.sockets.size() && i < listeners.size(); ++i) {
    const int fd = plan_.sockets[i].fd.get();
    int listening = 0;
    socklen_t size = sizeof listening;
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening != 0)
      static_cast<void>(::listen(fd, listeners[i].backlog));
  }
}

void Generation::mark_ready() {
  if (life_ == Life::starting && process_) become_ready();
}

void Generation::set_role(Role role) {
  role_ = role;
  if (plan_.adopted) return;  // it reads no role file, and its score is what its owner chose
  const std::string word = std::string(role_name(role)) + "\n";
  const std::string file = places_.role(plan_.number);
  const auto before = base::read_file(file, kMaxRoleBytes);
  const Status written = base::write_file_durably(file, word, kRoleMode);
  if (!written) events_.complaint(*this, written.error().line());
  if (written && (!before || *before != word)) signal_role();
  if (process_ && life_ != Life::gone)
    move_oom_score(role == Role::active || role == Role::standby ? 0 : kCandidateOomScore);
}

// What is forked while we walk has the score of before: another pass finds it.
void Generation::move_oom_score(int score) {
  const int before = std::exchange(oom_score_, score);
  const auto is_ours = [this](pid_t pid) { return belongs(pid); };
  std::optional<Error> problem;
  bool moved = before != score;
  for (int pass = 0; moved && pass < kScorePasses; ++pass) {
    moved = false;
    for (const pid_t pid : processes()) {
      const auto one = launch::move_oom_score(pid, before, score, is_ours);
      if (!one && !problem) problem = one.error();
      moved = moved || one.value_or(false);
    }
  }
  if (problem) events_.complaint(*this, problem->line());
}

// The file and not our memory says what it was told: a predecessor may have died with the file
// written. Before it is ready the signal could find no handler and end it.
void Generation::signal_role() {
  const int signal = plan_.run.service.role_signal;
  if (signal == 0 || life_ != Life::ready || !process_) return;
  if (const auto sent = process_->send_signal(signal); !sent)
    events_.complaint(*this, sent.error().line());
}

void Generation::fail(const Error& error) {
  if (life_ == Life::gone || life_ == Life::down) return;
  timeout_.reset();
  watchdog_.reset();
  start_watch_.reset();
  if (start_) static_cast<void>(start_->give_up());
  start_.reset();
  const bool was_stopping = life_ == Life::stopping;
  enter(was_stopping ? Life::stopping : Life::down);
  if (!plan_.adopted) kill_all();  // nobody would start what is left of an adopted one again
  if (!was_stopping) events_.failed(*this, error);
}

void Generation::on_main_end() {
  const auto end = process_->on_event();
  if (!end) return;
  process_watch_.reset();
  watchdog_.reset();
  if (life_ == Life::stopping) return look_for_rest();
  fail(Error(Code::probe_failed, run_name() + " ended though nobody asked it to")
           .got(end->describe()));
}

void Generation::on_cgroup_event() {
  static_cast<void>(cgroup_->on_event());
  look_for_rest();
}

void Generation::stop(bool immediately, base::Milliseconds more) {
  if (life_ == Life::gone) return;
  const bool was_down = life_ == Life::down;
  enter(Life::stopping);
  watchdog_.reset();
  timeout_.reset();
  if (start_) static_cast<void>(start_->give_up());
  start_watch_.reset();
  start_.reset();
  if (immediately || was_down || !process_) {
    kill_all();
    return look_for_rest();
  }
  const auto sent = process_->send_signal(plan_.run.service.stop_signal);
  if (!sent || !*sent) {
    kill_all();
    return look_for_rest();
  }
  arm_stop_timeout(plan_.run.service.stop_timeout + more);
}

void Generation::kill_all() {
  if (process_ && process_->alive()) events_.before_kill(*this);
  if (cgroup_) {
    if (const Status killed = cgroup_->kill(); !killed)
      events_.complaint(*this, killed.error().line());
  } else {
    // without a main process, too: a predecessor may have died before it knew of the one it started
    if (process_) static_cast<void>(process_->send_signal(SIGKILL));
    const auto left = launch::kill_family(family(), kKillPatience);
    if (left && !left->empty())
      events_.complaint(*this, std::to_string(left->size()) + " processes would not die");
  }
}

// Only a generation that was told to stop is done when its last process is.
void Generation::look_for_rest() {
  rest_timer_.reset();
  if (life_ != Life::stopping) return;
  // The cgroup is empty before its main process can be reaped; not waited for it would be a zombie
  // for as long as we live. Its end calls again.
  if (process_watch_) return;
  bool left = false;
  if (cgroup_) {
    const auto populated = cgroup_->populated();
    left = populated && *populated;
  } else {
    left = !processes().empty();
    if (left) rest_timer_ = loop_.after(kLookForRest, [this] { look_for_rest(); });
  }
  if (!left && !start_) become_gone();
}

void Generation::become_gone() {
  timeout_.reset();
  process_watch_.reset();
  let_forked_go();
  inject_watch_.reset();
  injector_.reset();
  notify_watch_.reset();
  if (notify_) notify_->remove_path();
  notify_.reset();
  ::unlink(places_.role(plan_.number).c_str());
  cgroup_watch_.reset();
  if (cgroup_) static_cast<void>(cgroup_->remove());
  cgroup_.reset();
  if (const auto app = base::open_directory(plan_.run.runtime); app)
    if (const Status removed = base::remove_tree(app->get(), std::to_string(plan_.number));
        !removed)
      events_.complaint(*this, "its runtime folder stays: " + removed.error().line());
  enter(Life::gone);
  events_.gone(*this);
}

}  // namespace updagent::service
