"""What people, gates and others do at the less usual moments of a rollout."""

import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import unittest

import canary
import harness
import scene
from supervisor import Control, wait_for

LONG_STEPS = {"steps": [10, 100], "step_duration": "600s"}
SHORT_STEPS = {"steps": [50, 100], "step_duration": "300ms"}
STEPS = (1, 50, 100)
PLACES = [*(f"deploy.step.{percent}" for percent in STEPS), "deploy.begin.watch"]


def step_at(place):
    """None in the watch, as assert_undone() wants it."""
    return int(place.rpartition(".")[2]) if place.startswith("deploy.step.") else None


def command(text):
    return ["/bin/sh", "-ec", text]


class Ordered(canary.Case):
    def has_said(self, event):
        """The deployment that is open."""
        trace = self.status()["deployment"]["trace_id"]
        return any(one["event"] == event for one in self.node_.events("--trace", trace))

    def assert_nobody_comes_to(self, version):
        begin = self.load_.mark("begin")
        self.load_.wait_for_answers(300)
        self.assertEqual(self.load_.segment(begin, self.load_.mark("end")).generations[version], 0)

    def told(self, name):
        """A file by which a command says that it runs."""
        return self.node_.root / "apps/demo/data" / name

    def waiting(self, name):
        return command(f'touch "$STATE_DIRECTORY/{name}"; until [ -e "$STATE_DIRECTORY/never" ]; do sleep 0.02; done')

    def aborted_during(self, name, **keys):
        driver = self.apply(self.release(**keys))
        wait_for(lambda: self.told(name).exists() or driver.process.poll() is not None, name)
        self.assertTrue(self.deployment("abort")["taken"])
        return driver.end()


class Pauses(Ordered):
    """Ordered before there is any share: nobody comes to the candidate until somebody orders something else."""

    def held_back_at(self, place):
        self.before = self.node_.committed()
        driver = self.apply_stopped_at(self.release(rollout=SHORT_STEPS), place)
        self.order("pause")
        driver.resume()
        wait_for(lambda: self.status()["deployment"]["paused"], "the pause")
        self.assert_nobody_comes_to(self.newest)
        return driver

    def test_everybody_is_kept_away_until_it_is_resumed(self):
        for place in ("deploy.after_start", "deploy.begin.preflight"):
            with self.subTest(place):
                driver = self.held_back_at(place)
                told = self.status()["deployment"]
                self.assertEqual((told["stage"], told["weight_percent"], told["step_percent"]), ("shift", 0, 0))
                self.assertTrue(told["waiting_for"].startswith("paused by "), told)
                shown = driver.progress()[-1]
                self.assertEqual((shown["percent"], shown["measured_percent"], shown["paused"]), (0, None, True))
                self.deployment("resume")
                self.assert_committed(driver.end(), self.newest)

    def test_promote_and_abort_end_it_as_well(self):
        driver = self.held_back_at("deploy.begin.preflight")
        self.deployment("promote")
        self.assert_committed(driver.end(), self.newest)
        driver = self.held_back_at("deploy.begin.preflight")
        self.deployment("abort")
        done = driver.end()
        self.assert_exit(done, 4)
        self.assertEqual(done.json["reason"], "aborted")
        self.assert_only(canary.NONE)
        self.assert_settled_as(self.before)


class LongPauses(Ordered):
    @classmethod
    def prepare(cls):
        cls.node_.configure('[limits]\nmax_pause = "1s"\n', app="demo")

    def test_one_that_nobody_ends_is_undone(self):
        for place in ("deploy.begin.preflight", "deploy.step.50", "deploy.begin.watch"):
            with self.subTest(place):
                driver = self.apply_stopped_at(self.release(rollout=SHORT_STEPS, watch="60s"), place)
                self.order("pause")
                driver.resume()
                done = driver.end()
                self.assert_exit(done, 4)
                self.assertEqual(done.json["error"]["code"], "timed_out")
                self.assertEqual(self.failed_stage(done)["stage"], "watch" if place == "deploy.begin.watch" else "shift")
                self.assert_only(canary.NONE)
                self.assert_settled_as(self.before)


