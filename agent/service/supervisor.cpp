#include "agent/service/supervisor.hpp"

#include <sys/epoll.h>
#include <syslog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
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
