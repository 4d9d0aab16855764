"""The bad behaviour of fixtures/demo-service: it does what its help says, and only then."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import census
import load
from demo_service import BINARY, LIMIT_S, NotifySocket, Service, listening, receive_all, stream
from supervisor import wait_for

SOURCE = pathlib.Path(os.environ["UPDAGENT_SOURCE_DIR"]) / "fixtures/demo-service"


class Switches(unittest.TestCase):
    def setUp(self):
        self.listener, self.admin = listening(reuseport=True), listening()
        self.addCleanup(self.listener.close)
        self.addCleanup(self.admin.close)
        self.service = self.enterContext(Service(inherit=[("http", self.listener), ("admin", self.admin)]))

    def test_every_option_is_explained(self):
        text = (SOURCE / "main.cpp").read_text()
        comment = text[:text.index("#include")]
        shown = subprocess.run([BINARY, "--help"], capture_output=True, text=True, timeout=LIMIT_S).stdout
        names = re.findall(r"--([a-z-]+) \S+  ", shown)
        table = re.findall(r'^    Option\{\s*"([a-z-]+)"', (SOURCE / "settings.cpp").read_text(), re.M)
        self.assertEqual(names, table)
        self.assertGreater(len(names), 30)
        for name in names:
            self.assertRegex(comment, rf"\b{name}\b", name)

    def test_mistakes(self):
        for words in (["--colour", "red"], ["--port"], ["--port", "x"], ["--fail-ratio", "2"], ["--hang", "maybe"], ["port"]):
            done = subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=LIMIT_S)
            self.assertEqual((done.returncode, done.stderr[:13]), (2, "demo-service:"), words)
        self.assertEqual(subprocess.run([BINARY], capture_output=True, timeout=LIMIT_S).returncode, 1)
        self.assertEqual(self.service.switch("fail-ratio", "2"), 400)
        self.assertEqual(self.service.switch("nothing", "1"), 404)
        self.assertEqual(self.service.switch("version", "1"), 404)
        self.assertEqual(self.service.get("/switch?spin=1").status, 405)

    def test_the_environment_sets_them_too(self):
        with Service("--port", "0", env={"DEMO_FAIL_RATIO": "1", "DEMO_VERSION": "9"}) as service:
            answer = service.get()
            self.assertEqual((answer.status, answer.headers["X-Version"]), (500, "9"))

    def test_failures_are_spread_evenly_and_spare_the_admin(self):
        self.service.switch("fail-ratio", "0.25")
        statuses = [self.service.get().status for _ in range(12)]
        self.assertEqual(statuses, [200, 200, 200, 500] * 3)
        self.service.switch("fail-ratio", "1")
        self.assertEqual(self.service.get().status, 500)
        self.assertEqual(self.service.get("/healthz").status, 200)
        self.assertEqual(self.service.get(name="admin").status, 200)
        self.service.switch("fail-ratio", "0")
        self.assertEqual(self.service.get().status, 200)

    def test_latency(self):
        self.service.switch("latency", "300")
        began = time.monotonic()
        self.service.get("/healthz")
        self.service.get("/", "admin")
        self.assertEqual(self.service.get().status, 200)
        self.assertGreater(time.monotonic() - began, 0.3)

    def quantile(self, share):
        """Of all answers so far, by the histogram: the bound of a bucket, in seconds."""
        text = self.service.get("/metrics", "admin").text
        buckets = re.findall(r'^http_request_duration_seconds_bucket\{le="(.*?)"\} (\d+)', text, re.M)
        every = int(buckets[-1][1])
        return next(float(bound) for bound, count in buckets if int(count) >= share * every)

    def test_latency_is_spread_evenly(self):
        self.service.switch("latency", "50")
        self.service.switch("latency-spread", "200")
        with load.Load({"fresh": {"target": self.service.target(), "requests": 200, "connections": 20}}) as client:
            client.finish().assert_nothing_failed()
        # no answer is early, whatever the machine does; how late one may be nobody can say
        self.assertGreaterEqual(self.quantile(0.01), 0.05)
        for share in (0.25, 0.5, 0.75, 0.99):
            self.assertGreaterEqual(self.quantile(share), 0.05 + 0.2 * (share - 0.03), share)

    def test_failures_under_load_alone(self):
        self.service.switch("fail-above-in-flight", "3")
        with contextlib.ExitStack() as stack:
            for expected in (200, 200, 200, 500):  # the fourth that is in flight, beside three that do not end
                self.assertEqual(self.service.get().status, expected)
                if expected == 200:
                    client = stack.enter_context(contextlib.closing(self.service.client()))
                    client.request("GET", "/stream?bytes=1000000&rate=1")
                    self.assertEqual(client.getresponse().status, 200)
            self.assertEqual(self.service.get("/healthz").status, 200)
        alone = "http_requests_in_flight 1\n"
        wait_for(lambda: alone in self.service.get("/metrics").text, "the end of the streams")
        self.assertEqual(self.service.get().status, 200)

    def test_bad_from_a_request_on(self):
        with Service("--port", "0", "--bad-after", "3", "--fail-ratio", "1", "--unhealthy", "1", "--wrong", "1") as service:
            for expected in (200, 200):
                self.assertEqual((service.get("/healthz").status, service.get().status), (200, expected))
            self.assertEqual((service.get().status, service.get("/healthz").status), (500, 503))
        with Service("--port", "0", "--bad-after", "2", "--hang", "all", "--crash-after", "1") as service:
            self.assertEqual(service.get().status, 200)
            with self.assertRaises((ConnectionError, http.client.RemoteDisconnected)):
                service.get()

    def test_wrong_answers_with_good_health(self):
        self.service.switch("wrong", "1")
        answer = self.service.get()
        self.assertEqual((answer.status, answer.text), (200, "wrong, as asked\n"))
        body = self.service.get("/stream?bytes=1000").text.encode()
        self.assertEqual([n for n in range(1000) if body[n] != stream(1000)[n]], [500])
        self.assertEqual(self.service.get("/healthz").text, "ok\n")
        self.assertIn("pid", self.service.get("/", "admin").text)

    def test_bad_health_with_good_answers(self):
        self.service.switch("unhealthy", "1")
        self.assertEqual((self.service.get("/healthz").status, self.service.get().status), (503, 200))

    def test_metrics_of_all_requests(self):
        def counted():
            self.service.get("/healthz")
            return re.findall(r"^http_requests_total\S* (\d+)$", self.service.get("/metrics").text, re.MULTILINE)
        self.assertEqual(counted(), counted())
        self.service.switch("count-all", "1")
        self.assertNotEqual(counted(), counted())

    def test_leak(self):
        before = census.pss_kib(self.service.pid)
        self.service.switch("leak", "1024")
        for _ in range(20):
            self.service.get()
        self.assertGreater(census.pss_kib(self.service.pid), before + 20 * 1024 * 0.9)
        self.assertEqual(self.service.stop(), 0)

    def test_crash_after_so_many_requests(self):
        self.service.switch("crash-after", "3")
        self.assertEqual([self.service.get().status for _ in range(2)], [200, 200])
        with self.assertRaises((ConnectionError, http.client.RemoteDisconnected)):
            self.service.get()
        self.assertEqual(self.service.process.wait(timeout=LIMIT_S), -signal.SIGABRT)

    def test_crash_at_start(self):
        with Service("--port", "0", "--crash-at-start", "7", wait=False) as service:
            self.assertEqual(service.process.wait(timeout=LIMIT_S), 7)

    def test_hang_accept_leaves_what_is_open(self):
        with contextlib.closing(self.service.client()) as kept:
            kept.request("GET", "/healthz")
            kept.getresponse().read()
            self.service.switch("hang", "accept", "admin")
            kept.request("GET", "/healthz")
            self.assertEqual(kept.getresponse().read(), b"ok\n")
            with self.service.connect() as fresh:
                fresh.sendall(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
                self.assertEqual(select.select([fresh], [], [], 0.3)[0], [])
                self.service.switch("hang", "no", "admin")
                self.assertTrue(receive_all(fresh).endswith(b"ok\n"))

    def assert_hangs(self):
        with self.service.connect() as fresh:
            fresh.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            self.service.process.send_signal(signal.SIGTERM)
            self.assertEqual(select.select([fresh], [], [], 0.3)[0], [])
        self.assertIsNone(self.service.process.poll())

    def test_hang_all_answers_nobody_not_even_sigterm(self):
        self.assertEqual(self.service.switch("hang", "all"), "ok")
        self.assert_hangs()

    def test_hang_under_load(self):
        self.service.switch("hang-at", "4")
        self.assertEqual(self.service.get("/healthz").status, 200)
        clients = [self.service.connect() for _ in range(4)]
        self.assert_hangs()
        for client in clients:
            client.close()

    def test_spin_takes_a_cpu_and_serves(self):
        def cpu():
            fields = pathlib.Path(f"/proc/{self.service.pid}/stat").read_text().rpartition(")")[2].split()
            return sum(map(int, fields[11:13]))
        before = cpu()
        self.service.switch("spin", "1")
        deadline = time.monotonic() + LIMIT_S
        while cpu() < before + 20 and time.monotonic() < deadline:  # 0.2 s of CPU; asleep it would take none
            time.sleep(0.05)
        self.assertGreaterEqual(cpu(), before + 20)
        self.assertEqual(self.service.get("/healthz").status, 200)

    def test_a_child_holds_the_listeners_and_nothing_else(self):
        for kind in ("hold", "orphan"):
            before = set(census.holders(os.fstat(self.listener.fileno()).st_ino))
            with contextlib.closing(self.service.client()) as open_meanwhile:
                open_meanwhile.request("GET", "/healthz")
                open_meanwhile.getresponse().read()
                self.assertEqual(self.service.switch("fork", kind), "ok")
                while not (new := set(census.holders(os.fstat(self.listener.fileno()).st_ino)) - before):
                    time.sleep(0.01)
                holder = new.pop()
                self.addCleanup(os.kill, holder, signal.SIGKILL)
                while len(held := census.sockets_of(holder)) > 2:  # it closes the rest first
                    time.sleep(0.01)
            self.assertEqual(len(held), 2)
            self.assertTrue(all("LISTEN" in what for what in held.values()), held)
            self.assertEqual(holder in census.descendants(self.service.pid), kind == "hold")
        self.assertEqual(self.service.stop(), 0)

    def test_a_daemon_serves_from_its_grandchild(self):
        with Service("--port", "0", "--daemonize", "1") as service:
            self.addCleanup(os.kill, service.pid, signal.SIGKILL)
            self.assertEqual(service.process.wait(timeout=LIMIT_S), 0)
            self.assertNotEqual(service.pid, service.process.pid)
            self.assertEqual(json.loads(service.get().text)["pid"], service.pid)

    def test_the_listener_can_be_closed_shut_down_and_listened_on_again(self):
        inode = os.fstat(self.listener.fileno()).st_ino
        self.assertEqual(self.service.switch("listen-again", "3", "admin"), "ok")
        backlog = struct.unpack("8B24I", self.listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104))
        self.assertEqual(backlog[8 + 5], 3)  # tcpi_sacked of a listener is its backlog
        self.assertEqual(self.service.switch("close-listener", "http", "admin"), "ok")
        while self.service.pid in census.holders(inode):
            time.sleep(0.01)
        self.assertEqual(self.service.switch("close-listener", "http", "admin"), "no such listener")
        self.assertEqual(self.service.get("/healthz", "admin").status, 200)

    def test_shutdown_ends_it_for_all_holders(self):
        self.assertEqual(self.service.switch("shutdown-listener", "http", "admin"), "ok")
        with self.assertRaises(ConnectionRefusedError):
            self.service.connect()
        with self.assertRaises(OSError):
            self.listener.accept()
        self.assertEqual(self.service.get("/healthz", "admin").status, 200)

    def test_a_filter_takes_over_the_group(self):
        with listening(reuseport=True, address=self.listener.getsockname()) as other:
            other.settimeout(LIMIT_S)
            self.assertEqual(self.service.switch("close-listener", "admin", "admin"), "ok")
            # index 0 is the service's own socket: it listened first
            for _ in range(100):
                if self.service_of_fresh(other) == "service":
                    break
            self.assertEqual(self.switch_until_ours(other, "attach-filter=0"), "ok")
            self.assertEqual({self.service_of_fresh(other) for _ in range(40)}, {"service"})
            self.assertEqual(self.switch_until_ours(other, "detach-filter=yes"), "ok")
            self.assertEqual({self.service_of_fresh(other) for _ in range(200)}, {"service", "other"})

    def service_of_fresh(self, other, request="GET /healthz HTTP/1.1"):
        """Who of the two sockets of the group gets a new connection."""
        with self.service.connect() as client:
            client.sendall(f"{request}\r\nConnection: close\r\n\r\n".encode())
            readable = select.select([client, other], [], [], LIMIT_S)[0]
            if other in readable:
                other.accept()[0].close()
                return "other"
            self.answer = receive_all(client).decode()
            return "service"

    def switch_until_ours(self, other, what):
        while self.service_of_fresh(other, f"POST /switch?{what} HTTP/1.1") != "service":
            pass
        return json.loads(self.answer.partition("\r\n\r\n")[2])["result"]

    def test_a_second_bind_takes_its_share(self):
        self.assertIn("Address already in use", self.service.switch("second-bind", "yes", "admin"))  # of admin: no reuseport
        self.assertEqual(len(census.listeners(self.listener.getsockname()[1])), 2)

    def test_notify_switches(self):
        notify, victim = NotifySocket(), NotifySocket()
        self.addCleanup(notify.close)
        self.addCleanup(victim.close)
        with Service("--port", "0", env={"NOTIFY_SOCKET": notify.path}) as service:
            notify.wait_for("READY")
            self.assertEqual(service.switch("notify", "STATUS%3Dhello%0AEXTEND_TIMEOUT_USEC%3D5"), "ok")
            self.assertEqual(notify.receive(), {"STATUS": "hello", "EXTEND_TIMEOUT_USEC": "5"})
            self.assertEqual(service.switch("spoof-notify", victim.path), "ok")
            self.assertEqual(victim.receive(), {"READY": "1", "MAINPID": "1", "STATUS": "I am somebody else"})
            result = service.switch("flood-notify", "3")
            taken = int(re.fullmatch(r"(\d+) of 3 were taken", result)[1])
            self.assertGreaterEqual(taken, 1)
            for _ in range(taken):
                self.assertEqual(notify.receive(), {"FDSTORE": "1", "FDNAME": "flood", "fds": 200})

    def test_output_and_files(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(self.service.switch("leave-file", f"{folder}/x"), "ok")
            self.assertTrue(os.path.exists(f"{folder}/x"))
            self.assertIn("No such file", self.service.switch("leave-file", f"{folder}/none/x"))
        self.assertEqual(self.service.switch("print", "1000"), "ok")
        self.assertEqual(len(self.service.process.stdout.read(1000)), 1000)

    def test_actions_at_the_start_are_done_before_ready(self):
        with Service("--port", "0", "--leave-file", "/nowhere/x") as service:
            self.assertEqual(service.process.stderr.readline(), "demo-service: leave-file=/nowhere/x: leave-file: No such file or directory\n")

    def test_out_of_descriptors_it_waits_for_better_times(self):
        resource.prlimit(self.service.pid, resource.RLIMIT_NOFILE, (20, 4096))
        clients = [self.service.connect() for _ in range(30)]
        for client in clients:
            client.sendall(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
        for client in clients:
            with client:
                self.assertTrue(receive_all(client).endswith(b"ok\n"))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
