// The supervisor's end of sd_notify for one generation: a datagram socket at a path of its own, so
// that which generation speaks doesn't depend on a pid. The service is not trusted: a message
// counts when its sender is a process of the generation, every descriptor that comes is either
// asked for or closed (descriptor_closer.hpp: without waiting), and a turn takes a bounded number
// of messages.
//
// Who keeps a second descriptor of the socket must read it while the supervisor is dead (see
// notify_memory.hpp): once its queue is full, the service's sendto(2) blocks. Where nobody does, it
// fails at once and is harmless; a successor binds a new one at the same path.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/launch/descriptor_closer.hpp"
#include "agent/launch/notify_datagram.hpp"
#include "agent/launch/notify_message.hpp"
#include "agent/launch/notify_sender.hpp"

namespace updagent::launch {

// A turn of on_event(): after that the supervisor's other descriptors have theirs. A message with
// its checks costs some 50 us.
inline constexpr int kMaxMessagesPerTurn = 32;
// With so many that can't be closed (see DescriptorCloser) no more messages are read: its queue
// fills, and the service waits for itself.
inline constexpr std::size_t kMaxUnclosedDescriptors = 2 * kMaxDescriptorsPerMessage;

enum class NotifyProblem {
  stranger,                // not a process of the generation: nothing of it counts
  sender_gone,             // it was dead when read, and can't be attributed: nothing counts
  refused,                 // not a message (too long, binary, BARRIER with company): nothing counts
  malformed,               // one assignment; the others count
  main_pid_refused,        // MAINPID is no process of the generation; the rest counts
  descriptors_cut,         // the kernel could not hand over all descriptors: nothing counts
  descriptors_unexpected,  // without FDSTORE=1; closed, the rest counts
};

struct NotifyComplaint {
  NotifyProblem problem = NotifyProblem::refused;
  std::string text;  // one printable line: "MAINPID=17 is not a process of this generation"
};

struct NotifyEvent {
  pid_t sender = 0;
  uid_t sender_uid = 0;
  bool counts = false;  // false: only `complaints` says something
  NotifyMessage message;
  base::UniqueFd main_process;  // pidfd of message.main_pid
  // With FDSTORE=1, in their order. What the handler leaves here is closed.
  std::vector<base::UniqueFd> descriptors;
  std::vector<NotifyComplaint> complaints;
};
// Called for one message after the other, as they were sent. The sender of a BARRIER goes on once
// the handler has returned for everything before it. It must not end the server.
using OnNotify = std::function<void(NotifyEvent&)>;

class NotifyServer {
 public:
  // Binds at `path` (absolute, at most 107 bytes) in place of a socket that a dead predecessor left
  // there. The file belongs to `service_uid` and has mode 0600: that user and root can send. Not
  // 0666, as systemd has it: its queue is short (net.unix.max_dgram_qlen), and any user of the
  // machine could keep it full, on which the service's own sd_notify(3) would block. Processes that
  // the service runs as yet another user can't send; the service must do it for them.
  // The folder must be one that only root or we can write to: in another one the service could put
  // something else at the path.
  static base::Result<std::unique_ptr<NotifyServer>> bind(const std::string& path,
                                                          uid_t service_uid, Membership membership);
  // Takes over a bound socket that was kept over execve(2), with what waits in its queue.
  static base::Result<std::unique_ptr<NotifyServer>> adopt(base::UniqueFd socket,
                                                           const std::string& path,
                                                           Membership membership);
  NotifyServer(const NotifyServer&) = delete;
  NotifyServer& operator=(const NotifyServer&) = delete;
  ~NotifyServer();  // leaves the path

  int event_fd() const { return epoll_.get(); }
  int socket_fd() const { return socket_.get(); }  // to keep over execve(2)
  const std::string& path() const { return path_; }
  void on_event(const OnNotify& handler);
  // What somebody else received for us, before the first on_event(): it came before what waits.
  void hear_earlier(std::vector<NotifyDatagram> earlier, const OnNotify& handler);
  // True while nothing of the service's is being closed: execve(2) would close it here and now.
  bool idle() const { return closer_.waiting() == 0; }
  // Of the generation whose end this is. Absent is fine.
  void remove_path() const;

 private:
  NotifyServer(base::UniqueFd socket, base::UniqueFd epoll, std::string path,
               Membership membership);
  static base::Result<std::unique_ptr<NotifyServer>> serve(base::UniqueFd socket,
                                                           const std::string& path,
                                                           Membership membership);
  bool receive(const OnNotify& handler);
  void hear(NotifyDatagram& datagram, const OnNotify& handler);
  void listen_to_socket(bool wanted);

  base::UniqueFd socket_;
  base::UniqueFd epoll_;
  std::string path_;
  Membership membership_;
  DescriptorCloser closer_;
  bool listening_ = true;
};

}  // namespace updagent::launch
