"""The way back never waits for the journal: a full disk, a locked and a damaged database after the switch."""

import os
import sqlite3
import subprocess
import sys
import unittest

import harness

# Healthy until the file /tmp-style flag in STATE_DIRECTORY appears: the test decides when it turns bad.
SPEC = """
[[probe]]
name = "flag"
type = "exec"
command = ["bin/flag"]
interval = "50ms"
timeout = "20s"
failures = 2
[rollout]
watch = "300s"
"""
FLAG = (b'#!/bin/sh\n[ "$UPDAGENT_VERSION" = 1.0.0 ] || [ ! -e "$CACHE_DIRECTORY/bad" ]\n', 0o755)


class JournalInTheWay(harness.Case):
    def start_watching(self, node):
        """An apply of 2.0.0 over 1.0.0 that is in its watch."""
        files = {"bin/flag": FLAG}
        self.assert_exit(node.apply(self.workshop.pack("1.0.0", SPEC.replace("300s", "0s"), files)), 0)
        running = subprocess.Popen([harness.BINARY, "--root", node.root, "apply", self.workshop.pack("2.0.0", SPEC, files)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in running.stderr:
            if line.split()[:1] == ["switch"]:
                break
        self.assertEqual(node.current(), "2.0.0")
        return running

    def turn_bad(self, node, running):
        (node.root / "apps/demo/cache/bad").touch()
        return self.expect_rollback(node, running)

    def expect_rollback(self, node, running):
        out, err = running.communicate(timeout=harness.COMMAND_LIMIT_S)
        self.assertEqual(running.returncode, 4, out + err)
        self.assertEqual((node.current(), node.committed()), ("1.0.0", "1.0.0"))
        return err

    def check_log(self, node):
        """Afterwards everything is in the log, late or not, and in the chain."""
        self.assert_exit(node.run("recover"), 0)
        self.assert_exit(node.run("log", "verify"), 0)
        finished = [e for e in node.events("--app", "demo") if e["event"] == "deployment.finished"]
        self.assertEqual([e["detail"]["outcome"] for e in finished], ["committed", "rolled_back"])
        stages = [e["stage"] for e in node.events("--app", "demo") if e["event"] == "stage.finished"]
        self.assertIn("rollback", stages)
        self.assert_settled(node)

    def test_a_locked_database(self):
        node = self.node()
        running = self.start_watching(node)
        holder = sqlite3.connect(node.root / "updagent.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        try:
            said = self.turn_bad(node, running)
        finally:
            holder.execute("ROLLBACK")
            holder.close()
        self.assertIn("going on", said)
        self.check_log(node)

    def test_a_full_disk(self):
        disk = self.workshop.path / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "updagent-test", disk], check=True)
        try:
            (disk / "node").mkdir()
            node = harness.Node(self.workshop, disk / "node")
            node.configure("[limits]\nmin_free_bytes = 0\n")
            running = self.start_watching(node)
            (node.root / "apps/demo/cache/bad.not-yet").touch()
            with open(disk / "filler", "wb", buffering=0) as filler:
                try:
                    while filler.write(b"x" * 4096) == 4096:
                        pass
                except OSError:
                    pass
            os.rename(node.root / "apps/demo/cache/bad.not-yet", node.root / "apps/demo/cache/bad")
            self.expect_rollback(node, running)
            os.unlink(disk / "filler")
            self.check_log(node)
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)

    def test_a_damaged_database(self):
        node = self.node()
        running = self.start_watching(node)
        for name in ("updagent.db", "updagent.db-wal"):
            with open(node.root / name, "r+b") as file:
                file.write(os.urandom(16384))
        self.turn_bad(node, running)
        self.assert_exit(node.run("recover", "--rebuild"), 0)
        self.assert_exit(node.run("log", "verify"), 0)
        self.assertEqual(node.current(), "1.0.0")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
