"""The load client against a server that does exactly what it is told to: every class is counted exactly."""

import os
import signal
import socket
import struct
import sys
import threading
import time
import unittest

import load

BODY = b"".join(b"%015x\n" % line for line in range(8))


def response(body=BODY, head="Content-Length: {size}", status="200 OK", generation="1"):
    lines = ["HTTP/1.1 " + status, "X-Generation: " + generation, head.format(size=len(body))]
    return ("\r\n".join(line for line in lines if line) + "\r\n\r\n").encode() + body


def chunked(body=BODY):
    middle = len(body) // 3
    parts = (body[:middle], body[middle:])
    return b"".join(b"%x;name=value\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nX-Trailer: 1\r\n\r\n"


# What is sent (slow: late), and how the connection goes on: keep, close, reset, or hang until the client has gone;
# idle_*: close, reset or say something once the test says so.
ACTIONS = {
    "ok": (response(), "keep"),
    "chunked": (response(b"", "Transfer-Encoding: chunked") + chunked(), "keep"),
    "until_end": (response(head=""), "close"),
    "interim": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response(), "keep"),
    "slow": (response(), "slow"),
    "held": (response(), "held_close"),
    "last": (response(head="Content-Length: {size}\r\nConnection: close"), "close"),
    "idle_eof": (response(), "idle_eof"),
    "idle_reset": (response(), "idle_reset"),
    "idle_data": (response(), "idle_data"),
    "eof": (b"", "close"),
    "reset": (b"", "reset"),
    "hang": (b"", "hang"),
    "late_eof": (b"", "late_close"),
    "cut_head": (b"HTTP/1.1 200 OK\r\nContent-", "close"),
    "cut_body": (response()[:-1], "close"),
    "cut_chunk": (response(b"", "Transfer-Encoding: chunked") + chunked()[:-2], "close"),
    "reset_body": (response()[:-1], "reset"),
    "hang_body": (response()[:-1], "hang"),
    "wrong_byte": (response(BODY[:100] + b"?" + BODY[101:]), "keep"),
    "short_body": (response(BODY[:-16]), "keep"),
    "long_body": (response(BODY + b"%015x\n" % 8), "keep"),
    "extra": (response() + b"x", "keep"),
    "error": (response(b"no\n", status="500 Internal Server Error"), "keep"),
    "gen2": (response(generation="2"), "keep"),
    "garbage": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "hang"),
    "bad_chunk": (response(b"", "Transfer-Encoding: chunked") + b"xyz\r\n", "hang"),
}


class Server:
    """The path of a request is a list of actions; the n-th request of a connection gets the n-th of them,
    the last one again and again."""

    def __init__(self, family=socket.AF_INET, address=("127.0.0.1", 0), connections=None):
        self.connections = connections  # then the listener is closed
        self.release, self.closed = threading.Event(), threading.Event()
        self.listener = socket.socket(family)
        self.listener.bind(address)
        self.listener.listen(1024)
        self.lock = threading.Lock()
        self.requests, self.peers, self.raw = [], [], []
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def target(self):
        name = self.listener.getsockname()
        if isinstance(name, str):
            return f"unix:{name}"
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"tcp:{host}:{name[1]}"

    def close(self):
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, peer = self.listener.accept()
            except OSError:
                return
            if len(self.peers) + 1 == self.connections:
                self.listener.close()
            with self.lock:
                self.peers.append(peer)
            threading.Thread(target=self.serve_and_tell, args=(connection,), daemon=True).start()

    def serve_and_tell(self, connection):
        self.serve(connection)
        self.closed.set()

    def serve(self, connection):
        with connection, connection.makefile("rb") as reader:
            served = 0
            try:
                while line := reader.readline():
                    head = [line]
                    while head[-1].strip():
                        head.append(reader.readline())
                    path = line.split()[1].decode()
                    with self.lock:
                        self.requests.append(path)
                        self.raw.append(b"".join(head))
                    actions = path.strip("/").split(",")
                    text, then = ACTIONS[actions[min(served, len(actions) - 1)]]
                    served += 1
                    if then == "slow":
                        time.sleep(0.3)
                    elif then == "held_close":
                        self.release.wait(60)
                    connection.sendall(text)
                    if not self.goes_on(connection, then, b"connection: close" in b"".join(head).lower()):
                        return
            except OSError:
                pass  # the client has gone

    def goes_on(self, connection, then, asked_to_close):
        if then == "keep":
            return not asked_to_close
        if then.startswith("idle"):
            self.release.wait(60)
        if then.endswith("reset"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # makefile() keeps the socket open: end it here and now
            connection.shutdown(socket.SHUT_RD)
        elif then == "hang":
            connection.recv(1)
        elif then == "late_close":
            time.sleep(0.3)
        elif then == "idle_data":
            connection.sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        return False


class Case(unittest.TestCase):
    maxDiff = None
    abstract = f"loadclient-test-{os.getpid()}"

    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.close)

    def run_flow(self, path, requests=10, seconds=30, server=None, **keys):
        flow = {"target": (server or self.server).target, "path": "/" + path, "requests": requests,
                "timeout_ms": 5000, "backoff_ms": 0, "connections": 4, "stream": len(BODY)} | keys
        with load.Load({"flow": flow}, seconds=seconds) as client:
            return client.finish()

    def assert_classes(self, seen, **wanted):
        got = {name: count for name, count in seen.flows["flow"]["classes"].items() if count}
        self.assertEqual(got, wanted, seen.describe())
        attempts = sum(wanted.values())
        self.assertEqual(seen.flows["flow"]["attempts"], attempts)
        # the windows together say the same as the result
        self.assertEqual({k: v for k, v in seen.whole().classes.items() if v}, wanted)
        self.assertEqual(seen.whole().requests, seen.flows["flow"]["requests"])
        failed = sum(count for name, count in wanted.items() if name in load.FAILURES)
        self.assertEqual(seen.flows["flow"]["failed"], failed)
        if failed:
            with self.assertRaises(AssertionError):
                seen.assert_nothing_failed()
        elif wanted.get("ok") and "unfinished" not in wanted:
            seen.assert_nothing_failed()