class Promotes(Ordered):
    def test_a_gate_that_is_about_to_fail_is_the_operators_decision(self):
        gate = canary.latency(self, "p50 <= 0.05", min_samples=10, failures=100)
        driver = self.apply(self.release("--latency", "200", gates=[gate], rollout=LONG_STEPS, watch="600s"))
        driver.wait_for_step(10)
        wait_for(lambda: self.has_said("gate.failed"), "a window that does not hold")
        self.assertTrue(self.deployment("promote")["taken"])
        self.assert_committed(driver.end(), self.newest)

    def test_one_that_is_dead_is_not_committed_whoever_wants_it(self):
        for dies_first in (True, False):
            with self.subTest(dies_first=dies_first):
                driver = self.apply_stopped_at(self.release(rollout=LONG_STEPS), "deploy.step.10")
                candidate = self.processes()["service", max(one["number"] for one in self.generations())]
                if dies_first:
                    scene.end(candidate)
                self.order("promote")
                scene.end(candidate)
                driver.resume()
                done = driver.end()
                self.assert_exit(done, 4)
                self.assertEqual(done.json["outcome"], "rolled_back")
                self.assert_only(scene.IN_FLIGHT)
                self.assert_settled_as(self.before, scene.IN_FLIGHT)


class Aborts(Ordered):
    def test_during_a_smoke_command_nothing_has_changed(self):
        smoke = f"[preflight]\nsmoke = [{{ command = {json.dumps(self.waiting('smoke'))} }}]\n"
        done = self.aborted_during("smoke", more=smoke)
        self.assert_exit(done, 1)
        self.assertEqual((done.json["outcome"], done.json["reason"]), ("aborted", "aborted"))
        self.assertEqual(self.failed_stage(done)["stage"], "preflight")
        self.assert_only(canary.NONE)
        self.assert_settled_as(self.before)

    def test_during_the_hook_after_the_switch_it_leads_back(self):
        hook = f"[hooks]\npost_switch = {{ command = {json.dumps(self.waiting('hook'))} }}\n"
        done = self.aborted_during("hook", more=hook)
        self.assert_exit(done, 4)
        self.assertEqual((done.json["outcome"], done.json["reason"]), ("rolled_back", "aborted"))
        self.assertEqual(self.failed_stage(done)["stage"], "switch")
        self.assert_only(canary.NONE)
        self.assert_settled_as(self.before)


