"""Kills the driver at every failpoint and asks what is left.

The points are enumerated from a run that passes, so a new one is in the table by itself. Columns:
  guardian   the driver dies, nobody types anything
  next       the guardian dies, too; the next command ends the deployment
  reboot     everything dies, the boot id changes, /run is empty, the unit's command runs
  again      the recovery itself is killed at each of its points, then runs once more
"""

import collections
import os
import shutil
import sys
import unittest

import harness

HOOKS = """
[hooks]
pre_upgrade = { command = ["bin/note", "pre_upgrade"], timeout = "20s" }
post_switch = { command = ["bin/note", "post_switch"], timeout = "20s" }
post_commit = { command = ["bin/note", "post_commit"], timeout = "20s" }
post_rollback = { command = ["bin/note", "post_rollback"], timeout = "20s" }
[[probe]]
name = "good"
type = "exec"
command = ["bin/true"]
interval = "50ms"
timeout = "20s"
"""
NOTE = (b'#!/bin/sh\necho "$1 $UPDAGENT_VERSION" >> "$STATE_DIRECTORY/hooks"\n', 0o755)

ENV = harness.SHORT_LIVED


def shard(points):
    """ctest runs this file several times side by side, each with its share of the table."""
    index, count = (int(n) for n in os.environ.get("UPDAGENT_SHARD", "0/1").split("/"))
    return [point for number, point in enumerate(points) if number % count == index]