class Fresh(Case):
    def test_good_answers_of_every_framing(self):
        for path in ("ok", "chunked", "until_end", "interim", "last"):
            with self.subTest(path):
                seen = self.run_flow(path)
                self.assert_classes(seen, ok=10)
                self.assertEqual(seen.flows["flow"]["connections"], 10)
                self.assertEqual(seen.flows["flow"]["generations"], {"1": 10})
                self.assertEqual(seen.flows["flow"]["latency"]["count"], 10)

    def test_each_failure_is_its_own_class(self):
        table = {"eof": "eof", "reset": "reset", "cut_head": "cut", "cut_body": "cut", "cut_chunk": "cut",
                 "reset_body": "reset", "wrong_byte": "wrong_body", "short_body": "wrong_body",
                 "long_body": "wrong_body", "extra": "wrong_body", "error": "wrong_status",
                 "garbage": "other", "bad_chunk": "other"}
        for path, name in table.items():
            with self.subTest(path):
                seen = self.run_flow(path)
                self.assert_classes(seen, **{name: 10})
                self.assertEqual(len(seen.failures), 10)
                self.assertEqual({f["class"] for f in seen.failures}, {name})

    def test_where_it_happened_is_in_the_details(self):
        for path, detail in {"eof": "eof: eof before response", "reset": "reset: ECONNRESET before response",
                             "reset_body": "reset: ECONNRESET inside response",
                             "cut_body": "cut: eof inside response"}.items():
            with self.subTest(path):
                self.assertEqual(self.run_flow(path).flows["flow"]["details"], {detail: 10})

    def test_a_wrong_byte_is_found_at_its_offset(self):
        seen = self.run_flow("wrong_byte", requests=1)
        self.assertEqual(seen.failures[0]["detail"], "wrong byte at 100")

    def test_no_progress_is_a_timeout(self):
        # the second must be long enough for the server to say the first half of its answer
        for path, limit_ms, detail in (("hang", 200, "timeout: before response"),
                                       ("hang_body", 3000, "timeout: inside response")):
            with self.subTest(path):
                seen = self.run_flow(path, requests=4, timeout_ms=limit_ms)
                self.assert_classes(seen, timeout=4)
                self.assertEqual(seen.flows["flow"]["details"], {detail: 4})

    def test_nobody_listens(self):
        with socket.socket() as reserved:  # bound, so that nobody else takes the port
            reserved.bind(("127.0.0.1", 0))
            target = f"tcp:127.0.0.1:{reserved.getsockname()[1]}"
            self.assert_classes(self.run_flow("ok", target=target), refused=10)
        self.assert_classes(self.run_flow("ok", target="unix:@nobody-has-this-name"), refused=10)
        self.assert_classes(self.run_flow("ok", target="unix:/nowhere/x.sock"), refused=10)

    def test_a_full_accept_queue_is_a_timeout_in_connect(self):
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            with socket.create_connection(full.getsockname()):
                target = f"tcp:127.0.0.1:{full.getsockname()[1]}"
                seen = self.run_flow("ok", target=target, requests=2, connections=2, timeout_ms=300)
        self.assert_classes(seen, timeout=2)
        self.assertEqual(seen.flows["flow"]["details"], {"timeout: in connect": 2})

    def test_a_full_queue_of_a_unix_socket_is_waited_for(self):
        with socket.socket(socket.AF_UNIX) as full:
            full.bind(f"\0{self.abstract}")
            full.listen(0)
            with socket.socket(socket.AF_UNIX) as first:
                first.connect(full.getsockname())
                seen = self.run_flow("ok", target=f"unix:@{self.abstract}", requests=1, timeout_ms=300)
        self.assert_classes(seen, timeout=1)

    def test_a_slow_reader_reads_no_faster_than_it_should(self):
        seen = self.run_flow("ok", requests=2, connections=1, read_rate=len(BODY))  # the head counts, too
        self.assert_classes(seen, ok=2)
        # never earlier, however quick the machine is
        self.assertGreater(seen.whole().percentile(0.01), 1_000_000)

    def test_a_slow_reader_knows_ends_and_silence(self):
        self.assert_classes(self.run_flow("until_end", requests=2, read_rate=500), ok=2)
        self.assert_classes(self.run_flow("cut_body", requests=2, read_rate=500), cut=2)
        self.assert_classes(self.run_flow("hang_body", requests=2, read_rate=500, timeout_ms=1000), timeout=2)

    def test_the_length_may_say_who_answered(self):
        seen = self.run_flow("ok", generation_header="Content-Length", expect=len(BODY))
        self.assert_classes(seen, ok=10)

    def test_an_unexpected_generation(self):
        self.assert_classes(self.run_flow("gen2", expect="1"), wrong_generation=10)
        self.assert_classes(self.run_flow("gen2", expect="1,2"), ok=10)

    def test_the_text_of_a_body(self):
        keys = {"text": BODY.decode().replace("\n", "%0A")}
        self.assert_classes(self.run_flow("ok", **keys), ok=10)
        self.assert_classes(self.run_flow("wrong_byte", **keys), wrong_body=10)

    def test_a_failure_is_said_even_among_many_good_answers(self):
        flows = {"good": {"target": self.server.target, "path": "/ok", "requests": 300, "connections": 8},
                 "bad": {"target": self.server.target, "path": "/eof", "requests": 1}}
        with load.Load(flows) as client:
            seen = client.finish()
        seen.assert_nothing_failed("good")
        with self.assertRaises(AssertionError):
            seen.assert_nothing_failed()


