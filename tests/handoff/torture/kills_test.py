"""Kills and stops each process of a handoff at each of its places, under load, and asks what is left.

A place is a failpoint at which the driver or the supervisor stops itself; then the victims get their signal, and
whoever stopped goes on. By rule a deployment ends in one of two ways, and nobody types anything:

  committed   both links and the one generation that is left are the new release's
  undone      they are the old one's
  either      a READY that a supervisor was just reading when it was killed is lost with it, and then the candidate is
              not ready in time; one that comes while none lives is not

A row of the table says which. Default is a slice of it, --long (UPDAGENT_LONG=1) all of it.
"""

import dataclasses
import os
import signal
import sys
import unittest

import scene
from supervisor import wait_for

# Of the driver, in the order in which a deployment passes them; probes are asked in preflight, and again in watch.
DRIVER = ("deploy.after_start", "deploy.begin.preflight", "deploy.after_probes", "deploy.before_switch",
          "deploy.after_switch", "deploy.before_shift", "deploy.after_shift", "deploy.after_probes#2",
          "deploy.before_commit_link",
          "deploy.after_commit_link", "deploy.after_commit_service", "deploy.begin.cleanup", "deploy.before_close")
# Of the supervisor; promoted and later come when the link `committed` has moved.
SUPERVISOR = ("service.opened", "service.held", "service.started", "service.ready", "service.weight_stored",
              "service.promoted", "service.drain_begun", "service.stop_sent", "service.retired")
VICTIMS = (("driver",), ("candidate",), ("old",), ("supervisor",), ("holder",), ("supervisor", "holder"),
           ("driver", "supervisor"), ("driver", "guardian"))
IMPATIENT = ("--orphan-patience-ms", "500")  # a minute is long for a test
COMMITTED_AT = DRIVER.index("deploy.after_commit_link")
SWITCHED_AT = DRIVER.index("deploy.before_switch")  # what fails from here on leads back
SHIFTED_AT = DRIVER.index("deploy.after_shift")


@dataclasses.dataclass(frozen=True)
class Row:
    place: str
    victims: tuple
    signal: str  # KILL, STOP (until users were served for a while)

    @property
    def name(self):
        return f"SIG{self.signal} of {' and '.join(self.victims)} at {self.place}"

    def by_driver(self):
        return self.place.startswith("deploy.")

    def passed(self, place):
        """Whether the driver was past this place of its own when it happened."""
        if self.by_driver():
            return DRIVER.index(self.place) >= place
        order = SUPERVISOR.index(self.place)
        reached = (COMMITTED_AT if order >= SUPERVISOR.index("service.promoted")
                   else SHIFTED_AT - 1 if order >= SUPERVISOR.index("service.weight_stored") else 0)
        return reached >= place

    def expected(self):
        if self.signal == "STOP" or self.passed(COMMITTED_AT):
            return "committed"
        if "driver" in self.victims or "candidate" in self.victims:
            return "undone"
        # whether a start was done that was not answered nobody can tell: it counts as not done
        if "supervisor" in self.victims and self.place in SUPERVISOR[:3]:
            return "undone"
        if "supervisor" in self.victims and self.place == "deploy.after_start":
            return "either"
        # the one READY of the candidate went to the supervisor that died
        if "supervisor" in self.victims and self.place == "service.ready":
            return "undone"
        return "committed"

    def codes(self):
        """Of the driver."""
        if "driver" in self.victims and self.signal == "KILL":
            return {-signal.SIGKILL}
        undone = 4 if self.passed(SWITCHED_AT) else 1
        return {"committed": {0}, "undone": {undone}, "either": {0, undone}}[self.expected()]

    def allowed(self):
        """Who is killed loses what it had accepted and not answered, and no one else does. The old one has streams
        until its end, the candidate has users from the shift on."""
        if self.signal == "STOP":
            return frozenset()
        shifted = self.passed(SHIFTED_AT - (0 if self.by_driver() else 1))
        with_users = {"old", "candidate"} if shifted else {"old"}
        return scene.IN_FLIGHT if with_users & set(self.victims) else frozenset()


class BadRow(Row):
    """Of a deployment whose gate has failed at full weight: dies who may, it is undone."""

    def expected(self):
        return "undone"

    def codes(self):
        return {-signal.SIGKILL} if "driver" in self.victims else {4}

    def allowed(self):
        return frozenset()


