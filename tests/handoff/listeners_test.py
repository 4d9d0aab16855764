"""Every kind of listener over handoffs and ways back under load, and what changes of them between releases."""

import os
import pathlib
import pwd
import signal
import socket
import stat
import subprocess
import sys
import unittest

import load
import scene
import supervisor
from supervisor_test import Case, free_port

# A datagram server that knows systemd's protocol and nothing else: answers with its version.
UDP_SERVER = """
import os, socket, sys
fds = int(os.environ["LISTEN_FDS"])
server = socket.socket(fileno=3)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    data, peer = server.recvfrom(100)
    server.sendto(sys.argv[1].encode(), peer)
"""


# A tcp server that goes on accepting after it has shut its listener down (SIGUSR1), and after it has listened
# again by itself (SIGUSR2): answers with its version.
FICKLE_SERVER = """
import os, signal, socket, sys, time
server = socket.socket(fileno=3)
server.setblocking(True)
signal.signal(signal.SIGUSR1, lambda *_: server.shutdown(socket.SHUT_RDWR))
signal.signal(signal.SIGUSR2, lambda *_: (server.shutdown(socket.SHUT_RDWR), server.listen(64)))
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    try:
        client, _ = server.accept()
        client.sendall(sys.argv[1].encode())
        client.close()
    except OSError:
        time.sleep(0.01)
"""