class KeepAlive(Case):
    def flow(self, seen):
        return seen.flows["flow"]

    def test_one_connection_serves_many_requests(self):
        seen = self.run_flow("ok", keepalive=1, connections=2, requests=50)
        self.assert_classes(seen, ok=50)
        self.assertEqual(self.flow(seen)["connections"], 2)

    def test_a_limit_of_requests_for_each_connection(self):
        seen = self.run_flow("ok", keepalive=1, per_connection=5, connections=1, requests=20)
        self.assert_classes(seen, ok=20)
        self.assertEqual(self.flow(seen)["connections"], 4)
        self.assertEqual(self.flow(seen)["announced_close"], 0)
        self.assertEqual(self.flow(seen)["not_closed"], 0)

    def test_a_close_that_was_announced_is_no_event(self):
        seen = self.run_flow("ok,last", keepalive=1, connections=1, requests=6)
        self.assert_classes(seen, ok=6)
        self.assertEqual(self.flow(seen)["announced_close"], 3)
        self.assertEqual(self.flow(seen)["idle"], {"eof": 0, "reset": 0, "data": 0})

    def test_ends_between_requests_are_counted_apart(self):
        for kind in ("eof", "reset", "data"):
            with self.subTest(kind):
                self.server.release.clear()
                flow = {"target": self.server.target, "path": f"/idle_{kind}", "keepalive": 1,
                        "connections": 3, "think_ms": 60_000}
                with load.Load({"flow": flow}) as client:
                    client.wait_until(lambda seen: seen.classes["ok"] == 3)
                    self.server.release.set()
                    client.wait_until(lambda seen: seen.idle[kind] == 3)
                    seen = client.stop()
                self.assert_classes(seen, ok=3)
                self.assertEqual(self.flow(seen)["idle"], {"eof": 0, "reset": 0, "data": 0} | {kind: 3})

    def test_an_end_that_came_along_with_the_answer_is_seen(self):
        flow = {"target": self.server.target, "path": "/held", "keepalive": 1, "think_ms": 60_000}
        with load.Load({"flow": flow}) as client:
            while not self.server.requests:
                time.sleep(0.01)
            client.process.send_signal(signal.SIGSTOP)  # so that it finds both at once
            self.server.release.set()
            self.assertTrue(self.server.closed.wait(60))
            client.process.send_signal(signal.SIGCONT)
            client.wait_until(lambda seen: seen.classes["ok"] == 1 and seen.idle["eof"] == 1)
            self.assert_classes(client.stop(), ok=1)

    def test_a_lost_race_is_retried_and_is_no_failure(self):
        for path in ("ok,eof", "ok,reset"):
            with self.subTest(path):
                seen = self.run_flow(path, keepalive=1, connections=1, requests=5)
                # each connection serves one; the second request on it is lost and goes to a new one
                self.assert_classes(seen, ok=5, keepalive_race=4)
                self.assertEqual(self.flow(seen)["retried"], 4)
                self.assertEqual(self.flow(seen)["requests"], 5)
                self.assertEqual(self.flow(seen)["connections"], 5)

    def test_a_lost_race_that_may_not_be_retried(self):
        seen = self.run_flow("ok,eof", keepalive=1, connections=1, requests=6, retry=0)
        self.assert_classes(seen, ok=3, keepalive_race=3)
        self.assertEqual(self.flow(seen)["retried"], 0)

    def test_the_retry_counts_like_any_other_attempt(self):
        single = Server(connections=1)
        seen = self.run_flow("ok,eof", keepalive=1, connections=1, requests=2, target=single.target)
        self.assert_classes(seen, ok=1, keepalive_race=1, refused=1)

    def test_a_request_that_was_in_flight_for_long_was_no_race(self):
        seen = self.run_flow("ok,late_eof", keepalive=1, connections=1, requests=2, race_ms=100)
        self.assert_classes(seen, ok=1, eof=1)
        seen = self.run_flow("ok,late_eof", keepalive=1, connections=1, requests=2, race_ms=5000)
        self.assert_classes(seen, ok=2, keepalive_race=1)
        self.assertGreater(self.flow(seen)["race_max_us"], 250_000)

    def test_an_end_inside_a_response_is_never_a_race(self):
        seen = self.run_flow("ok,cut_body", keepalive=1, connections=1, requests=4)
        self.assert_classes(seen, ok=2, cut=2)
        seen = self.run_flow("ok,reset_body", keepalive=1, connections=1, requests=4)
        self.assert_classes(seen, ok=2, reset=2)

    def test_a_first_request_is_never_a_race(self):
        self.assert_classes(self.run_flow("eof", keepalive=1), eof=10)


