#include "agent/service/client.hpp"

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "agent/base/files.hpp"
#include "agent/service/messages.hpp"
#include "agent/service/wire.hpp"

namespace updagent::service {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::UniqueFd;

namespace {

constexpr std::size_t kMaxUnreadNews = 1'000;  // of a driver that asks and never listens

// 1: the connection is readable, 0: the time is over or the interrupt came.
int wait_for(int fd, base::Milliseconds span, base::Interrupt* interrupt) {
  std::array<pollfd, 2> waiting{
      {{fd, POLLIN, 0}, {interrupt != nullptr ? interrupt->fd() : -1, POLLIN, 0}}};
  const base::Deadline end = base::Deadline::in(span);
  for (;;) {
    const int ready = ::poll(waiting.data(), waiting.size(), static_cast<int>(end.left().count()));
    if (ready < 0 && errno == EINTR) continue;
    return ready > 0 && waiting[0].revents != 0 ? 1 : 0;
  }
}

}  // namespace

Result<Client> Client::connect(const std::string& control_path) {
  UPD_ASSIGN(UniqueFd connection, connect_to(control_path));
  return Client(std::move(connection));
}

Result<std::optional<Json>> Client::receive() {
  auto received = receive_message(connection_.get());
  broken_ = broken_ || !received;
  UPD_ASSIGN(auto message, std::move(received));
  if (!message) return std::optional<Json>();
  UPD_ASSIGN(Json json,
             base::parse_strict_json(message->text, Code::io_error, "the supervisor's message"));
  return std::optional<Json>(std::move(json));
}

Result<Json> Client::ask(const std::string& op, Json fields, int descriptor) {
  const std::uint64_t id = next_id_++;
  fields["v"] = kControlVersion;
  fields["id"] = id;
  fields["op"] = op;
  if (const auto sent = send_message(connection_.get(), fields.dump(), descriptor); !sent) {
    broken_ = broken_ || sent.error().code() != Code::busy;
    return sent.error();
  }
  const base::Deadline end = base::Deadline::in(kAnswerPatience);
  for (;;) {
    UPD_ASSIGN(auto answer, receive());
    if (!answer) {
      if (end.passed() || wait_for(connection_.get(), end.left(), nullptr) == 0)
        return Error(Code::timed_out, "the supervisor does not answer")
            .hint("look whether it was stopped: updagent status");
      continue;
    }
    if (answer->contains("news")) {
      if (news_.size() < kMaxUnreadNews) news_.push_back(std::move(*answer));
      continue;
    }
    // of a question given up; without an id it was not understood at all, which ours then was not
    if (answer->value("id", id) != id) continue;
    if (answer->value("ok", false)) return std::move(*answer);
    return error_from_json(answer->value("error", Json::object()));
  }
}

Result<std::optional<Json>> Client::next_news(base::Milliseconds span, base::Interrupt* interrupt) {
  const base::Deadline end = base::Deadline::in(span);
  while (news_.empty()) {
    UPD_ASSIGN(auto message, receive());
    if (message && message->contains("news")) return message;
    if (message) continue;
    if (wait_for(connection_.get(), end.left(), interrupt) == 0) return std::optional<Json>();
  }
  Json first = std::move(news_.front());
  news_.pop_front();
  return std::optional<Json>(std::move(first));
}

Result<UniqueFd> text_descriptor(std::string_view text) {
  UniqueFd fd(::memfd_create("updagent-service", MFD_CLOEXEC));
  if (!fd) return base::system_error(errno, "cannot make a memfd");
  UPD_TRY(base::write_all(fd.get(), text, "a memfd"));
  if (::lseek(fd.get(), 0, SEEK_SET) != 0)
    return base::system_error(errno, "cannot rewind a memfd");
  return fd;
}

}  // namespace updagent::service
