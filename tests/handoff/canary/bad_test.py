"""Every kind of bad release is caught by the gate that is meant for it, in the step that is meant for it, and what it
cost its users is counted."""

import collections
import http.server
import json
import signal
import sys
import threading
import unittest
import urllib.parse

import binomial
import canary
import scene
from supervisor import wait_for

# What a bad answer is called; who is killed loses what it had accepted and not answered.
WRONG = frozenset({"wrong_status"})
STEPS = {"steps": [50, 100], "step_duration": "60s"}


class Counted(canary.Case):
    """By what a service says of itself."""

    def test_one_that_fails_every_request_costs_its_share_and_nothing_after_the_verdict(self):
        artifact = self.release("--fail-ratio", "1", "--print", "200",
                                gates=[canary.errors(self, min_samples=20, failures=1)],
                                rollout={"steps": [1, 10, 50, 100], "step_duration": "60s"})
        driver = self.apply(artifact, failpoints="deploy.before_verdict=stop;deploy.after_withdraw=stop")
        driver.wait_for_step(1)
        begin = self.load_.mark("begin")
        scene.wait_stopped(driver.pid)
        end = self.load_.mark("verdict")
        seen = self.load_.segment(begin, end)  # the share holds until the driver goes on
        driver.resume()
        scene.wait_stopped(driver.pid)
        after = self.load_.mark("withdrawn")
        self.load_.wait_for_answers(100)  # while nothing else of the way back is done
        driver.resume()
        done = driver.end()
        self.assert_undone(done, gate="errors", step=1, allowed=WRONG)
        self.assertEqual(seen.failed, seen.classes["wrong_status"])
        binomial.assert_share(self, seen.failed, seen.requests, 0.01, "failed requests on fresh connections")
        later = self.load_.segment(after, self.load_.mark("later"))
        self.assertEqual((later.failed, set(later.generations)), (0, {self.before}))
        self.assertIn("a line of output", self.failed_stage(done)["detail"]["candidate_output"])
        shown = self.node_.run("log", "show", done.json["trace_id"]).out
        self.assertRegex(shown, r"gate\.failed +errors +error_ratio ")
        self.assertIn("gate 'errors'", shown)
        listed = self.node_.run("log", "--trace", done.json["trace_id"]).out
        self.assertRegex(listed, r"gate\.failed .* errors, error_ratio ")
        self.assertRegex(listed, r"traffic\.weight .* generation \d+, weight 100\n")
        self.assertRegex(shown, r"the candidate's last output:\n +\|.*a line of output")
        refused = self.node_.apply(artifact, env=scene.ENV)
        self.assertEqual((refused.code, refused.json["error"]["code"]), (3, "failed_before"))

    def test_more_errors_than_the_active_one(self):
        artifact = self.release("--fail-ratio", "0.3", rollout=STEPS,
                                gates=[canary.errors(self, "error_ratio <= 2.0 x active")])
        self.assert_undone(self.apply(artifact).end(), gate="errors", step=50, allowed=WRONG)

    def test_slower_than_the_active_one(self):
        artifact = self.release("--latency", "400", gates=[canary.latency(self)], rollout=STEPS)
        self.assert_undone(self.apply(artifact).end(), gate="latency", step=50)

    @canary.long_only
    def test_slower_than_it_may_be(self):
        artifact = self.release("--latency", "400", gates=[canary.latency(self, "p90 <= 0.2", min_samples=100)], rollout=STEPS)
        self.assert_undone(self.apply(artifact).end(), gate="latency", step=50)

    @canary.long_only
    def test_a_ratio_of_any_two_counters(self):
        artifact = self.release("--fail-ratio", "0.5", rollout=STEPS, gates=[canary.errors(
            self, "ratio <= 0.1", name="refused", numerator='http_requests_total{code=~"5.."}',
            denominator="http_requests_total")])
        self.assert_undone(self.apply(artifact).end(), gate="refused", step=50, allowed=WRONG)

    def test_bad_under_load_alone(self):
        gate = canary.errors(self, "error_ratio <= 0.2", min_samples=60)
        artifact = self.release("--latency", "200", "--fail-above-in-flight", "25", gates=[gate],
                                rollout={"steps": [10, 100], "step_duration": "1s"})
        done = self.apply(artifact).end()
        self.assert_undone(done, gate="errors", step=100, allowed=WRONG)
        self.assertEqual([percent for percent, _, _ in self.steps_of(done)], [10])

    @canary.long_only
    def test_a_gate_that_fails_now_and_then_is_added_up(self):
        """Never twice in a row, and a good one could do it once."""
        gate = canary.errors(self, "error_ratio <= 0.0001", failures=100, max_failures=3, min_samples=20)
        artifact = self.release("--fail-ratio", "0.01", gates=[gate], rollout=STEPS)
        done = self.apply(artifact).end()
        self.assert_undone(done, gate="errors", step=50, allowed=WRONG)
        self.assertEqual(self.failed_stage(done)["detail"]["verdict"]["in_total"], 3)


