// How long a generation may take: to get ready, to stop, to drain, between two signs of life.
#include <algorithm>

#include "agent/base/text.hpp"
#include "agent/release/service_words.hpp"
#include "agent/service/generation.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Status;

base::Milliseconds milliseconds_of(std::uint64_t usec) {
  return base::Milliseconds(static_cast<std::int64_t>(usec / 1000));
}

// What a server must do, and what helps the one that can't.
std::string sign_of(release::Ready ready) {
  switch (ready) {
    case release::Ready::notify:
      return "READY=1 at NOTIFY_SOCKET (a server that does not know it wants ready = "
             "\"listening\")";
    case release::Ready::listening:
      return "an accepted connection";
    case release::Ready::probe:
      return "passed probes";
  }
  return "";
}

}  // namespace

void Generation::arm_ready_timeout(base::Milliseconds span) {
  due_us_ = base::monotonic_now_us() + span.count() * 1000;
  timeout_ = loop_.after(span, [this] {
    Status bound = injector_ ? injector_->all_bound() : base::ok();
    fail(bound ? Error(Code::timed_out,
                       run_name() + (extended_ ? " was not ready in the time that it asked for"
                                               : " was not ready in time"))
                     .expected("within " + base::format_duration(time_given()) + " " +
                               sign_of(plan_.run.service.ready))
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

// Of the start or stop that is under way, extensions included.
base::Milliseconds Generation::time_given() const {
  return base::Milliseconds(std::max<std::int64_t>(due_us_ - begun_us_, 0) / 1000);
}

base::Milliseconds Generation::time_left() const {
  return base::Milliseconds(std::max<std::int64_t>(due_us_ - base::monotonic_now_us(), 0) / 1000);
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

void Generation::begin_drain() {
  if (drain_due_us_ == 0)
    drain_due_us_ = base::monotonic_now_us() + plan_.run.service.drain_timeout.count() * 1000;
}

}  // namespace updagent::service
