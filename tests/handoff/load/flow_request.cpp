// How one request goes, from connect(2) to the last byte, and what it is called when it does not.
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "tests/handoff/load/flow.hpp"

namespace load {
namespace {

// A full accept queue of a unix socket can't be waited for: connect(2) says EAGAIN.
constexpr std::int64_t kUnixAgainUs = 1'000;
// With read_rate: small, so that what the client has not read stays with the server; and how often
// it reads.
constexpr int kSlowBuffer = 64 * 1024;
constexpr std::int64_t kSlowReadUs = 50'000;

std::string request_text(const Spec& spec, bool close) {
  std::string text = spec.method + " " + spec.path + " HTTP/1.1\r\nHost: loadclient\r\n";
  if (spec.method != "GET" && spec.method != "HEAD") text += "Content-Length: 0\r\n";
  return text + (close ? "Connection: close\r\n\r\n" : "\r\n");
}

std::string error_name(int error) {
  const char* name = ::strerrorname_np(error);
  return name == nullptr ? std::to_string(error) : name;
}

}  // namespace

void Flow::begin(Slot& slot, std::int64_t due_us, Tally::WindowId window) {
  const std::int64_t now = now_us();
  slot.window = window;
  slot.due_us = due_us;
  slot.began_us = now;
  slot.expect = expect_;
  tally_.totals().late_max_us = std::max(tally_.totals().late_max_us, now - due_us);
  if (slot.state == State::idle)
    send_request(slot);
  else
    connect(slot);
}

bool Flow::bind_source(int socket_fd) {
  if (spec_.sources.empty()) return true;
  const Address& source = spec_.sources[next_source_++ % spec_.sources.size()];
  const int on = 1;  // the port is chosen at connect(2), when the whole pair of addresses is known
  ::setsockopt(socket_fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  return ::bind(socket_fd, source.get(), source.length) == 0;
}

void Flow::connect(Slot& slot) {
  close(slot);
  slot.state = State::connecting;
  slot.progress_us = now_us();
  slot.response = Response(spec_);
  slot.socket.reset(::socket(spec_.target.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!slot.socket || !bind_source(slot.socket.get())) {
    finish(slot, Outcome::other, error_name(errno) + " in socket, bind");
    return;
  }
  if (spec_.read_rate > 0)
    ::setsockopt(slot.socket.get(), SOL_SOCKET, SO_RCVBUF, &kSlowBuffer, sizeof kSlowBuffer);
  const int done = ::connect(slot.socket.get(), spec_.target.get(), spec_.target.length);
  if (done != 0 && errno != EINPROGRESS) {
    connect_failed(slot, errno);
    return;
  }
  reactor_.watch(slot.socket.get(), {index_, slot.serial, number_of(slot)});
  set_deadline(slot, slot.progress_us + spec_.timeout_ms * 1000);
  if (done == 0) on_connecting(slot, EPOLLOUT);
}

void Flow::connect_failed(Slot& slot, int error) {
  const bool waits = error == EAGAIN && spec_.target.family() == AF_UNIX;
  const std::int64_t now = now_us();
  if (waits && now < slot.began_us + spec_.timeout_ms * 1000) {
    slot.socket.reset();
    set_deadline(slot, now + kUnixAgainUs);
    return;
  }
  const std::string detail = error_name(error) + " in connect";
  if (error == ECONNREFUSED || error == ENOENT)
    finish(slot, Outcome::refused, detail);
  else if (error == ECONNRESET)
    finish(slot, Outcome::reset, detail);
  else if (error == ETIMEDOUT || waits)
    finish(slot, Outcome::timeout, detail);
  else
    finish(slot, Outcome::other, detail);
}

void Flow::on_connecting(Slot& slot, std::uint32_t events) {
  if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0) return;
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(slot.socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) {
    connect_failed(slot, error);
    return;
  }
  ++tally_.totals().connections;
  tally_.totals().connect.record(now_us() - slot.began_us);
  send_request(slot);
}

void Flow::send_request(Slot& slot) {
  const std::int64_t now = now_us();
  slot.state = State::busy;
  slot.sent_us = now;
  slot.progress_us = now;
  slot.sent = 0;
  slot.slowed = false;
  slot.response = Response(spec_);
  slot.last_request =
      !spec_.keepalive || (spec_.per_connection > 0 && slot.served + 1 >= spec_.per_connection);
  slot.text = request_text(spec_, slot.last_request);
  set_deadline(slot, now + spec_.timeout_ms * 1000);
  read_response(slot, EPOLLOUT);
}

// How much of it now; 0: its alarm reads on. In pieces of kSlowReadUs: others wait for their turn
// meanwhile.
std::size_t Flow::may_read(Slot& slot, std::size_t most) {
  if (spec_.read_rate == 0) return most;
  const std::int64_t now = now_us();
  const auto rate = static_cast<double>(spec_.read_rate);
  const double allowed = rate * static_cast<double>(now - slot.sent_us) / 1e6 -
                         static_cast<double>(slot.response.received());
  const double piece = std::max(1.0, rate * kSlowReadUs / 1e6);
  if (allowed >= piece) return std::min(most, static_cast<std::size_t>(allowed));
  slot.slowed = true;
  set_deadline(slot, now + kSlowReadUs);
  return 0;
}

void Flow::read_response(Slot& slot, std::uint32_t events) {
  const std::uint16_t serial = slot.serial;
  if (slot.sent < slot.text.size()) {
    const ssize_t sent = ::send(slot.socket.get(), slot.text.data() + slot.sent,
                                slot.text.size() - slot.sent, MSG_NOSIGNAL);
    if (sent > 0) slot.sent += static_cast<std::size_t>(sent);
    // The server may have answered before it closed: what came is read before judging.
    if (sent < 0 && errno != EAGAIN) events |= EPOLLIN | EPOLLERR;
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) == 0) return;
  static std::array<char, 256 * 1024> buffer;
  while (slot.state == State::busy && slot.serial == serial) {
    const std::size_t most = may_read(slot, buffer.size());
    if (most == 0) return;
    const ssize_t got = ::recv(slot.socket.get(), buffer.data(), most, 0);
    if (got > 0)
      feed(slot, {buffer.data(), static_cast<std::size_t>(got)});
    else if (got == 0)
      ended(slot, 0);
    else if (errno != EAGAIN)
      ended(slot, errno);
    else if ((events & EPOLLERR) != 0)
      ended(slot, EPIPE);  // send(2) had failed
    else
      return;
    const bool drained = got > 0 && static_cast<std::size_t>(got) < most;
    if (drained && (events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP)) == 0) return;
  }
  // Its end may have come along with the answer: epoll says so only once.
  if (slot.serial == serial && (slot.state == State::idle || slot.state == State::ending))
    read_idle(slot);
}

