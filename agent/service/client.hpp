// The other end of control.hpp: what drivers and verbs use. Every call waits a bounded time.
#pragma once

#include <deque>
#include <optional>
#include <string>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/base/interrupt.hpp"
#include "agent/base/strict_json.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::service {

// A supervisor answers from its loop at once; past this it hangs or was stopped.
inline constexpr base::Milliseconds kAnswerPatience{5'000};

class Client {
 public:
  // Code::not_found when no supervisor listens there.
  static base::Result<Client> connect(const std::string& control_path);

  // The answer's fields, or the supervisor's own error. `descriptor` goes with the request (-1:
  // none). Code::timed_out when it does not answer, io_error when it is gone.
  base::Result<base::Json> ask(const std::string& op, base::Json fields = base::Json::object(),
                               int descriptor = -1);
  // The next news within `span`; nothing when none came. An interrupt ends the wait early, with
  // nothing. `interrupt` may be null.
  base::Result<std::optional<base::Json>> next_news(base::Milliseconds span,
                                                    base::Interrupt* interrupt);
  // The connection has ended: the supervisor died or gave us up. Only a new one helps.
  bool broken() const { return broken_; }
  // For a poll loop of the caller's: readable when news (or the end) came.
  int fd() const { return connection_.get(); }

 private:
  explicit Client(base::UniqueFd connection) : connection_(std::move(connection)) {}
  base::Result<std::optional<base::Json>> receive();

  base::UniqueFd connection_;
  bool broken_ = false;
  std::uint64_t next_id_ = 1;
  std::deque<base::Json> news_;
};

// A text as a descriptor, for what is too long for a message.
base::Result<base::UniqueFd> text_descriptor(std::string_view text);

}  // namespace updagent::service
