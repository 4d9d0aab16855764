#include "agent/launch/inject.hpp"

#include <linux/audit.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "agent/base/clock.hpp"
#include "agent/base/failpoints.hpp"
#include "agent/base/text.hpp"
#include "agent/launch/inject_report.hpp"

namespace updagent::launch {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

// bind(2) of the machine's own ABI, and of its 32-bit programs (who have the same structures).
bool is_bind(const seccomp_data& call) {
#if defined(__x86_64__)
  return (call.arch == AUDIT_ARCH_X86_64 && call.nr == SYS_bind) ||
         (call.arch == AUDIT_ARCH_I386 && call.nr == 361);
#elif defined(__aarch64__)
  return (call.arch == AUDIT_ARCH_AARCH64 && call.nr == SYS_bind) ||
         (call.arch == AUDIT_ARCH_ARM && call.nr == 282);
#else
#error "bind(2) of this machine must be named here"
#endif
}

constexpr int kInjectPartingMs = 100;  // a killed aside is gone in less

// Of a listener's public path, as look_at_bind() finds it of a service's: the folder without links.
std::string canonical_path_of(const InjectListener& listener) {
  if (listener.address.ss_family != AF_UNIX) return "";
  const auto& un = reinterpret_cast<const sockaddr_un&>(listener.address);
  if (un.sun_path[0] != '/') return "";
  const std::string path(un.sun_path, ::strnlen(un.sun_path, sizeof un.sun_path));
  const std::size_t slash = path.rfind('/');
  const std::unique_ptr<char, decltype(&std::free)> folder(
      ::realpath(path.substr(0, slash + 1).c_str(), nullptr), &std::free);
  if (!folder) return "";
  const std::string real = folder.get();
  return (real == "/" ? "" : real) + path.substr(slash);
}

// In an aside: our own descriptor, under a number that is not the service's (see clear_of).
UniqueFd fetch(int callers_fd, const BindRequest& request) {
  return clear_of(Aside::from_caller(callers_fd), request.fd);
}

Status add_source(const UniqueFd& epoll, int fd) {
  epoll_event event{EPOLLIN, {.fd = fd}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0) return base::ok();
  return base::system_error(errno, "cannot wait for binds of the service");
}

}  // namespace

void Injector::Unmap::operator()(Shared* shared) const {
  ::munmap(shared, sizeof(Shared) * kMaxBindsInFlight);
}

Result<std::unique_ptr<Injector>> Injector::create(InjectSetup setup, OnInject on_inject) {
  if (setup.listeners.empty() || setup.listeners.size() > kMaxInjectListeners)
    return Error(Code::config_invalid, "protocol 'inject' can't serve these listeners")
        .expected("1 to " + std::to_string(kMaxInjectListeners))
        .got(std::to_string(setup.listeners.size()));
  UPD_ASSIGN(InjectJournal journal, InjectJournal::open(setup.journal.get()));
  std::unique_ptr<Injector> injector(
      new Injector(std::move(setup), std::move(journal), std::move(on_inject)));
  UPD_TRY(injector->prepare());
  return injector;
}

Injector::Injector(InjectSetup setup, InjectJournal journal, OnInject on_inject)
    : notify_(std::move(setup.notify)),
      journal_(std::move(journal)),
      listeners_(std::move(setup.listeners)),
      trust_(setup.trust),
      aside_limit_ms_(setup.aside_limit_ms),
      on_inject_(std::move(on_inject)) {}

// Asides that are under way are killed: what they were doing is in the journal.
Injector::~Injector() {
  for (const Work& work : works_)
    if (work.aside) work.aside->kill();
  for (Work& work : works_)
    if (work.aside) (void)work.aside->wait(kInjectPartingMs);
}

