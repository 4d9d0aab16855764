"""The way back when the old one is not there any more."""

import signal
import sys
import unittest

import canary
import scene
from supervisor import wait_for

ROLLOUT = {"steps": [50, 100], "step_duration": "300ms"}


class Standby(canary.Case):
    ready_timeout = "3s"

    @classmethod
    def prepare(cls):
        """A file of the node that both versions read when they start: what is in it can keep the old one from it."""
        cls.environment = cls.node_.root / "environment"
        cls.starts_well()
        cls.node_.configure(f'[run]\nenvironment_files = ["{cls.environment}"]\n', app="demo")

    @classmethod
    def starts_well(cls, well=True):
        cls.environment.write_text("" if well else "DEMO_CRASH_AT_START=3\n")
        cls.environment.chmod(0o600)

    def old(self):
        """Who served before the deployment: active in its steps, the standby from 100 % on."""
        return self.processes()["service", min(one["number"] for one in self.generations())]

    def test_an_old_one_that_was_killed_in_a_step_is_there_again(self):
        for place in ("deploy.step.50", "deploy.step.100", "deploy.begin.watch"):
            with self.subTest(place):
                driver = self.apply_stopped_at(self.release(rollout=ROLLOUT, watch="60s"), place)
                killed = self.old()
                scene.end(killed)
                self.order("abort")
                driver.resume()
                done = driver.end()
                self.assert_exit(done, 4)
                self.assertEqual(done.json["reason"], "aborted")
                self.assert_settled_as(self.before)
                self.assertNotEqual(self.old(), killed)
                self.assert_only(scene.IN_FLIGHT)

    def test_one_that_does_not_start_any_more_needs_a_person(self):
        driver = self.apply_stopped_at(self.release(rollout=ROLLOUT, watch="60s"), "deploy.begin.watch")
        self.starts_well(False)
        self.addCleanup(self.starts_well)
        scene.send(self.old(), signal.SIGKILL)
        self.order("abort")
        driver.resume()
        done = self.assert_exit(driver.end(), 8)
        self.assertEqual(done.json["outcome"], "rollback_failed")
        self.assertIn(self.before, done.json["error"]["message"])
        self.assertEqual((self.node_.current(), self.node_.committed()), (self.before, self.before))
        self.assertTrue(self.status()["needs_person"])
        self.assert_exit(self.node_.run("recover", env=scene.ENV), 8)
        # the person mends it, and deploys what is good
        self.starts_well()
        wait_for(lambda: any(one["role"] == "active" and one["state"] == "ready" for one in self.generations()),
                 "the old one, which its supervisor tries again and again")
        self.assert_exit(self.apply(self.release()).end(), 0)
        self.assert_settled_as(self.newest, scene.IN_FLIGHT | {"refused", "timeout"})

    def test_a_floor_that_the_old_one_is_below_holds_nobody_with_a_bad_one(self):
        """Which has run beside it all the time, on the same data."""
        floor = f'[requires]\nrollback_floor = "{self.number + 1}.0.0"\n'
        artifact = self.release("--fail-ratio", "1", gates=[canary.errors(self)], more=floor, rollout=ROLLOUT, watch="60s")
        done = self.apply(artifact).end()
        self.assert_undone(done, gate="errors", step=50, allowed=frozenset({"wrong_status"}))

    def test_users_go_back_before_anything_else_of_a_way_back_is_done(self):
        """Not by a gate, whose verdict takes the share along: a tree that somebody has changed is seen at the commit."""
        driver = self.apply_stopped_at(self.release(rollout=ROLLOUT), "deploy.begin.commit", "deploy.after_withdraw")
        with open(self.node_.root / f"apps/demo/releases/{self.newest}/version.txt", "a") as file:
            file.write("changed\n")
        driver.resume()
        scene.wait_stopped(driver.pid)
        begin = self.load_.mark("withdrawn")
        self.load_.wait_for_answers(100)
        seen = self.load_.segment(begin, self.load_.mark("later"))
        self.assertEqual((set(seen.generations), self.node_.current()), ({self.before}, self.newest))
        driver.resume()
        self.assert_exit(driver.end(), 4)
        self.assert_settled_as(self.before)

    def test_a_version_that_was_rolled_back_is_refused_until_somebody_insists(self):
        artifact = self.release("--bad-after", "20", "--unhealthy", "1", rollout=ROLLOUT, watch="60s")
        self.assert_exit(self.apply(artifact).end(), 4)
        self.assert_settled_as(self.before)
        for _ in range(2):
            refused = self.node_.apply(artifact, env=scene.ENV)
            self.assertEqual((refused.code, refused.json["error"]["code"]), (3, "failed_before"))
        insists = self.node_.apply(artifact, "--retry", env=scene.ENV)
        self.assert_exit(insists, 4)  # it was tried, and is as bad as before
        self.assert_settled_as(self.before)

    def test_cold_and_warm_standby_end_alike(self):
        for kind in ("cold", "warm"):
            with self.subTest(kind):
                done = self.apply(self.release(rollout=ROLLOUT | {"standby": kind})).end()
                self.assert_committed(done, self.newest)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
