// The control socket of a supervisor: who is connected, what they ask, what they are told.
//
// A SOCK_SEQPACKET connection of root's or our own user's (SO_PEERCRED); every message one JSON
// object of at most kMaxMessageBytes.
//   request  {"v":1,"id":7,"op":"weight",...}         one descriptor where an operation says so
//   answer   {"v":1,"id":7,"ok":true,...}  or  {"v":1,"id":7,"ok":false,"error":{"code","message",
//            "expected","got","hint"}}
//   news     {"v":1,"news":"generation","number":8,"life":"ready","problem":""}   to whoever drives
// A supervisor answers requests of another version with an error that says so.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "agent/base/strict_json.hpp"
#include "agent/service/loop.hpp"
#include "agent/service/messages.hpp"
#include "agent/service/wire.hpp"

namespace updagent::service {

// A driver, its guardian's recovery, some that ask for the status.
inline constexpr std::size_t kMaxConnections = 64;

using ConnectionId = std::uint64_t;

struct Request {
  ConnectionId connection = 0;
  std::string op;
  base::Json fields;
  std::vector<base::UniqueFd> descriptors;

  std::uint64_t number(const char* name) const;  // 0 when it is missing
  std::string text(const char* name) const;
};
using Answer = base::Json;  // an object: what stands beside "ok"

class ControlServer {
 public:
  using OnRequest = std::function<base::Result<Answer>(const Request&)>;
  using OnClosed = std::function<void(ConnectionId)>;

  static base::Result<std::unique_ptr<ControlServer>> listen(Loop& loop, const std::string& path,
                                                             OnRequest on_request,
                                                             OnClosed on_closed);
  // Over execve(2): the socket that listens, and who is connected, by name; and back again.
  static base::Result<std::unique_ptr<ControlServer>> take_up(
      Loop& loop, const std::string& path, std::map<std::string, base::UniqueFd>& kept,
      OnRequest on_request, OnClosed on_closed);
  std::map<std::string, int> descriptors() const;
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;
  ~ControlServer();

  // Nobody is waited for: a connection that doesn't read is closed.
  void tell(ConnectionId connection, const base::Json& news);
  bool is_open(ConnectionId connection) const { return connections_.contains(connection); }

 private:
  struct Connection {
    base::UniqueFd fd;
    Watch watch;
  };
  ControlServer(Loop& loop, base::UniqueFd listener, std::string path, OnRequest on_request,
                OnClosed on_closed);
  base::Status watch_listener();
  void take_connection();
  void add_connection(ConnectionId id, base::UniqueFd fd);
  void serve(ConnectionId id);
  void close(ConnectionId id);

  Loop& loop_;
  base::UniqueFd listener_;
  std::string path_;
  OnRequest on_request_;
  OnClosed on_closed_;
  ConnectionId next_id_ = 1;
  std::map<ConnectionId, Connection> connections_;
  Watch watch_;
};

}  // namespace updagent::service
