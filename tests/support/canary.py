"""What the tests of rollouts share: releases with steps and gates, users whose every answer is counted.

    class Bad(canary.Case):
        def test_...(self):
            artifact = self.release("--fail-ratio", "1", gates=[canary.errors(self)], rollout={"steps": [1, 100]})
            driver = self.apply(artifact)
            driver.wait_for_step(1)
            self.assert_undone(driver.end(), gate="errors", step=1)

Each test has a load of its own; the node lives through all tests of a class, and every release has a version of its
own, so that what one test leaves is where the next one begins.
"""

import contextlib
import json
import pathlib
import signal
import subprocess
import tempfile
import unittest
import urllib.request

import harness
import load
import scene
from supervisor import Control, wait_for

# The short run has one of each kind.
long_only = unittest.skipUnless(scene.LONG, "more of a kind that the short run has; --long")
GOOD_RUNS = 200 if scene.LONG else 4
# No request may fail; for those who look at what the kernel must never do to a user.
NONE = frozenset()


def errors(case, condition="error_ratio <= 0.05", **keys):
    return {"name": "errors", "type": "scrape", "url": case.url("/metrics"), "condition": condition,
            "window": "1s"} | keys


def latency(case, condition="p99 <= 3.0 x active", **keys):
    return {"name": "latency", "type": "scrape", "url": case.url("/metrics"), "condition": condition,
            "window": "1s"} | keys


def kernel(name, condition, **keys):
    return {"name": name, "type": "kernel", "condition": condition, "window": "500ms", "failures": 1} | keys


def section(name, keys):
    return f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


class Case(scene.Case):
    flows = None  # the class has no load, each test has
    users = {"fresh": {"connections": 200, "rate": 300, "timeout_ms": 20_000}}
    stop_timeout = "2s"
    watch = "200ms"
    number = 2  # of the newest version

    def setUp(self):
        super().setUp()
        target = f"tcp:{self.listen_host}:{self.port}"
        self.load_ = self.enterContext(load.Load({name: {"target": target} | keys for name, keys in self.users.items()},
                                                 seconds=3_600, drain_s=40))
        type(self).judged = 0
        self.before = self.node_.committed()
        self.load_.wait_for_answers(20, generation=self.before)

    @classmethod
    def url(cls, path="/"):
        return f"http://127.0.0.1:{cls.port}{path}"

    def release(self, *options, gates=(), more="", **keys):
        """A new version; `keys` as scene.Case.pack has them."""
        type(self).number += 1
        gate_text = "".join(section("[gate]", gate) for gate in gates)
        return self.pack(f"{self.number}.0.0", *options, more=gate_text + more, **keys)

    @property
    def newest(self):
        return f"{self.number}.0.0"

    def apply(self, *words, **keys):
        self.served = self.serves()
        driver = super().apply(*words, **keys)
        self.addCleanup(self.end_driver, driver)
        return driver

    def end_driver(self, driver):
        """Of a test that failed: the next one begins with a deployment that has ended."""
        if driver.process.poll() is not None:
            return
        scene.send(sum(self.processes().values(), []), signal.SIGCONT)
        scene.send([driver.pid], signal.SIGKILL)
        driver.end()
        wait_for(self.settled, "the end of a deployment that a test has left open")

    # --- orders

    def order(self, word):
        """As `updagent deployment` gives it, while whoever drives may be stopped: it is taken when that goes on."""
        control = Control(self.node_.root / "run/demo.sock")
        with contextlib.closing(control):
            return control.ask("order", order=word, actor="a test")["order_id"]

    def deployment(self, word, code=0):
        return self.assert_exit(self.node_.run("--json", "deployment", word, "demo", env=scene.ENV), code).json

    def apply_stopped_at(self, artifact, *places):
        """A driver that stops itself at each of these failpoints, now at the first one."""
        driver = self.apply(artifact, failpoints=";".join(f"{place}=stop" for place in places))
        scene.wait_stopped(driver.pid)
        return driver

    def pause_here(self, driver):
        """One that stopped itself goes on, paused: its step lasts until it is resumed, and its share holds."""
        self.order("pause")
        driver.resume()
        wait_for(lambda: any(one.get("paused") for one in driver.progress()[-1:]), "the pause")

    # --- what must be

    def events_of(self, done):
        return self.node_.events("--trace", done.json["trace_id"])

    def failed_stage(self, done):
        """The event of the stage that was against the release."""
        return next(event for event in self.events_of(done)
                    if (event["event"], event["status"]) == ("stage.finished", "failure"))

    def assert_undone(self, done, gate=None, step=None, code=None, allowed=NONE):
        """Rolled back because of this gate, in this step (None: in the watch); users are with the one before, which
        nobody had to start for that."""
        self.assert_exit(done, 4)
        answer = done.json
        self.assertEqual(answer["outcome"], "rolled_back")
        failed = self.failed_stage(done)
        self.assertEqual(failed["stage"], "watch" if step is None else "shift")
        if step is not None:
            self.assertEqual(failed["detail"]["steps"][-1], step, failed)
        if gate is not None:
            self.assert_judged_by(gate, done, failed)
        if code is not None:
            self.assertEqual(answer["error"]["code"], code, done)
        self.load_.wait_for_answers(50, generation=self.before)
        self.assert_only(allowed)
        self.assert_settled_as(self.before, allowed)
        self.assertEqual(self.serves(), self.served, "the standby was started again")
        self.assert_exit(self.node_.run("log", "verify"), 0)

    def assert_judged_by(self, gate, done, failed):
        self.assertEqual(done.json["error"]["code"], "gate_failed", done)
        self.assertIn(f"gate '{gate}'", done.json["error"]["message"])
        self.assertEqual(failed["detail"]["gate"], gate)
        self.assertTrue(failed["detail"]["verdict"]["numbers"], failed)
        self.assertIn(gate, [event["detail"]["gate"] for event in self.events_of(done) if event["event"] == "gate.failed"])

    def assert_only(self, allowed):
        """Of all that users asked in this test nothing failed but in these ways."""
        with self.load_.arrived:
            seen = load.Segment(e for e in self.load_.events if e["event"] == "window")
        bad = {name: seen.classes[name] for name in load.FAILURES if seen.classes[name] and name not in allowed}
        self.assertEqual(bad, {}, self.load_.failed_so_far()[-5:])

    def assert_committed(self, done, version):
        self.assert_exit(done, 0)
        self.load_.wait_for_answers(50, generation=version)
        self.assert_only(NONE)
        self.assert_settled_as(version)

    def steps_of(self, done):
        """[(percent, connections of the candidate, of all)] as they were measured."""
        return [(event["detail"]["percent"], event["detail"]["connections"], event["detail"]["of"])
                for event in self.events_of(done) if event["event"] == "rollout.step"]


