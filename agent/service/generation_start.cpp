// From what a release says of its service to a running process.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/files.hpp"
#include "agent/config/environment_file.hpp"
#include "agent/launch/environment.hpp"
#include "agent/launch/output.hpp"
#include "agent/release/listen_address.hpp"
#include "agent/release/service_words.hpp"
#include "agent/service/generation.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

constexpr mode_t kRuntimeMode = 0750;

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

}  // namespace

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
    UPD_ASSIGN(store_, stored->copy_for(listener_names()));
  } else if (!store_) {
    UPD_ASSIGN(store_, launch::FdStore::create(listener_names()));
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
  return watch_cgroup();
}

Status Generation::find_identity() {
  if (plan_.run.user.empty()) {
    identity_ = base::own_identity();
  } else {
    UPD_ASSIGN(identity_, base::identity_of_user(plan_.run.user));
  }
  for (const std::string& name : plan_.run.service.groups) {
    UPD_ASSIGN(const gid_t group, base::gid_of_group(name));
    if (std::find(identity_.groups.begin(), identity_.groups.end(), group) ==
        identity_.groups.end())
      identity_.groups.push_back(group);
  }
  return base::ok();
}

Status Generation::start(const launch::FdStore* stored, int oom_score) {
  const release::ResolvedService& run = plan_.run;
  oom_score_ = oom_score;
  UPD_TRY(find_identity());
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
  let_forked_go();
  // what an earlier process has bound says nothing of this one
  inject_watch_.reset();
  injector_.reset();
  inject_notify_.reset();
  inject_journal_.reset();
  UPD_ASSIGN(start_, launch::ServiceStart::begin(spec));
  UPD_ASSIGN(start_watch_, loop_.watch(start_->event_fd(), EPOLLIN, [this] { on_start_event(); }));
  enter(Life::starting);
  status_text_.clear();
  stops_itself_ = false;
  ++starts_;
  extended_ = false;
  arm_ready_timeout(run.service.ready_timeout);
  return base::ok();
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

}  // namespace updagent::service