Status Injector::prepare() {
  UPD_TRY(describe_listeners());
  void* memory = ::mmap(nullptr, sizeof(Shared) * kMaxBindsInFlight, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return base::system_error(errno, "cannot share memory with a helper");
  shared_.reset(static_cast<Shared*>(memory));
  for (std::size_t i = 0; i < works_.size(); ++i)
    if (journal_.entry(i).busy != 0) works_[i].stage = Stage::found;
  return make_event_sources();
}

Status Injector::describe_listeners() {
  for (const InjectListener& listener : listeners_) {
    SocketFacts facts;
    if (!read_socket_facts(listener.socket_fd, facts))
      return base::system_error(errno, "listener '" + listener.name + "' has no socket");
    if (listener_text(listener).empty() || facts.type != listener.type)
      return Error(Code::config_invalid,
                   "protocol 'inject' can't serve listener '" + listener.name + "'")
          .expected("a TCP, UDP or Unix socket, of the type that is declared")
          .got(listener_text(listener) + ", type " + std::to_string(facts.type));
    sockets_.push_back(facts);
    canonical_paths_.push_back(canonical_path_of(listener));
  }
  return base::ok();
}

Status Injector::make_event_sources() {
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  timer_.reset(::timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!epoll_ || !timer_) return base::system_error(errno, "cannot wait for binds of the service");
  UPD_TRY(add_source(epoll_, notify_.get()));
  UPD_TRY(add_source(epoll_, timer_.get()));
  update_event_sources();
  return base::ok();
}

// --- the turn -----------------------------------------------------------------------------------

void Injector::on_event() {
  for (std::size_t i = 0; i < works_.size(); ++i) {
    if (works_[i].stage == Stage::found) look(i);
    check_aside(i);
  }
  take_requests();
  update_event_sources();
}

// poll(2) first: SECCOMP_IOCTL_NOTIF_RECV waits when there is none, whatever the descriptor's
// flags. After a POLLIN it doesn't: a request whose thread was killed meanwhile ends it with
// ENOENT.
void Injector::take_requests() {
  for (std::size_t i = 0; i < works_.size(); ++i) {
    if (works_[i].stage != Stage::free) continue;
    pollfd event{notify_.get(), POLLIN, 0};
    if (::poll(&event, 1, 0) <= 0) return;
    if ((event.revents & POLLIN) == 0) {
      ended_ = ended_ || (event.revents & (POLLHUP | POLLERR)) != 0;
      return;
    }
    if (take_request(i)) look(i);
  }
}

bool Injector::take_request(std::size_t index) {
  InjectJournal::Entry& entry = journal_.entry(index);
  entry = {};  // the kernel refuses a buffer that isn't zero
  entry.busy = 1;
  if (::ioctl(notify_.get(), SECCOMP_IOCTL_NOTIF_RECV, &entry.request) != 0) {
    entry.busy = 0;
    return false;
  }
  base::failpoint::hit("inject.received");
  works_[index] = {};
  works_[index].stage = Stage::found;
  return true;
}

void Injector::update_event_sources() {
  const bool wanted = !ended_ && std::ranges::any_of(works_, [](const Work& work) {
    return work.stage == Stage::free;
  });
  if (wanted != watching_) {
    epoll_event event{EPOLLIN, {.fd = notify_.get()}};
    (void)::epoll_ctl(epoll_.get(), wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, notify_.get(), &event);
    watching_ = wanted;
  }
  std::int64_t next_us = 0;
  for (const Work& work : works_) {
    const std::int64_t due_us = work.stage == Stage::found ? 1 : work.deadline_us;
    if (due_us > 0 && (next_us == 0 || due_us < next_us)) next_us = due_us;
  }
  itimerspec at{};  // zero: none, and an expiry that has been is forgotten
  at.it_value.tv_sec = next_us / 1'000'000;
  at.it_value.tv_nsec = next_us % 1'000'000 * 1000;
  (void)::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &at, nullptr);
}

bool Injector::idle() const {
  return std::ranges::all_of(works_, [](const Work& work) { return work.stage == Stage::free; });
}

// --- one request --------------------------------------------------------------------------------

BindRequest Injector::request(std::size_t index) {
  const seccomp_notif& notif = journal_.entry(index).request;
  BindRequest out;
  out.id = notif.id;
  out.thread = static_cast<pid_t>(notif.pid);
  out.fd = static_cast<int>(notif.data.args[0]);
  out.address = notif.data.args[1];
  out.length = notif.data.args[2] & 0xFFFF'FFFF;  // an int: what is above it is rubbish
  return out;
}

