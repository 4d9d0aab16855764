#include "tests/handoff/load/flow.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

namespace load {
namespace {

constexpr int kStartsPerTurn = 128;  // answers are read in between
// A server that was asked to close has so long; it is then closed by us, and counted.
constexpr std::int64_t kEndingUs = 1'000'000;
constexpr std::uint64_t kMaxReports = 200;  // failures that are described one by one
constexpr std::size_t kMaxPending = 1'000'000;
constexpr std::int64_t kNever = INT64_MAX;

}  // namespace

Flow::Flow(Spec spec, std::uint16_t index, Reactor& reactor, Say say)
    : spec_(std::move(spec)),
      index_(index),
      reactor_(reactor),
      say_(std::move(say)),
      tally_(spec_.name),
      expect_(std::make_shared<const std::vector<std::string>>(spec_.expect)) {
  slots_.reserve(static_cast<std::size_t>(spec_.connections));
  for (std::int64_t i = 0; i < spec_.connections; ++i) slots_.emplace_back(spec_);
}

// --- when requests begin ---------------------------------------------------------------------

void Flow::start(std::int64_t now) {
  started_us_ = now;
  const auto count = static_cast<std::int64_t>(slots_.size());
  for (std::int64_t i = 0; i < count; ++i) {
    Slot& slot = slots_[static_cast<std::size_t>(i)];
    slot.state = State::paused;
    set_deadline(slot, now + (spec_.rate > 0 ? 0 : spec_.ramp_ms * 1000 * i / count));
  }
}

bool Flow::may_begin() const {
  return !stopping_ && (spec_.requests == 0 || begun_ < static_cast<std::uint64_t>(spec_.requests));
}

Tally::WindowId Flow::open_request() {
  ++begun_;
  return tally_.open_request();
}

void Flow::add_due(std::int64_t now) {
  const auto count =
      static_cast<std::uint64_t>(static_cast<double>(now - started_us_) * spec_.rate / 1e6) + 1;
  for (; due_count_ < count && may_begin() && pending_.size() < kMaxPending; ++due_count_) {
    const auto offset =
        static_cast<std::int64_t>(static_cast<double>(due_count_) * 1e6 / spec_.rate);
    pending_.push_back({started_us_ + offset, open_request()});
  }
}

std::int64_t Flow::pump(std::int64_t now) {
  if (spec_.rate > 0 && may_begin()) add_due(now);
  for (int starts = 0; !available_.empty(); ++starts) {
    const bool closed_loop = spec_.rate == 0;
    if (closed_loop ? !may_begin() : pending_.empty()) break;
    if (starts == kStartsPerTurn) return now;
    Slot& slot = slots_[available_.front()];
    available_.pop_front();
    if (closed_loop) {
      begin(slot, now, open_request());
    } else {
      const Due due = pending_.front();
      pending_.pop_front();
      begin(slot, due.at_us, due.window);
    }
  }
  if (spec_.rate == 0 || !may_begin()) return kNever;
  return started_us_ +
         static_cast<std::int64_t>(static_cast<double>(due_count_) * 1e6 / spec_.rate);
}

void Flow::stop() {
  stopping_ = true;
  for (const Due& due : pending_) tally_.forget_request(due.window);
  pending_.clear();
}

bool Flow::done() const {
  return !may_begin() && tally_.open_requests() == 0;
}

void Flow::abandon() {
  stop();
  for (Slot& slot : slots_)
    if (slot.state == State::connecting || slot.state == State::busy)
      finish(slot, Outcome::unfinished, "");
}

void Flow::expect(std::vector<std::string> generations) {
  expect_ = std::make_shared<const std::vector<std::string>>(std::move(generations));
}

// --- after it --------------------------------------------------------------------------------

void Flow::finish(Slot& slot, Outcome outcome, const std::string& detail) {
  tally_.attempt(slot.window, outcome, slot.response.generation());
  if (outcome != Outcome::ok) report(slot, outcome, detail);
  if (outcome == Outcome::keepalive_race && spec_.retry) {
    retry(slot);
    return;
  }
  if (outcome == Outcome::ok) tally_.latency(slot.window, now_us() - slot.due_us);
  tally_.close_request(slot.window);
  const bool whole = outcome == Outcome::ok || outcome == Outcome::wrong_status ||
                     outcome == Outcome::wrong_generation;
  if (whole) {
    after_answer(slot);
  } else {
    close(slot);
    release(slot, spec_.backoff_ms);
  }
}

void Flow::retry(Slot& slot) {
  ++tally_.totals().retried;
  slot.served = 0;
  slot.began_us = now_us();
  connect(slot);
}

void Flow::report(const Slot& slot, Outcome outcome, const std::string& detail) {
  // a detail of a body has an offset in it: too many kinds to count
  const bool counted = outcome != Outcome::wrong_body && outcome != Outcome::unfinished;
  if (counted) tally_.detail(std::string(name_of(outcome)) + ": " + detail);
  if (outcome == Outcome::unfinished || reported_++ >= kMaxReports) return;
  say_({{"event", "failure"},
        {"flow", spec_.name},
        {"class", name_of(outcome)},
        {"detail", detail},
        {"at_ns", now_us() * 1000},
        {"due_ns", slot.due_us * 1000},
        {"began_ns", slot.began_us * 1000},
        {"local", slot.socket ? local_name(slot.socket.get()) : ""},
        {"served_before", slot.served},
        {"status", slot.response.status()},
        {"generation", slot.response.generation()},
        {"bytes", slot.response.received()}});
}

void Flow::after_answer(Slot& slot) {
  ++slot.served;
  if (slot.last_request || !slot.response.keep_alive()) {
    if (!slot.last_request) ++tally_.totals().announced_close;
    slot.state = State::ending;  // the server closes first: its port waits, not ours
    set_deadline(slot, now_us() + kEndingUs);
    return;
  }
  slot.state = State::idle;
  if (spec_.rate == 0 && spec_.think_ms > 0) {
    set_deadline(slot, now_us() + spec_.think_ms * 1000);
  } else {
    set_deadline(slot, kNever);
    available_.push_back(number_of(slot));
  }
}

// Nothing is in flight on it.
void Flow::read_idle(Slot& slot) {
  char byte = 0;
  const ssize_t got = ::recv(slot.socket.get(), &byte, 1, 0);
  if (got < 0 && errno == EAGAIN) return;
  const State state = slot.state;
  const std::int64_t deadline = slot.deadline_us;
  if (state == State::idle || got > 0)
    tally_.idle_end(got > 0    ? &Counts::idle_data
                    : got == 0 ? &Counts::idle_eof
                               : &Counts::idle_reset);
  close(slot);
  if (state == State::ending) {
    release(slot, spec_.think_ms);
  } else if (deadline == kNever) {
    slot.state = State::free;  // it is among the available ones
  } else {
    slot.state = State::paused;
    set_deadline(slot, deadline);
  }
}

void Flow::release(Slot& slot, std::int64_t pause_ms) {
  slot.state = State::free;
  if (spec_.rate > 0 || pause_ms == 0) {
    available_.push_back(number_of(slot));
  } else {
    slot.state = State::paused;
    set_deadline(slot, now_us() + pause_ms * 1000);
  }
}

void Flow::close(Slot& slot) {
  slot.socket.reset();
  ++slot.serial;
  slot.served = 0;
  set_deadline(slot, kNever);
}

// --- events ----------------------------------------------------------------------------------

void Flow::on_socket(Token token, std::uint32_t events) {
  Slot& slot = slots_[token.slot];
  if (slot.serial != token.serial) return;
  if (slot.state == State::connecting)
    on_connecting(slot, events);
  else if (slot.state == State::busy)
    read_response(slot, events);
  else if (slot.state == State::idle || slot.state == State::ending)
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0) read_idle(slot);
}

