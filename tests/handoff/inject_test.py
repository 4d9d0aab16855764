"""Protocol inject while its supervisor dies: a bind(2) is answered by whoever supervises next, whatever was under way."""

import errno
import os
import pathlib
import platform
import signal
import sys
import unittest

import load
import scene
import supervisor
from supervisor_test import Case, free_port

SERVER = pathlib.Path(supervisor.__file__).with_name("bind_server.py")
BIND = {"x86_64": 49, "aarch64": 200}[platform.machine()]


class Binds(Case):
    def setUp(self):
        super().setUp()
        self.handoff(self.service("1"))

    def tearDown(self):
        self.doCleanups()  # a supervisor with a driver is not to be stopped
        if self.supervisor.process.poll() is None:
            supervisor.wait_for(lambda: not (self.supervisor.status()["deployment"] or {}).get("driven"), "the driver's end")
        super().tearDown()

    def service(self, version, *options, **changes):
        return super().service(version, *options, **{"drain_timeout_ms": 1_000} | changes)

    def load(self):
        """Without connections that are kept: the server here has none, and a drain would wait for them."""
        return load.Load({"fresh": {"target": f"tcp:127.0.0.1:{self.port}", "connections": 8, "rate": 300}})

    def server(self, version, *options, port=None, **changes):
        """It binds when go(version) was called."""
        command = [sys.executable, str(SERVER), version, str(port or self.port), str(self.go_file(version)), *options]
        return self.service(version, command=command, protocol="inject", **{"ready": "listening"} | changes)

    def go_file(self, version):
        return self.root / f"go-{version}"

    def go(self, version):
        self.go_file(version).touch()

    def begun(self, version, *options, **changes):
        """A candidate that runs and has not bound yet: (the driver's connection, its number, its process)."""
        control = self.begin()
        number = control.ask("start", service=self.server(version, *options, **changes), epoch=control.epoch)["generation"]
        return control, number, self.pid_of(number)

    def pid_of(self, number, other_than=0):
        def look():
            pid = self.generations()[number]["pid"]
            return pid if pid != other_than else 0
        return supervisor.wait_for(look, "its process")

    def await_bind(self, pid):
        """Until it waits in bind(2)."""
        file = pathlib.Path(f"/proc/{pid}/syscall")
        supervisor.wait_for(lambda: file.read_text().split()[0] == str(BIND), "its bind")

    def await_stop(self):
        """Of the supervisor, or of the helper that it has for the service's socket: the pid."""
        pid = self.supervisor.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children")

        def stopped():
            return next((one for one in (pid, *map(int, children.read_text().split())) if scene.state_of(one) == "T"), None)
        return supervisor.wait_for(stopped, "the failpoint")

    def await_ready(self, number):
        supervisor.wait_for(lambda: self.generations()[number]["state"] == "ready", "its readiness")

    def promote(self, number, version, running):
        """What a driver does that has lost its supervisor and goes on."""
        self.await_ready(number)
        control = self.begin()
        control.ask("weight", epoch=control.epoch, weight=10_000)
        running.wait_for_answers(50, generation=version)
        control.ask("commit", epoch=control.epoch)
        control.ask("end", epoch=control.epoch)
        control.close()
        self.only(number)

    def die(self, control):
        self.supervisor.kill()
        control.close()