class Fickle:
    """An active service that shuts its listener down, and lives."""

    def fickle(self, version):
        return self.service(version, command=[sys.executable, "-c", FICKLE_SERVER, version])

    def answer(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as client:
            return client.recv(100).decode()

    def is_refused(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=30).close()
            return False
        except ConnectionRefusedError:
            return True

    def test_an_active_service_that_shut_its_listener_down_listens_again(self):
        number = self.handoff(self.fickle("1.0.0"))
        self.assertEqual(self.answer(), "1.0.0")
        os.kill(self.generations()[number]["pid"], signal.SIGUSR1)
        supervisor.wait_for(self.is_refused, "the end of its listener")
        self.supervisor.status()  # whoever asks
        self.assertEqual(self.answer(), "1.0.0")
        self.assertIn("shut its listener down while it lives", self.supervisor.status()["problem"])
        self.assertIn(f"tcp:127.0.0.1:{self.port}", self.supervisor.status()["problem"])
        self.only(self.handoff(self.fickle("2.0.0")))
        self.assertEqual(self.answer(), "2.0.0")


class Kinds(Fickle, Case):
    def listener(self, name, address, **more):
        backlog = {} if address.startswith("udp:") else {"backlog": 1024}
        return {"name": name, "address": address, **backlog, **more}

    def flows(self, **targets):
        return load.Load({name: {"target": target, "connections": 4, "rate": 100} for name, target in targets.items()})

    def begin_at_full_weight(self, service):
        control = self.begin()
        number, news = self.candidate(control, service)
        self.assertEqual(news["life"], "ready", news)
        control.ask("weight", epoch=control.epoch, weight=10_000)
        return control, number

    def test_all_kinds_at_once_move_together_and_back(self):
        path, name, v6 = self.root / "public.sock", f"updagent-test-{os.getpid()}", free_port()
        listeners = [self.listener("v4", f"tcp:127.0.0.1:{self.port}"), self.listener("dual", f"tcp:[::]:{v6}", ipv6_only=False),
                     self.listener("path", f"unix:{path}", mode="0640", user="nobody", group="nogroup"),
                     self.listener("abstract", f"unix:@{name}")]
        service = lambda version: self.service(version, listeners=listeners)
        self.handoff(service("1.0.0"))
        status = path.stat()
        self.assertTrue(stat.S_ISSOCK(status.st_mode))
        self.assertEqual((stat.S_IMODE(status.st_mode), status.st_uid), (0o640, pwd.getpwnam("nobody").pw_uid))
        kinds = {"v4": f"tcp:127.0.0.1:{self.port}", "six": f"tcp:[::1]:{v6}", "mapped": f"tcp:127.0.0.1:{v6}",
                 "path": f"unix:{path}"}
        with self.flows(**kinds, abstract=f"unix:@{name}") as running:
            running.wait_for_answers(100)
            control, number = self.begin_at_full_weight(service("2.0.0"))
            for flow in kinds:
                running.expect(flow, "2.0.0")
            before = running.mark("moved")
            running.wait_for_answers(200, generation="2.0.0")
            for flow in kinds:
                running.expect(flow, "*")
            control.ask("rollback", epoch=control.epoch, reason="test")
            running.wait_for_answers(200, generation="1.0.0")
            control.ask("end", epoch=control.epoch)
            control.close()
            supervisor.wait_for(lambda: len(self.generations()) == 1, "one generation")
            self.only(self.handoff(service("3.0.0")))
            running.wait_for_answers(200, generation="3.0.0")
            running.stop().assert_nothing_failed()
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)
        self.assertEqual([p.name for p in sorted(self.root.iterdir()) if p.name.startswith((".public", "public"))], ["public.sock", "public.sock.g3"])

    def test_a_unix_path_alone_has_preflight_and_a_warm_way_back(self):
        path = self.root / "only.sock"
        service = lambda version: self.service(version, listeners=[self.listener("path", f"unix:{path}")])
        self.handoff(service("1.0.0"))
        inode = path.stat().st_ino
        with self.flows(path=f"unix:{path}") as running:
            running.wait_for_answers(50)
            control = self.begin()
            _, news = self.candidate(control, service("2.0.0"))
            self.assertEqual(news["life"], "ready")
            self.assertEqual(path.stat().st_ino, inode, "the public name is the old one's until the weight says otherwise")
            control.ask("weight", epoch=control.epoch, weight=10_000)
            running.wait_for_answers(50, generation="2.0.0")
            control.ask("rollback", epoch=control.epoch, reason="test")
            self.assertEqual(path.stat().st_ino, inode)
            running.wait_for_answers(50, generation="1.0.0")
            running.stop().assert_nothing_failed()
        control.ask("end", epoch=control.epoch)
        control.close()

    def test_datagrams_go_to_one_generation_or_the_other(self):
        service = lambda version: self.service(version, command=[sys.executable, "-c", UDP_SERVER, version],
                                               listeners=[self.listener("dns", f"udp:127.0.0.1:{self.port}")])

        def answers(count):
            seen = []
            for _ in range(count):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.settimeout(30)
                    client.sendto(b"?", ("127.0.0.1", self.port))
                    seen.append(client.recv(100).decode())
            return set(seen)

        self.handoff(service("1.0.0"))
        self.assertEqual(answers(50), {"1.0.0"})
        control, _ = self.begin_at_full_weight(service("2.0.0"))
        self.assertEqual(answers(50), {"2.0.0"})
        control.ask("rollback", epoch=control.epoch, reason="test")
        self.assertEqual(answers(50), {"1.0.0"})
        control.ask("end", epoch=control.epoch)
        control.close()
        self.handoff(service("3.0.0"))
        self.assertEqual(answers(50), {"3.0.0"})

    def test_addresses_may_change_between_releases(self):
        new = free_port()
        old, both = self.listener("http", f"tcp:127.0.0.1:{self.port}"), self.listener("new", f"tcp:127.0.0.1:{new}")
        self.handoff(self.service("1.0.0", listeners=[old]))
        with self.flows(old=f"tcp:127.0.0.1:{self.port}") as running:
            running.wait_for_answers(50)
            self.only(self.handoff(self.service("2.0.0", listeners=[old, both])))
            running.wait_for_answers(50, generation="2.0.0")
            running.stop().assert_nothing_failed()
        with self.flows(new=f"tcp:127.0.0.1:{new}") as running:
            running.wait_for_answers(50)
            control, number = self.begin_at_full_weight(self.service("3.0.0", listeners=[both]))
            socket.create_connection(("127.0.0.1", self.port)).close()  # the way back may need it
            control.ask("commit", epoch=control.epoch)
            control.ask("end", epoch=control.epoch)
            control.close()
            self.only(number)
            running.wait_for_answers(50, generation="3.0.0")
            running.stop().assert_nothing_failed()
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port))

    def test_an_active_service_that_listened_again_by_itself_has_its_place_again(self):
        number = self.handoff(self.fickle("1.0.0"))
        os.kill(self.generations()[number]["pid"], signal.SIGUSR2)
        supervisor.wait_for(lambda: "shut its listener down" in self.supervisor.status()["problem"], "the look at it")
        control = self.begin()
        self.candidate(control, self.fickle("2.0.0"))
        self.assertEqual({self.answer() for _ in range(50)}, {"1.0.0"})
        control.ask("end", epoch=control.epoch)
        control.close()

    def test_the_backlog_is_the_releases(self):
        self.handoff(self.service("1.0.0", listeners=[self.listener("http", f"tcp:127.0.0.1:{self.port}")]))
        listing = subprocess.run(["ss", "-Hltn", f"sport = :{self.port}"], check=True, capture_output=True, text=True).stdout
        self.assertEqual([line.split()[2] for line in listing.splitlines()], ["1024"])