class Asked(canary.Case):
    """By what answers it gives, or does not give."""

    def test_good_health_and_wrong_answers(self):
        check = b"""#!/bin/sh
for n in 1 2 3 4 5 6 7 8 9 10; do
  curl --silent --fail --max-time 10 "http://${UPDAGENT_PROBE_ADDRESS:-$1}/" | grep -q '"version"' || { echo "not our page"; exit 1; }
done
"""
        files = {"bin/check": (check, 0o755)}
        command = ["bin/check", f"127.0.0.1:{self.port}"]
        gate = {"name": "contents", "type": "exec", "command": command, "interval": "200ms", "timeout": "30s"}
        artifact = self.release("--wrong", "1", gates=[gate], files=files, rollout=STEPS)
        done = self.apply(artifact).end()
        self.assert_undone(done, step=50)  # status 200, as the load wants it: only a look at the contents tells
        self.assertIn("contents", done.json["error"]["message"])
        self.assertIn("not our page", str(self.failed_stage(done)["detail"]))
        smoke = '[preflight]\nsmoke = [{ command = ["bin/check", ""] }]\n'
        done = self.apply(self.release("--wrong", "1", files=files, more=smoke, rollout=STEPS)).end()
        self.assert_exit(done, 1)
        self.assertEqual((done.json["outcome"], self.failed_stage(done)["stage"]), ("aborted", "preflight"))
        self.assert_settled_as(self.before)

    @canary.long_only
    def test_health_that_is_lost_with_the_first_users(self):
        artifact = self.release("--bad-after", "20", "--unhealthy", "1", rollout=STEPS)
        done = self.apply(artifact).end()
        self.assert_undone(done, step=50, code="probe_failed")
        self.assertIn("probe 'healthz' failed 2 times in a row", done.json["error"]["message"])

    def test_a_gate_of_a_probe_has_a_patience_of_its_own(self):
        gate = {"name": "alive", "type": "probe", "probe": "healthz", "failures": 1}
        artifact = self.release("--bad-after", "20", "--unhealthy", "1", gates=[gate], rollout=STEPS,
                                probe=self.http_probe().replace("failures = 2", "failures = 1000"))
        done = self.apply(artifact).end()
        self.assert_undone(done, step=50)
        self.assertIn("'alive'", done.json["error"]["message"])

    def test_one_that_hangs_as_a_whole(self):
        artifact = self.release("--bad-after", "20", "--hang", "all", rollout=STEPS,
                                probe=self.http_probe().replace("5s", "1s"))
        done = self.apply(artifact).end()
        self.assert_undone(done, step=50, code="probe_failed", allowed=scene.IN_FLIGHT)
        self.assertIn("probe 'healthz' failed 2 times in a row", done.json["error"]["message"])


class Watched(canary.Case):
    """By what the kernel knows, without its help: nothing is asked, so nothing but its users must come."""

    @classmethod
    def http_probe(cls):
        return super().http_probe().replace('"50ms"', '"600s"')

    def test_one_that_does_not_accept_any_more(self):
        artifact = self.release("--bad-after", "20", "--hang", "accept", rollout=STEPS,
                                gates=[canary.kernel("queue", "queue <= 10")])
        # who waits in its queue goes back to the old one: none of them sees an end
        self.assert_undone(self.apply(artifact).end(), gate="queue", step=50)

    @canary.long_only
    def test_one_that_accepts_less_than_it_gets(self):
        artifact = self.release("--bad-after", "20", "--hang", "accept", rollout=STEPS,
                                gates=[canary.kernel("accepts", "accepted_ratio >= 0.5", min_samples=50)])
        self.assert_undone(self.apply(artifact).end(), gate="accepts", step=50)

    def test_one_that_leaks(self):
        artifact = self.release("--leak", "512", rollout=STEPS, gates=[canary.kernel("memory", "memory <= 300MiB")])
        self.assert_undone(self.apply(artifact).end(), gate="memory", step=50)

    @canary.long_only
    def test_one_that_takes_a_processor(self):
        artifact = self.release("--spin", "1", rollout=STEPS,
                                gates=[canary.kernel("cpu", "cpu <= 0.05", window="2s")])
        self.assert_undone(self.apply(artifact).end(), gate="cpu", step=50)

    @canary.long_only
    def test_one_that_leaves_descriptors_open(self):
        """Each of its users waits, and holds one."""
        artifact = self.release("--latency", "5000", rollout=STEPS, drain_timeout="20s",
                                gates=[canary.kernel("descriptors", "descriptors <= 60")])
        self.assert_undone(self.apply(artifact).end(), gate="descriptors", step=50)

    def test_one_that_crashes(self):
        """No gate is needed for that."""
        done = self.apply(self.release("--bad-after", "20", "--crash-after", "1", rollout=STEPS)).end()
        self.assert_undone(done, step=50, code="probe_failed", allowed=scene.IN_FLIGHT)
        self.assertIn("ended though nobody asked it to (got killed by signal 6 (ABRT))", done.json["error"]["message"])


