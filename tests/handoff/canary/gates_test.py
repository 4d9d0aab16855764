"""What gates look at: what the kernel knows of a generation, pages of metrics, and what of both is none of it."""

import contextlib
import sys
import unittest
import unittest.mock

import canary
import harness
from supervisor import Control


class KernelGates(canary.Case):
    CONDITIONS = {"descriptors": "descriptors <= 1000", "cpu": "cpu <= 100", "accepted_ratio": "accepted_ratio >= 0.5",
                  "memory": "memory <= 4 x active", "queue": "queue <= 1000", "crashes": "crashes <= 0"}

    def active(self):
        with contextlib.closing(Control(self.node_.root / "run/demo.sock")) as control:
            (active,) = control.ask("measure")["generations"]
        return active

    def test_each_metric_holds_for_a_good_release_and_the_log_has_its_numbers(self):
        conditions = dict(self.CONDITIONS)
        if self.active()["cpu_us"] is None:  # refused where there are no cgroups, see below
            del conditions["cpu"]
        gates = [canary.kernel(name, condition) for name, condition in conditions.items()]
        done = self.apply(self.release(gates=gates, rollout={"steps": [50, 100], "step_duration": "1s"})).end()
        self.assert_committed(done, self.newest)
        passed = {}
        for event in self.events_of(done):
            if event["event"] == "gate.passed":
                passed.setdefault(event["detail"]["gate"], event["detail"]["numbers"])
        self.assertEqual(set(passed), set(conditions))
        for name in {"descriptors", "cpu", "accepted_ratio", "memory"} & set(conditions):
            self.assertGreater(float(passed[name]["candidate"]), 0, passed[name])
        self.assertLessEqual(float(passed["accepted_ratio"]["candidate"]), 1)

    def test_one_that_the_node_can_not_judge_is_refused_before_the_start(self):
        known = {"kills": self.active()["oom_kills"], "cpu": self.active()["cpu_us"]}
        for name, condition in (("kills", "oom_kills <= 0"), ("cpu", "cpu <= 100")):
            if known[name] is None:
                self.refused_before_the_start(name, condition)
        if known["kills"] is not None:
            done = self.apply(self.release(gates=[canary.kernel("kills", "oom_kills <= 0")], watch="1s")).end()
            self.assert_committed(done, self.newest)

    def refused_before_the_start(self, name, condition):
        done = self.apply(self.release(gates=[canary.kernel(name, condition)], watch="1s")).end()
        self.assert_exit(done, 3)
        self.assertIn(f"the gate '{name}' can't be judged on this node", done.json["error"]["message"])
        self.assertNotIn("start", [stage["stage"] for stage in done.json["stages"]])
        self.assert_settled_as(self.before)

    def test_failures_in_a_row_are_as_many_looks_at_the_memory(self):
        gate = canary.kernel("memory", "memory <= 1", failures=5)
        done = self.apply(self.release("--leak", "64", gates=[gate], watch="60s")).end()
        self.assert_undone(done, gate="memory")
        seen = [event["detail"]["numbers"]["candidate"] for event in self.events_of(done)
                if event["event"] == "gate.failed"]
        self.assertEqual(len(seen), 5)
        self.assertEqual(len(set(seen)), 5, "each request leaks, so no two windows are equal")


class Elsewhere(canary.Case):
    """What is asked where no listener is reaches one process for both versions, the old one."""

    def refused(self, artifact):
        done = self.apply(artifact).end()
        self.assert_exit(done, 3)
        self.assertEqual(done.json["error"]["code"], "manifest_invalid")
        self.assertNotIn("start", [stage["stage"] for stage in done.json["stages"]])
        self.assert_only(canary.NONE)
        self.assert_settled_as(self.before)
        return done.json["error"]

    def test_a_page_of_both_versions_is_refused_before_the_start(self):
        url = f"http://127.0.0.1:{harness.free_port()}/metrics"
        error = self.refused(self.release(gates=[canary.errors(self, url=url)]))
        self.assertIn("gate 'errors'", error["message"])
        self.assertEqual(error["got"], f"'{url}'")
        self.assertIn(f"tcp:127.0.0.1:{self.port}", error["expected"])

    def test_so_it_is_where_the_node_has_moved_the_listener(self):
        self.node_.configure(f'[run]\nlisteners = {{ http = "tcp:127.0.0.1:{harness.free_port()}" }}\n', app="demo")
        try:
            self.refused(self.release(gates=[canary.errors(self)]))
        finally:
            self.node_.configure("", app="demo")

    def test_a_probe_is_warned_of(self):
        probe = f'[[probe]]\nname = "other"\ntype = "tcp"\naddress = "127.0.0.1:{harness.free_port()}"\nfailures = 1\n'
        done = self.apply(self.release(probe=probe)).end()
        self.assert_exit(done, 1)
        self.assertIn("the probe 'other' asks 127.0.0.1:", done.err)
        self.assertIn("it proves nothing of the candidate", done.err)


class NotJudged(canary.Case):
    users = {"fresh": {"connections": 4, "rate": 100, "timeout_ms": 20_000}}

    def test_what_nobody_judged_is_not_said_to_have_passed(self):
        node = self.node()
        self.addCleanup(node.run, "stop", "demo")
        self.enterContext(unittest.mock.patch.object(type(self), "port", harness.free_port()))
        gates = [canary.errors(self), canary.latency(self), canary.kernel("queue", "queue <= 1000")]
        done = self.assert_exit(node.run("apply", self.release(gates=gates)), 0)
        self.assertIn("1 probe and 1 gate passed, 2 gates not judged, held for ", done.err)


class OurOwnQuestions(canary.Case):
    """Nobody new comes: what the metrics of an ordinary server count is what we have asked."""

    users = {"fresh": {"connections": 4, "rate": 100, "keepalive": 1, "timeout_ms": 20_000}}
    options = ("--idle-grace", "2000", "--count-all", "1")

    def test_they_do_not_pass_for_proof(self):
        gate = canary.errors(self, min_samples=10, no_data_timeout="3s")
        done = self.apply(self.release(gates=[gate], rollout={"steps": [50, 100], "step_duration": "100ms"})).end()
        self.assert_undone(done, step=50, code="gate_failed")
        self.assertRegex(done.json["error"]["message"], r"no data for 3s: \d of 10 samples")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
