#include "agent/service/supervisor.hpp"

#include <sys/epoll.h>
#include <syslog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/child_process.hpp"
#include "agent/base/detached_process.hpp"
#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/launch/memory_check.hpp"
#include "agent/launch/output.hpp"
#include "agent/service/tell_systemd.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;

// Whoever starts us has seen the socket of our predecessor close; its lock may fall a moment later.
constexpr base::Milliseconds kLastBreath{2'000};
constexpr base::Milliseconds kHolderPause{1'000};  // what it holds serves meanwhile
constexpr mode_t kOwnMode = 0711;                  // services reach their notify socket through it
constexpr std::string_view kReleasesPrefix = "releases/";
constexpr std::size_t kMaxLastWords = 300;  // of a line that stands in a line of ours

// The last line of a failed service's output, for the one line that an operator reads first; and
// what to do about the commonest reason.
std::string last_words(std::string_view output) {
  const std::size_t end = output.find_last_not_of(" \n");
  if (end == std::string_view::npos) return "";
  std::string_view line = output.substr(0, end + 1);
  const std::size_t begin = line.rfind('\n');
  if (begin != std::string_view::npos) line.remove_prefix(begin + 1);
  std::string text = "; its last words: " + base::to_valid_utf8(line.substr(0, kMaxLastWords));
  for (const std::string_view taken : {"ddress already in use", "EADDRINUSE"})
    if (output.find(taken) != std::string_view::npos)
      return text +
             " (it opens its address itself: it must use the socket that it is given, nginx "
             "'listen' without 'reuseport', or its protocol is 'inject')";
  return text;
}

}  // namespace

// --- making one

Supervisor::Supervisor(SupervisorSetup setup, std::unique_ptr<Loop> loop, base::FileLock lock,
                       Holder holder, launch::OutputBound outputs)
    : setup_(std::move(setup)),
      loop_(std::move(loop)),
      lock_(std::move(lock)),
      holder_(std::move(holder)),
      outputs_(std::move(outputs)),
      events_(setup_.events_folder, setup_.places.app) {}

Supervisor::~Supervisor() = default;

Result<std::unique_ptr<Supervisor>> Supervisor::create(const SupervisorSetup& setup, Kept kept) {
  UPD_TRY(base::make_directories(setup.places.runtime, 0755));
  UPD_TRY(base::make_directories(setup.places.own(), kOwnMode));
  Result<base::FileLock> lock =
      kept.lock ? Result<base::FileLock>(base::FileLock::kept(std::move(kept.lock)))
                : base::FileLock::take(setup.places.lock(), kLastBreath, nullptr);
  if (!lock && lock.error().code() == Code::busy)
    return Error(Code::busy, "another supervisor of '" + setup.places.app + "' is running");
  if (!lock) return std::move(lock).error();
  raise_descriptor_limit();  // the holder inherits it
  UPD_ASSIGN(Holder holder, Holder::connect_or_start(setup.places.held()));
  UPD_ASSIGN(std::unique_ptr<Loop> loop, Loop::create());
  UPD_ASSIGN(launch::OutputBound outputs, launch::OutputBound::create());
  std::unique_ptr<Supervisor> made(new Supervisor(setup, std::move(loop), std::move(*lock),
                                                  std::move(holder), std::move(outputs)));
  UPD_TRY(made->open_cgroups());
  made->workers_ = std::make_unique<WorkerSet>(*made->loop_, setup.places,
                                               made->cgroups_ ? &*made->cgroups_ : nullptr,
                                               made->outputs_, made->worker_host());
  UPD_TRY(made->take_over(kept));
  UPD_TRY(made->watch_holder());
  UPD_ASSIGN(made->outputs_watch_,
             made->loop_->watch(made->outputs_.event_fd(), EPOLLIN,
                                [&self = *made] { self.outputs_.on_event(); }));
  UPD_TRY(made->listen_for_commands(kept));
  made->hear_earlier();
  return made;
}

Status Supervisor::open_cgroups() {
  if (setup_.cgroup_folder.empty()) {
    cgroup_reason_ = launch::find_cgroup_support().reason;
    return base::ok();
  }
  auto tree = launch::CgroupTree::open(setup_.cgroup_folder);
  if (tree) {
    cgroups_ = std::move(*tree);
    // Before the first generation: of one that lives already its figures would know a part only.
    if (!is_unit() && !base::exists(setup_.places.state()))
      static_cast<void>(cgroups_->enable_memory_figures());
  } else {
    cgroup_reason_ = tree.error().line();
  }
  return base::ok();
}

Status Supervisor::choose_mechanism() {
  mechanism_ = listen::find_mechanism();
  policy_.reset();
  if (mechanism_.mechanism == listen::Mechanism::steered) {
    UPD_ASSIGN(policy_, listen::Policy::create());
  }
  listeners_ = std::make_unique<ListenerSet>(policy_ ? &*policy_ : nullptr);
  return base::ok();
}

void Supervisor::share_everything(const std::string& why) {
  mechanism_ = {listen::Mechanism::shared, why};
  policy_.reset();
  listeners_ = std::make_unique<ListenerSet>(nullptr);
}

Status Supervisor::watch_holder() {
  UPD_ASSIGN(holder_watch_, loop_->watch(holder_.event_fd(), EPOLLIN, [this] {
    event("supervisor.problem", "failure", nullptr,
          {{"problem", "the holder of descriptors died"}});
    renew_holder();
  }));
  return base::ok();
}

// Where memory or processes have run out, another one can't be had at once.
void Supervisor::renew_holder() {
  holder_watch_.reset();
  auto next = Holder::connect_or_start(setup_.places.held());
  if (!next) {
    goes_on_once(next.error());
    holder_retry_ = loop_->after(kHolderPause, [this] { renew_holder(); });
    return;
  }
  holder_ = std::move(*next);
  hold_everything();
  goes_on(watch_holder());
}

Status Supervisor::listen_for_commands(Kept& kept) {
  const auto on_request = [this](const Request& request) { return answer(request); };
  const auto on_closed = [this](ConnectionId connection) { driver_gone(connection); };
  const std::string path = setup_.places.control();
  if (kept.control.empty()) {
    UPD_ASSIGN(control_, ControlServer::listen(*loop_, path, on_request, on_closed));
    return base::ok();
  }
  UPD_ASSIGN(control_, ControlServer::take_up(*loop_, path, kept.control, on_request, on_closed));
  if (deployment_ && control_->is_open(kept.driver)) {
    deployment_->driver = kept.driver;
    deployment_->orphan_timer.reset();
  }
  return base::ok();
}

Status Supervisor::run() {
  return loop_->run();
}

// --- small questions

Generation* Supervisor::find(std::uint64_t number) {
  const auto found = generations_.find(number);
  return found == generations_.end() ? nullptr : found->second.get();
}

listen::Slot Supervisor::free_slot() const {
  for (unsigned slot = 0; slot < listen::kMaxSlots; ++slot) {
    const bool taken = std::any_of(generations_.begin(), generations_.end(),
                                   [&](const auto& item) { return item.second->slot() == slot; });
    if (!taken) return static_cast<listen::Slot>(slot);
  }
  return listen::kNoSlot;
}

std::optional<std::string> Supervisor::committed_version() const {
  const auto folder = base::open_directory(setup_.app_folder);
  if (!folder) return std::nullopt;
  const auto target = base::read_link_at(folder->get(), "committed");
  if (!target || !*target || !(*target)->starts_with(kReleasesPrefix)) return std::nullopt;
  return (*target)->substr(kReleasesPrefix.size());
}

// A generation that is replaced or withdrawn ends after its deployment: what is said of it then
// belongs to that one all the same.
std::string Supervisor::trace_of(const Generation* generation) const {
  const bool ends = generation != nullptr &&
                    (generation->role() == Role::candidate || generation->role() == Role::draining);
  if (ends && !generation->trace_id().empty()) return generation->trace_id();
  return deployment_ ? deployment_->trace_id : "";
}

void Supervisor::event(std::string_view name, std::string_view status, const Generation* generation,
                       Json detail) {
  SpooledEvent event;
  event.name = name;
  event.status = status;
  event.trace_id = trace_of(generation);
  if (generation != nullptr) {
    event.to_version = generation->version();
    const std::string& worker = generation->plan().worker;
    if (worker.empty())
      detail["generation"] = generation->number();
    else
      detail["worker"] = worker;
  }
  event.detail = std::move(detail);
  events_.append(event);
}

// What can be neither waited for nor given up goes on all the same. The log and `status` say it.
void Supervisor::goes_on(const Status& done) {
  if (done) return;
  last_problem_ = done.error().line();
  event("supervisor.problem", "failure", nullptr, {{"problem", last_problem_}});
  ::syslog(LOG_ERR, "updagent: %s: %s", setup_.places.app.c_str(), last_problem_.c_str());
}

// What fails again and again is said with the first time.
void Supervisor::goes_on_once(const Status& done) {
  if (!done && done.error().line() != last_problem_) goes_on(done);
}

void Supervisor::tell(const Generation& generation, std::string_view what,
                      const std::string& problem) {
  if (!deployment_ || deployment_->driver == 0) return;
  control_->tell(deployment_->driver, {{"news", "generation"},
                                       {"number", generation.number()},
                                       {"life", what},
                                       {"status", generation.status_text()},
                                       {"pid", generation.main_pid()},
                                       {"problem", problem}});
}

// --- generations

GenerationEvents Supervisor::generation_events() {
  GenerationEvents events;
  events.ready = [this](Generation& generation) { on_ready(generation); };
  events.failed = [this](Generation& generation, const Error& error) {
    on_failed(generation, error);
  };
  events.gone = [this](Generation& generation) { on_gone(generation); };
  events.changed = [this](Generation& generation) { on_changed(generation); };
  events.before_kill = [this](Generation& generation) { count_cut(generation); };
  events.complaint = [this](Generation& generation, const std::string& what) {
    complain(generation, what);
  };
  return events;
}

WorkerHost Supervisor::worker_host() {
  WorkerHost host;
  host.next_number = [this] { return next_number_++; };
  host.save = [this] { save_state(); };
  host.event = [this](std::string_view name, std::string_view status, const Generation* worker,
                      Json detail) { event(name, status, worker, std::move(detail)); };
  host.failed = [this](const Generation& worker, const Error& error) {
    report_failure(worker, error);
  };
  host.crash_loop = [this](const Generation& worker, int crashes) { crash_loop(worker, crashes); };
  host.complaint = [this](const Generation& worker, const std::string& what) {
    complain(worker, what);
  };
  host.gone = [this](const std::vector<std::uint64_t>& numbers) {
    for (const std::uint64_t number : numbers) complaints_.erase(number);
    finish_if_done();
  };
  return host;
}

// Nobody wakes us when a program is detached, a listener is shut down or a socket joins: we look
// when somebody asks us something anyway, which during a deployment is every two seconds.
void Supervisor::check_steering() {
  if (!listeners_) return;
  check_listening();  // a group whose only socket was shut down has lost its program, too
  for (const auto& [address, again] : listeners_->check()) {
    last_problem_ = "somebody detached the steering at " + address + ": " +
                    (again ? "it is attached again" : again.error().line());
    event("traffic.detached", "failure", nullptr,
          {{"address", address}, {"attached", again.has_value()}});
    ::syslog(LOG_ERR, "updagent: %s: %s", setup_.places.app.c_str(), last_problem_.c_str());
  }
}

void Supervisor::check_listening() {
  const Generation* serves = active();
  if (serves == nullptr || serves->life() != Life::ready) return;
  const auto mended = listeners_->listen_again(*serves);
  std::string what;
  if (!mended) {
    what = mended.error().line();
  } else if (!mended->empty()) {
    what =
        "it shut its listener down while it lives: " + base::join(*mended, ", ") + " listens again";
  } else if (const Status paths = listeners_->check_paths(*serves); !paths) {
    what = paths.error().line();
  }
  if (what.empty()) return;
  last_problem_ = what;
  complain(*serves, what);
}

listen::InodeSet Supervisor::own_sockets() const {
  listen::InodeSet own;
  for (const auto& [number, generation] : generations_)
    for (const OwnSocket& socket : generation->plan().sockets)
      if (const auto inode = listen::inode_of(socket.fd.get())) own.add(*inode);
  return own;
}

void Supervisor::look_for_strangers() {
  if (!listeners_) return;
  const std::vector<listen::PortHolder> found = listeners_->strangers(own_sockets());
  const std::string text = found.empty() ? "" : listen::describe(found);
  if (text == strangers_) return;
  strangers_ = text;
  if (text.empty()) return;
  event("traffic.stranger", "failure", nullptr, {{"who", text}});
  ::syslog(LOG_ERR, "updagent: %s: a stranger joined our listeners: %s", setup_.places.app.c_str(),
           text.c_str());
}

// Those that a graceful stop ended itself are none: the server knew of them.
void Supervisor::count_cut(const Generation& generation) {
  if (!listeners_) return;
  const std::size_t busy = busy_connections(*listeners_, generation);
  if (busy > 0) event("service.cut", "failure", &generation, {{"connections", busy}});
}

// A service can make us complain as often as it likes; the log is not its to fill.
void Supervisor::complain(const Generation& generation, const std::string& what) {
  Complaints& complaints = complaints_[generation.number()];
  const std::int64_t now_us = base::monotonic_now_us();
  if (complaints.count == 0 || now_us - complaints.since_us > kComplaintSpan.count() * 1000)
    complaints = {0, now_us};
  if (++complaints.count > kMaxComplaints) return;
  Json detail = {{"what", what}};
  if (complaints.count == kMaxComplaints) detail["last"] = "more are not recorded for an hour";
  event("service.complaint", "failure", &generation, std::move(detail));
}

Status Supervisor::check_room(const Generation* active, std::uint64_t reserve) const {
  if (active == nullptr || active->main_pid() == 0) return base::ok();
  const auto at_hand = launch::memory_at_hand();
  if (!at_hand) return base::ok();  // a kernel that doesn't tell refuses nobody
  launch::MemoryInUse in_use = launch::memory_in_use(active->cgroup(), active->processes());
  in_use.bytes += reserve;
  return launch::check_memory(*at_hand, in_use);
}

Result<Generation*> Supervisor::make_generation(release::ResolvedService run) {
  GenerationPlan plan;
  plan.slot = free_slot();
  if (plan.slot == listen::kNoSlot)
    return Error(Code::busy, "as many generations live as there can be")
        .expected("at most " + std::to_string(listen::kMaxSlots))
        .hint("wait until old ones have drained, or end the oldest");
  plan.number = next_number_++;
  UPD_ASSIGN(plan.sockets, listeners_->open(run, plan.number, plan.slot));
  base::failpoint::hit("service.opened");
  plan.run = std::move(run);
  const std::uint64_t number = plan.number;
  auto made = std::make_unique<Generation>(*loop_, setup_.places, cgroups_ ? &*cgroups_ : nullptr,
                                           std::move(plan), generation_events());
  Generation* generation = made.get();
  if (deployment_) generation->set_trace(deployment_->trace_id);
  generations_.emplace(number, std::move(made));
  hold(*generation);
  base::failpoint::hit("service.held");
  return generation;
}

void Supervisor::listen_anew(Generation& generation) {
  const auto listens = listeners_->listen_again(generation);
  if (!listens) goes_on(listens.error());
  const auto opened = listeners_->open_again(generation);
  if (!opened) goes_on(opened.error());
  if (!opened || !*opened) return;
  hold(generation);
  if (generation.number() == active_) goes_on(listeners_->publish(generation));
}

Status Supervisor::start_generation(Generation& generation) {
  const Generation* before = active();
  const launch::FdStore* stored =
      before != nullptr && before != &generation ? &before->store() : nullptr;
  if (generation.starts() > 0) listen_anew(generation);
  save_state();  // who dies now leaves a process that its successor knows of
  Status started =
      generation.start(stored, generation.role() == Role::active ? 0 : kCandidateOomScore);
  hold_notify(generation);
  base::failpoint::hit("service.started");
  if (started) {
    event("service.started", "started", &generation, {{"pid", generation.main_pid()}});
    if (!generation.output_in_journal()) static_cast<void>(outputs_.add(generation.output_file()));
  }
  save_state();
  return started;
}

void Supervisor::on_changed(Generation& generation) {
  hold_stored(generation);
  if (generation.life() == Life::starting && generation.process() != nullptr &&
      readiness_is_ours(generation) && !checks_.contains(generation.number()))
    look_whether_listening(generation.number());
  save_state();
}

// A driver has probes; without one, an accepted connection is what we can know of readiness.
bool Supervisor::readiness_is_ours(const Generation& generation) const {
  switch (generation.plan().run.service.ready) {
    case release::Ready::notify:
      return false;
    case release::Ready::listening:
      return true;
    case release::Ready::probe:
      return !deployment_ || deployment_->automatic ||
             deployment_->candidate != generation.number();
  }
  return false;
}

void Supervisor::look_whether_listening(std::uint64_t number) {
  Generation* generation = find(number);
  if (generation == nullptr) return;
  checks_[number] = std::make_unique<ListeningCheck>(
      *loop_, policy_ ? &*policy_ : nullptr, *listeners_, *generation, [this, number] {
        // the check must not end while it calls
        timers_[number] = loop_->after(base::Milliseconds(0), [this, number] {
          checks_.erase(number);
          if (Generation* found = find(number)) found->mark_ready();
        });
      });
}

void Supervisor::on_ready(Generation& generation) {
  base::failpoint::hit("service.ready");
  if (const Status own = listeners_->check_own_sockets(generation, own_sockets());
      !own && deployment_ && deployment_->candidate == generation.number())
    return on_failed(generation, own.error());
  event("service.ready", "success", &generation, {{"pid", generation.main_pid()}});
  save_state();
  tell(generation, "ready", "");
  if (!deployment_ || deployment_->candidate != generation.number()) return;
  if (deployment_->automatic) promote_candidate();
}

void Supervisor::report_failure(const Generation& generation, const Error& error) {
  last_problem_ = error.line();
  Json detail = {{"problem", error.line()}};
  if (!generation.output_in_journal())
    if (const auto tail = launch::tail_of_output(generation.output_file(), kTailBytes)) {
      detail["output"] = *tail;
      last_problem_ += last_words(*tail);
    }
  event("service.failed", "failure", &generation, std::move(detail));
  ::syslog(LOG_ERR, "updagent: %s: %s", setup_.places.app.c_str(), last_problem_.c_str());
}

void Supervisor::on_failed(Generation& generation, const Error& failure) {
  // one that drains has a successor, which is started again
  if (generation.plan().adopted && generation.number() == active_) return adopted_ended(generation);
  const auto check = checks_.find(generation.number());
  const Error error = check != checks_.end() && failure.code() == Code::timed_out
                          ? Error(failure).got(check->second->missing())
                          : failure;
  checks_.erase(generation.number());
  report_failure(generation, error);
  if (deployment_ && deployment_->candidate == generation.number()) {
    withdraw_weight();
    tell(generation, "failed", last_problem_);
    if (deployment_->automatic) give_up_candidate(error.line());
    return save_state();
  }
  tell(generation, "failed", last_problem_);
  if (generation.number() == active_ && !stop_wanted_) return restart_later(generation.number());
  retire(generation.number(), true);
}

// The driver that goes back is a process like any other: it asks us for what it needs. For a worker
// nobody goes back by himself.
void Supervisor::crash_loop(const Generation& generation, int crashes) {
  const bool goes_back =
      generation.plan().worker.empty() &&
      generation.plan().run.service.on_crash_loop == release::CrashLoop::rollback && !deployment_ &&
      !setup_.rollback_command.empty();
  event("service.crash_loop", "failure", &generation,
        {{"crashes", crashes}, {"rollback", goes_back}});
  ::syslog(LOG_CRIT, "updagent: %s crashes again and again: %s", setup_.places.app.c_str(),
           last_problem_.c_str());
  if (goes_back) start_command(setup_.rollback_command);
}

void Supervisor::start_command(const std::vector<std::string>& command) {
  goes_on(base::start_detached(command, {std::string("PATH=") + base::kSafePath}));
}

// With back-off; connections wait in its queue meanwhile.
void Supervisor::restart_later(std::uint64_t number) {
  Crashes& crashes = crashes_[number];
  const base::Milliseconds wait = crashes.another(base::monotonic_now_us());
  if (crashes.is_loop()) {
    if (const Generation* generation = find(number)) crash_loop(*generation, crashes.in_a_row());
  }
  save_state();
  timers_[number] = loop_->after(wait, [this, number] { start_again(number); });
}

void Supervisor::start_again(std::uint64_t number) {
  Generation* generation = find(number);
  if (generation == nullptr) return;
  const bool never_started = generation->life() == Life::starting && generation->starts() == 0;
  if (generation->life() != Life::down && !never_started) return;
  const Status started = start_generation(*generation);
  if (started) return event("service.restarted", "started", generation, Json::object());
  last_problem_ = started.error().line();
  tell(*generation, "failed", last_problem_);
  restart_later(number);
}

void Supervisor::on_gone(Generation& generation) {
  const std::uint64_t number = generation.number();
  event("service.stopped", "success", &generation, Json::object());
  tell(generation, "gone", "");
  listeners_->retire(generation);
  base::failpoint::hit("service.retired");
  drop_held(generation);
  outputs_.remove(generation.output_file());
  if (active_ == number) active_ = 0;
  if (standby_ == number) standby_ = 0;
  // it is the generation itself that calls
  sweep_ = loop_->after(base::Milliseconds(0), [this] {
    for (auto item = generations_.begin(); item != generations_.end();) {
      if (item->second->life() != Life::gone) {
        ++item;
        continue;
      }
      const std::uint64_t gone = item->first;
      drains_.erase(gone);
      checks_.erase(gone);
      timers_.erase(gone);
      crashes_.erase(gone);
      complaints_.erase(gone);
      ::unlink(item->second->output_file().c_str());
      item = generations_.erase(item);
    }
    goes_on(
        apply_roles(deployment_ ? deployment_->weight : 0, policy_ ? policy_->expires_ns() : 0));
    start_waiting();
    save_state();
    finish_if_done();
  });
}

void Supervisor::finish_if_done() {
  if (!stop_wanted_ || !nothing_lives()) return;
  if (after_stop_) {
    const Status started = start_committed(*std::exchange(after_stop_, {}));
    if (started) return;
    event("supervisor.problem", "failure", nullptr, {{"problem", started.error().line()}});
  }
  ::unlink(setup_.places.state().c_str());
  holder_watch_.reset();
  holder_.dismiss();
  loop_->stop();
}

Status Supervisor::start_committed(release::ResolvedService run) {
  if (stop_wanted_ && !nothing_lives()) {  // a predecessor died while all were ending
    after_stop_ = std::move(run);
    return base::ok();
  }
  if (active() != nullptr) return base::ok();
  stop_wanted_ = false;
  if (generations_.empty()) UPD_TRY(choose_mechanism());
  UPD_ASSIGN(Generation * generation, make_generation(std::move(run)));
  active_ = generation->number();
  generation->set_role(Role::active);
  if (Status given = apply_roles(0, 0); !given) {
    active_ = 0;
    generation->stop(true);
    return given;
  }
  workers_->keep(generation->plan().run);
  const Status started = start_generation(*generation);
  if (started) return base::ok();
  last_problem_ = started.error().line();
  restart_later(generation->number());
  return base::ok();
}

}  // namespace updagent::service
