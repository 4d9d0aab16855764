"""fixtures/demo-service itself: the tests of the supervisor lean on what is checked here."""

import base64
import contextlib
import hashlib
import json
import os
import pathlib
import re
import select
import signal
import socket
import struct
import sys
import tempfile
import time
import unittest

import census
import load
from demo_service import LIMIT_S, NotifySocket, Service, listening, receive_all, stream


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = cls.enterClassContext(Service("--port", "0", "--version", "1.4.2", "--generation", "3"))

    def test_front_page_says_who_answers(self):
        answer = self.service.get("/")
        self.assertEqual((answer.status, answer.headers["X-Version"], answer.headers["X-Generation"]), (200, "1.4.2", "3"))
        self.assertEqual(json.loads(answer.text), {"version": "1.4.2", "generation": "3", "pid": self.service.pid,
                                                   "stopping": False, "counter_inherited": False})

    def test_connections_are_kept_and_pipelines_are_answered_in_order(self):
        with self.service.connect() as client:
            client.sendall(b"GET /slow?ms=50 HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\n\r\nPOST /none HTTP/1.1\r\n"
                           b"Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            text = receive_all(client).decode()
        self.assertEqual(re.findall(r"HTTP/1.1 (\d+)", text), ["200", "200", "404", "200"])
        self.assertLess(text.index("slow\n"), text.index("ok\n"))
        self.assertEqual(text.count("Connection: close"), 1)

    def test_slow_answers_late(self):
        began = time.monotonic()
        self.assertEqual(self.service.get("/slow?ms=200").text, "slow\n")
        self.assertGreaterEqual(time.monotonic() - began, 0.2)

    def test_streams_have_the_bytes_that_everybody_knows(self):
        for query in ("bytes=100000", "bytes=100000&chunked=1", "bytes=5", "bytes=0", "bytes=0&chunked=1",
                      "bytes=30000&rate=200000"):
            with self.subTest(query):
                answer = self.service.get(f"/stream?{query}")
                self.assertEqual(answer.text.encode(), stream(int(re.search(r"\d+", query)[0])))
        self.assertEqual(self.service.get("/stream?bytes=x").status, 400)

    def test_what_is_no_http_is_refused(self):
        for text in (b"hello\r\n\r\n", b"GET / HTTP/2\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"x" * 20000,
                     b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"):
            with self.subTest(text[:40]), self.service.connect() as client:
                client.sendall(text)
                client.shutdown(socket.SHUT_WR)
                self.assertTrue(receive_all(client).startswith(b"HTTP/1.1 400 "))

    def test_http_1_0_and_head(self):
        with self.service.connect() as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            self.assertTrue(receive_all(client).endswith(b"Connection: close\r\n\r\nok\n"))
        answer = self.service.get("/stream?bytes=77", method="HEAD")
        self.assertEqual((answer.status, answer.headers["Content-Length"], answer.text), (200, "77", ""))

    def test_counter_counts_posts(self):
        before = int(self.service.get("/counter").text)
        for _ in range(3):
            self.service.get("/counter", method="POST")
        self.assertEqual(int(self.service.get("/counter").text), before + 3)

    def test_metrics_count_users_only(self):
        def metrics():
            text = self.service.get("/metrics").text
            return {k: float(v) for k, v in re.findall(r"^(\S+) (\S+)$", text, re.M)}
        before = metrics()
        for path in ("/", "/", "/none", "/healthz", "/metrics", "/slow?ms=20"):
            self.service.get(path)
        after = metrics()

        def grown(name):
            return after[name] - before.get(name, 0)
        self.assertEqual(grown('http_requests_total{code="200"}'), 3)
        self.assertEqual(grown('http_requests_total{code="404"}'), 1)
        self.assertEqual(grown("http_request_duration_seconds_count"), 4)
        self.assertEqual(grown('http_request_duration_seconds_bucket{le="0.01"}'), 3)
        self.assertEqual(grown('http_request_duration_seconds_bucket{le="+Inf"}'), 4)
        self.assertGreaterEqual(grown("http_request_duration_seconds_sum"), 0.02)
        self.assertEqual(after['demo_info{version="1.4.2",generation="3"}'], 1)
        self.assertEqual(after["http_requests_in_flight"], 1)  # the one that asks

    def test_the_histogram_tells_latencies_apart_that_differ_by_a_third(self):
        text = self.service.get("/metrics").text
        bounds = [float(bound) for bound in re.findall(r'^http_request_duration_seconds_bucket\{le="(.*?)"\}', text, re.M)]
        self.assertEqual((bounds, bounds[0], bounds[-1]), (sorted(set(bounds)), 0.001, float("inf")))
        fine = [bound for bound in bounds if bound <= 1]
        self.assertEqual(fine[-1], 1)
        self.assertLessEqual(max(b / a for a, b in zip(fine, fine[1:])), 1.15)

    def test_metrics_are_openmetrics_for_who_accepts_it(self):
        def ask(accept):
            with contextlib.closing(self.service.client()) as client:
                client.request("GET", "/metrics", headers={"Accept": accept} if accept else {})
                answer = client.getresponse()
                return answer.headers["Content-Type"], answer.read().decode()
        self.service.get()
        kind, text = ask("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3")
        self.assertEqual(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8")
        self.assertTrue(text.endswith("\n# EOF\n"))
        self.assertIn("# TYPE http_requests counter\nhttp_requests_total{", text)
        for accept in ("", "text/plain", "*/*"):
            kind, text = ask(accept)
            self.assertEqual(kind, "text/plain; version=0.0.4")
            self.assertNotIn("# EOF", text)
            self.assertIn("# TYPE http_requests_total counter\nhttp_requests_total{", text)

    def test_load_of_every_kind_without_a_failure(self):
        target = self.service.target()
        with load.Load({
                "fresh": {"target": target, "requests": 2000, "connections": 20, "expect": 3,
                          "sources": "127.0.0.2-127.0.0.9"},
                "kept": {"target": target, "requests": 2000, "connections": 20, "keepalive": 1, "per_connection": 50},
                "files": {"target": target, "path": "/stream?bytes=300000&chunked=1", "stream": 300000,
                          "requests": 50, "connections": 10}}) as client:
            seen = client.finish()
        seen.assert_nothing_failed()
        self.assertGreaterEqual(seen.flows["kept"]["connections"], 40)
        self.assertEqual(seen.total("keepalive_race"), 0)
        self.assertEqual(sum(seen.flows["kept"]["idle"].values()), 0)


class Echo(unittest.TestCase):
    @staticmethod
    def frame(opcode, payload, first=None, mask=b"\x01\x02\x03\x04"):
        size = struct.pack(">B", 0x80 | len(payload)) if len(payload) < 126 else struct.pack(">BH", 0xFE, len(payload))
        masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
        return bytes([first if first is not None else 0x80 | opcode]) + size + mask + masked

    @staticmethod
    def receive(reader):
        first, size = reader.read(2)
        if size == 126:
            size = struct.unpack(">H", reader.read(2))[0]
        return first, reader.read(size)

    @contextlib.contextmanager
    def conversation(self, service):
        key = base64.b64encode(b"0123456789abcdef").decode()
        with service.connect() as client, client.makefile("rb") as reader:
            client.sendall(f"GET /echo HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
                           f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += reader.readline()
            accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
            self.assertTrue(head.startswith(b"HTTP/1.1 101 "), head)
            self.assertIn(b"Sec-WebSocket-Accept: " + accept + b"\r\n", head)
            self.assertIn(b"X-Generation: 5\r\n", head)
            yield client, reader

    def test_conversations(self):
        with Service("--port", "0", "--generation", "5") as service:
            with self.conversation(service) as (client, reader):
                for size in (0, 5, 125, 126, 30000):
                    client.sendall(self.frame(2, b"x" * size))
                    self.assertEqual(self.receive(reader), (0x82, b"x" * size))
                client.sendall(self.frame(9, b"ping") + self.frame(10, b"unasked") + self.frame(1, b"text"))
                self.assertEqual(self.receive(reader), (0x8A, b"ping"))
                self.assertEqual(self.receive(reader), (0x81, b"text"))
                client.sendall(self.frame(1, b"first part", 0x01)[:9])
                client.sendall(self.frame(1, b"first part", 0x01)[9:])
                self.assertEqual(self.receive(reader), (0x01, b"first part"))
                client.sendall(self.frame(8, struct.pack(">H", 1000)))
                self.assertEqual(self.receive(reader), (0x88, struct.pack(">H", 1000)))
                self.assertEqual(reader.read(), b"")
            for wrong, code in ((b"\x81\x01x", 1002), (self.frame(1, b"x" * 40000), 1009)):
                with self.conversation(service) as (client, reader):
                    client.sendall(wrong)
                    self.assertEqual(self.receive(reader), (0x88, struct.pack(">H", code)))
            self.assertEqual(service.get("/echo").status, 400)
            with self.conversation(service) as (client, reader):
                service.process.send_signal(signal.SIGTERM)
                self.assertEqual(self.receive(reader), (0x88, struct.pack(">H", 1001)))
                self.assertEqual(reader.read(), b"")
            self.assertEqual(service.process.wait(timeout=LIMIT_S), 0)


class Systemd(unittest.TestCase):
    def setUp(self):
        self.notify = NotifySocket()
        self.addCleanup(self.notify.close)
        self.env = {"NOTIFY_SOCKET": self.notify.path}

    def test_inherited_listeners_have_their_names(self):
        with tempfile.TemporaryDirectory() as folder, listening() as http_one, listening(socket.AF_INET6, ("::1", 0)) as admin, \
                listening(socket.AF_UNIX, f"{folder}/s") as path, listening(socket.AF_UNIX, "\0demo-service-test") as abstract, \
                Service("--listen", "http=127.0.0.1:1", "--listen", "more=127.0.0.1:0", env=self.env,
                        inherit=[("http", http_one), ("admin", admin), ("unix", path), ("abstract", abstract)]) as service:
            said = {each["name"]: (each["address"], each["inherited"]) for each in service.said["listeners"]}
            self.assertEqual(said["http"], (f"127.0.0.1:{http_one.getsockname()[1]}", True))
            self.assertEqual(said["admin"], (f"[::1]:{admin.getsockname()[1]}", True))
            self.assertEqual(said["unix"], (f"{folder}/s", True))
            self.assertEqual(said["abstract"], ("@demo-service-test", True))
            self.assertFalse(said["more"][1])
            for name in said:
                self.assertEqual(service.get("/healthz", name).status, 200, name)
            held = [what for what in census.sockets_of(service.pid).values() if "LISTEN" in what]
            self.assertEqual(len(held), 5)

    def test_sockets_for_another_pid_are_not_taken(self):
        with listening() as listener, Service("--port", "0", inherit=[("http", listener)], env={"LISTEN_PID": "1"}) as service:
            self.assertFalse(service.said["listeners"][0]["inherited"])

    def test_ready_reload_and_stop_are_said_in_order(self):
        with Service("--port", "0", "--version", "7", env=self.env) as service:
            self.assertEqual(self.notify.receive(), {"FDSTORE": "1", "FDNAME": "counter", "fds": 1})
            self.assertEqual(self.notify.receive(), {"READY": "1", "STATUS": "serving version 7"})
            service.process.send_signal(signal.SIGHUP)
            reloading = self.notify.receive()
            self.assertEqual(reloading["RELOADING"], "1")
            self.assertLessEqual(int(reloading["MONOTONIC_USEC"]), time.monotonic_ns() // 1000)
            self.assertEqual(self.notify.receive()["READY"], "1")
            self.assertEqual(service.switch("stuck-reload", "1"), "ok")
            service.process.send_signal(signal.SIGHUP)
            self.assertEqual(self.notify.receive()["RELOADING"], "1")
            service.process.send_signal(signal.SIGTERM)
            self.assertEqual(self.notify.receive()["STOPPING"], "1")
            self.assertEqual(service.process.wait(timeout=LIMIT_S), 0)

    def test_watchdog_is_fed_until_told_otherwise(self):
        with Service("--port", "0", env=self.env | {"WATCHDOG_USEC": "100000"}) as service:
            for _ in range(3):
                self.notify.wait_for("WATCHDOG")
            self.assertEqual(service.switch("no-watchdog", "1"), "ok")
            while select.select([self.notify.socket], [], [], 0)[0]:
                self.notify.receive()  # what was sent before
            self.assertEqual(select.select([self.notify.socket], [], [], 0.5)[0], [])

    def test_counter_goes_from_generation_to_generation(self):
        with Service("--port", "0", env=self.env) as old:
            self.notify.wait_for("FDSTORE")
            for _ in range(5):
                old.get("/counter", method="POST")
            with listening() as listener, Service(env=self.env, inherit=[
                    ("http", listener), ("counter", self.notify.stored["counter"])]) as new:
                self.assertEqual(new.get("/counter").text, "5\n")
                self.assertTrue(json.loads(new.get("/").text)["counter_inherited"])
                new.get("/counter", method="POST")
                old.get("/counter", method="POST")  # both live: they count together
                self.assertEqual(old.stop(), 0)
                self.assertEqual(new.get("/counter").text, "7\n")

    def test_a_counter_that_is_none_is_not_mapped(self):
        with tempfile.TemporaryFile() as file, listening() as listener, \
                Service(inherit=[("http", listener), ("counter", file)]) as service:
            self.assertFalse(json.loads(service.get("/").text)["counter_inherited"])
            self.assertEqual(service.get("/counter").text, "0\n")

    def test_ready_may_be_late_or_never(self):
        with Service("--port", "0", "--ready-after", "300", env=self.env) as service:
            began = time.monotonic()
            self.assertEqual(service.get("/healthz").status, 200)
            self.notify.wait_for("READY")
            self.assertGreater(time.monotonic() - began, 0.1)
        with Service("--port", "0", "--never-ready", "1", env=self.env) as service:
            self.notify.wait_for("FDSTORE")
            self.assertEqual(service.get("/healthz").status, 200)
            self.assertEqual(select.select([self.notify.socket], [], [], 0.3)[0], [])

    def test_role_is_read_from_its_file(self):
        with tempfile.NamedTemporaryFile("w") as file, \
                Service("--port", "0", env={"UPDAGENT_ROLE_FILE": file.name}) as service:
            for role in ("candidate", "active"):
                pathlib.Path(file.name).write_text(role + "\n")
                self.assertEqual(service.get("/role").text, role + "\n")


class Stop(unittest.TestCase):
    """SIGTERM while this and that is going on. The listener has a second holder, as under a supervisor."""

    def setUp(self):
        self.listener = listening()
        self.addCleanup(self.listener.close)
        self.service = self.enterContext(Service("--idle-grace", "1500", inherit=[("http", self.listener)]))

    def test_nothing_to_do(self):
        self.assertEqual(self.service.stop(), 0)

    def test_what_is_in_flight_is_answered_and_the_connection_closed(self):
        with self.service.connect() as slow, self.service.connect() as chunked, self.service.connect() as half:
            slow.sendall(b"GET /slow?ms=700 HTTP/1.1\r\n\r\n")
            chunked.sendall(b"GET /stream?bytes=100000&rate=150000 HTTP/1.1\r\n\r\n")
            half.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
            self.assertTrue(chunked.recv(10))
            self.service.process.send_signal(signal.SIGTERM)
            while self.service.pid in census.holders(os.fstat(self.listener.fileno()).st_ino):
                time.sleep(0.01)
            half.sendall(b" x\r\n\r\n")
            text = receive_all(half)
            self.assertTrue(text.startswith(b"HTTP/1.1 200 ") and b"Connection: close" in text, text)
            text = receive_all(slow)
            self.assertTrue(text.endswith(b"\r\n\r\nslow\n") and b"Connection: close" in text, text)
            head, _, body = receive_all(chunked).partition(b"\r\n\r\n")
            self.assertEqual(body, stream(100000))
        self.assertEqual(self.service.process.wait(timeout=LIMIT_S), 0)

    def test_what_waits_in_the_accept_queue_is_answered(self):
        self.service.process.send_signal(signal.SIGSTOP)
        waiting = [self.service.connect() for _ in range(100)]
        for client in waiting:
            client.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        self.service.process.send_signal(signal.SIGTERM)
        self.service.process.send_signal(signal.SIGCONT)
        for client in waiting:
            with client:
                self.assertTrue(receive_all(client).endswith(b"ok\n"))
        self.assertEqual(self.service.process.wait(timeout=LIMIT_S), 0)

    def test_an_idle_connection_may_ask_once_more_and_then_gets_a_fin(self):
        with contextlib.closing(self.service.client()) as idle, \
                contextlib.closing(self.service.client()) as active:
            for connection in (idle, active):
                connection.request("GET", "/healthz")
                self.assertEqual(connection.getresponse().read(), b"ok\n")
            self.service.process.send_signal(signal.SIGTERM)
            active.request("GET", "/healthz")
            answer = active.getresponse()
            self.assertEqual((answer.read(), answer.headers["Connection"]), (b"ok\n", "close"))
            self.assertEqual(idle.sock.recv(1), b"")  # an end, not a reset
        self.assertEqual(self.service.process.wait(timeout=LIMIT_S), 0)

    def test_under_load_only_new_connections_suffer(self):
        """Nobody else accepts here, so what comes after the end waits in the queue of the second holder."""
        keys = {"target": self.service.target(), "connections": 20, "timeout_ms": 4000}
        with load.Load({"fresh": keys, "kept": keys | {"keepalive": 1}, "thoughtful": keys | {"keepalive": 1, "think_ms": 50},
                        "files": keys | {"path": "/stream?bytes=100000&rate=100000", "stream": 100000}}) as client:
            client.wait_for_answers(2000)
            end = client.mark("end")
            self.assertEqual(self.service.stop(), 0)
            seen = client.stop()
        self.assertEqual(seen.between(0, end).failed, 0, seen.describe())
        for flow in ("fresh", "kept", "thoughtful", "files"):
            kinds = {name for name in load.FAILURES if seen.flows[flow]["classes"][name]}
            self.assertLessEqual(kinds, {"timeout"}, seen.describe())
            # a connection that waits for ever has no answer at all; one that was served had all of it
            self.assertNotIn("timeout: inside response", seen.flows[flow]["details"])
        self.assertEqual(seen.total("keepalive_race"), 0, seen.describe())

    def test_it_may_be_ignored(self):
        self.assertEqual(self.service.switch("ignore-term", "1"), "ok")
        self.service.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.service.get("/healthz").status, 200)
        self.assertEqual(self.service.switch("ignore-term", "0"), "ok")
        self.assertEqual(self.service.stop(), 0)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