@unittest.skipUnless(os.geteuid() == 0, "capabilities are taken away with setpriv, by root")
class Shared(Fickle, Case):
    """Without CAP_BPF and friends: one socket that both accept from."""

    def setUp(self):
        bare = pathlib.Path(os.environ["UPDAGENT_SUPERVISOR"])
        super().setUp()
        self.supervisor.stop()
        script = self.root / "bare"
        script.write_text("#!/bin/sh\nexec setpriv --bounding-set -bpf,-sys_admin,-net_admin,-perfmon "
                          f"--inh-caps -bpf,-sys_admin,-net_admin,-perfmon {bare} \"$@\"\n")
        script.chmod(0o755)
        self.supervisor = supervisor.Supervisor(script, self.root)

    def test_handoffs_lose_nothing_and_the_reason_is_told(self):
        self.handoff(self.service("1.0.0"))
        status = self.supervisor.status()
        self.assertEqual(status["mechanism"], "shared")
        self.assertRegex(status["reason"], "not permitted|EPERM|CAP_BPF|denied")
        with self.load() as running:
            running.wait_for_answers(50)
            for version in ("2.0.0", "3.0.0", "4.0.0"):
                self.only(self.handoff(self.service(version)))
                running.wait_for_answers(50, generation=version)
            os.kill(self.supervisor.process.pid, 9)
            self.supervisor.process.wait()
            self.supervisor.start()
            self.only(self.handoff(self.service("5.0.0")))
            running.wait_for_answers(50, generation="5.0.0")
            running.stop().assert_nothing_failed()

    def stranger(self):
        """A server of the supervisor's own uid, which the kernel lets join."""
        other = socket.socket()
        self.addCleanup(other.close)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", self.port))
        other.listen(5)
        return other

    def strangers(self):
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        return control.ask("status", look=1)["strangers"]

    def test_who_listens_there_already_is_named_and_not_joined(self):
        other = self.stranger()
        control = self.begin()
        for address in (f"tcp:127.0.0.1:{self.port}", f"tcp:0.0.0.0:{self.port}"):
            with self.assertRaisesRegex(supervisor.Refused, "already in use") as refused:
                control.ask("start", service=self.service("1.0.0", listeners=[{"name": "http", "address": address}]),
                            epoch=control.epoch)
            self.assertIn(f"pid {os.getpid()}", refused.exception.got)
        control.close()
        self.assertEqual(self.generations(), {})
        other.close()
        self.handoff(self.service("1.0.0"))
        self.assertEqual(self.strangers(), "")

    def test_two_addresses_of_the_app_that_overlap_are_no_strangers(self):
        both = [{"name": "all", "address": f"tcp:0.0.0.0:{self.port}"}, {"name": "one", "address": f"tcp:127.0.0.1:{self.port}"}]
        self.handoff(self.service("1.0.0", listeners=both))
        self.assertEqual(self.strangers(), "")

    def test_one_that_joins_later_is_told(self):
        self.handoff(self.service("1.0.0"))
        self.assertEqual(self.strangers(), "")
        other = self.stranger()
        self.assertIn(f"pid {os.getpid()}", self.strangers())
        other.close()
        self.assertEqual(self.strangers(), "")

    def test_what_the_old_one_accepts_does_not_make_the_candidate_ready(self):
        abstract = {"name": "abstract", "address": f"unix:@updagent-test-{os.getpid()}"}
        for listeners in (self.service("")["service"]["listeners"], [abstract]):
            with self.subTest(listeners[0]["name"]):
                self.handoff(self.service("1.0.0", ready="listening", listeners=listeners))
                control = self.begin()
                _, news = self.candidate(control, self.service("2.0.0", "--hang", "accept", ready="listening",
                                                               ready_timeout_ms=1_000, listeners=listeners))
                self.assertEqual(news["life"], "failed")
                control.ask("end", epoch=control.epoch)
                control.close()
                self.only(self.handoff(self.service("3.0.0", ready="listening", listeners=listeners)))

    def test_an_address_that_nobody_uses_any_more_is_free(self):
        name = f"updagent-test-{os.getpid()}"
        listeners = [{"name": "http", "address": f"tcp:127.0.0.1:{self.port}"}, {"name": "abstract", "address": f"unix:@{name}"},
                     {"name": "dns", "address": f"udp:127.0.0.1:{self.port}"}]
        control = self.begin()
        number, news = self.candidate(control, self.service("1.0.0", "--crash-at-start", "3", listeners=listeners))
        self.assertEqual(news["life"], "failed")
        control.ask("end", epoch=control.epoch)
        control.close()
        supervisor.wait_for(lambda: not self.generations(), "its end")
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port))

        def can_be_bound(family, kind, address):
            with socket.socket(family, kind) as other:
                try:
                    other.bind(address)
                    return True
                except OSError:
                    return False

        supervisor.wait_for(lambda: can_be_bound(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + name), "the abstract name")
        supervisor.wait_for(lambda: can_be_bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", self.port)), "the udp port")

    def test_one_socket_is_left_of_the_death_of_supervisor_and_holder(self):
        self.handoff(self.service("1.0.0"))
        for kind in ("supervisor", "holder"):
            scene.end(scene.processes_of(self.root)[kind])
        self.supervisor.process.wait()
        self.supervisor.start()
        self.only(self.handoff(self.service("2.0.0")))
        listing = subprocess.run(["ss", "-Hltn", f"sport = :{self.port}"], check=True, capture_output=True, text=True).stdout
        self.assertEqual(len(listing.splitlines()), 1, listing)

    def test_a_server_with_sockets_of_its_own_beside_the_given_one_is_not_ready(self):
        cloning = """
import os, socket, sys
given = socket.socket(fileno=3)
clone = socket.socket()
clone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
clone.bind(given.getsockname())
clone.listen(5)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
given.accept()
"""
        control = self.begin()
        _, news = self.candidate(control, self.service("1.0.0", command=[sys.executable, "-c", cloning]))
        self.assertEqual(news["life"], "failed")
        self.assertIn("sockets of its own", news["problem"])
        control.close()


if __name__ == "__main__":
    unittest.main()
