"""The verdict takes effect in the kernel, where nobody has to be scheduled for it."""

import signal
import sys
import unittest

import canary
import scene

# What a bad answer is called.
WRONG = frozenset({"wrong_status"})


class Verdict(canary.Case):
    def test_it_needs_no_supervisor(self):
        """The supervisor is stopped from before the verdict on: no new connection reaches the candidate all the same."""
        artifact = self.release("--fail-ratio", "1", gates=[canary.errors(self, min_samples=20, failures=1)],
                                rollout={"steps": [100], "step_duration": "60s"})
        driver = self.apply(artifact, failpoints="deploy.before_verdict=stop;deploy.lease_ended=stop")
        driver.wait_for_step(100)
        at_100 = self.load_.mark("all")
        scene.wait_stopped(driver.pid)
        self.assertEqual(set(self.load_.segment(at_100, self.load_.mark("verdict")).generations), {self.newest})
        [supervisor] = self.processes()["supervisor"]
        scene.send([supervisor], signal.SIGSTOP)
        driver.resume()
        scene.wait_stopped(driver.pid)
        begin = self.load_.mark("ended")
        self.load_.wait_for_answers(100)
        seen = self.load_.segment(begin, self.load_.mark("unheard"))
        self.assertEqual((seen.failed, set(seen.generations)), (0, {self.before}))
        scene.send([supervisor, driver.pid], signal.SIGCONT)
        self.assert_undone(driver.end(), gate="errors", step=100, allowed=WRONG)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
