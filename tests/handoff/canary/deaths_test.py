"""Whoever dies or hangs in whatever step: the deployment ends by rule, never half, and users are with the old one within
the lease. A way back costs nobody a connection, from every step.

A place is a failpoint at which the driver stops itself, its share stored. Default is a slice of the table,
UPDAGENT_LONG=1 all of it.
"""

import dataclasses
import signal
import sys
import time
import unittest

import canary
import scene
from supervisor import wait_for

STEPS = (1, 50, 100)
ROLLOUT = {"steps": STEPS, "step_duration": "300ms"}
# The watch has the share of 100 %, and gates; its failpoint is passed when its time is over.
PLACES = [*(f"deploy.step.{percent}" for percent in STEPS), "deploy.begin.watch", "deploy.after_probes#2"]
NOBODY_LEFT = ("driver", "supervisor", "guardian")  # who could take the share back
VICTIMS = (("driver",), ("supervisor",), ("driver", "supervisor"), ("driver", "guardian"), NOBODY_LEFT, ("candidate",),
           ("old",))


@dataclasses.dataclass(frozen=True)
class Row:
    place: str
    victims: tuple
    signal: str  # KILL, STOP (for a moment), HANG (until the lease is over)

    @property
    def name(self):
        return f"SIG{self.signal} of {' and '.join(self.victims)} at {self.place}"

    def expected(self):
        if self.signal == "STOP" or self.victims in (("supervisor",), ("old",)) and self.signal == "KILL":
            return "committed"
        return "undone"

    def has_users(self):
        """For sure: a hundredth may be nobody."""
        return self.place != "deploy.step.1"

    def allowed(self):
        """Who is killed loses what it had accepted and not answered."""
        killed = self.signal == "KILL" and {"candidate", "old"} & set(self.victims)
        return scene.IN_FLIGHT if killed else canary.NONE


def table():
    rows = [Row(place, victims, "KILL") for place in PLACES for victims in VICTIMS]
    rows += [Row(place, victims, "STOP") for place in PLACES for victims in VICTIMS if "guardian" not in victims]
    return rows + [Row(place, victims, "HANG") for place in PLACES for victims in VICTIMS[:3]]


SLICE = {
    Row("deploy.step.1", ("driver", "supervisor"), "KILL"),
    Row("deploy.step.1", ("candidate",), "KILL"),
    Row("deploy.step.50", ("driver",), "KILL"),
    Row("deploy.step.50", ("supervisor",), "KILL"),
    Row("deploy.step.50", ("old",), "KILL"),
    Row("deploy.step.50", ("driver", "supervisor"), "STOP"),
    Row("deploy.step.50", ("driver", "supervisor"), "HANG"),
    Row("deploy.step.100", ("driver", "guardian"), "KILL"),
    Row("deploy.step.100", NOBODY_LEFT, "KILL"),
    Row("deploy.step.100", ("candidate",), "KILL"),
    Row("deploy.step.100", ("driver",), "HANG"),
    Row("deploy.begin.watch", ("driver", "supervisor"), "KILL"),
    Row("deploy.after_probes#2", ("supervisor",), "KILL"),
}