class AfterTheCommit(canary.Case):
    """The old one still drains, because a stream is open, when the new one fails."""

    drain_timeout = "120s"
    users = {"fresh": {"connections": 4, "rate": 100, "timeout_ms": 20_000}}
    LOST = scene.IN_FLIGHT | {"refused"}  # what waited in the queue of a socket that is shut down

    def committed_beside_the_old(self, standby):
        stream = self.enterContext(socket.create_connection(("127.0.0.1", self.port), timeout=harness.COMMAND_LIMIT_S))
        stream.sendall(b"GET /stream?bytes=100000000&rate=2000 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertIn(b"200", stream.recv(100))
        self.assert_exit(self.apply(self.release(rollout={"standby": standby})).end(), 0)
        self.load_.wait_for_answers(20, generation=self.newest)
        roles = {one["version"]: one["role"] for one in self.generations()}
        self.assertEqual(roles, {self.before: "draining", self.newest: "active"})
        return stream

    def counters(self):
        control = Control(self.node_.root / "run/demo.sock")
        self.addCleanup(control.close)
        return {one["version"]: one for one in control.ask("measure")["generations"]}

    def lose_the_listener(self, standby):
        """Nobody accepts what comes to the new one from now on: what the steering has counted until users are served."""
        stream = self.committed_beside_the_old(standby)
        before = self.counters()
        self.assertIn('"result":"ok"', self.get("/switch?shutdown-listener=http", method="POST"))
        self.load_.wait_for_answers(50, generation=self.before)
        after = self.counters()
        self.assert_only(self.LOST)
        self.assert_exit(self.apply(self.release()).end(), 0)  # a good one mends it
        stream.close()
        self.assert_settled_as(self.newest, self.LOST)
        return {name: sum(after[version][name] - before[version][name] for version in before)
                for name in ("fallback", "critical")}

    def test_who_comes_when_the_new_ones_socket_is_gone_is_served_by_a_warm_old_one(self):
        grown = self.lose_the_listener("warm")
        self.assertGreaterEqual(grown["fallback"], 50)
        self.assertEqual(grown["critical"], 0)

    def test_a_cold_one_is_not_what_they_are_sent_to(self):
        """The kernel's own choice among all sockets of the port is better than a refusal; it is counted as that."""
        grown = self.lose_the_listener("cold")
        self.assertEqual(grown["fallback"], 0)
        self.assertGreaterEqual(grown["critical"], 50)

    def test_one_that_is_killed_is_there_again_and_nobody_goes_to_the_old_one(self):
        for standby in ("warm", "cold"):
            with self.subTest(standby):
                self.before = self.node_.committed()
                stream = self.committed_beside_the_old(standby)
                before = self.counters()
                scene.end(self.processes()["service", before[self.newest]["number"]])
                self.load_.wait_for_answers(50, generation=self.newest)
                for name in ("fallback", "selected", "critical"):
                    self.assertEqual(self.counters()[self.before][name], before[self.before][name], name)
                stream.close()
                self.assert_only(scene.IN_FLIGHT)
                self.assert_settled_as(self.newest, scene.IN_FLIGHT)


class WayBackByAGate(canary.Case):
    """Under all the load: what a bad candidate answered is all that users see of it, and none of it after the verdict."""

    users = {"fresh": {"connections": 100, "rate": 500, "timeout_ms": 20_000},
             "kept": {"connections": 4, "rate": 50, "keepalive": 1, "timeout_ms": 20_000},
             "slow": {"connections": 50, "rate": 50, "path": "/slow?ms=300", "timeout_ms": 20_000},
             "stream": {"connections": 2, "path": "/stream?bytes=16000&rate=40000", "stream": 16_000,
                        "think_ms": 50, "timeout_ms": 20_000}}

    def turn_bad(self):
        """The candidate and nobody else, whatever its share."""
        done = subprocess.run([harness.BINARY, "--root", self.node_.root, "probe-connect", "demo", self.newest],
                              input=b"POST /switch?fail-ratio=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                              capture_output=True, timeout=harness.COMMAND_LIMIT_S)
        self.assertIn(b" 200 ", done.stdout, done)

    def test_nobody_is_refused_reset_or_left_waiting_from_any_step(self):
        for place in PLACES:
            with self.subTest(place):
                self.before = self.node_.committed()
                gate = canary.errors(self, min_samples=5, failures=1)
                rollout = {"steps": STEPS, "step_duration": "300ms"}
                artifact = self.release(gates=[gate], rollout=rollout, watch="60s")
                driver = self.apply_stopped_at(artifact, place, "deploy.after_withdraw")
                self.turn_bad()
                driver.resume()
                scene.wait_stopped(driver.pid)
                after = self.load_.mark("withdrawn")
                driver.resume()
                done = driver.end()
                self.assert_undone(done, gate="errors", step=step_at(place), allowed={"wrong_status"})
                later = self.load_.segment(after, self.load_.mark("later"), "fresh")
                self.assertEqual((later.failed, set(later.generations)), (0, {self.before}))


class WithoutPrometheus(canary.Case):
    """It dies or hangs while users are with the candidate, and is not well again."""

    def gate(self, prometheus):
        return {"name": "slo", "type": "prometheus", "url": prometheus.url, "query": "vector(0)", "condition": "value <= 0.5",
                "window": "500ms", "timeout": "500ms", "no_data_timeout": "1s"}

    def undone_without(self, number):
        for place in PLACES:
            with self.subTest(place), canary.Prometheus(f"127.0.0.1:{self.port}") as prometheus:
                self.before = self.node_.committed()
                rollout = {"steps": STEPS, "step_duration": "300ms"}
                artifact = self.release(gates=[self.gate(prometheus)], rollout=rollout, watch="60s")
                driver = self.apply_stopped_at(artifact, place)
                prometheus.process.send_signal(number)
                driver.resume()
                done = driver.end()
                self.assert_undone(done, step=step_at(place), code="gate_failed")
                self.assertIn("gate 'slo'", done.json["error"]["message"])

    def test_the_release_is_undone_from_any_step(self):
        self.undone_without(signal.SIGKILL)

    @canary.long_only
    def test_so_it_is_where_the_server_hangs(self):
        self.undone_without(signal.SIGSTOP)


class Shown(canary.Case):
    ROLLOUT = {"steps": [50, 100], "step_duration": "1s"}

    def words(self, artifact):
        return [harness.BINARY, "--root", self.node_.root, "apply", artifact]

    def on_a_terminal(self, artifact, columns=200, code=0):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, columns, 0, 0))
        process = subprocess.Popen(self.words(artifact), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
                                   env=os.environ | scene.ENV | {"TERM": "xterm"})
        os.close(theirs)
        seen = b""
        try:
            while data := os.read(ours, 1 << 16):
                seen += data
        except OSError:
            pass  # nobody has the other end any more
        finally:
            os.close(ours)
        self.assertEqual(process.wait(timeout=harness.COMMAND_LIMIT_S), code, seen)
        return seen.decode()

    def test_a_terminal_sees_steps_the_measured_share_and_a_bar(self):
        seen = self.on_a_terminal(self.release(rollout=self.ROLLOUT, watch="1s"))
        for pattern in (r"\r\x1b\[K  shift +\[#*\.*\] \[50\] 100 %  ",
                        r"\[#+\.*\] \[50\] 100 %  \d+\.\d % of new connections, \d+  [\d.]+ \w+ left",
                        r"\[#*\.*\] 50 \[100\] %  ",
                        r"\n.*step \[50\] 100 %  \d+\.\d % of new connections, \d+\r\n",
                        r"\n.*step 50 \[100\] %  100\.0 % of new connections, \d+\r\n",
                        r"\r\x1b\[K  watching +\[#*\.*\] "):
            self.assertRegex(re.sub(r"\r\x1b\[K(?=\r\x1b\[K)", "", seen), pattern)

    def test_a_narrow_terminal_sees_the_time_left_and_what_is_waited_for(self):
        rollout = {"steps": [1, 10, 50, 100], "step_duration": "300ms", "min_connections": 1_000_000, "step_patience": "7s"}
        seen = self.on_a_terminal(self.release(rollout=rollout, watch="1s"), columns=80, code=4)
        drawn = [line for line in re.split(r"[\r\n]+(?:\x1b\[K)?", seen) if line.startswith("  shift ")]
        self.assertTrue([line for line in drawn if re.search(r"\[1\] 10 50 100 %  .*[\d.]+ \w+ left$", line)], drawn)
        self.assertTrue([line for line in drawn if re.search(r"waiting: \d+ of 1000000 connections", line)], drawn)

    def test_a_pipe_gets_lines_only(self):
        done = harness.run(*self.words(self.release(rollout=self.ROLLOUT, watch="1s"))[1:], env=scene.ENV)
        self.assert_exit(done, 0)
        for character in ("\r", "\x1b", "#"):
            self.assertNotIn(character, done.err + done.out)
        steps = [line.split() for line in (done.err + done.out).splitlines() if " step " in line]
        self.assertEqual([" ".join(words[1:5]) for words in steps], ["step [50] 100 %", "step 50 [100] %"])
        for words in steps:
            self.assertIn("of new connections,", " ".join(words))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