void Injector::look(std::size_t index) {
  const seccomp_notif& notif = journal_.entry(index).request;
  shared_[index] = {};
  if (!request_is_valid(notify_.get(), notif.id))
    return close_request(index, report(index, InjectResult::gone));
  if (!is_bind(notif.data))  // the filter is wider than it should be
    return pass(index, report(index, InjectResult::passed));
  works_[index].stage = Stage::looking;
  Look& answer = shared_[index].look;
  start(index, [asked = request(index), &answer] { look_at_bind(asked, answer); });
}

void Injector::replace(std::size_t index) {
  works_[index].stage = Stage::replacing;
  Replacement& answer = shared_[index].replacement;
  const std::size_t chosen = works_[index].listener;
  const BindRequest asked = request(index);
  const auto work = [=, this, &answer](int notify_fd, int listener_fd) {
    replace_socket(notify_fd, listener_fd, asked, answer);
    if (answer.outcome.progress != Progress::done) return;
    journal_.set_bound(chosen);
    if (!answer_done(notify_fd, asked.id)) answer.outcome = stopped(TargetStep::answer, errno);
  };
  const int notify_fd = notify_.get();
  const int listener_fd = listeners_[chosen].socket_fd;
  if (!asides_allowed()) return start(index, [=] { work(notify_fd, listener_fd); });
  start(index, [=, &answer] {
    const UniqueFd notify = fetch(notify_fd, asked);
    const UniqueFd listener = fetch(listener_fd, asked);
    if (notify && listener) return work(notify.get(), listener.get());
    answer.outcome = {Progress::failed, TargetStep::none, errno};
  });
}

// `work` in an aside, or here where that is of no use (then the answer is there at once).
void Injector::start(std::size_t index, const std::function<void()>& work) {
  Work& request_work = works_[index];
  if (asides_allowed()) {
    auto started = Aside::start(Aside::Descriptors::own, work);
    if (!started) {
      InjectReport failed = report(index, InjectResult::failed);
      failed.problem = std::move(started).error();
      return pass(index, std::move(failed));
    }
    request_work.aside = std::move(*started);
    request_work.deadline_us = base::monotonic_now_us() + aside_limit_ms_ * 1000LL;
    (void)add_source(epoll_, request_work.aside->event_fd());
    return;
  }
  work();
  go_on(index);
}

void Injector::check_aside(std::size_t index) {
  Work& work = works_[index];
  if (!work.aside) return;
  if (work.aside->ended()) {
    (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, work.aside->event_fd(), nullptr);
    work.aside.reset();
    work.deadline_us = 0;
    return go_on(index);
  }
  if (work.deadline_us == 0 || base::monotonic_now_us() < work.deadline_us) return;
  work.aside->kill();
  work.deadline_us = 0;  // its end is an event
}

void Injector::go_on(std::size_t index) {
  if (works_[index].stage == Stage::looking) return decide(index);
  conclude(index);
}

void Injector::decide(std::size_t index) {
  const Look& seen = shared_[index].look;
  // The pid was that of the thread throughout, if the thread still waits.
  if (seen.outcome.progress == Progress::gone ||
      !request_is_valid(notify_.get(), request(index).id))
    return close_request(index, report(index, InjectResult::gone));
  if (seen.outcome.progress == Progress::invalid)
    return pass(index, report(index, InjectResult::passed));
  if (seen.outcome.progress != Progress::done) return repeat_or_fail(index, seen.outcome);
  if (const auto before = injected_before(seen.socket)) {
    works_[index].listener = *before;
    journal_.set_bound(*before);
    (void)answer_done(notify_.get(), request(index).id);
    return close_request(index, report(index, InjectResult::injected));
  }
  const BindMatch found = match(seen);
  works_[index].listener = found.listener;
  if (found.fit == Fit::ours) return replace(index);
  InjectReport passed = report(index, InjectResult::passed);
  if (std::string note = misfit_note(found, listeners_); !note.empty())
    passed.notes.push_back(std::move(note));
  remember_instead(passed.asked);
  pass(index, std::move(passed));
}