class Deaths(canary.Case):
    def test_every_row_of_the_table(self):
        rows = table()
        self.assertLessEqual(SLICE, set(rows))
        failed = []
        for row in rows:
            if not scene.LONG and row not in SLICE:
                continue
            print(f"{row.name}: {row.expected()}", flush=True)
            try:
                self.play(row)
            except Exception as error:
                failed.append(f"{row.name}: {error!r}\n{self.story()}")
                self.restore(failed)
        self.assertEqual(failed, [], "\n\n".join(failed))

    def restore(self, failed):
        """So that the rows after one that failed are judged by themselves."""
        scene.send(sum(self.processes().values(), []), signal.SIGCONT)
        self.node_.run("recover", env=scene.ENV)
        self.supervise()
        try:
            wait_for(self.settled, "a node to go on with")
        except AssertionError:
            self.fail("\n\n".join(failed))

    def play(self, row):
        self.before = self.node_.committed()
        begin = self.load_.mark("begin")
        gates = [canary.errors(self, min_samples=5), canary.kernel("crashes", "crashes <= 0")]
        driver = self.apply_stopped_at(self.release(gates=gates, rollout=ROLLOUT), row.place)
        victims = self.pids(row, driver)
        {"KILL": self.kill, "STOP": self.stop, "HANG": self.hang}[row.signal](row, driver, victims)
        done = driver.end()
        self.check(row, done)
        seen = self.load_.segment(begin, self.load_.mark("end"))
        bad = {name: seen.classes[name] for name in canary.load.FAILURES if seen.classes[name]}
        self.assertLessEqual(set(bad), row.allowed(), bad)

    def kill(self, row, driver, victims):
        killed_ns = time.monotonic_ns()
        scene.end(victims)
        scene.send([driver.pid], signal.SIGCONT)
        if row.victims == NOBODY_LEFT:
            self.assert_back_within_the_lease(killed_ns, self.newest, row.has_users())

    def stop(self, row, driver, victims):
        """Those who can go on do so for a round trip of the load client; users of one that is stopped wait."""
        scene.send(victims, signal.SIGSTOP)
        if "driver" not in row.victims:
            driver.resume()
        self.load_.mark("stopped")
        scene.send([*victims, driver.pid], signal.SIGCONT)

    def hang(self, row, driver, victims):
        """Nobody does anything; the kernel takes a share whose lease is over as none."""
        stopped_ns = time.monotonic_ns()
        scene.send(victims, signal.SIGSTOP)
        if "driver" not in row.victims:
            driver.resume()
            driver.process.wait(timeout=scene.harness.COMMAND_LIMIT_S)  # it goes on without an answer, and gives up
        self.assert_back_within_the_lease(stopped_ns, self.newest, row.has_users())
        scene.send([*victims, driver.pid], signal.SIGCONT)

    def check(self, row, done):
        killed = "driver" in row.victims and row.signal == "KILL"
        code = -signal.SIGKILL if killed else {"committed": 0, "undone": 4}[row.expected()]
        self.assertEqual(done.code, code, done)
        if not self.processes()["supervisor"]:
            self.supervise()  # as systemd would
        if "guardian" in row.victims:
            self.assert_exit(self.node_.run("recover", env=scene.ENV), 0)
        self.assert_settled_as(self.newest if row.expected() == "committed" else self.before, row.allowed())

    def pids(self, row, driver):
        found = self.processes()
        services = sorted(kind for kind in found if kind[0] == "service")
        with open(f"/proc/{driver.pid}/task/{driver.pid}/children") as file:
            guardian = [int(word) for word in file.read().split()]
        kinds = {"driver": [driver.pid], "guardian": guardian, "supervisor": found["supervisor"],
                 "old": found[services[0]], "candidate": found[services[-1]]}
        return [pid for victim in row.victims for pid in kinds[victim]]


class WayBack(canary.Case):
    """Of a release that somebody does not like, from every step: nobody is refused, reset, cut or left waiting."""

    users = {"fresh": {"connections": 100, "rate": 500, "timeout_ms": 20_000},
             "kept": {"connections": 4, "rate": 50, "keepalive": 1, "timeout_ms": 20_000},
             "slow": {"connections": 50, "rate": 50, "path": "/slow?ms=300", "timeout_ms": 20_000},
             "stream": {"connections": 2, "path": "/stream?bytes=16000&rate=40000", "stream": 16_000,
                        "think_ms": 50, "timeout_ms": 20_000}}

    def test_no_request_is_lost_on_the_way_back_from_any_step(self):
        for place in PLACES[:4]:
            with self.subTest(place):
                self.before = self.node_.committed()
                driver = self.apply_stopped_at(self.release(rollout=ROLLOUT, watch="60s"), place)
                self.load_.wait_for_answers(100)
                self.order("abort")
                # the share is taken back by whoever gets the order: the driver is still stopped
                after = self.load_.mark("aborted")
                self.load_.wait_for_answers(100)
                seen = self.load_.segment(after, self.load_.mark("later"), "fresh")
                self.assertEqual(set(seen.generations), {self.before})
                driver.resume()
                done = driver.end()
                self.assert_exit(done, 4)
                self.assertEqual(done.json["error"]["code"], "aborted")
                self.assert_only(canary.NONE)
                self.assert_settled_as(self.before)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
