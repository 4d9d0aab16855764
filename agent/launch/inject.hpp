// Protocol `inject`: gives an unmodified server its listeners. A seccomp filter stops the
// generation's processes at bind(2) and asks us (SECCOMP_RET_USER_NOTIF). When the address is one
// of the app's listeners, this generation's socket takes the place of the server's own, under the
// same descriptor number, with the flags and options that the server had set; every other bind
// goes on untouched. Sockets that a process binds through io_uring don't come here.
//
// One socket for one listener of a generation: a server that binds an address several times
// (a socket for each worker, SO_REUSEPORT; a bind that only tries the port) gets the same one each
// time. Its workers then share one accept queue: each is woken, one accepts. A socket of its own
// for each bind would not be in the steering map, and get nothing. The flags of the latest bind
// hold for all, as they belong to the open file; EADDRINUSE is never given.
//
// What a stranger's thread could delay runs in an aside (aside.hpp): on_event() never waits. A
// request that we have taken is in the journal before we know of it, so whatever dies, a successor
// that gets notify descriptor and journal finishes it. Not a security boundary: after the answer
// "go on" the kernel reads the address again, and another thread may have changed it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/launch/aside.hpp"
#include "agent/launch/inject_journal.hpp"
#include "agent/launch/inject_match.hpp"
#include "agent/launch/inject_target.hpp"

namespace updagent::launch {

// Looking at a thread and replacing its socket take about a millisecond. What takes so long hangs,
// or waits for a processor.
inline constexpr int kAsideLimitMs = 5000;
// An aside that was killed (time, memory) is tried again; then the bind goes on untouched.
inline constexpr int kMaxAsideAttempts = 2;
// Of binds that were not ours, for "bound X, expected Y".
inline constexpr std::size_t kMaxBoundInstead = 8;

enum class InjectResult {
  injected,  // the server has the listener
  passed,    // not ours; the kernel does the bind
  gone,      // the thread was killed or interrupted; a repeated bind comes as a new request
  failed,    // ours perhaps, but `problem` came between; the kernel does the bind
};

struct InjectReport {
  InjectResult result = InjectResult::passed;
  pid_t thread = 0;
  int fd = -1;
  std::string asked;     // "tcp:0.0.0.0:8080", "" when it isn't known
  std::string listener;  // name, when injected
  // What the server will find other than it left it: "TCP_SAVE_SYN is not taken over: ..."
  std::vector<std::string> notes;
  std::optional<base::Error> problem;
};
using OnInject = std::function<void(const InjectReport&)>;

enum class ServiceTrust {
  // The service runs as another user: calls that it could hang run in asides. Needs CAP_SYS_PTRACE.
  other_user,
  // As the supervisor's own user, without privilege: it could kill us anyway, so nothing is hidden
  // from it, and Yama lets only the ancestor itself look into a process.
  own_user,
};

struct InjectSetup {
  base::UniqueFd notify;   // of the filter; a second holder keeps a duplicate
  base::UniqueFd journal;  // of InjectJournal::make(); a second holder keeps a duplicate
  std::vector<InjectListener> listeners;  // for a successor: the same, in the same order
  ServiceTrust trust = ServiceTrust::other_user;
  int aside_limit_ms = kAsideLimitMs;
};

class Injector {
 public:
  // Finishes what the journal says a predecessor has left. `on_inject` is called from on_event()
  // only, and must not end the Injector. Code::config_invalid for listeners that can't be matched.
  static base::Result<std::unique_ptr<Injector>> create(InjectSetup setup, OnInject on_inject);
  Injector(const Injector&) = delete;
  Injector& operator=(const Injector&) = delete;
  ~Injector();

  int event_fd() const { return epoll_.get(); }
  void on_event();

  // No process of the generation is left that could bind.
  bool ended() const { return ended_; }
  // No request is under way. A supervisor that executes itself anew waits for this; if it can't,
  // its successor finishes them.
  bool idle() const;
  // Ok when every listener has been bound once. Else "the service has not bound 'http'", with what
  // was expected and what it bound instead.
  base::Status all_bound() const;

 private:
  enum class Stage { free, found, looking, replacing };
  struct Shared {  // with the asides
    Look look;
    Replacement replacement;
  };
  struct Work {
    Stage stage = Stage::free;
    int attempts = 0;
    std::size_t listener = 0;
    std::int64_t deadline_us = 0;
    std::optional<Aside> aside;
  };
  using Works = std::array<Work, kMaxBindsInFlight>;
  struct Unmap {
    void operator()(Shared* shared) const;
  };

  Injector(InjectSetup setup, InjectJournal journal, OnInject on_inject);
  base::Status prepare();
  base::Status describe_listeners();
  base::Status make_event_sources();

  // Each step either starts an aside or goes on to the next one.
  void take_requests();
  bool take_request(std::size_t index);
  void look(std::size_t index);
  void decide(std::size_t index);
  void replace(std::size_t index);
  void conclude(std::size_t index);
  void start(std::size_t index, const std::function<void()>& work);
  void check_aside(std::size_t index);
  void go_on(std::size_t index);
  void repeat_or_fail(std::size_t index, const Outcome& outcome);
  void pass(std::size_t index, InjectReport report);
  void close_request(std::size_t index, const InjectReport& closed);

  BindRequest request(std::size_t index);
  InjectReport report(std::size_t index, InjectResult result);
  std::optional<std::size_t> injected_before(const SocketFacts& socket) const;
  BindMatch match(const Look& look) const;
  bool asides_allowed() const { return trust_ == ServiceTrust::other_user; }
  void remember_instead(const std::string& asked);
  void update_event_sources();

  base::UniqueFd notify_;
  InjectJournal journal_;
  std::vector<InjectListener> listeners_;
  std::vector<std::string> canonical_paths_;  // of the listeners
  std::vector<SocketFacts> sockets_;          // of the listeners
  ServiceTrust trust_;
  int aside_limit_ms_;
  OnInject on_inject_;
  base::UniqueFd epoll_;
  base::UniqueFd timer_;
  std::unique_ptr<Shared[], Unmap> shared_;  // one for each request in flight
  Works works_;
  std::vector<std::string> bound_instead_;
  bool watching_ = true;
  bool ended_ = false;
};

}  // namespace updagent::launch
