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


class Leases(scene.Case):
    """The lease is 10 s; nothing shortens it here."""

    def hang_at_full_weight(self):
        self.served = self.serves()
        driver = self.apply(failpoints="deploy.after_probes#2=stop")
        scene.wait_stopped(driver.pid)
        self.hung_ns = time.monotonic_ns()
        self.assertEqual(self.version_of_users(), self.other())
        return driver

    def users_are_back_with(self, version):
        self.assert_back_within_the_lease(self.hung_ns, self.other())
        self.assertEqual(self.version_of_users(), version)

    def assert_undone(self, before):
        self.assert_settled_as(before)
        self.assertEqual(self.serves(), self.served, "the old one was started again")

    def test_a_hung_driver_and_a_dead_supervisor_leave_nobody_with_the_candidate(self):
        before = self.node_.committed()
        driver = self.hang_at_full_weight()
        scene.end(self.processes()["supervisor"])
        self.users_are_back_with(before)  # nobody has done anything: the kernel has
        self.supervise()  # as systemd would
        wait_for(lambda: len(self.generations()) == 2, "both generations")
        control = Control(self.node_.root / "run/demo.sock")
        self.addCleanup(control.close)
        self.assertTrue(control.ask("status")["deployment"]["lease_lost"])
        driver.resume()
        done = self.assert_exit(driver.end(), 4)
        self.assertEqual(done.json["outcome"], "rolled_back")
        self.assert_undone(before)

    @unittest.skipUnless(scene.LONG, "ten seconds more for the lease; --long")
    def test_a_driver_that_comes_back_starts_the_supervisor_that_nobody_else_did(self):
        before = self.node_.committed()
        driver = self.hang_at_full_weight()
        scene.send(self.processes()["supervisor"], signal.SIGKILL)
        self.users_are_back_with(before)
        driver.resume()
        self.assert_exit(driver.end(), 4)
        self.assert_undone(before)

    @unittest.skipUnless(scene.LONG, "ten seconds more for the lease; --long")
    def test_a_lease_that_ran_out_is_a_verdict_though_the_driver_is_back(self):
        before = self.node_.committed()
        driver = self.hang_at_full_weight()
        self.users_are_back_with(before)
        driver.resume()
        self.assert_exit(driver.end(), 4)
        self.assert_undone(before)

    @unittest.skipUnless(scene.LONG, "ten seconds more for the lease; --long")
    def test_a_hung_supervisor_can_not_keep_users_with_a_candidate(self):
        before, self.served = self.node_.committed(), self.serves()
        driver = self.apply(failpoints="deploy.after_shift=stop")
        scene.wait_stopped(driver.pid)
        hung = self.processes()["supervisor"]
        self.hung_ns = time.monotonic_ns()
        scene.send(hung, signal.SIGSTOP)
        driver.resume()
        done = self.assert_exit(driver.end(), 4)
        self.assertIn("does not answer", done.err + done.out)
        self.users_are_back_with(before)
        scene.send(hung, signal.SIGCONT)
        # nobody told it how the deployment ended, and that is as long as it waits for somebody
        self.load_.wait_until(lambda seen: seen.seconds >= 60, since_ns=time.monotonic_ns(), limit_s=120)
        self.assert_undone(before)


class Signals(scene.Case):
    """docs/states.md, "Signals": before the switch they abort, after it they lead back, after the commit they change
    nothing. SIGHUP never does."""

    def play(self, number, place, code):
        before, after, served = self.node_.committed(), self.other(), self.serves()
        driver = self.apply(failpoints=f"{place}=stop")
        scene.wait_stopped(driver.pid)
        os.kill(driver.pid, number)
        driver.resume()
        done = self.assert_exit(driver.end(), code)
        outcome = {0: "committed", 1: "aborted", 4: "rolled_back"}[code]
        self.assertEqual(done.json["outcome"], outcome, done)
        self.assert_settled_as(after if code == 0 else before)
        if code != 0:
            self.assertEqual(self.serves(), served, "the old one was started again")

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

    def boot_at(self, place, name, expected, artifact=None):
        driver = self.apply(artifact, failpoints=f"{place}=stop")
        scene.wait_stopped(driver.pid)
        with open(f"/proc/{driver.pid}/task/{driver.pid}/children") as file:
            guardians = [int(word) for word in file.read().split()]
        scene.send([driver.pid, *guardians], signal.SIGKILL)
        driver.end()
        self.boot(name)
        self.assert_exit(self.node_.run("recover", "--as", "boot", env=scene.ENV), 0)
        self.assertEqual((self.node_.current(), self.node_.committed()), (expected, expected), place)
        self.assertEqual(self.processes(), {}, "a recovery at boot starts nothing")
        self.spawned.append(subprocess.Popen([harness.BINARY, "--root", self.node_.root, "supervise", "demo"],
                                             env=os.environ | scene.ENV, stdin=subprocess.DEVNULL,
                                             stdout=subprocess.DEVNULL, start_new_session=True))
        self.assert_settled_as(expected)
        self.assertEqual(self.version_of_users(), expected)

    def test_a_floor_does_not_change_what_starts(self):
        artifact = self.pack("3.0.0", more='[requires]\nrollback_floor = "3.0.0"\n')
        self.boot_at("deploy.after_shift", "boot-floor", self.node_.committed(), artifact)

    def test_what_starts_after_a_boot_is_what_was_committed(self):
        for number, place in enumerate(self.places):
            before, after = self.node_.committed(), self.other()
            expected = after if DRIVER.index(place) >= COMMITTED_AT else before
            self.boot_at(place, f"boot-{number}", expected)
            finished = [e for e in self.node_.events("--app", "demo") if e["event"] == "deployment.finished"][-1]
            self.assertEqual(finished["detail"]["outcome"], "committed" if expected == after else finished["detail"]["outcome"])
            if expected == before:
                self.assertEqual((finished["detail"]["reason"], finished["actor"]), ("reboot", "boot"))
            self.kills["boots"] += 1


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
