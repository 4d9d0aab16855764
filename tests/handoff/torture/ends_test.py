"""How a deployment ends when its driver hangs, is told to stop, or when the machine boots again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

import harness
import scene
from kills_test import DRIVER, COMMITTED_AT
from supervisor import Control, wait_for


ORPHAN_PATIENCE_S = 60  # of a supervisor without a driver: kOrphanPatience
LEASE_NS = 10_000_000_000  # docs/handoff.md; nothing shortens it here


class Leases(scene.Case):
    def hang_at_full_weight(self):
        driver = self.apply(failpoints="deploy.after_probes#2=stop")
        scene.wait_stopped(driver.pid)
        self.assertEqual(self.version_of_users(), self.other())
        return driver

    def users_are_back_with(self, version):
        """From now on nobody renews the lease: who comes when it must have ended, by the load's own due times, is served
        by this version, and nobody has done anything but the kernel."""
        over = self.load_.mark("last") + LEASE_NS
        wait_for(lambda: time.monotonic_ns() > over, "the end of the lease")
        self.load_.wait_for_answers(50, flow="fresh", generation=version)
        late = self.load_.segment(over, self.load_.mark("judged"), "fresh")
        self.assertEqual(set(late.generations), {version})

    def test_a_hung_driver_and_a_dead_supervisor_leave_nobody_with_the_candidate(self):
        before = self.node_.committed()
        (serving,) = self.generations()
        driver = self.hang_at_full_weight()
        scene.end(self.processes()["supervisor"])
        self.users_are_back_with(before)
        self.supervise()  # as systemd would
        wait_for(lambda: len(self.generations()) == 2, "both generations")
        control = Control(self.node_.root / "run/demo.sock")
        self.addCleanup(control.close)
        self.assertTrue(control.ask("status")["deployment"]["lease_lost"])
        driver.resume()
        done = self.assert_exit(driver.end(), 4)
        self.assertEqual(done.json["outcome"], "rolled_back")
        self.assert_settled_as(before)
        self.assert_is_still(serving)

    @unittest.skipUnless(scene.LONG, "ten seconds more for the lease; --long")
    def test_a_driver_that_comes_back_starts_the_supervisor_that_nobody_else_did(self):
        before = self.node_.committed()
        driver = self.hang_at_full_weight()
        scene.end(self.processes()["supervisor"])
        self.users_are_back_with(before)
        driver.resume()
        self.assert_exit(driver.end(), 4)
        self.assert_settled_as(before)

    @unittest.skipUnless(scene.LONG, "ten seconds more for the lease; --long")
    def test_a_lease_that_ran_out_is_a_verdict_though_the_driver_is_back(self):
        before = self.node_.committed()
        driver = self.hang_at_full_weight()
        for _ in range(2):
            self.status()  # the supervisor has read what the driver said last
        self.users_are_back_with(before)
        driver.resume()
        self.assert_exit(driver.end(), 4)
        self.assert_settled_as(before)

    @unittest.skipUnless(scene.LONG, "ten seconds more for the lease; --long")
    def test_a_hung_supervisor_can_not_keep_users_with_a_candidate(self):
        before = self.node_.committed()
        driver = self.apply(failpoints="deploy.after_shift=stop")
        scene.wait_stopped(driver.pid)
        hung = self.processes()["supervisor"]
        scene.send(hung, signal.SIGSTOP)
        driver.resume()
        self.users_are_back_with(before)
        done = self.assert_exit(driver.end(), 4)
        self.assertIn("does not answer", done.err + done.out)
        scene.send(hung, signal.SIGCONT)
        # nobody is left who would tell it the end
        wait_for(self.settled, "the end of its patience", limit_s=2 * ORPHAN_PATIENCE_S)
        self.assert_settled_as(before)


class Signals(scene.Case):
    """docs/states.md, "Signals": before the switch they abort, after it they lead back, after the commit they change
    nothing. SIGHUP never does."""

    def play(self, number, place, code):
        before, after = self.node_.committed(), self.other()
        (serving,) = self.generations()
        driver = self.apply(failpoints=f"{place}=stop")
        scene.wait_stopped(driver.pid)
        os.kill(driver.pid, number)
        driver.resume()
        done = self.assert_exit(driver.end(), code)
        outcome = {0: "committed", 1: "aborted", 4: "rolled_back"}[code]
        self.assertEqual(done.json["outcome"], outcome, done)
        self.assert_settled_as(after if code == 0 else before)
        if code != 0:
            self.assert_is_still(serving)

    def test_interrupt_and_term_abort_before_the_switch(self):
        self.play(signal.SIGINT, "deploy.after_start", 1)
        self.play(signal.SIGTERM, "deploy.begin.preflight", 1)

    def test_interrupt_and_term_lead_back_after_the_switch(self):
        self.play(signal.SIGINT, "deploy.after_shift", 4)
        self.play(signal.SIGTERM, "deploy.after_probes#2", 4)

    def test_after_the_commit_nothing_leads_back(self):
        self.play(signal.SIGTERM, "deploy.after_commit_link", 0)

    def test_a_closed_terminal_changes_nothing(self):
        self.play(signal.SIGHUP, "deploy.after_start", 0)
        self.play(signal.SIGHUP, "deploy.after_shift", 0)


class Boots(scene.Case):
    """Everything of the app dies at once, what is on tmpfs is gone, and the boot id is another one."""

    flows = None  # nobody can be served while the machine is down
    places = DRIVER if scene.LONG else ("deploy.after_start", "deploy.after_shift", "deploy.after_commit_link")

    def tearDown(self):
        scene.ENV.pop("UPDAGENT_TEST_BOOT_ID", None)

    def boot(self, name):
        found = self.processes()
        scene.end(sum(found.values(), []))
        shutil.rmtree(self.node_.root / "run")
        scene.ENV["UPDAGENT_TEST_BOOT_ID"] = name

    def test_what_starts_after_a_boot_is_what_was_committed(self):
        for number, place in enumerate(self.places):
            before, after = self.node_.committed(), self.other()
            driver = self.apply(failpoints=f"{place}=stop")
            scene.wait_stopped(driver.pid)
            with open(f"/proc/{driver.pid}/task/{driver.pid}/children") as file:
                guardians = [int(word) for word in file.read().split()]
            scene.send([driver.pid, *guardians], signal.SIGKILL)
            driver.end()
            self.boot(f"boot-{number}")
            expected = after if DRIVER.index(place) >= COMMITTED_AT else before
            self.assert_exit(self.node_.run("recover", "--as", "boot", env=scene.ENV), 0)
            self.assertEqual((self.node_.current(), self.node_.committed()), (expected, expected), place)
            self.assertEqual(self.processes(), {}, "a recovery at boot starts nothing")
            self.spawned.append(subprocess.Popen([harness.BINARY, "--root", self.node_.root, "supervise", "demo"],
                                                 env=os.environ | scene.ENV, stdin=subprocess.DEVNULL,
                                                 stdout=subprocess.DEVNULL, start_new_session=True))
            self.assert_settled_as(expected)
            self.assertEqual(self.version_of_users(), expected)
            finished = [e for e in self.node_.events("--app", "demo") if e["event"] == "deployment.finished"][-1]
            self.assertEqual(finished["detail"]["outcome"], "committed" if expected == after else finished["detail"]["outcome"])
            if expected == before:
                self.assertEqual((finished["detail"]["reason"], finished["actor"]), ("reboot", "boot"))
            self.kills["boots"] += 1


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