void Flow::feed(Slot& slot, std::string_view bytes) {
  const std::int64_t now = now_us();
  Totals& totals = tally_.totals();
  if (!slot.response.begun())
    totals.first_byte.record(now - slot.due_us);
  else
    totals.gap_max_us = std::max(totals.gap_max_us, now - slot.progress_us);
  totals.bytes += bytes.size();
  slot.progress_us = now;
  set_deadline(slot, now + spec_.timeout_ms * 1000);
  switch (slot.response.feed(bytes)) {
    case Response::State::complete:
      complete(slot);
      break;
    case Response::State::invalid:
      finish(slot, Outcome::other, slot.response.syntax_problem());
      break;
    case Response::State::incomplete:
      break;
  }
}

void Flow::complete(Slot& slot) {
  const Response& response = slot.response;
  const std::string problem = response.body_problem();
  const auto& expected = *slot.expect;
  const bool stranger = !expected.empty() && std::find(expected.begin(), expected.end(),
                                                       response.generation()) == expected.end();
  if (response.status() != spec_.status)
    finish(slot, Outcome::wrong_status, std::to_string(response.status()));
  else if (!problem.empty())
    finish(slot, Outcome::wrong_body, problem);
  else if (stranger)
    finish(slot, Outcome::wrong_generation, response.generation());
  else
    finish(slot, Outcome::ok, "");
}

void Flow::ended(Slot& slot, int error) {
  const bool begun = slot.response.begun();
  if (error == 0 && slot.response.end() == Response::State::complete) {
    complete(slot);
    return;
  }
  const std::string where = begun ? " inside response" : " before response";
  const std::int64_t waited_us = now_us() - slot.sent_us;
  if (!begun && slot.served > 0 && waited_us <= spec_.race_ms * 1000) {
    tally_.totals().race_max_us = std::max(tally_.totals().race_max_us, waited_us);
    finish(slot, Outcome::keepalive_race, (error == 0 ? "eof" : error_name(error)) + where);
  } else if (error == 0) {
    finish(slot, begun ? Outcome::cut : Outcome::eof, "eof" + where);
  } else if (error == ECONNRESET || error == EPIPE) {
    finish(slot, Outcome::reset, error_name(error) + where);
  } else {
    finish(slot, error == ETIMEDOUT ? Outcome::timeout : Outcome::other, error_name(error) + where);
  }
}

// We may have been kept from looking: what lies there to be read is progress.
void Flow::give_up(Slot& slot) {
  const std::uint16_t serial = slot.serial;
  const std::int64_t progress_us = slot.progress_us;
  read_response(slot, EPOLLIN);
  if (slot.serial != serial || slot.state != State::busy || slot.progress_us != progress_us) return;
  finish(slot, Outcome::timeout, slot.response.begun() ? "inside response" : "before response");
}

void Flow::read_on(Slot& slot) {
  slot.slowed = false;
  // nothing more may come: then it is late, as ever
  set_deadline(slot, slot.progress_us + spec_.timeout_ms * 1000);
  read_response(slot, EPOLLIN | EPOLLRDHUP);
}

}  // namespace load
