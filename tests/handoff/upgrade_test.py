"""The supervisor becomes another program while it supervises: under load, with a driver connected, in every phase."""

import json
import os
import pathlib
import shutil
import signal
import socket
import time
import unittest

import supervisor
from supervisor_test import BINARY, Case


class Upgrade(Case):
    def setUp(self):
        super().setUp()
        self.programs = 0

    def newer(self):
        """The same program at another path: what a package upgrade leaves."""
        self.programs += 1
        path = self.root / f"updagent-supervisor-{self.programs}"
        shutil.copy2(BINARY, path)
        return path

    def upgrade(self, program=None):
        program = program or self.newer()
        control = self.supervisor.connect()
        pid = supervisor.wait_for(lambda: self.accepted(control, program), "nothing half done")["pid"]
        supervisor.wait_for(lambda: os.readlink(f"/proc/{pid}/exe") == str(program), "the new program")
        control.ask("status")  # the connection is still there
        control.close()
        return pid

    def accepted(self, control, program):
        try:
            return control.ask("upgrade", program=str(program))
        except supervisor.Refused as refused:  # a start, or what a service sent is just being closed
            self.assertEqual(refused.code, "busy")
            return None

    def test_in_every_phase_of_a_handoff_under_load(self):
        pid = self.supervisor.process.pid
        self.handoff(self.service("1.0.0"))
        with self.load() as running:
            running.wait_for_answers(50)
            self.upgrade()
            control = self.begin()
            self.upgrade()
            number, news = self.candidate(control, self.service("2.0.0"))
            self.assertEqual(news["life"], "ready", news)
            self.upgrade()
            control.ask("weight", epoch=control.epoch, weight=10_000)
            running.wait_for_answers(50, generation="2.0.0")
            self.assertEqual(self.upgrade(), pid)
            control.ask("renew", epoch=control.epoch)
            self.assertEqual(self.supervisor.status()["deployment"]["driven"], True)
            control.ask("commit", epoch=control.epoch)
            self.upgrade()  # the old one drains
            control.ask("end", epoch=control.epoch)
            running.wait_for_answers(50, generation="2.0.0")
            self.only(number)
            self.handoff(self.service("3.0.0"))
            running.wait_for_answers(50, generation="3.0.0")
            running.stop().assert_nothing_failed()

    def test_a_driver_that_dies_after_it_is_noticed(self):
        first = self.handoff(self.service("1.0.0"))
        control = self.begin()
        self.candidate(control, self.service("2.0.0"))
        control.ask("weight", epoch=control.epoch, weight=10_000)
        self.upgrade()
        control.close()
        supervisor.wait_for(lambda: not self.supervisor.status()["deployment"]["driven"], "the end of the connection")
        self.assertEqual(self.generations()[first]["weight"], 10_000)

    def test_a_drain_has_its_time_and_not_that_time_again_after_each(self):
        first = self.handoff(self.service("1.0.0", drain_timeout_ms=2_000, stop_timeout_ms=1_000))
        with socket.create_connection(("127.0.0.1", self.port)) as busy:
            time.sleep(0.05)  # the kernel counts in ticks: the last word is the client's
            busy.sendall(b"GET / HTTP/1.1\r\n")
            self.handoff(self.service("2.0.0"))
            for _ in range(20):  # each of them long before its drain would be over
                if first not in self.generations():
                    return
                self.upgrade()
                time.sleep(0.5)
        self.fail("it drains on and on")

    def test_times_are_of_a_clock_that_nobody_sets(self):
        control = self.supervisor.connect()
        control.ask("restart", service=self.service("1.0.0", "--never-ready", "1", ready_timeout_ms=600_000))
        control.close()
        (state,) = json.loads((self.root / "run/.demo/state").read_text())["generations"]
        now_us = time.clock_gettime(time.CLOCK_BOOTTIME) * 1e6
        self.assertLessEqual(state["begun_boot_us"], now_us)
        self.assertEqual(round((state["due_boot_us"] - state["begun_boot_us"]) / 1e6), 600)

    def test_what_a_service_says_meanwhile_is_heard(self):
        number = self.handoff(self.service("1.0.0"))
        service_pid = self.generations()[number]["pid"]
        os.kill(self.supervisor.process.pid, signal.SIGSTOP)
        os.kill(service_pid, signal.SIGKILL)  # it is dead before the new program looks
        os.kill(self.supervisor.process.pid, signal.SIGCONT)
        supervisor.wait_for(lambda: self.generations()[number]["pid"] != service_pid
                            and self.generations()[number]["state"] == "ready", "the restart")
        self.upgrade()
        self.assertEqual(self.generations()[number]["state"], "ready")
        os.kill(self.generations()[number]["pid"], signal.SIGKILL)  # still our child: it is reaped and started again
        supervisor.wait_for(lambda: self.generations()[number]["starts"] == 3
                            and self.generations()[number]["state"] == "ready", "the next restart")

    def test_a_program_that_can_not_take_over_is_refused(self):
        number = self.handoff(self.service("1.0.0"))
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        broken = self.root / "broken"
        broken.write_text("#!/bin/sh\necho I am too old >&2\nexit 3\n")
        broken.chmod(0o755)
        for program, said in (("/nonexistent/program", "nonexistent"), (str(broken), "I am too old"), ("relative", "absolute")):
            with self.assertRaisesRegex(supervisor.Refused, said):
                control.ask("upgrade", program=program)
        text = self.root / "text"  # passes the check, and can't be executed when it counts
        text.write_text("#!/bin/sh\nrm -f $0\nexit 0\n")
        text.chmod(0o755)
        control.ask("upgrade", program=str(text))
        self.assertEqual(self.generations()[number]["state"], "ready")
        self.assertEqual(os.readlink(f"/proc/{self.supervisor.process.pid}/exe"), BINARY)
        self.handoff(self.service("2.0.0"))
        text = "".join(path.read_text() for path in pathlib.Path(self.root / "spool").glob("*.jsonl"))
        self.assertIn("cannot become", text)

    def test_descriptors_do_not_pile_up(self):
        self.handoff(self.service("1.0.0"))
        self.upgrade()

        def descriptors():
            control = self.supervisor.connect()
            for _ in range(2):  # a turn of the loop for whoever has just gone
                control.ask("status")
            count = len(os.listdir(f"/proc/{self.supervisor.process.pid}/fd"))
            control.close()
            return count

        before = descriptors()
        program = self.newer()
        for _ in range(10):
            control = self.supervisor.connect()
            control.ask("upgrade", program=str(program))
            control.ask("status")
            control.close()
        supervisor.wait_for(lambda: descriptors() == before, "as many descriptors as before")


if __name__ == "__main__":
    unittest.main()
