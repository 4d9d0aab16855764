"""Notifications: they tell how a deployment ended, and can neither change nor delay that."""

import contextlib
import http.server
import json
import sys
import threading
import time
import unittest

import harness


def failing():
    return '[[probe]]\nname = "p"\ntype = "exec"\ncommand = ["bin/false"]\ninterval = "50ms"\nfailures = 1\n'


@contextlib.contextmanager
def receiver(*statuses, hold=None):
    """A receiver of POSTs that answers with `statuses`, the last one repeated; with `hold`, an Event,
    none before that is set. Yields (url, bodies, arrived): `arrived` is notified for each body."""
    bodies, arrived = [], threading.Condition()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with arrived:
                number = len(bodies)
                bodies.append(body)
                arrived.notify_all()
            if hold is not None:
                hold.wait()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have given up
                self.send_response(statuses[min(number, len(statuses) - 1)])
                self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", bodies, arrived
    finally:
        if hold is not None:
            hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Notifications(harness.Case):
    def rolled_back_node(self, configuration):
        """A node whose second release is rolled back, and the result of that."""
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        node.configure(configuration)
        done = self.assert_exit(node.apply(self.workshop.pack("2.0.0", failing())), 4).json
        return node, done

    def wait_for(self, found):
        """What `found` returns as soon as it is true: the one who delivers is on its own."""
        deadline = time.monotonic() + harness.COMMAND_LIMIT_S
        while not (value := found()):
            self.assertLess(time.monotonic(), deadline, "it never came")
            time.sleep(0.05)
        return value

    def failed_events(self, node):
        return [e for e in node.events("--app", "demo") if e["event"] == "notify.failed"]

    def test_a_receiver_that_never_answers_delays_nothing(self):
        hold = threading.Event()
        with receiver(200, hold=hold) as (url, bodies, arrived):
            node, done = self.rolled_back_node(
                f'[[notify]]\nname = "slow"\nwebhook = "{url}"\ntimeout = "5m"\nretries = 0\n')
            with arrived:
                self.assertTrue(arrived.wait_for(lambda: bodies, timeout=harness.COMMAND_LIMIT_S))
            # the receiver has it and is silent; the result came, the deployment is closed, the app is free
            self.assertFalse(hold.is_set())
            self.assertEqual((done["outcome"], bodies[0]["trace_id"]), ("rolled_back", done["trace_id"]))
            finished = [e for e in node.events("--trace", done["trace_id"]) if e["event"] == "deployment.finished"]
            self.assertEqual(len(finished), 1)
            self.assert_settled(node)
            self.assert_exit(node.apply(self.workshop.pack("3.0.0")), 0)
            self.assertEqual(node.current(), "3.0.0")
            self.assertFalse(hold.is_set())
        self.assert_intact(node)

    def test_a_receiver_that_is_busy_is_asked_again(self):
        with receiver(503, 200) as (url, bodies, arrived):
            node, done = self.rolled_back_node(f'[[notify]]\nname = "ops"\nwebhook = "{url}"\nretries = 1\n')
            with arrived:
                self.assertTrue(arrived.wait_for(lambda: len(bodies) == 2, timeout=harness.COMMAND_LIMIT_S))
        self.assertEqual(bodies[0], bodies[1])
        self.assertEqual(bodies[1]["trace_id"], done["trace_id"])
        self.assertEqual(self.failed_events(node), [])

    def test_one_that_fails_to_the_end_is_an_event(self):
        with receiver(500) as (url, bodies, _):
            node, done = self.rolled_back_node(
                f'[[notify]]\nname = "broken"\nwebhook = "{url}"\nretries = 0\n'
                f'[[notify]]\nname = "dead"\nwebhook = "http://127.0.0.1:{harness.free_port()}/"\nretries = 0\n')
            failed = self.wait_for(lambda: (e := self.failed_events(node)) and len(e) == 2 and e)
        problems = {e["detail"]["notification"]: e["detail"]["problem"] for e in failed}
        self.assertEqual(set(problems), {"broken", "dead"})
        self.assertIn("HTTP 500", problems["broken"])
        self.assertEqual({e["trace_id"] for e in failed}, {done["trace_id"]})
        self.assertEqual(len(bodies), 1)
        self.assert_intact(node)

    def test_a_command_gets_the_result_and_its_failure_is_an_event(self):
        told = self.workshop.path / "told"
        write = f"cat > {told}.new && mv {told}.new {told}"
        node, done = self.rolled_back_node(
            f'[[notify]]\nname = "writes"\ncommand = ["/bin/sh", "-c", "{write}"]\n'
            '[[notify]]\nname = "fails"\ncommand = ["/bin/sh", "-c", "exit 7"]\n'
            '[[notify]]\nname = "hangs"\ncommand = ["/bin/sleep", "1000"]\ntimeout = "200ms"\n')
        self.wait_for(told.exists)
        body = json.loads(told.read_text())
        self.assertEqual((body["outcome"], body["trace_id"]), ("rolled_back", done["trace_id"]))
        failed = self.wait_for(lambda: (e := self.failed_events(node)) and len(e) == 2 and e)
        self.assertEqual({e["detail"]["notification"] for e in failed}, {"fails", "hangs"})

    def test_only_the_chosen_outcomes_are_told(self):
        told = self.workshop.path / "chosen"
        node = self.node()
        node.configure(f'[[notify]]\nname = "all"\non = ["any"]\ncommand = ["/bin/sh", "-c", "cat >> {told}"]\n'
                       '[[notify]]\nname = "not this"\non = ["rolled_back"]\ncommand = ["/bin/false"]\n')
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        self.wait_for(lambda: told.exists() and told.read_text().endswith("\n"))
        self.assertEqual(json.loads(told.read_text())["outcome"], "committed")
        self.assertEqual(self.failed_events(node), [])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