# What the newest scrape of this version said; scrapes come to either one, through the one port. Its own labels can't
# tell: what does is demo_info of the same scrape.
OF_VERSION = 'max_over_time((http_requests_total%s and on(instance) demo_info{version="$version"})[$window:250ms])'
ERROR_RATIO = f"""(sum({OF_VERSION % '{code=~"5.."}'}) or vector(0)) / sum({OF_VERSION % ""})"""


class FromPrometheus(canary.Case):
    """A real server, which scrapes through the production port as anybody would."""

    def setUp(self):
        super().setUp()
        self.prometheus = self.enterContext(canary.Prometheus(f"127.0.0.1:{self.port}"))
        wait_for(lambda: self.prometheus.value("sum(http_requests_total)"), "the first scrape")

    def gate(self, **keys):
        return {"name": "slo", "type": "prometheus", "url": self.prometheus.url, "query": ERROR_RATIO,
                "condition": "value <= 0.05", "window": "5s", "timeout": "2s"} | keys

    def in_step(self, *options, **keys):
        """A deployment whose gate has passed in its first step, for what happens to Prometheus then."""
        driver = self.apply(self.release(*options, gates=[self.gate(**keys)], rollout=STEPS))
        driver.wait_for_step(50)
        return driver

    def test_an_error_ratio(self):
        self.assert_undone(self.in_step("--fail-ratio", "0.5").end(), gate="slo", step=50, allowed=WRONG)

    def test_a_good_one_is_committed(self):
        artifact = self.release(gates=[self.gate()], rollout={"steps": [50, 100], "step_duration": "1s"})
        self.assert_committed(self.apply(artifact).end(), self.newest)

    def undone_without(self, number):
        driver = self.in_step(no_data_timeout="3s", timeout="500ms")
        self.prometheus.process.send_signal(number)
        done = driver.end()
        self.assert_undone(done, step=50, code="gate_failed")
        self.assertIn("gate 'slo'", done.json["error"]["message"])
        self.assertIn("gate.no_data", [event["event"] for event in self.events_of(done)])

    def test_without_data_it_pauses_and_then_it_is_undone(self):
        self.undone_without(signal.SIGKILL)

    @canary.long_only
    def test_so_it_is_where_the_server_only_hangs(self):
        self.undone_without(signal.SIGSTOP)

    @canary.long_only
    def test_without_data_it_is_undone_at_once_where_the_release_wants_that(self):
        driver = self.in_step(on_no_data="fail", timeout="500ms")
        self.prometheus.process.kill()
        self.assert_undone(driver.end(), step=50, code="gate_failed")

    @canary.long_only
    def test_data_that_comes_again_in_time_is_enough(self):
        artifact = self.release(gates=[self.gate(timeout="500ms", window="2s")],
                                rollout={"steps": [50, 100], "step_duration": "1s"})
        self.prometheus.process.send_signal(signal.SIGSTOP)
        driver = self.apply(artifact)
        driver.wait_for_progress(lambda one: one.get("waiting_for"), "a step that waits")
        self.prometheus.process.send_signal(signal.SIGCONT)
        self.assert_committed(driver.end(), self.newest)


class ByTurns(canary.Case):
    """No gate fails twice in a row, and of so many that hold by turns some never do: neither passed nor failed."""

    GATES = 24

    def setUp(self):
        super().setUp()
        turns = collections.defaultdict(int)

        class Answers(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["query"][0]
                turns[query] += 1
                value = {"resultType": "scalar", "result": [0, str((turns[query] + int(query.split()[0])) % 2)]}
                body = json.dumps({"status": "success", "data": value}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128

        self.server = self.enterContext(Server(("127.0.0.1", 0), Answers))
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.shutdown)

    def gate(self, number):
        return {"name": f"turn-{number}", "type": "prometheus", "url": f"http://127.0.0.1:{self.server.server_port}",
                "query": f"{number} $version", "condition": "value <= 0", "window": "500ms", "no_data_timeout": "3s",
                "timeout": "2s"}

    def test_a_step_has_an_end(self):
        rollout = {"steps": [50, 100], "step_duration": "300ms", "step_patience": "1s"}
        done = self.apply(self.release(gates=[self.gate(number) for number in range(self.GATES)], rollout=rollout)).end()
        self.assert_undone(done, step=50, code="gate_failed")
        self.assertIn("neither passed nor failed", done.json["error"]["message"])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
