// Makes the requests of one Spec and classifies what becomes of each.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/unique_fd.hpp"
#include "tests/handoff/load/reactor.hpp"
#include "tests/handoff/load/response.hpp"
#include "tests/handoff/load/spec.hpp"
#include "tests/handoff/load/tally.hpp"

namespace load {

class Flow {
 public:
  using Say = std::function<void(const Json&)>;
  Flow(Spec spec, std::uint16_t index, Reactor& reactor, Say say);

  void start(std::int64_t now);
  // Begins what is due. When it has to be called again.
  std::int64_t pump(std::int64_t now);
  void on_socket(Token token, std::uint32_t events);
  void on_alarm(const Reactor::Alarm& alarm);
  // Nothing new is begun; what is in flight goes on.
  void stop();
  // Everything that was to be begun has ended.
  bool done() const;
  // What is in flight counts as unfinished.
  void abandon();
  void expect(std::vector<std::string> generations);

  const Spec& spec() const { return spec_; }
  Tally& tally() { return tally_; }

 private:
  enum class State { free, paused, connecting, busy, idle, ending };
  using Generations = std::shared_ptr<const std::vector<std::string>>;

  // A connection, or the place of one.
  struct Slot {
    explicit Slot(const Spec& spec) : response(spec) {}
    State state = State::free;
    std::uint16_t serial = 0;
    updagent::base::UniqueFd socket;
    std::int64_t deadline_us = 0;
    std::int64_t armed_us = 0;  // when its alarm rings, 0: none is set
    std::int64_t served = 0;    // responses on this connection
    bool last_request = false;  // it asked the server to close
    bool slowed = false;        // has read what read_rate allows for now; its alarm goes on
    // the request
    Tally::WindowId window = 0;
    std::int64_t due_us = 0;
    std::int64_t began_us = 0;  // this attempt
    std::int64_t sent_us = 0;
    std::int64_t progress_us = 0;  // the last byte
    std::size_t sent = 0;
    std::string text;
    Generations expect;
    Response response;
  };

  void begin(Slot& slot, std::int64_t due_us, Tally::WindowId window);
  void connect(Slot& slot);
  void connect_failed(Slot& slot, int error);
  bool bind_source(int socket_fd);
  void send_request(Slot& slot);
  void on_connecting(Slot& slot, std::uint32_t events);
  void read_response(Slot& slot, std::uint32_t events);
  std::size_t may_read(Slot& slot, std::size_t most);
  void read_idle(Slot& slot);
  void feed(Slot& slot, std::string_view bytes);
  void complete(Slot& slot);
  void ended(Slot& slot, int error);  // the connection, inside a request; 0: end of file
  void give_up(Slot& slot);
  void read_on(Slot& slot);
  void finish(Slot& slot, Outcome outcome, const std::string& detail);
  void retry(Slot& slot);
  void after_answer(Slot& slot);
  void report(const Slot& slot, Outcome outcome, const std::string& detail);
  void release(Slot& slot, std::int64_t pause_ms);
  void close(Slot& slot);
  void set_deadline(Slot& slot, std::int64_t at_us);
  Tally::WindowId open_request();
  void add_due(std::int64_t now);
  bool may_begin() const;
  std::uint32_t number_of(const Slot& slot) const;

  struct Due {
    std::int64_t at_us;
    Tally::WindowId window;
  };

  const Spec spec_;
  const std::uint16_t index_;
  Reactor& reactor_;
  Say say_;
  Tally tally_;
  std::vector<Slot> slots_;
  std::deque<std::uint32_t> available_;  // slots that could begin a request
  std::deque<Due> pending_;              // with a rate: due, and no slot was available yet
  std::int64_t started_us_ = 0;
  std::uint64_t due_count_ = 0;  // with a rate: how many have become due
  std::uint64_t begun_ = 0;
  bool stopping_ = false;
  Generations expect_;
  std::size_t next_source_ = 0;
  std::uint64_t reported_ = 0;
};

}  // namespace load