void Injector::conclude(std::size_t index) {
  const Replacement& done = shared_[index].replacement;
  switch (done.outcome.progress) {
    case Progress::done:
      return close_request(index, report(index, InjectResult::injected));
    case Progress::gone:
      return close_request(index, report(index, InjectResult::gone));
    case Progress::pending:
    case Progress::invalid:
    case Progress::failed:
      return repeat_or_fail(index, done.outcome);
  }
}

// Killed: by us, or for want of memory. How far it had got shows when the socket is looked at
// again.
void Injector::repeat_or_fail(std::size_t index, const Outcome& outcome) {
  if (outcome.progress == Progress::pending && ++works_[index].attempts < kMaxAsideAttempts)
    return look(index);
  InjectReport failed = report(index, InjectResult::failed);
  failed.problem = inject_problem(failed.thread, outcome);
  pass(index, std::move(failed));
}

void Injector::pass(std::size_t index, InjectReport passed) {
  if (!answer_continue(notify_.get(), request(index).id)) passed.result = InjectResult::gone;
  close_request(index, passed);
}

void Injector::close_request(std::size_t index, const InjectReport& closed) {
  journal_.entry(index).busy = 0;
  works_[index] = {};
  if (on_inject_ && closed.thread != 0) on_inject_(closed);  // 0: a predecessor died in receiving
}

// --- what it means ------------------------------------------------------------------------------

// The answer to a request that comes a second time: a signal interrupted it after its socket had
// been replaced, or a predecessor died then.
std::optional<std::size_t> Injector::injected_before(const SocketFacts& socket) const {
  for (std::size_t i = 0; i < sockets_.size(); ++i)
    if (sockets_[i].cookie == socket.cookie) return i;
  return std::nullopt;
}

BindMatch Injector::match(const Look& seen) const {
  AskedBind asked;
  asked.address = seen.address;
  asked.address_length = seen.address_length;
  asked.domain = seen.socket.domain;
  asked.type = seen.socket.type;
  asked.protocol = seen.socket.protocol;
  asked.v6only = seen.socket.v6only != 0;
  asked.canonical_path = seen.canonical_path.data();
  const BindMatch found = match_bind(asked, listeners_, canonical_paths_);
  if (found.fit == Fit::none) return found;
  // The same address of another network, or on one interface only, is another address.
  const SocketFacts& ours = sockets_[found.listener];
  const bool same_place = seen.socket.network == ours.network && seen.socket.device == ours.device;
  return same_place ? found : BindMatch{};
}

InjectReport Injector::report(std::size_t index, InjectResult result) {
  const Look& seen = shared_[index].look;
  InjectReport out;
  out.result = result;
  out.thread = request(index).thread;
  out.fd = request(index).fd;
  if (seen.address_length > 0)
    out.asked = bind_text(seen.address, seen.address_length, seen.socket.type);
  if (result != InjectResult::injected) return out;
  out.listener = listeners_[works_[index].listener].name;
  out.notes = replacement_notes(shared_[index].replacement);
  return out;
}

void Injector::remember_instead(const std::string& asked) {
  if (asked.empty() || asked.ends_with(":0") || bound_instead_.size() >= kMaxBoundInstead) return;
  if (std::ranges::find(bound_instead_, asked) == bound_instead_.end())
    bound_instead_.push_back(asked);
}

Status Injector::all_bound() const {
  std::vector<std::string> names;
  std::vector<std::string> addresses;
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    if ((journal_.bound() >> i & 1U) != 0) continue;
    names.push_back("'" + listeners_[i].name + "'");
    addresses.push_back(listener_text(listeners_[i]));
  }
  if (names.empty()) return base::ok();
  return Error(Code::probe_failed, "the service has not bound " + base::join(names, ", "))
      .expected(base::join(addresses, ", "))
      .got(bound_instead_.empty() ? "no bind of another address" : base::join(bound_instead_, ", "))
      .hint("its configuration and the listeners of the release must name the same addresses");
}

}  // namespace updagent::launch
