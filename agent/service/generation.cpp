#include "agent/service/generation.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/config/environment_file.hpp"
#include "agent/launch/environment.hpp"
#include "agent/launch/output.hpp"
#include "agent/release/listen_address.hpp"
#include "agent/release/service_words.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;

constexpr mode_t kRuntimeMode = 0750;
constexpr mode_t kRoleMode = 0644;
constexpr std::size_t kMaxRoleBytes = 64;  // of a word
// Without a cgroup nobody tells when the last process has gone.
constexpr base::Milliseconds kLookForRest{100};
constexpr int kScorePasses = 3;                     // who forks faster keeps what it has
constexpr base::Milliseconds kKillPatience{2'000};  // of one pass without a cgroup

launch::Protocol protocol_of(release::Protocol protocol) {
  switch (protocol) {
    case release::Protocol::systemd:
      return launch::Protocol::systemd;
    case release::Protocol::nginx:
      return launch::Protocol::nginx;
    case release::Protocol::env:
      return launch::Protocol::env;
    case release::Protocol::inject:
      return launch::Protocol::inject;
  }
  return launch::Protocol::systemd;
}

std::vector<std::string> listener_names(const release::Service& service) {
  std::vector<std::string> names;
  names.reserve(service.listeners.size());
  for (const release::Listener& listener : service.listeners) names.push_back(listener.name);
  return names;
}

base::Milliseconds milliseconds_of(std::uint64_t usec) {
  return base::Milliseconds(static_cast<std::int64_t>(usec / 1000));
}

Json identity_json(const launch::ProcessIdentity& identity) {
  return {{"pid", identity.pid},
          {"start_ticks", identity.start_ticks},
          {"boot_id", identity.boot_id},
          {"pidfs_inode", identity.pidfs_inode}};
}

launch::ProcessIdentity identity_from(const Json& json) {
  launch::ProcessIdentity identity;
  identity.pid = json.value("pid", 0);
  identity.start_ticks = json.value("start_ticks", std::uint64_t{0});
  identity.boot_id = json.value("boot_id", std::string());
  identity.pidfs_inode = json.value("pidfs_inode", std::uint64_t{0});
  return identity;
}

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

// --- start
// ----------------------------------------------------------------------------------------

// The app's folder belongs to the service's user, who could put a link into it: opened beneath,
// never followed. What lies there before the first start is not ours: it must not stop the release
// that comes after a hostile one.
Status Generation::prepare_folders() {
  UPD_TRY(base::make_directories(places_.own(), 0711));
  UPD_TRY(base::make_directories(plan_.run.runtime, 0755));
  UPD_ASSIGN(const base::UniqueFd app, base::open_directory(plan_.run.runtime));
  const std::string name = std::to_string(plan_.number);
  if (starts_ == 0) UPD_TRY(base::remove_tree(app.get(), name));
  if (!base::exists_at(app.get(), name))
    UPD_TRY(base::make_directory_at(app.get(), name, kRuntimeMode));
  UPD_ASSIGN(const base::UniqueFd own, base::open_beneath(app.get(), name, O_RDONLY | O_DIRECTORY));
  if (::fchown(own.get(), identity_.uid, identity_.gid) != 0 ||
      ::fchmod(own.get(), kRuntimeMode) != 0)
    return base::system_error(errno, "cannot give '" + places_.generation_runtime(plan_.number) +
                                         "' to '" + identity_.user + "'");
  return base::ok();
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

Status Generation::prepare_notify(base::UniqueFd inherited) {
  if (notify_) return base::ok();
  const std::string path = places_.notify(plan_.number);
  if (inherited) {
    UPD_ASSIGN(notify_, launch::NotifyServer::adopt(std::move(inherited), path, membership()));
  } else {
    UPD_ASSIGN(notify_, launch::NotifyServer::bind(path, identity_.uid, membership()));
  }
  UPD_ASSIGN(notify_watch_, loop_.watch(notify_->event_fd(), EPOLLIN, [this] {
    notify_->on_event([this](launch::NotifyEvent& event) { on_notify(event); });
  }));
  return base::ok();
}

// nginx takes an inherited socket to be non-blocking, as its own are: a worker that loses the race
// for a connection would sleep in accept(2) with all that it has. The other protocols leave the
// flag to the server: those that sleep in accept(2) on purpose are among them.
Status Generation::set_socket_flags() const {
  if (plan_.run.service.protocol != release::Protocol::nginx) return base::ok();
  for (const OwnSocket& socket : plan_.sockets) {
    const int flags = ::fcntl(socket.fd.get(), F_GETFL);
    if (flags < 0 || ::fcntl(socket.fd.get(), F_SETFL, flags | O_NONBLOCK) != 0)
      return base::system_error(errno,
                                "cannot make the listener '" + socket.listener + "' non-blocking");
  }
  return base::ok();
}

Result<launch::ServiceSpec> Generation::service_spec(const launch::FdStore* stored) {
  const release::ResolvedService& run = plan_.run;
  const release::Service& service = run.service;
  launch::ServiceSituation situation;
  situation.protocol = protocol_of(service.protocol);
  situation.app = run.app;
  situation.version = run.version;
  situation.generation = plan_.number;
  situation.release_directory = run.release;
  situation.runtime_directory = places_.generation_runtime(plan_.number);
  situation.data_directory = run.data;
  situation.cache_directory = run.cache;
  situation.role_file = places_.role(plan_.number);
  situation.worker = plan_.worker;
  situation.identity = identity_;
  for (const release::Listener& listener : service.listeners)
    situation.listeners.push_back({listener.name, listener.address});
  situation.variables = run.environment;
  situation.variables.insert(situation.variables.end(), service.socket_environment.begin(),
                             service.socket_environment.end());
  for (const std::string& file : run.environment_files) {
    UPD_ASSIGN(const auto secrets, config::read_environment_file(file));
    situation.secrets.insert(situation.secrets.end(), secrets.begin(), secrets.end());
  }
  situation.notify_socket = places_.notify(plan_.number);
  if (watchdog_usec_) situation.watchdog_usec = watchdog_usec_;
  if (plan_.worker.empty()) situation.fdstore_max = launch::kMaxStored;  // others hand nothing on

  launch::OutputRequest request;
  request.identifier = run.app;
  request.unit = "updagent@" + run.app + ".service";
  request.file = output_file();
  request.owner = identity_;
  UPD_ASSIGN(launch::ServiceOutput output, launch::open_output(request));
  output_in_journal_ = output.in_journal;
  situation.journal_stream = output.journal_stream;

  launch::ServiceSpec spec;
  if (situation.protocol != launch::Protocol::inject)
    for (const OwnSocket& socket : plan_.sockets)
      spec.descriptors.push_back({socket.listener, socket.fd.get()});
  if (stored != nullptr && situation.protocol == launch::Protocol::systemd) {
    store_watch_.reset();
    UPD_ASSIGN(store_, stored->copy_for(listener_names(service)));
  } else if (!store_) {
    UPD_ASSIGN(store_, launch::FdStore::create(listener_names(service)));
  }
  if (situation.protocol == launch::Protocol::systemd)
    for (const launch::StoredDescriptor& entry : store_->entries()) {
      situation.stored.push_back(entry.name);
      spec.descriptors.push_back({entry.name, entry.descriptor.get()});
    }
  UPD_TRY(watch_store());

  UPD_ASSIGN(launch::ServiceEnvironment environment, launch::service_environment(situation));
  UPD_ASSIGN(spec.argv, launch::service_command(service.command, situation));
  spec.environment = std::move(environment.variables);
  spec.pid_variables = std::move(environment.pid_variables);
  spec.working_directory = run.release;
  spec.identity = identity_;
  if (!service.capabilities.empty() || identity_.uid == 0) {
    UPD_ASSIGN(const launch::CapabilitySet set, launch::parse_capabilities(service.capabilities));
    if (!service.capabilities.empty()) spec.capabilities = set;
  }
  for (const auto& [name, value] : service.rlimits) {
    const auto resource = release::rlimit_resource(name);
    if (!resource) return Error(Code::config_invalid, "unknown limit '" + name + "'");
    const rlim_t limit = value == release::kUnlimited ? RLIM_INFINITY : value;
    spec.limits.push_back({*resource, limit, limit});
  }
  spec.umask = static_cast<mode_t>(service.umask);
  spec.oom_score_adj = oom_score_;
  if (cgroup_) spec.cgroup_fd = cgroup_->directory_fd();
  // the caller keeps `output` until begin() has duplicated it
  spec.stdout_fd = spec.stderr_fd = output.fd.release();
  return spec;
}

// A fresh one for every start: Linux 6.18 kills whatever is cloned into a cgroup that cgroup.kill
// was once written to (cgroup_css_set_fork() compares with the kill_seq of another cgroup).
Status Generation::prepare_cgroup() {
  if (cgroups_ == nullptr) return base::ok();
  if (cgroup_) {
    cgroup_watch_.reset();
    UPD_ASSIGN(const bool removed, cgroup_->remove());
    if (!removed)
      return Error(Code::busy,
                   "processes of generation " + std::to_string(plan_.number) + " still live");
    cgroup_.reset();
  }
  UPD_ASSIGN(cgroup_, cgroups_->make(plan_.number));
  UPD_ASSIGN(cgroup_watch_,
             loop_.watch(cgroup_->event_fd(), EPOLLIN, [this] { on_cgroup_event(); }));
  return base::ok();
}

Status Generation::start(const launch::FdStore* stored, int oom_score) {
  const release::ResolvedService& run = plan_.run;
  oom_score_ = oom_score;
  if (run.user.empty()) {
    identity_ = base::own_identity();
  } else {
    UPD_ASSIGN(identity_, base::identity_of_user(run.user));
  }
  for (const std::string& name : run.service.groups) {
    UPD_ASSIGN(const gid_t group, base::gid_of_group(name));
    if (std::find(identity_.groups.begin(), identity_.groups.end(), group) ==
        identity_.groups.end())
      identity_.groups.push_back(group);
  }
  if (run.service.watchdog.count() > 0)
    watchdog_usec_ = static_cast<std::uint64_t>(run.service.watchdog.count()) * 1000;
  UPD_TRY(prepare_folders());
  UPD_TRY(prepare_cgroup());
  set_role(role_);
  UPD_TRY(prepare_notify());
  UPD_TRY(set_socket_flags());
  UPD_ASSIGN(launch::ServiceSpec spec, service_spec(stored));
  const base::UniqueFd output(spec.stdout_fd);
  launch::GuardOptions options;
  options.intercept_bind = run.service.protocol == release::Protocol::inject;
  options.allow_io_uring = run.allow_io_uring;
  UPD_ASSIGN(const launch::Guard guard, launch::Guard::build(options));
  spec.guard = &guard;
  // what an earlier process has bound says nothing of this one
  inject_watch_.reset();
  injector_.reset();
  inject_notify_.reset();
  inject_journal_.reset();
  UPD_ASSIGN(start_, launch::ServiceStart::begin(spec));
  UPD_ASSIGN(start_watch_, loop_.watch(start_->event_fd(), EPOLLIN, [this] { on_start_event(); }));
  enter(Life::starting);
  status_text_.clear();
  main_told_ = false;
  ++starts_;
  extended_ = false;
  arm_ready_timeout(run.service.ready_timeout);
  return base::ok();
}

void Generation::arm_ready_timeout(base::Milliseconds span) {
  due_us_ = base::monotonic_now_us() + span.count() * 1000;
  timeout_ = loop_.after(span, [this] {
    Status bound = injector_ ? injector_->all_bound() : base::ok();
    fail(bound ? Error(Code::timed_out,
                       run_name() + (extended_ ? " was not ready in the time that it asked for"
                                               : " was not ready in time"))
                     .expected(std::string(release::ready_name(plan_.run.service.ready)) +
                               " within " + base::format_duration(time_given()))
                     .got(status_text_.empty() ? "nothing" : "'" + status_text_ + "'")
               : std::move(bound).error());
  });
}

void Generation::arm_stop_timeout(base::Milliseconds span) {
  due_us_ = base::monotonic_now_us() + span.count() * 1000;
  timeout_ = loop_.after(span, [this] {
    events_.complaint(*this, run_name() + " did not stop within " +
                                 base::format_duration(time_given()) + ": killed");
    kill_all();
    look_for_rest();
  });
}

// Of the start or stop that is under way, extensions included.
base::Milliseconds Generation::time_given() const {
  return base::Milliseconds(std::max<std::int64_t>(due_us_ - begun_us_, 0) / 1000);
}

std::string Generation::run_name() const {
  if (!plan_.worker.empty()) return "the worker '" + plan_.worker + "' (" + version() + ")";
  return "generation " + std::to_string(plan_.number) + " (" + version() + ")";
}

void Generation::on_start_event() {
  auto started = start_->on_event();
  if (started && !*started) return;
  start_watch_.reset();
  start_.reset();
  if (!started) return fail(started.error());
  process_ = launch::ProcessWatch::own((*started)->identity, std::move((*started)->pidfd));
  inject_notify_ = std::move((*started)->bind_listener);
  Status watched = watch_process();
  if (watched && inject_notify_) watched = make_injector();
  if (!watched) return fail(watched.error());
  events_.changed(*this);
}

Status Generation::watch_process() {
  process_watch_.reset();
  UPD_ASSIGN(process_watch_, loop_.watch(process_->event_fd(), EPOLLIN, [this] { on_main_end(); }));
  return base::ok();
}

Status Generation::watch_store() {
  store_watch_.reset();  // of the store before
  UPD_ASSIGN(store_watch_, loop_.watch(store_->event_fd(), EPOLLIN, [this] {
    if (!store_->on_event().empty()) events_.changed(*this);
  }));
  return base::ok();
}

Status Generation::make_injector() {
  if (!inject_journal_) {
    UPD_ASSIGN(inject_journal_, launch::InjectJournal::make());
  }
  launch::InjectSetup setup;
  setup.notify.reset(::fcntl(inject_notify_.get(), F_DUPFD_CLOEXEC, 3));
  setup.journal.reset(::fcntl(inject_journal_.get(), F_DUPFD_CLOEXEC, 3));
  if (!setup.notify || !setup.journal)
    return base::system_error(errno, "cannot duplicate the notify descriptor");
  setup.trust = identity_.uid == ::geteuid() && ::geteuid() != 0 ? launch::ServiceTrust::own_user
                                                                 : launch::ServiceTrust::other_user;
  for (std::size_t i = 0; i < plan_.sockets.size(); ++i) {
    const release::Listener& listener = plan_.run.service.listeners[i];
    UPD_ASSIGN(const listen::Address address,
               listen::parse_address(listener.address, listener.name, Code::config_invalid));
    const listen::SocketAddress where = listen::to_sockaddr(address);
    launch::InjectListener entry;
    entry.name = listener.name;
    entry.address = where.storage;
    entry.address_length = where.length;
    entry.type = address.transport == listen::Transport::udp ? SOCK_DGRAM : SOCK_STREAM;
    entry.v6only = listener.ipv6_only;
    entry.socket_fd = plan_.sockets[i].fd.get();
    setup.listeners.push_back(std::move(entry));
  }
  UPD_ASSIGN(injector_, launch::Injector::create(std::move(setup), [this](const auto& report) {
               for (const std::string& note : report.notes) events_.complaint(*this, note);
               if (report.problem) events_.complaint(*this, report.problem->line());
               if (report.result == launch::InjectResult::injected) events_.changed(*this);
             }));
  UPD_ASSIGN(inject_watch_, loop_.watch(injector_->event_fd(), EPOLLIN, [this] {
    injector_->on_event();
    if (injector_->ended()) inject_watch_.reset();
  }));
  return base::ok();
}

Status Generation::take_over(launch::ProcessWatch process) {
  plan_.adopted = true;
  process_ = std::move(process);
  UPD_ASSIGN(store_, launch::FdStore::create(listener_names(plan_.run.service)));
  life_ = Life::ready;
  return watch_process();
}

// --- what it tells us
// -----------------------------------------------------------------------------

void Generation::on_notify(launch::NotifyEvent& event) {
  for (const launch::NotifyComplaint& complaint : event.complaints)
    events_.complaint(*this, complaint.text);
  if (!event.counts) return;
  const launch::NotifyMessage& message = event.message;
  if (message.status) status_text_ = *message.status;
  if (event.main_process && message.main_pid) {
    auto identity = launch::identify_process(*message.main_pid, event.main_process);
    if (identity) {
      process_watch_.reset();
      process_ = launch::ProcessWatch::own(std::move(*identity), std::move(event.main_process));
      main_told_ = true;
      if (auto watched = watch_process(); !watched)
        events_.complaint(*this, watched.error().line());
    }
  }
  store_descriptors(event);
  if (message.watchdog_usec) watchdog_usec_ = message.watchdog_usec;
  if (message.extend_timeout_usec) extend_timeout(*message.extend_timeout_usec);
  if (message.watchdog == launch::WatchdogSign::trigger)
    return fail(Error(Code::probe_failed, run_name() + " reported a failure to its watchdog"));
  if (message.watchdog == launch::WatchdogSign::alive || message.watchdog_usec) arm_watchdog();
  take_lifecycle(message);
  events_.changed(*this);
}

void Generation::hear_earlier(std::vector<launch::NotifyDatagram> earlier) {
  if (!notify_) return;
  notify_->hear_earlier(std::move(earlier), [this](launch::NotifyEvent& event) {
    // Its main process died meanwhile: nothing makes it ready. What it has stored is stored.
    if (!process_) {
      event.message.lifecycle = launch::Lifecycle::unchanged;
      event.message.main_pid.reset();
    }
    on_notify(event);
  });
}

void Generation::take_lifecycle(const launch::NotifyMessage& message) {
  switch (message.lifecycle) {
    case launch::Lifecycle::ready:
      if (life_ == Life::starting && plan_.run.service.ready == release::Ready::notify)
        become_ready();
      break;
    case launch::Lifecycle::stopping:
      // One that serves is started again when it has ended, as after a crash. A candidate must not
      // get one user more: it has failed, and ends in its own time.
      if (life_ != Life::ready && life_ != Life::starting) break;
      status_text_ = "stopping by itself";
      if (role_ == Role::candidate)
        events_.failed(*this, Error(Code::probe_failed, run_name() + " is stopping by itself"));
      break;
    case launch::Lifecycle::reloading:
    case launch::Lifecycle::unchanged:
      break;
  }
}

void Generation::store_descriptors(launch::NotifyEvent& event) {
  const launch::NotifyMessage& message = event.message;
  if (message.store_remove) store_->remove(message.store_name);
  if (!message.store) return;
  for (base::UniqueFd& descriptor : event.descriptors) {
    switch (store_->add(message.store_name, descriptor, message.store_watch)) {
      case launch::Stored::stored:
      case launch::Stored::already:
        break;
      case launch::Stored::refused_full:
        events_.complaint(*this, "FDSTORE: more than " + std::to_string(launch::kMaxStored) +
                                     " descriptors are not kept");
        break;
      case launch::Stored::refused_name:
        events_.complaint(
            *this, "FDSTORE: the name '" + message.store_name + "' is a listener's, or no name");
        break;
    }
  }
}

// From READY on, as systemd does: before that there is ready_timeout, and many a service sends its
// signs from the loop that it enters when it is ready.
void Generation::arm_watchdog() {
  watchdog_.reset();
  if (life_ != Life::ready || !watchdog_usec_ || *watchdog_usec_ == 0) return;
  watchdog_ = loop_.after(milliseconds_of(*watchdog_usec_), [this] {
    fail(Error(Code::probe_failed, run_name() + " gave no sign of life to its watchdog")
             .expected("WATCHDOG=1 every " +
                       base::format_duration(milliseconds_of(*watchdog_usec_))));
  });
}

// Counted from the message on, but never past the node's bound for the whole start or stop.
void Generation::extend_timeout(std::uint64_t usec) {
  if (life_ != Life::starting && life_ != Life::stopping) return;
  const base::Milliseconds bound =
      life_ == Life::starting ? plan_.run.max_ready_timeout : plan_.run.max_stop_timeout;
  const std::int64_t now_us = base::monotonic_now_us();
  const std::int64_t due_us =
      std::min(now_us + static_cast<std::int64_t>(usec), begun_us_ + bound.count() * 1000);
  if (due_us <= due_us_) return;  // it has more time already
  extended_ = true;
  const base::Milliseconds span((due_us - now_us) / 1000);
  if (life_ == Life::stopping)
    arm_stop_timeout(span);
  else
    arm_ready_timeout(span);
}

// --- life
// -----------------------------------------------------------------------------------------

void Generation::enter(Life life) {
  life_ = life;
  since_us_ = base::wall_now_us();
  begun_us_ = base::monotonic_now_us();
}

void Generation::begin_drain() {
  if (drain_due_us_ == 0)
    drain_due_us_ = base::monotonic_now_us() + plan_.run.service.drain_timeout.count() * 1000;
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

std::vector<pid_t> Generation::processes() const {
  auto found = cgroup_ ? cgroup_->processes() : launch::processes_of(family());
  return found ? std::move(*found) : std::vector<pid_t>();
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
    static_cast<void>(base::remove_tree(app->get(), std::to_string(plan_.number)));
  enter(Life::gone);
  events_.gone(*this);
}

// --- succession
// -----------------------------------------------------------------------------------

Json Generation::to_json() const {
  Json sockets = Json::array();
  for (const OwnSocket& socket : plan_.sockets) {
    const auto inode = listen::inode_of(socket.fd.get());
    sockets.push_back({{"listener", socket.listener}, {"inode", inode ? *inode : 0}});
  }
  // a worker's is that of its release, which its set writes once for all
  const auto run = plan_.worker.empty()
                       ? release::resolved_service_to_json(plan_.run, Code::internal)
                       : Result<std::string>(std::string());
  return {{"number", plan_.number},
          {"worker", plan_.worker},
          {"slot", plan_.slot},
          {"life", life_name(life_)},
          {"role", role_name(role_)},
          {"since_us", since_us_},
          {"starts", starts_},
          {"status", status_text_},
          {"watchdog_usec", watchdog_usec_.value_or(0)},
          {"in_journal", output_in_journal_},
          {"adopted", plan_.adopted},
          {"begun_boot_us", begun_us_},
          {"due_boot_us", due_us_},
          {"drain_due_boot_us", drain_due_us_},
          {"process", process_ ? identity_json(process_->identity()) : Json(nullptr)},
          {"sockets", std::move(sockets)},
          {"run", run ? *run : std::string()}};
}

Status Generation::adopt(const Json& state, launch::FdStore* stored, Inherited inherited) {
  const release::ResolvedService& run = plan_.run;
  starts_ = state.value("starts", 1);
  since_us_ = state.value("since_us", base::wall_now_us());
  status_text_ = state.value("status", std::string());
  const std::string life = state.value("life", std::string());
  // a state of before has no such times: all of it anew
  const base::Milliseconds whole =
      life == "stopping" ? run.service.stop_timeout : run.service.ready_timeout;
  begun_us_ = state.value("begun_boot_us", begun_us_);
  due_us_ = state.value("due_boot_us", begun_us_ + whole.count() * 1000);
  drain_due_us_ = state.value("drain_due_boot_us", std::int64_t{0});
  if (life == "stopping") life_ = Life::stopping;
  if (stored != nullptr) {
    UPD_ASSIGN(store_, stored->copy_for(listener_names(run.service)));
  } else {
    UPD_ASSIGN(store_, launch::FdStore::create(listener_names(run.service)));
  }
  if (!plan_.adopted) UPD_TRY(adopt_surroundings(state, std::move(inherited.notify_socket)));
  const Status found = adopt_process(state, std::move(inherited));
  if (life_ == Life::stopping) {
    // whether its main process still lives or not: the rest has its time
    arm_stop_timeout(time_left());
    if (!found) rest_timer_ = loop_.after(base::Milliseconds(0), [this] { look_for_rest(); });
    return base::ok();
  }
  UPD_TRY(found);
  life_ = life == "starting" ? Life::starting : Life::ready;
  arm_watchdog();
  // The clocks of our predecessor go on.
  if (life_ == Life::starting) arm_ready_timeout(time_left());
  return base::ok();
}

// What a service that updagent did not start has none of.
Status Generation::adopt_surroundings(const Json& state, base::UniqueFd notify_socket) {
  if (plan_.run.user.empty()) {
    identity_ = base::own_identity();
  } else {
    UPD_ASSIGN(identity_, base::identity_of_user(plan_.run.user));
  }
  output_in_journal_ = state.value("in_journal", false);
  if (const std::uint64_t usec = state.value("watchdog_usec", std::uint64_t{0}); usec > 0)
    watchdog_usec_ = usec;
  if (cgroups_ != nullptr) {
    if (auto found = cgroups_->find(plan_.number); found) {
      cgroup_ = std::move(*found);
      UPD_ASSIGN(cgroup_watch_,
                 loop_.watch(cgroup_->event_fd(), EPOLLIN, [this] { on_cgroup_event(); }));
    }
  }
  UPD_TRY(watch_store());
  return prepare_notify(std::move(notify_socket));
}

Status Generation::adopt_process(const Json& state, Inherited inherited) {
  if (!state.contains("process") || state["process"].is_null())
    return Error(Code::not_found, run_name() + " had not started");
  UPD_ASSIGN(process_, launch::ProcessWatch::adopt(identity_from(state["process"])));
  UPD_TRY(watch_process());
  inject_notify_ = std::move(inherited.inject_notify);
  inject_journal_ = std::move(inherited.inject_journal);
  return inject_notify_ ? make_injector() : base::ok();
}

base::Milliseconds Generation::time_left() const {
  return base::Milliseconds(std::max<std::int64_t>(due_us_ - base::monotonic_now_us(), 0) / 1000);
}

}  // namespace updagent::service