class Deaths(Binds):
    def test_a_bind_while_nobody_supervises_waits_for_the_next_one(self):
        with self.load() as running:
            control, number, pid = self.begun("2")
            self.die(control)
            self.go("2")
            self.await_bind(pid)
            self.supervisor.start()
            self.promote(number, "2", running)
            running.stop().assert_nothing_failed()

    def test_a_bind_that_was_taken_by_the_one_that_died_is_finished_by_the_next(self):
        for version, place in enumerate(("inject.received", "inject.replaced"), 2):
            with self.subTest(place), self.load() as running:
                self.supervisor.kill()
                self.supervisor.start(UPDAGENT_FAILPOINTS=f"{place}=stop")
                control, number, pid = self.begun(str(version))
                self.go(str(version))
                self.await_stop()
                self.assertIn(scene.state_of(pid), "SD")  # it has no answer
                self.die(control)
                self.supervisor.start()
                self.promote(number, str(version), running)
                running.stop().assert_nothing_failed()

    def test_a_helper_that_is_killed_is_followed_by_another(self):
        self.supervisor.kill()
        self.supervisor.start(UPDAGENT_FAILPOINTS="inject.replaced=kill")
        with self.load() as running:
            control, number, _ = self.begun("2")
            self.go("2")
            self.await_ready(number)
            control.close()
            self.promote(number, "2", running)
            running.stop().assert_nothing_failed()

    def test_an_active_one_that_is_killed_binds_again_and_nobody_is_refused(self):
        self.go("2")
        number = self.handoff(self.server("2"))
        self.only(number)
        self.supervisor.kill()  # and the next one knows its sockets as well
        self.supervisor.start()
        with self.load() as running:
            running.wait_for_answers(50, generation="2")
            pid = self.generations()[number]["pid"]
            os.kill(pid, signal.SIGKILL)
            self.pid_of(number, other_than=pid)
            running.wait_for_answers(50, generation="2")
            seen = running.stop()
        self.assertLessEqual({failure["class"] for failure in seen.failures}, scene.IN_FLIGHT)
        self.assertEqual(self.generations()[number]["starts"], 2)

    def test_without_the_holder_too_a_later_bind_fails_and_the_active_one_serves(self):
        with self.load() as running:
            control, number, _ = self.begun("2")
            holders = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self.is_holder(pid)]
            self.assertTrue(holders)
            self.die(control)  # first, or it would have another holder
            scene.end(holders)
            self.go("2")
            error = pathlib.Path(f"{self.go_file('2')}.error")
            supervisor.wait_for(lambda: error.exists() and error.read_text(), "the error of its bind")
            self.assertEqual(int(error.read_text()), errno.ENOSYS)
            self.supervisor.start()
            self.only(1)
            self.go("3")
            self.handoff(self.server("3"))
            running.wait_for_answers(50, generation="3")
            running.stop().assert_nothing_failed()

    def is_holder(self, pid):
        try:
            comm = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            return comm == "updagent-holder" and str(self.root) in pathlib.Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            return False


class Upgrades(Binds):
    def upgrade(self, control):
        control.ask("upgrade", program=self.supervisor.binary)
        control.ask("status")  # the connection is still there, at the new program

    def test_what_binds_after_one_is_answered(self):
        with self.load() as running:
            control, number, _ = self.begun("2")
            self.upgrade(control)
            self.go("2")
            self.await_ready(number)
            control.close()
            self.promote(number, "2", running)
            running.stop().assert_nothing_failed()

    def test_what_was_bound_before_one_is_known_after_it(self):
        control, number, _ = self.begun("2", "--eager", ready="notify")
        self.upgrade(control)
        supervisor.wait_for(lambda: self.generations()[number]["status"] == "waiting", "its first words")
        self.assertEqual(self.generations()[number]["state"], "starting")  # nothing is bound
        self.upgrade(control)
        self.go("2")
        self.await_ready(number)
        self.upgrade(control)
        self.assertEqual(self.generations()[number]["state"], "ready")
        control.ask("rollback", epoch=control.epoch, reason="")
        control.ask("end", epoch=control.epoch)


class Words(Binds):
    def test_one_that_binds_another_address_fails_and_both_are_named(self):
        other = free_port()
        self.go("2")
        control = self.begin()
        number, news = self.candidate(control, self.server("2", port=other, ready_timeout_ms=1_000))
        self.assertEqual(news["life"], "failed", news)
        for words in ("has not bound 'http'", f"expected tcp:127.0.0.1:{self.port}", f"got tcp:127.0.0.1:{other}"):
            self.assertIn(words, news["problem"])
        control.ask("rollback", epoch=control.epoch, reason="")
        control.ask("end", epoch=control.epoch)
        self.only(1)


if __name__ == "__main__":
    unittest.main()