class Table(harness.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        harness.become_subreaper()
        files = {"bin/note": NOTE}
        cls.v1 = cls.workshop.pack("1.0.0", HOOKS, files)
        cls.v2 = cls.workshop.pack("2.0.0", HOOKS, files)
        cls.bad = cls.workshop.pack("3.0.0", HOOKS.replace("bin/true", "bin/false"), files)
        cls.base = harness.Node(cls.workshop)
        done = cls.base.apply(cls.v1, env=ENV)
        assert done.code == 0, done
        (cls.base.root / "apps/demo/data/hooks").unlink()
        cls.case = 0

    def fresh(self):
        type(self).case += 1
        return self.base.clone(f"case-{os.getpid()}-{self.case}")

    def points_of(self, node, *command):
        """(name, n) for each failpoint that a run of the command passes, in order."""
        trace = node.root / "points"
        self.last = node.run(*command, env=ENV | {"UPDAGENT_FAILPOINTS_TRACE": str(trace)})
        harness.reap_all()
        seen = collections.Counter()
        points = []
        for name in trace.read_text().split():
            seen[name] += 1
            points.append((name, seen[name]))
        trace.unlink()
        return points

    def kill_at(self, node, point, *command, guardian):
        rule = f"{point[0]}#{point[1]}=kill" + ("" if guardian else ";guardian.act=kill")
        done = node.run(*command, env=ENV | {"UPDAGENT_FAILPOINTS": rule})
        harness.reap_all()
        self.assertEqual(done.code, -9, f"{point}: {done}")

    def hooks(self, node):
        path = node.root / "apps/demo/data/hooks"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def check_end(self, node, previous, candidate):
        """The rules that hold wherever the driver died."""
        self.assert_intact(node)
        self.assert_settled(node)
        self.assertIn(node.current(), (previous, candidate))
        traces = collections.OrderedDict()
        for event in node.events("--app", "demo"):
            traces.setdefault(event["trace_id"], []).append(event)
        for trace, events in traces.items():
            names = [event["event"] for event in events]
            if "deployment.started" not in names:
                continue
            self.assertEqual(names[0], "deployment.started", trace)
            self.assertEqual(names.count("deployment.finished"), 1, (trace, names))
            self.assertEqual(names[-1], "deployment.finished", (trace, names))
        return traces

    def check_apply(self, node, point, points):
        """What the table of states says for a kill at `point` of the apply of 2.0.0 over 1.0.0."""
        order = {name: index for index, name in reversed(list(enumerate(points)))}
        at = points.index(point)
        traces = self.check_end(node, "1.0.0", "2.0.0")
        hooks = self.hooks(node)
        if at < order[("deploy.after_commit_link", 1)]:
            # a rename that was done but not yet followed by its failpoint may already count
            rename = [i for i, p in enumerate(points) if p[0] == "sys.rename" and
                      order[("deploy.before_commit_link", 1)] < i < order[("deploy.after_commit_link", 1)]]
            if rename and at > rename[-1]:
                self.assertIn(node.current(), ("1.0.0", "2.0.0"))
            else:
                self.assertEqual(node.current(), "1.0.0", point)
        else:
            self.assertEqual(node.current(), "2.0.0", point)
        if node.current() == "1.0.0":
            ran = "pre_upgrade 2.0.0" in hooks
            undone = "post_rollback 1.0.0" in hooks
            if ran:
                self.assertTrue(undone, f"{point}: {hooks}")
        last = list(traces.values())[-1]
        if at >= order[("deploy.after_open", 1)]:
            outcome = last[-1]["detail"]["outcome"]
            expected = {"1.0.0": ("aborted", "rolled_back"), "2.0.0": ("committed",)}[node.current()]
            self.assertIn(outcome, expected, point)

    def test_guardian_ends_a_killed_apply(self):
        points = self.points_of(self.fresh(), "apply", self.v2)
        self.assert_exit(self.last, 0)
        self.assertGreater(len(points), 60)
        for point in shard(points):
            if point[0].startswith("guardian"):
                continue
            with self.subTest(point=point):
                node = self.fresh()
                self.kill_at(node, point, "apply", self.v2, guardian=True)
                self.check_apply_or_before_open(node, point, points)
                shutil.rmtree(node.root)

    def check_apply_or_before_open(self, node, point, points):
        opened = points.index(("deploy.after_guardian", 1))
        if points.index(point) < opened:
            # nothing was forked yet: the next command finds what is there
            self.assert_exit(node.run("recover", env=ENV), 0)
        self.check_apply(node, point, points)

    def test_next_command_ends_a_killed_apply(self):
        points = self.points_of(self.fresh(), "apply", self.v2)
        for point in shard([p for p in points if p[0].startswith(("deploy.", "sqlite."))]):
            with self.subTest(point=point):
                node = self.fresh()
                self.kill_at(node, point, "apply", self.v2, guardian=False)
                self.assert_exit(node.run("recover", env=ENV), 0)
                self.check_apply(node, point, points)
                shutil.rmtree(node.root)

    def test_next_apply_ends_a_killed_apply_and_succeeds(self):
        points = self.points_of(self.fresh(), "apply", self.v2)
        chosen = [p for p in points if p[0].startswith("deploy.") and "hook" not in p[0]]
        for point in shard(chosen):
            with self.subTest(point=point):
                node = self.fresh()
                self.kill_at(node, point, "apply", self.v2, guardian=False)
                done = node.run("apply", self.v2, "--retry", env=ENV)
                self.assert_exit(done, 0)
                self.check_end(node, "2.0.0", "2.0.0")
                shutil.rmtree(node.root)

    def test_reboot_ends_a_killed_apply(self):
        points = self.points_of(self.fresh(), "apply", self.v2)
        for point in shard([p for p in points if p[0].startswith("deploy.begin")]):
            with self.subTest(point=point):
                node = self.fresh()
                self.kill_at(node, point, "apply", self.v2, guardian=False)
                shutil.rmtree(node.root / "run")
                boot = ENV | {"UPDAGENT_TEST_BOOT_ID": "another-boot"}
                self.assert_exit(node.run("recover", "--as", "boot", env=boot), 0)
                self.check_apply(node, point, points)
                opened = points.index(point) >= points.index(("deploy.after_open", 1))
                if opened and node.current() == "1.0.0":
                    finished = node.events("--app", "demo")[-1]
                    self.assertEqual(finished["detail"]["reason"], "reboot", finished)
                    self.assertEqual(finished["actor"], "boot")
                shutil.rmtree(node.root)

    def test_a_recovery_that_is_killed_too_is_ended_by_the_next(self):
        for start in ("deploy.after_hook.pre_upgrade", "deploy.after_switch", "deploy.after_commit_link"):
            killed = self.fresh()
            apply_points = self.points_of(self.fresh(), "apply", self.v2)
            self.kill_at(killed, (start, 1), "apply", self.v2, guardian=False)
            model = killed.clone(f"model-{os.getpid()}")
            points = self.points_of(model, "recover")
            self.assert_exit(self.last, 0)
            for point in shard(points):
                with self.subTest(start=start, point=point):
                    node = killed.clone(f"again-{os.getpid()}")
                    self.kill_at(node, point, "recover", guardian=False)
                    self.assert_exit(node.run("recover", env=ENV), 0)
                    self.check_apply(node, (start, 1), apply_points)
                    shutil.rmtree(node.root)

    def test_the_first_release_killed_leaves_it_or_nothing(self):
        empty = harness.Node(self.workshop)
        points = self.points_of(empty.clone("first-model"), "apply", self.v1)
        after_commit = points.index(("deploy.after_commit_link", 1))
        for point in shard([p for p in points if p[0].startswith("deploy.")]):
            with self.subTest(point=point):
                node = empty.clone(f"first-{os.getpid()}")
                self.kill_at(node, point, "apply", self.v1, guardian=False)
                self.assert_exit(node.run("recover", env=ENV), 0)
                expected = "1.0.0" if points.index(point) >= after_commit else None
                self.assertEqual((node.current(), node.committed()), (expected, expected), point)
                self.assert_exit(node.run("log", "verify"), 0)
                shutil.rmtree(node.root)

    def test_after_a_killed_first_apply_the_next_one_works(self):
        """The folders that a first apply makes have their owner, or are not there."""
        spec = HOOKS + '[service]\nuser = "daemon"\n'
        artifact = self.workshop.pack("1.0.1", spec, {"bin/note": NOTE})
        empty = harness.Node(self.workshop)
        empty.configure('[allow]\nusers = ["daemon"]\n', app="demo")
        points = self.points_of(empty.clone("folders-model"), "apply", artifact)
        self.assert_exit(self.last, 0)
        for point in shard([p for p in points if p[0] in ("sys.mkdir", "sys.rename", "sys.fsync", "sys.create")]):
            with self.subTest(point=point):
                node = empty.clone(f"folders-{os.getpid()}")
                self.kill_at(node, point, "apply", artifact, guardian=False)
                self.assert_exit(node.run("apply", artifact, "--retry", env=ENV), 0)
                self.assertEqual((node.current(), node.committed()), ("1.0.1", "1.0.1"))
                self.assert_settled(node)
                shutil.rmtree(node.root)

    def test_a_rollback_that_is_killed_is_finished(self):
        upgraded = self.fresh()
        self.assert_exit(upgraded.run("apply", self.v2, env=ENV), 0)
        points = self.points_of(upgraded.clone(f"rb-model-{os.getpid()}"), "rollback", "demo")
        self.assert_exit(self.last, 0)
        begun = points.index(("deploy.begin.rollback", 1))
        for point in shard(points):
            if point[0].startswith("guardian"):
                continue
            with self.subTest(point=point):
                node = upgraded.clone(f"rb-{os.getpid()}")
                self.kill_at(node, point, "rollback", "demo", guardian=False)
                self.assert_exit(node.run("recover", env=ENV), 0)
                self.check_end(node, "1.0.0", "2.0.0")
                if points.index(point) >= begun:
                    self.assertEqual(node.current(), "1.0.0", point)
                shutil.rmtree(node.root)

    def test_a_bad_release_killed_on_its_way_back_is_gone(self):
        points = self.points_of(self.fresh(), "apply", self.bad)
        self.assert_exit(self.last, 4)
        for point in shard([p for p in points if p[0].startswith("deploy.")]):
            with self.subTest(point=point):
                node = self.fresh()
                self.kill_at(node, point, "apply", self.bad, guardian=True)
                if points.index(point) < points.index(("deploy.after_guardian", 1)):
                    self.assert_exit(node.run("recover", env=ENV), 0)
                self.check_end(node, "1.0.0", "1.0.0")
                shutil.rmtree(node.root)


class Failing(Table):
    """Every call that can fail fails once, with each errno, and nobody is killed."""

    def fail_each(self, names, errnos, codes):
        points = self.points_of(self.fresh(), "apply", self.v2)
        committed = points.index(("deploy.after_commit_link", 1))
        chosen = [p for p in points if p[0] in names]
        self.assertTrue(chosen)
        for point in shard(chosen):
            for errno in errnos:
                with self.subTest(point=point, errno=errno):
                    node = self.fresh()
                    rule = f"{point[0]}#{point[1]}={errno}"
                    done = node.run("--json", "apply", self.v2, env=ENV | {"UPDAGENT_FAILPOINTS": rule})
                    harness.reap_all()
                    self.assertIn(done.code, codes, f"{point} {errno}: {done}")
                    if done.code != 0:
                        self.assertIn("error", done.json)
                    self.check_end(node, "1.0.0", "2.0.0")
                    # the exit code is the truth
                    self.assertEqual(node.current(), "2.0.0" if done.code == 0 else "1.0.0", (point, errno, done))
                    if points.index(point) > committed:
                        self.assertEqual(done.code, 0, "a commit that was done is not taken back")
                    shutil.rmtree(node.root)

    def test_failing_sync_and_rename(self):
        self.fail_each({"sys.fsync", "sys.syncfs", "sys.rename", "sys.symlink"}, ["EIO", "ENOSPC"], {0, 1, 2, 4})

    def test_failing_write(self):
        self.fail_each({"sys.write", "sys.link"}, ["ENOSPC", "EIO"], {0, 1, 2, 4})

    def after_switch(self, name):
        """Which pass of `name` is the first after the switch of an apply."""
        points = self.points_of(self.fresh(), "apply", self.v2)
        switch = points.index(("deploy.after_switch", 1))
        return next(number for place, (point, number) in enumerate(points) if point == name and place > switch)

    def test_a_switch_that_can_not_be_made_needs_no_way_back_and_no_person(self):
        """From there on no link can be made at all: current names what it named before."""
        points = self.points_of(self.fresh(), "apply", self.v2)
        before = points.index(("deploy.before_switch", 1))
        for name in ("sys.symlink", "sys.rename"):
            number = next(number for point, number in points[before:] if point == name)
            with self.subTest(name):
                node = self.fresh()
                rule = f"{name}#{number}+=ENOSPC"
                done = node.run("--json", "apply", self.v2, env=ENV | {"UPDAGENT_FAILPOINTS": rule})
                self.assert_exit(done, 4)
                self.assertEqual((done.json["outcome"], done.json["reason"]), ("rolled_back", "no_space"))
                harness.reap_all()
                self.check_end(node, "1.0.0", "1.0.0")
                self.assert_exit(node.run("recover", env=ENV), 0)
                shutil.rmtree(node.root)

    def test_a_journal_that_fails_from_the_switch_on_changes_nothing(self):
        """Also when the spool can't be written: the links tell the next command how it ended."""
        first_commit, first_write = self.after_switch("sqlite.commit"), self.after_switch("sys.write")
        for rules in (f"sqlite.commit#{first_commit}+=ENOSPC",
                      f"sqlite.commit#{first_commit}+=ENOSPC;sys.write#{first_write}+=ENOSPC"):
            for next_command in (["recover"], ["recover", "--as", "boot"], ["apply", self.bad], ["log"]):
                with self.subTest(rules=rules, next_command=next_command):
                    node = self.fresh()
                    done = node.run("apply", self.v2, env=ENV | {"UPDAGENT_FAILPOINTS": rules})
                    self.assert_exit(done, 0)
                    harness.reap_all()
                    ended = node.run(*next_command, env=ENV)
                    self.assertIn(ended.code, (0, 4), ended)
                    harness.reap_all()
                    self.assertEqual((node.current(), node.committed()), ("2.0.0", "2.0.0"))
                    self.assert_exit(node.run("recover", env=ENV), 0)
                    self.check_end(node, "2.0.0", "2.0.0")
                    states = {r["version"]: r["state"] for r in node.json("releases", "demo")["releases"]}
                    self.assertEqual(states["2.0.0"], "good")
                    shutil.rmtree(node.root)

    def test_a_database_that_stays_full_while_it_is_recovered(self):
        """The end waits in the spool and can't be imported: it counts all the same."""
        node = self.fresh()
        rule = {"UPDAGENT_FAILPOINTS": f"sqlite.commit#{self.after_switch('sqlite.commit')}+=ENOSPC"}
        self.assert_exit(node.run("apply", self.v2, env=ENV | rule), 0)
        for _ in range(2):
            done = node.run("recover", env=ENV | {"UPDAGENT_FAILPOINTS": "sqlite.commit#0=ENOSPC"})
            self.assert_exit(done, 0)
            self.assertEqual((node.current(), node.committed()), ("2.0.0", "2.0.0"))
        self.assert_exit(node.run("recover", env=ENV), 0)
        self.check_end(node, "2.0.0", "2.0.0")

    def test_a_rollback_does_not_need_the_database(self):
        for rule in ("sqlite.commit#0=ENOSPC", "sqlite.commit#0=EIO"):
            with self.subTest(rule=rule):
                node = self.fresh()
                self.assert_exit(node.run("apply", self.v2, env=ENV), 0)
                done = node.run("rollback", "demo", env=ENV | {"UPDAGENT_FAILPOINTS": rule})
                self.assert_exit(done, 0)
                harness.reap_all()
                self.assertEqual((node.current(), node.committed()), ("1.0.0", "1.0.0"))
                self.assert_exit(node.run("recover", env=ENV), 0)
                self.check_end(node, "1.0.0", "1.0.0")
                shutil.rmtree(node.root)

    def test_failing_database_commit(self):
        self.fail_each({"sqlite.commit"}, ["ENOSPC", "EIO"], {0, 1, 2, 4})


# Failing inherits the fixture only
for name in [n for n in dir(Table) if n.startswith("test_")]:
    setattr(Failing, name, None)

if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
