// A second holder of what must outlive the supervisor: sockets of the generations, the steering
// policy, seccomp notify descriptors, what services keep in their FDSTORE. It is a process that was
// forked from the supervisor and does nothing but keep descriptors by name; the next supervisor
// asks it for them. In between it listens to what services say by sd_notify (holder_process.hpp).
// When it dies the supervisor makes a new one; when both die at once, what a
// generation's own process still has is fetched from there (succession.hpp).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/launch/notify_datagram.hpp"
#include "agent/service/messages.hpp"

namespace updagent::service {

// 16 generations with 32 listeners, 128 stored descriptors and some of ours.
inline constexpr std::size_t kMaxHeld = 4096;
inline constexpr std::size_t kMaxHeldName = 512;

// By the name of the socket that they came to, in their order.
using HeardMessages = std::map<std::string, std::vector<launch::NotifyDatagram>>;

class Holder {
 public:
  // Connects to the one that listens at `path`, or forks one. Before anything else of the
  // supervisor is set up: the fork shares what is there.
  static base::Result<Holder> connect_or_start(const std::string& path);
  Holder(Holder&&) noexcept = default;
  Holder& operator=(Holder&&) noexcept = default;

  // Readable (end of file) when it has died.
  int event_fd() const { return connection_.get(); }
  // The holder gets a duplicate; one of that name is replaced. It is waited for while it is busy,
  // but no longer than kHolderPatience, and not again before it has taken something. Code::busy: it
  // has not.
  base::Status put(const std::string& name, int fd);
  // As put(): a notify socket, which it reads whenever no supervisor is connected.
  base::Status put_notify(const std::string& name, int fd);
  base::Status drop(const std::string& name);
  // Everything it has. Waits at most some seconds in all.
  base::Result<std::map<std::string, base::UniqueFd>> take_all();
  // What services said while no supervisor was connected; it keeps that until forget_heard().
  base::Result<HeardMessages> hear();
  void forget_heard();
  // It ends, and with it what only it held.
  void dismiss();
  bool was_running() const { return was_running_; }

 private:
  Holder(base::UniqueFd connection, bool was_running)
      : connection_(std::move(connection)), was_running_(was_running) {}
  base::Status tell(const std::string& text, int descriptor = -1);
  base::Status ask(char question, const std::function<base::Status(Message&)>& take);

  base::UniqueFd connection_;
  bool was_running_ = false;
  bool hangs_ = false;
};

// Soft to hard: 16 generations with their sockets and stores are more than the usual 1,024.
void raise_descriptor_limit();

}  // namespace updagent::service