def exists(row):
    """What there is to kill: before a candidate is started there is none, after the last place no old one."""
    if "candidate" in row.victims and row.place in ("service.opened", "service.held", "service.started"):
        return False
    if row.place in ("service.retired", "service.stop_sent"):  # the deployment is over
        return row.victims in (("supervisor",), ("holder",), ("supervisor", "holder"))
    # one that is stopped for long before READY is not ready in time, and then it is the clock that decides
    if "candidate" in row.victims and row.signal == "STOP" and row.place in ("deploy.after_start",):
        return False
    return not ("guardian" in row.victims and row.signal == "STOP")


def table():
    rows = [Row(place, victims, sign) for place in (*DRIVER, *SUPERVISOR) for victims in VICTIMS for sign in ("KILL", "STOP")]
    return [row for row in rows if exists(row)]


# Each victim, each signal, and each kind of place at least once.
SLICE = {
    Row("deploy.after_start", ("driver", "supervisor"), "KILL"),
    Row("deploy.begin.preflight", ("candidate",), "KILL"),
    Row("deploy.after_switch", ("old",), "KILL"),
    Row("deploy.after_switch", ("supervisor",), "KILL"),
    Row("deploy.after_shift", ("candidate",), "KILL"),
    Row("deploy.after_shift", ("supervisor", "holder"), "KILL"),
    Row("deploy.after_shift", ("driver", "supervisor"), "KILL"),
    Row("deploy.after_shift", ("driver", "supervisor"), "STOP"),
    Row("deploy.after_probes#2", ("old",), "STOP"),
    Row("deploy.after_probes#2", ("candidate",), "STOP"),
    Row("deploy.before_commit_link", ("candidate",), "KILL"),
    Row("deploy.before_commit_link", ("supervisor",), "KILL"),
    Row("deploy.after_commit_link", ("candidate",), "KILL"),
    Row("deploy.after_commit_link", ("driver", "supervisor"), "KILL"),
    Row("deploy.after_commit_service", ("driver", "guardian"), "KILL"),
    Row("service.held", ("supervisor",), "KILL"),
    Row("service.weight_stored", ("supervisor",), "KILL"),
    Row("service.promoted", ("supervisor",), "KILL"),
    Row("service.promoted", ("driver", "supervisor"), "KILL"),
    Row("service.stop_sent", ("supervisor",), "KILL"),
    Row("service.retired", ("supervisor", "holder"), "KILL"),
}


# A rollback that is decided, done in the kernel, done in the links.
BAD_TABLE = [BadRow(place, victims, "KILL")
             for place in ("deploy.before_verdict", "service.withdrawn", "deploy.before_rollback_link")
             for victims in (("supervisor",), ("supervisor", "holder"), ("driver", "supervisor"))]
BAD_SLICE = {
    BadRow("deploy.before_verdict", ("supervisor", "holder"), "KILL"),
    BadRow("service.withdrawn", ("supervisor",), "KILL"),
    BadRow("service.withdrawn", ("driver", "supervisor"), "KILL"),
    BadRow("deploy.before_rollback_link", ("driver", "supervisor"), "KILL"),
}


def chosen(rows, by_default):
    missing = by_default - set(rows)
    assert not missing, missing
    index, count = (int(n) for n in os.environ.get("UPDAGENT_SHARD", "0/1").split("/"))
    rows = [row for row in rows if scene.LONG or row in by_default]
    if only := os.environ.get("UPDAGENT_ROW"):
        rows = [row for row in rows if only in row.name]
    return [row for number, row in enumerate(rows) if number % count == index]


