#include "agent/service/holder.hpp"

#include <poll.h>
#include <sys/resource.h>

#include "agent/base/clock.hpp"
#include "agent/service/holder_process.hpp"
#include "agent/service/holder_wire.hpp"
#include "agent/service/messages.hpp"

namespace updagent::service {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Result<Holder> Holder::connect_or_start(const std::string& path) {
  auto running = connect_to(path);
  if (running) return Holder(std::move(*running), true);
  if (running.error().code() != Code::not_found) return std::move(running).error();
  UPD_ASSIGN(UniqueFd listener, listen_at(path));
  UPD_TRY(fork_holder(std::move(listener)));
  UPD_ASSIGN(UniqueFd connection, connect_to(path));
  return Holder(std::move(connection), false);
}

// A service that stores and removes as fast as it can is quicker than the holder reads. What got
// lost then would never be closed.
Status Holder::tell(const std::string& text, int descriptor) {
  Status told = send_message(connection_.get(), text, descriptor);
  const bool busy = !told && told.error().code() == Code::busy;
  if (busy && !hangs_ && send_patiently(connection_.get(), text, descriptor)) told = base::ok();
  hangs_ = busy && !told;
  return told;
}

Status Holder::put(const std::string& name, int fd) {
  if (name.size() > kMaxHeldName)
    return Error(Code::internal, "the name of a held descriptor is too long");
  return tell(kPut + name, fd);
}

Status Holder::put_notify(const std::string& name, int fd) {
  return tell(kPutNotify + name, fd);
}

Status Holder::drop(const std::string& name) {
  return tell(kDrop + name);
}

// Its answer to `question`, message by message until the end of it.
Status Holder::ask(char question, const std::function<Status(Message&)>& take) {
  UPD_TRY(send_message(connection_.get(), std::string(1, question)));
  const base::Deadline end = base::Deadline::in(kHolderPatience);
  for (;;) {
    UPD_ASSIGN(auto message, receive_message(connection_.get()));
    if (message) {
      if (message->text.starts_with(kEnd)) return base::ok();
      UPD_TRY(take(*message));
      continue;
    }
    pollfd readable{connection_.get(), POLLIN, 0};
    if (::poll(&readable, 1, static_cast<int>(end.left().count())) != 1)
      return Error(Code::timed_out, "the holder of descriptors does not answer");
  }
}

Result<std::map<std::string, UniqueFd>> Holder::take_all() {
  std::map<std::string, UniqueFd> all;
  UPD_TRY(ask(kGet, [&all](Message& message) -> Status {
    if (all.size() > kMaxHeld)
      return Error(Code::damaged, "the holder of descriptors has more than it may");
    if (message.text.starts_with(kOne) && message.descriptors.size() == 1)
      all[message.text.substr(1)] = std::move(message.descriptors.front());
    return base::ok();
  }));
  return all;
}

Result<HeardMessages> Holder::hear() {
  HeardMessages heard;
  launch::NotifyDatagram* last = nullptr;
  UPD_TRY(ask(kHear, [&](Message& message) -> Status {
    if (auto said = read_said(message)) {
      last = &heard[said->socket].emplace_back(std::move(said->datagram));
    } else if (last != nullptr && message.text.starts_with(kSaidDescriptor) &&
               message.descriptors.size() == 1) {
      last->descriptors.push_back(std::move(message.descriptors.front()));
    }
    return base::ok();
  }));
  return heard;
}

void Holder::forget_heard() {
  static_cast<void>(send_message(connection_.get(), std::string(1, kForget)));
}

void Holder::dismiss() {
  static_cast<void>(send_message(connection_.get(), std::string(1, kQuit)));
  connection_.reset();
}

}  // namespace updagent::service
