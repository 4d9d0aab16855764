"""What is good passes, every time, whatever else the machine does; and a limit says what it says."""

import sys
import unittest

import canary

SHORT = {"steps": [10, 50, 100], "step_duration": "500ms"}


class Good(canary.Case):
    users = {"fresh": {"connections": 200, "rate": 300, "timeout_ms": 30_000},
             "kept": {"connections": 8, "rate": 100, "keepalive": 1, "timeout_ms": 30_000},
             "slow": {"connections": 20, "rate": 20, "path": "/slow?ms=300", "timeout_ms": 30_000}}

    def gates(self):
        return [canary.errors(self, min_samples=10), canary.errors(self, "error_ratio <= 1.5 x active", name="relative"),
                canary.latency(self, "p90 <= 3.0 x active")]

    def of_the_kernel(self):
        return [canary.kernel("queue", "queue <= 2000"), canary.kernel("crashes", "crashes <= 0")]

    def test_no_alarm_is_false(self):
        with canary.noise():
            for number in range(canary.GOOD_RUNS):
                # one in four is judged by the gates that nobody wrote, which need a watch of some length
                by_default = number % 4 == 0
                gates = self.gates() + ([] if by_default else self.of_the_kernel())
                done = self.apply(self.release(gates=gates, rollout=SHORT, watch="2s" if by_default else None)).end()
                self.assertEqual(done.code, 0, f"{done}\n{self.story()}")
                self.assert_committed(done, self.newest)
                self.assertEqual([percent for percent, _, _ in self.steps_of(done)], [10, 50, 100])
                passed = {event["detail"]["gate"] for event in self.events_of(done) if event["event"] == "gate.passed"}
                self.assertLessEqual({"kernel:hang", "kernel:memory"} if by_default else {"queue", "crashes"}, passed)


class Slower(canary.Case):
    """The 99th percentile is 30 % above that of the active one. So high that what a busy machine adds to both does
    not bring them together."""

    options = ("--latency", "210", "--latency-spread", "100")
    third_more = ("--latency", "273", "--latency-spread", "130")
    users = {"fresh": {"connections": 400, "rate": 300, "timeout_ms": 30_000}}

    def pack_slower(self, condition):
        # the later option of a name counts
        return self.release(*self.third_more, gates=[canary.latency(self, condition)],
                            rollout={"steps": [50, 100], "step_duration": "1s"})

    def test_it_passes_where_three_times_as_much_is_allowed_and_fails_where_a_fifth_is(self):
        done = self.apply(self.pack_slower("p99 <= 1.2 x active")).end()
        self.assert_undone(done, gate="latency", step=50)
        verdict = self.failed_stage(done)["detail"]["verdict"]
        self.assertIn("p99", verdict["what"])
        self.assert_committed(self.apply(self.pack_slower("p99 <= 3.0 x active")).end(), self.newest)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