# --- what is beside the service ---


@contextlib.contextmanager
def noise(processes=2):
    """Others on the machine that want the processor, in bursts."""
    text = "import time\nwhile True:\n for _ in range(200000): pass\n time.sleep(0.02)"
    running = [subprocess.Popen(["python3", "-c", text]) for _ in range(processes)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


class Prometheus:
    """A real server that scrapes `target` every 250 ms."""

    def __init__(self, target):
        self.folder = tempfile.TemporaryDirectory(prefix="prometheus-")
        self.port = harness.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = pathlib.Path(self.folder.name) / "prometheus.yml"
        config.write_text(f"""global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}
scrape_configs:
- job_name: demo
  static_configs: [{{targets: ["{target}"]}}]
""")
        self.log = open(f"{self.folder.name}/log", "w+")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.folder.name}/data",
             f"--web.listen-address=127.0.0.1:{self.port}"], stdout=self.log, stderr=self.log)

    def __enter__(self):
        wait_for(self.is_ready, "prometheus")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()

    def is_ready(self):
        if self.process.poll() is not None:
            self.log.seek(0)
            raise AssertionError(f"prometheus ended: {self.log.read()}")
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=harness.COMMAND_LIMIT_S) as answer:
                return answer.status == 200
        except OSError:
            return False

    def value(self, query):
        """Of an instant query that has one answer; None while it has none."""
        with urllib.request.urlopen(f"{self.url}/api/v1/query?query={urllib.request.quote(query)}",
                                    timeout=harness.COMMAND_LIMIT_S) as answer:
            result = json.load(answer)["data"]["result"]
        return float(result[0]["value"][1]) if result else None