class Kills(scene.Case):
    ready_timeout = "8s"  # one whose READY was lost waits for so long

    def rows(self):
        return chosen(table(), SLICE)

    def test_every_row_of_the_table(self):
        failed = []
        for row in self.rows():
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
        self.load_.wait_for_answers(20, flow="fresh")
        self.take_failures()

    def play(self, row):
        before, after = self.node_.committed(), self.other()
        supervisor = None
        patience = IMPATIENT if "guardian" in row.victims else ()
        if not row.by_driver():
            supervisor = self.supervise(f"{row.place}=stop", words=patience)
        elif patience:
            self.supervise(words=patience)
        wait_for(self.settled, "a supervisor")
        served = self.serves()
        driver = self.apply(failpoints=f"{row.place}=stop" if row.by_driver() else "")
        stopped = driver.pid if row.by_driver() else supervisor
        scene.wait_stopped(stopped)
        victims = self.pids(row, driver, before)
        if row.signal == "KILL":
            scene.end(victims)
        else:
            scene.send(victims, signal.SIGSTOP)
            self.while_stopped(row, victims, stopped, before, after)
        scene.send([*victims, stopped], signal.SIGCONT)
        done = driver.end()
        self.kills[row.signal] += len(victims)
        self.assertIn(done.code, row.codes(), done)
        # Whose supervisor dies when no deployment needs it any more has systemd to start the next one.
        if "driver" not in row.victims and not self.processes()["supervisor"]:
            self.supervise()
        # The supervisor ends what it knows of. What is over there, and still open in the journal, the next command does.
        if "guardian" in row.victims and row.place == "deploy.before_close":
            self.assert_exit(self.node_.run("recover", env=scene.ENV), 0)
        either = after if done.code == 0 else before
        expected = {"committed": after, "undone": before, "either": either}[row.expected()]
        self.assert_settled_as(expected, row.allowed())
        if expected == before and not ("old" in row.victims and row.signal == "KILL"):
            self.assertEqual(self.serves(), served, "the old one was started again")

    def pids(self, row, driver, before):
        found = self.processes()
        services = sorted(kind for kind in found if kind[0] == "service")
        kinds = {"supervisor": found["supervisor"], "holder": found["holder"], "driver": [driver.pid],
                 "guardian": self.children(driver.pid), "old": found.get(services[0], []),
                 "candidate": found.get(services[-1], []) if len(services) > 1 else []}
        for victim in row.victims:
            self.assertTrue(kinds[victim], f"no {victim} in {found}")
        return [pid for victim in row.victims for pid in kinds[victim]]

    def children(self, pid):
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]

    def while_stopped(self, row, victims, stopped, before, after):
        """Those who can go on do so for a while. Users of a server that is stopped wait: it is continued soon."""
        with_users = "candidate" if row.passed(SHIFTED_AT - (0 if row.by_driver() else 1)) else "old"
        if stopped not in victims:
            scene.send([stopped], signal.SIGCONT)
        if with_users in row.victims or "candidate" in row.victims:
            self.load_.mark("stopped")  # one round trip to the client: requests have come
        else:
            for _ in range(20):
                self.get()


class Undone(Kills):
    """The same in the middle of a rollback, and of a succession."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        never = '[[gate]]\nname = "never"\ntype = "exec"\ncommand = ["/bin/false"]\ninterval = "100ms"\nfailures = 1\n'
        cls.bad = cls.pack("3.0.0", watch="60s", more=never)

    def rows(self):
        return chosen(BAD_TABLE, BAD_SLICE)

    def apply(self, artifact=None, **more):
        return super().apply(artifact or self.bad, **more)


class Successors(scene.Case):
    ready_timeout = Kills.ready_timeout

    def die(self, failpoint, *kinds):
        """The supervisor that runs is killed, and the next one kills itself."""
        pid = self.supervise(failpoint, kinds=("supervisor", *kinds))
        wait_for(lambda: scene.state_of(pid) in ("Z", ""), "its death")
        self.kills[failpoint] += 1

    def finish(self, driver, before, after):
        """By rule: the driver goes on, or its lease ran out meanwhile."""
        done = driver.end()
        self.assertIn(done.code, (0, 1, 4), done)
        wait_for(self.settled_with_a_supervisor, "one generation and no deployment")
        self.assert_settled_as(after if done.code == 0 else before)

    def settled_with_a_supervisor(self):
        if not self.processes()["supervisor"]:
            self.supervise()  # as systemd would
        return self.settled()

    def test_two_in_a_row_die_while_they_take_over_a_candidate_with_all_users(self):
        before, after = self.node_.committed(), self.other()
        driver = self.apply(failpoints="deploy.after_shift=stop")
        scene.wait_stopped(driver.pid)
        for kinds in ((), ("holder",)):
            self.die("service.adopted=kill", *kinds)
            self.get()
        driver.resume()
        self.finish(driver, before, after)

    def test_it_dies_at_any_writing_of_its_state(self):
        for count in range(1, 100, 1 if scene.LONG else 4):
            before, after = self.node_.committed(), self.other()
            pid = self.supervise(f"service.state_saved#{count}=kill")
            wait_for(lambda: self.settled() or scene.state_of(pid) in ("Z", ""), "its turn")
            driver = self.apply()
            self.finish(driver, before, after)
            if scene.state_of(pid) not in ("Z", ""):
                break
            self.kills["service.state_saved"] += 1
        self.assertNotIn(scene.state_of(pid), ("Z", ""), "more writings than are tried")
        self.assertGreater(self.kills["service.state_saved"], 2)
        self.supervise()  # it would die in its next ones


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