class Running(Case):
    def test_addresses(self):
        seen = self.run_flow("ok", sources="127.0.0.2-127.0.0.4,127.0.1.1", requests=40)
        self.assert_classes(seen, ok=40)
        hosts = [peer[0] for peer in self.server.peers]
        self.assertEqual({host: hosts.count(host) for host in hosts},
                         {"127.0.0.2": 10, "127.0.0.3": 10, "127.0.0.4": 10, "127.0.1.1": 10})

    def test_ipv6_and_unix_sockets(self):
        for family, address in ((socket.AF_INET6, ("::1", 0)), (socket.AF_UNIX, f"\0{self.abstract}")):
            server = Server(family, address)
            self.addCleanup(server.close)
            target = server.target if family == socket.AF_INET6 else f"unix:@{self.abstract}"
            self.assert_classes(self.run_flow("ok", target=target), ok=10)
            self.assertEqual(len(server.peers), 10)

    def test_a_rate_is_kept(self):
        seen = self.run_flow("ok", rate=200, requests=100, connections=10)
        self.assert_classes(seen, ok=100)
        # the last one is due 99 intervals after the first, whatever the answers do
        span_ns = seen.result["ended_ns"] - seen.result["started_ns"]
        self.assertGreaterEqual(span_ns, 99 * 5_000_000)

    def test_latency_is_from_request_to_answer(self):
        seen = self.run_flow("slow", requests=4)
        self.assert_classes(seen, ok=4)
        for latency in (seen.flows["flow"]["latency"]["p50_us"], seen.whole().percentile(0.01)):
            self.assertGreaterEqual(latency, 300_000)
        self.assertEqual(seen.flows["flow"]["latency"]["max_us"], seen.whole().max_us)

    def test_what_waits_for_a_connection_counts_as_latency(self):
        seen = self.run_flow("slow", rate=20, requests=3, connections=1)
        # the only connection is busy for 300 ms each time: the third is due after 100 ms and begins after 600
        self.assert_classes(seen, ok=3)
        self.assertGreaterEqual(seen.flows["flow"]["late_max_us"], 500_000)
        self.assertGreaterEqual(seen.flows["flow"]["latency"]["max_us"], 800_000)

    def test_what_was_never_begun_is_no_request(self):
        flow = {"target": self.server.target, "path": "/hang", "connections": 2, "rate": 200, "timeout_ms": 60_000}
        with load.Load({"flow": flow}, drain_s=0) as client:
            while len(self.server.requests) < 2:
                time.sleep(0.01)
            time.sleep(0.1)  # twenty more become due
            seen = client.stop()
        self.assert_classes(seen, unfinished=2)
        self.assertGreater(seen.flows["flow"]["not_begun"], 10)

    def test_marks_end_windows_and_expectations_can_change(self):
        flow = {"target": self.server.target, "path": "/ok", "connections": 2, "think_ms": 5}
        with load.Load({"flow": flow}) as client:
            client.wait_for_answers(10)
            first = client.mark("first")
            client.wait_for_answers(10, generation="1")
            second = client.expect("flow", "2")
            client.wait_until(lambda seen: seen.classes["wrong_generation"] >= 5)
            third = client.expect("flow")
            client.wait_for_answers(10)
            seen = client.stop()
        self.assertEqual(seen.marks["first"], first)
        self.assertEqual(seen.between(0, first).failed, 0)
        middle = seen.between(first, second)
        self.assertEqual(middle.failed, 0)
        self.assertGreaterEqual(middle.classes["ok"], 10)
        self.assertEqual(middle.share("1"), 1.0)
        wrong = seen.between(second, third)
        self.assertGreaterEqual(wrong.classes["wrong_generation"], 5)
        # those that were in flight at the change may be judged by the older expectation
        self.assertLessEqual(wrong.classes["ok"], 2)
        self.assertIsNotNone(middle.percentile(0.99))
        self.assertLessEqual(middle.percentile(0.5), middle.percentile(1.0))
        self.assertEqual(sum(c.get("1", 0) for _, _, c in seen.generations_over_time()),
                         seen.flows["flow"]["generations"]["1"])

    def test_what_is_in_flight_at_the_end_is_unfinished(self):
        flow = {"target": self.server.target, "path": "/hang", "connections": 3, "timeout_ms": 60_000}
        with load.Load({"flow": flow}, drain_s=0) as client:
            while len(self.server.requests) < 3:
                time.sleep(0.01)
            seen = client.stop()
        self.assert_classes(seen, unfinished=3)
        with self.assertRaises(AssertionError):
            seen.assert_nothing_failed()

    def test_the_end_of_its_input_stops_it(self):
        with load.Load({"flow": {"target": self.server.target, "path": "/ok", "think_ms": 5}}) as client:
            client.wait_for_answers(5)
            client.process.stdin.close()
            seen = client.finish()
        seen.assert_nothing_failed()

    def test_seconds_end_it(self):
        seen = self.run_flow("ok", requests=0, seconds=1, think_ms=1)
        seen.assert_nothing_failed()
        self.assertGreaterEqual(seen.result["ended_ns"] - seen.result["started_ns"], 1_000_000_000)

    def test_posts(self):
        self.assert_classes(self.run_flow("ok", method="POST", keepalive=1), ok=10)
        self.assertTrue(all(raw.startswith(b"POST /ok HTTP/1.1\r\n") and b"Content-Length: 0" in raw
                            for raw in self.server.raw))

    def test_mistakes_are_named(self):
        for flow in ("", "x", "x target=tcp:nowhere:80", "x target=tcp:127.0.0.1:80 colour=red",
                     "x target=tcp:127.0.0.1:80 connections=0"):
            done = load.subprocess.run([load.BINARY, "--flow", flow], capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 2, flow)
            self.assertIn(b"loadclient:", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
