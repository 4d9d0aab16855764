// What the kernel knows about sockets, ours and others' (sock_diag). Each function asks once and
// answers with what was true at that moment; in this network namespace only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/listen/address.hpp"
#include "agent/listen/listener.hpp"
#include "agent/listen/proc_sockets.hpp"

namespace updagent::listen {

// --- who is at an address -----------------------------------------------------------------------

struct PortHolder {
  Address address;
  std::uint32_t inode = 0;
  uid_t uid = 0;
  bool listening = false;  // tcp bound without listen(2) takes a port too
  AcceptQueue queue;
  std::vector<SocketOwner> owners;  // empty when the process can't be seen
};
// Every socket that overlaps the address, wildcards and dual-stack counted. Finding the owners
// means a walk through /proc, and those that are only bound one through all ports: not for often.
base::Result<std::vector<PortHolder>> holders_of(const Address& address);
// Those of them that listen and are not ours: `own` has the inodes of all generations' sockets.
// Where there are none, as nearly always, /proc is not walked.
base::Result<std::vector<PortHolder>> strangers_at(const Address& address, const InodeSet& own);
// Whether it could be in the group of a listener at `address`: the kernel gives it a share of the
// connections when the program does not choose.
bool in_group_of(const PortHolder& holder, const Address& address);
// "nginx (pid 81, 82) at tcp:0.0.0.0:80, a process that can't be seen (uid 33) at …"
std::string describe(const std::vector<PortHolder>& holders);

// --- what waits ---------------------------------------------------------------------------------

// Of a unix socket that listens.
base::Result<AcceptQueue> unix_accept_queue(int fd);

// --- connections --------------------------------------------------------------------------------

enum class Acceptance {
  waiting,   // in the accept queue, or its handshake is not done
  accepted,  // a process has it, or had it and closed it
  gone,      // the kernel knows nothing of it any more
};
// Has the server accepted the tcp connection from `client` (what getsockname says there)?
base::Result<Acceptance> acceptance(const Address& server, const Address& client);

// The server's end of that connection, tcp: 0 when no process holds it (not yet, or not any more).
base::Result<std::uint32_t> accepted_socket(const Address& server, const Address& client);

struct Connection {
  std::uint32_t inode = 0;
  Address client;                    // of a unix connection: nothing
  std::uint32_t receive_queue = 0;   // bytes that the server has not read
  std::uint32_t send_queue = 0;      // bytes that the client's side has not acknowledged
  std::uint32_t unacknowledged = 0;  // segments
  // since the last data in each direction, or since the handshake; unix sockets don't know
  std::optional<base::Milliseconds> since_sent;
  std::optional<base::Milliseconds> since_received;
  // A question that comes within the tick of the handshake, which those times can't tell apart.
  bool first_answer_due = false;
};
// Connections to the address (of unix: the path or name that the listening socket is bound to)
// which one of `sockets` is the server's end of: the generation's. Accepted ones only.
base::Result<std::vector<Connection>> connections_of(const Address& address,
                                                     const InodeSet& sockets);
// Nothing under way: queues empty, the last data was the server's, and that for `span`. A unix
// connection has no times: it is quiet when it was at several looks over the span.
bool is_quiet(const Connection& connection, base::Milliseconds span);

}  // namespace updagent::listen