void Flow::on_alarm(const Reactor::Alarm& alarm) {
  Slot& slot = slots_[alarm.slot];
  slot.armed_us = 0;
  if (alarm.at_us < slot.deadline_us) {
    set_deadline(slot, slot.deadline_us);
    return;
  }
  switch (slot.state) {
    case State::connecting:
      if (!slot.socket)
        connect(slot);
      else
        finish(slot, Outcome::timeout, "in connect");
      break;
    case State::busy:
      if (slot.slowed)
        read_on(slot);
      else
        give_up(slot);
      break;
    case State::ending:
      ++tally_.totals().not_closed;
      close(slot);
      release(slot, spec_.think_ms);
      break;
    case State::idle:
      slot.deadline_us = kNever;
      available_.push_back(alarm.slot);
      break;
    case State::paused:
      slot.state = State::free;
      available_.push_back(alarm.slot);
      break;
    case State::free:
      break;
  }
}

// Deadlines mostly move away before they come: an alarm that is too early looks again.
void Flow::set_deadline(Slot& slot, std::int64_t at_us) {
  slot.deadline_us = at_us;
  if (at_us == kNever || (slot.armed_us != 0 && slot.armed_us <= at_us)) return;
  reactor_.wake({at_us, index_, number_of(slot)}, slot.armed_us);
  slot.armed_us = at_us;
}

std::uint32_t Flow::number_of(const Slot& slot) const {
  return static_cast<std::uint32_t>(&slot - slots_.data());
}

}  // namespace load
