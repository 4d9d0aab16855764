"""What waits in the queues of a server that does not accept any more: connections and half-open handshakes."""

import errno
import select
import signal
import socket
import sys
import unittest

import half_open
import harness
import scene

SYN_SENT = b"\x02"  # the first byte of TCP_INFO
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Waiting(scene.Case):
    flows = None  # a server that is stopped serves no load; every connection here is one of ours
    listen_host = "0.0.0.0"
    stop_timeout = "1s"
    probe_timeout = "1s"

    def waiting(self, count):
        """Connections with a request in them, which nobody accepts."""
        clients = []
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", self.port), timeout=harness.COMMAND_LIMIT_S)
            client.sendall(REQUEST)
            self.addCleanup(client.close)
            clients.append(client)
        return clients

    def half_open(self, count):
        handshakes = half_open.HalfOpen(self.port, count)
        self.addCleanup(handshakes.close)
        self.assertEqual(half_open.handshakes(self.port), count)
        return handshakes

    def assert_all_served(self, clients, handshakes, version):
        words = f'"version":"{version}"'.encode()
        answers = [b"".join(iter(lambda: client.recv(65_536), b"")) for client in clients]
        self.assertEqual([a for a in answers if words not in a], [])
        self.assertEqual([(p, a) for p, a in handshakes.finish(REQUEST).items() if b"X-Version: " + version.encode() not in a], [])

    def active_pids(self):
        (active,) = self.generations()
        return self.processes()["service", active["number"]]


class Queues(Waiting):
    def test_a_stalled_old_server_loses_nobody(self):
        after = self.other()
        scene.send(self.active_pids(), signal.SIGSTOP)
        clients, handshakes = self.waiting(300), self.half_open(50)
        self.assert_exit(self.apply().end(), 0)
        self.assert_settled_as(after)
        self.assert_all_served(clients, handshakes, after)

    def test_a_candidate_that_hangs_with_users_gives_back_its_queue(self):
        before = self.node_.committed()
        driver = self.apply(failpoints="deploy.after_shift=stop")
        scene.wait_stopped(driver.pid)
        candidate = next(one for one in self.generations() if one["role"] == "candidate")
        scene.send(self.processes()["service", candidate["number"]], signal.SIGSTOP)
        clients, handshakes = self.waiting(100), self.half_open(20)
        driver.resume()
        self.assert_exit(driver.end(), 4)
        self.assert_all_served(clients, handshakes, before)
        self.assert_settled_as(before)


class FullQueues(Waiting):
    backlog = 64

    def turned_away(self, count):
        """Who comes to a full queue: the kernel drops the SYN, and the client sends it again after a second, or two more."""
        clients = [socket.socket() for _ in range(count)]
        for client in clients:
            self.addCleanup(client.close)
            client.setblocking(False)
            self.assertEqual(client.connect_ex(("127.0.0.1", self.port)), errno.EINPROGRESS)
        return clients

    def connecting(self, clients):
        return [client for client in clients if client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == SYN_SENT]

    def test_who_found_the_queue_of_a_stalled_server_full_is_served_by_the_next(self):
        after = self.other()
        scene.send(self.active_pids(), signal.SIGSTOP)
        handshakes = self.half_open(20)
        clients = self.waiting(self.backlog + 1)
        late = self.turned_away(20)
        self.assertEqual(self.connecting(late), late)
        self.assert_exit(self.apply().end(), 0)
        for client in late:
            client.settimeout(harness.COMMAND_LIMIT_S)
            select.select([], [client], [], harness.COMMAND_LIMIT_S)
            client.sendall(REQUEST)
        self.assert_all_served([*clients, *late], handshakes, after)
        self.assert_settled_as(after)


if __name__ == "__main__":
    half_open.enter_namespace()
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
