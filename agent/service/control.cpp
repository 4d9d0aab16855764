#include "agent/service/control.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/text.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::UniqueFd;

// Of one connection in one turn of the loop: the others have theirs, too.
constexpr int kMessagesPerTurn = 16;
constexpr const char* kListenerName = "control";
constexpr std::string_view kConnectionPrefix = "connection:";

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::uint64_t Request::number(const char* name) const {
  const auto found = fields.find(name);
  if (found == fields.end() || !found->is_number_integer()) return 0;
  return static_cast<std::uint64_t>(std::max<std::int64_t>(found->get<std::int64_t>(), 0));
}

std::string Request::text(const char* name) const {
  const auto found = fields.find(name);
  return found != fields.end() && found->is_string() ? found->get<std::string>() : std::string();
}

ControlServer::ControlServer(Loop& loop, UniqueFd listener, std::string path, OnRequest on_request,
                             OnClosed on_closed)
    : loop_(loop),
      listener_(std::move(listener)),
      path_(std::move(path)),
      on_request_(std::move(on_request)),
      on_closed_(std::move(on_closed)) {}

// Left at its path a client would find it refused, which says the same as no socket at all.
ControlServer::~ControlServer() = default;

Result<std::unique_ptr<ControlServer>> ControlServer::listen(Loop& loop, const std::string& path,
                                                             OnRequest on_request,
                                                             OnClosed on_closed) {
  UPD_ASSIGN(UniqueFd listener, listen_at(path));
  std::unique_ptr<ControlServer> server(new ControlServer(
      loop, std::move(listener), path, std::move(on_request), std::move(on_closed)));
  UPD_TRY(server->watch_listener());
  return server;
}

Result<std::unique_ptr<ControlServer>> ControlServer::take_up(Loop& loop, const std::string& path,
                                                              std::map<std::string, UniqueFd>& kept,
                                                              OnRequest on_request,
                                                              OnClosed on_closed) {
  std::unique_ptr<ControlServer> server(new ControlServer(
      loop, std::move(kept[kListenerName]), path, std::move(on_request), std::move(on_closed)));
  for (auto& [name, fd] : kept) {
    if (!name.starts_with(kConnectionPrefix)) continue;
    const auto id = base::parse_u64(std::string_view(name).substr(kConnectionPrefix.size()));
    if (!id || !fd) continue;
    server->add_connection(*id, std::move(fd));
    server->next_id_ = std::max(server->next_id_, *id + 1);
  }
  UPD_TRY(server->watch_listener());
  return server;
}

std::map<std::string, int> ControlServer::descriptors() const {
  std::map<std::string, int> all = {{kListenerName, listener_.get()}};
  for (const auto& [id, connection] : connections_)
    all[std::string(kConnectionPrefix) + std::to_string(id)] = connection.fd.get();
  return all;
}

Status ControlServer::watch_listener() {
  UPD_ASSIGN(watch_, loop_.watch(listener_.get(), EPOLLIN, [this] { take_connection(); }));
  return base::ok();
}

void ControlServer::take_connection() {
  UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd || !peer_may_command(fd.get()) || connections_.size() >= kMaxConnections) return;
  add_connection(next_id_++, std::move(fd));
}

void ControlServer::add_connection(ConnectionId id, UniqueFd fd) {
  auto watch = loop_.watch(fd.get(), EPOLLIN, [this, id] { serve(id); });
  if (watch) connections_.emplace(id, Connection{std::move(fd), std::move(*watch)});
}

void ControlServer::serve(ConnectionId id) {
  for (int i = 0; i < kMessagesPerTurn; ++i) {
    const auto found = connections_.find(id);
    if (found == connections_.end()) return;  // ended by what it asked for
    auto message = receive_message(found->second.fd.get());
    if (!message) return close(id);
    if (!*message) return;
    Json reply = {{"v", kControlVersion}, {"ok", true}};
    Request request;
    request.connection = id;
    request.descriptors = std::move((*message)->descriptors);
    auto parsed = base::parse_strict_json((*message)->text, Code::usage, "a control message");
    Result<Answer> answered = Error(Code::usage, "a control message is not an object");
    if (!parsed) {
      answered = std::move(parsed).error();
    } else if (parsed->is_object()) {
      request.fields = std::move(*parsed);
      request.op = request.text("op");
      reply["id"] = request.number("id");
      answered =
          request.number("v") == kControlVersion
              ? on_request_(request)
              : Result<Answer>(Error(Code::requires_agent, "the supervisor speaks another version")
                                   .expected("version " + std::to_string(kControlVersion))
                                   .hint("update updagent, then: updagent restart APP"));
    }
    if (answered) {
      reply.update(*answered);
    } else {
      reply["ok"] = false;
      reply["error"] = error_to_json(answered.error());
    }
    const auto still = connections_.find(id);
    if (still == connections_.end()) return;
    if (!send_message(still->second.fd.get(), text_of(reply))) return close(id);
  }
}

void ControlServer::tell(ConnectionId connection, const Json& news) {
  const auto found = connections_.find(connection);
  if (found == connections_.end()) return;
  Json message = {{"v", kControlVersion}};
  message.update(news);
  if (!send_message(found->second.fd.get(), text_of(message))) close(connection);
}

void ControlServer::close(ConnectionId id) {
  if (connections_.erase(id) == 1) on_closed_(id);
}

}  // namespace updagent::service
