"""Odd states of a node and the way out of each: what is good stays reachable, and nothing widens by itself."""

import fcntl
import http.server
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import threading
import time
import unittest

import harness
from apply_test import hook, probe

ENV = {"ASAN_OPTIONS": "detect_leaks=0"}
WAIT_S = 60


def wait_for(condition, what):
    """For what another process does: no event of it reaches us."""
    end = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.02)


class Case(harness.Case):
    def open_folder(self, name):
        """Where a hook may write, whoever it runs as."""
        folder = self.workshop.path / name
        folder.mkdir()
        folder.chmod(0o777)
        return folder


class Links(Case):
    def setUp(self):
        self.good = probe(["bin/true"])
        self.bad = probe(["bin/false"], "failures = 1\n")

    def test_the_way_back_is_the_committed_release_and_not_what_was_current(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0", self.good)), 0)
        (node.root / "apps/demo/current").unlink()
        done = self.assert_exit(node.apply(self.workshop.pack("2.0.0", self.bad)), 4)
        self.assertNotEqual(done.json["reason"], "no_previous")
        self.assertEqual((node.current(), node.committed()), ("1.0.0", "1.0.0"))

    def test_after_a_failed_rollback_the_committed_release_stays_committed(self):
        """1.0.0 has turned bad; 2.0.0, which was good, turns bad as well."""
        node = self.node()
        switch = self.workshop.path / "turn-bad"
        files = {"bin/check": (f'#!/bin/sh\ntest ! -e "{switch}-$UPDAGENT_VERSION"\n'.encode(), 0o755)}
        spec = probe(["bin/check"], "failures = 1\n")
        v1, v2 = self.workshop.pack("1.0.0", spec, files), self.workshop.pack("2.0.0", spec, files)
        for artifact in (v1, v2):
            self.assert_exit(node.apply(artifact), 0)
        pathlib.Path(f"{switch}-1.0.0").touch()
        self.assert_exit(node.run("rollback", "demo"), 8)
        self.assertEqual((node.current(), node.committed()), ("1.0.0", "2.0.0"))
        person = self.assert_exit(node.run("recover", "demo"), 8)  # the links are a person's now
        self.assertIn("rollback demo --to 2.0.0", person.err + person.out)
        pathlib.Path(f"{switch}-2.0.0").touch()
        self.assert_exit(node.apply(v2, "--retry"), 8)
        self.assertEqual(node.committed(), "2.0.0")
        pathlib.Path(f"{switch}-2.0.0").unlink()
        self.assert_exit(node.run("rollback", "demo", "--to", "2.0.0"), 0)
        self.assertEqual((node.current(), node.committed()), ("2.0.0", "2.0.0"))
        states = {row["version"]: row["state"] for row in node.json("releases", "demo")["releases"]}
        self.assertEqual(states["2.0.0"], "good")

    def test_a_refused_attempt_does_not_end_the_wait_for_a_person(self):
        node = self.node()
        floor = self.bad + '[requires]\nrollback_floor = "2.0.0"\n'
        self.assert_exit(node.apply(self.workshop.pack("1.0.0", self.good)), 0)
        self.assert_exit(node.apply(self.workshop.pack("2.0.0", floor)), 8)
        self.assert_exit(node.apply(self.workshop.pack("0.9.0")), 3)
        self.assert_exit(node.run("recover", "demo"), 8)
        self.assertEqual((node.current(), node.committed()), ("2.0.0", "1.0.0"))

    def test_rollback_after_a_dead_driver_goes_back_one_release_only(self):
        node = self.node()
        for version in ("1.0.0", "1.1.0"):
            self.assert_exit(node.apply(self.workshop.pack(version, self.good)), 0)
        kill = ENV | {"UPDAGENT_FAILPOINTS": "deploy.after_switch=kill;guardian.act=kill"}
        self.assertEqual(node.run("apply", self.workshop.pack("1.2.0", self.good), env=kill).code, -9)
        self.assert_exit(node.run("rollback", "demo"), 0)
        self.assertEqual((node.current(), node.committed()), ("1.1.0", "1.1.0"))

    def test_a_folder_that_can_not_be_trusted_leaves_the_deployment_open(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0", self.good)), 0)
        kill = ENV | {"UPDAGENT_FAILPOINTS": "deploy.after_switch=kill;guardian.act=kill"}
        self.assertEqual(node.run("apply", self.workshop.pack("2.0.0", self.good), env=kill).code, -9)
        app = node.root / "apps/demo"
        app.chmod(0o775)
        refused = node.run("recover")
        self.assertNotEqual(refused.code, 0)
        self.assertIn("chmod go-w", refused.out + refused.err)
        app.chmod(0o755)
        self.assert_exit(node.run("recover"), 0)
        self.assertEqual((node.current(), node.committed()), ("1.0.0", "1.0.0"))

    def test_a_hold_during_a_deployment_stops_it_before_the_switch(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        gate = self.open_folder("hold") / "gate"
        files = {"bin/wait": (f'#!/bin/sh\ntouch {gate}-here\nwhile [ ! -e {gate} ]; do sleep 0.05; done\n'.encode(), 0o755)}
        artifact = self.workshop.pack("2.0.0", hook("pre_upgrade", "bin/wait"), files)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("UPDAGENT_")}
        running = subprocess.Popen([harness.BINARY, "--root", node.root, "--json", "apply", artifact], env=clean,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        wait_for(pathlib.Path(f"{gate}-here").exists, "the hook")
        self.assert_exit(node.run("hold", "demo"), 0)
        gate.touch()
        answer = json.loads(running.communicate(timeout=WAIT_S)[0])
        self.assertEqual((running.returncode, answer["error"]["code"]), (2, "held"))
        self.assertEqual(node.current(), "1.0.0")
        self.assertTrue(node.json("status", "demo")["apps"][0]["held"])
        self.assert_exit(node.run("hold", "demo", "--off"), 0)
        self.assert_exit(node.apply(artifact), 0)


class Damage(harness.Case):
    def test_a_damaged_current_release_is_mended_by_apply_retry(self):
        node = self.node()
        artifact = self.workshop.pack("1.0.0")
        self.assert_exit(node.apply(artifact), 0)
        for damaged in ("same.txt", ".updagent/manifest.json"):
            path = node.root / "apps/demo/current" / damaged
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[:-1] + b"!")
            path.chmod(0o444)
            self.assert_exit(node.run("verify", "--installed", "demo"), 9)
            self.assert_exit(node.apply(artifact, "--retry"), 0)
            self.assert_intact(node)
        self.assertEqual(self.assert_exit(node.apply(artifact, "--retry"), 0).json["outcome"], "unchanged")

    def test_a_damaged_kept_release_is_mended_by_applying_it(self):
        node = self.node()
        old = self.workshop.pack("1.0.0")
        self.assert_exit(node.apply(old), 0)
        self.assert_exit(node.apply(self.workshop.pack("2.0.0")), 0)
        manifest = node.root / "apps/demo/releases/1.0.0/.updagent/manifest.json"
        manifest.chmod(0o644)
        manifest.write_bytes(manifest.read_bytes().replace(b"same", b"sane"))
        self.assert_exit(node.run("rollback", "demo"), 9)
        self.assertEqual(node.current(), "2.0.0")
        self.assert_exit(node.apply(old, "--allow-downgrade"), 0)
        self.assert_intact(node)
        self.assertEqual(node.current(), "1.0.0")

    def test_without_a_database_rollback_finds_its_way_and_nothing_is_removed(self):
        node = self.node()
        for version in ("1.0.0", "1.1.0", "1.2.0", "2.0.0"):
            self.assert_exit(node.apply(self.workshop.pack(version), ), 0)
        self.assertEqual(len(list((node.root / "apps/demo/releases").iterdir())), 3)
        (node.root / "updagent.db").write_bytes(b"rubbish" * 1000)
        for more in ("updagent.db-wal", "updagent.db-shm"):
            (node.root / more).unlink(missing_ok=True)
        done = self.assert_exit(node.run("rollback", "demo"), 0)
        self.assertEqual(node.current(), "1.2.0", done)
        self.assertIn("can't say which", done.err)
        (node.root / "updagent.db").unlink()
        self.assert_exit(node.apply(self.workshop.pack("0.5.0")), 3)  # the link is the mark
        kept = sorted(p.name for p in (node.root / "apps/demo/releases").iterdir())
        done = self.assert_exit(node.run("apply", self.workshop.pack("3.0.0", "[retention]\nkeep = 1\n")), 0)
        self.assertIn("is kept", done.err)
        self.assertEqual(sorted(p.name for p in (node.root / "apps/demo/releases").iterdir()), sorted([*kept, "3.0.0"]))

    def test_a_damaged_table_does_not_stop_the_recovery_at_boot(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        kill = ENV | {"UPDAGENT_FAILPOINTS": "deploy.after_switch=kill;guardian.act=kill"}
        self.assertEqual(node.run("apply", self.workshop.pack("2.0.0"), env=kill).code, -9)
        database = sqlite3.connect(node.root / "updagent.db")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page, = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'deployments_open'").fetchone()
        size, = database.execute("PRAGMA page_size").fetchone()
        database.close()
        with open(node.root / "updagent.db", "r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)
        self.assert_exit(node.run("recover", "--as", "boot"), 0)
        self.assertEqual((node.current(), node.committed()), ("1.0.0", "1.0.0"))

    def test_a_rebuild_waits_for_nobody_and_changes_nothing_while_a_driver_runs(self):
        node = self.node()
        for app in ("aa", "bb"):
            self.assert_exit(node.apply(self.workshop.pack("1.0.0", app=app)), 0)
        before = node.json("log", "verify")["head"]
        with open(node.root / "run/.bb.driver", "a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assert_exit(node.run("recover", "--rebuild"), 5)
        self.assertEqual(node.json("log", "verify")["head"], before)
        self.assert_exit(node.run("recover", "--rebuild"), 0)
        first = node.events("--app", "aa") and node.json("log", "verify")
        self.assertTrue(first["intact"])
        old = [e for e in node.events() if "old_hash" in e["detail"]]
        self.assertEqual(f"{old[0]['detail']['old_count']}:{old[0]['detail']['old_hash']}", before)

    def test_a_head_that_was_taken_away_is_told_in_the_chain(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        database = sqlite3.connect(node.root / "updagent.db")
        database.execute("DELETE FROM events WHERE event_id > (SELECT max(event_id) - 3 FROM events)")
        database.commit()
        database.close()
        (node.root / "audit.head").unlink()
        self.assert_exit(node.run("log", "verify"), 9)
        done = self.assert_exit(node.run("apply", self.workshop.pack("2.0.0")), 0)
        self.assertIn("audit.head' was missing", done.err)
        self.assertEqual(len([e for e in node.events() if e["event"] == "log.head_missing"]), 1)


class Rights(Case):
    def test_a_recovery_that_can_not_decide_the_user_runs_no_hook(self):
        node = self.node()
        note = self.open_folder("ran-as")
        files = {"bin/who": (f"#!/bin/sh\nid -un > {note}/$UPDAGENT_HOOK\n".encode(), 0o755)}
        spec = hook("post_commit", "bin/who") + '[service]\nuser = "daemon"\n'
        node.configure('[allow]\nusers = ["daemon"]\n', app="demo")
        kill = ENV | {"UPDAGENT_FAILPOINTS": "deploy.after_commit_link=kill;guardian.act=kill"}
        self.assertEqual(node.run("apply", self.workshop.pack("1.0.0", spec, files), env=kill).code, -9)
        node.configure("this is not toml", app="demo")
        done = self.assert_exit(node.run("recover", "--as", "boot"), 0)
        self.assertIn("was not run", done.err)
        self.assertEqual(list(note.iterdir()), [])
        self.assertEqual(node.committed(), "1.0.0")

    def test_a_pipe_is_compared_with_the_digest_before_anything_of_it_counts(self):
        node = self.node()
        artifact = self.workshop.pack("1.0.0")
        self.assert_exit(node.apply(artifact), 0)
        with subprocess.Popen(["cat", artifact], stdout=subprocess.PIPE) as cat:
            done = node.run("--json", "apply", "-", "--expect-sha256", "0" * 64, stdin=cat.stdout)
        self.assertEqual(self.assert_exit(done, 3).json["error"]["code"], "file_digest")
        right = subprocess.run(["sha256sum", artifact], check=True, capture_output=True, text=True).stdout.split()[0]
        with subprocess.Popen(["cat", artifact], stdout=subprocess.PIPE) as cat:
            done = node.run("--json", "apply", "-", "--expect-sha256", right, stdin=cat.stdout)
        self.assertEqual(self.assert_exit(done, 0).json["outcome"], "unchanged")


class Guardian(Case):
    def test_a_stopped_guardian_holds_nobody_up(self):
        harness.become_subreaper()
        node = self.node()
        gate = self.open_folder("guardian") / "gate"
        files = {"bin/wait": (f'#!/bin/sh\ntouch {gate}-here\nwhile [ ! -e {gate} ]; do sleep 0.05; done\n'.encode(), 0o755)}
        artifact = self.workshop.pack("1.0.0", hook("pre_upgrade", "bin/wait"), files)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("UPDAGENT_")} | ENV
        driver = subprocess.Popen([harness.BINARY, "--root", node.root, "--quiet", "apply", artifact], env=clean,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(pathlib.Path(f"{gate}-here").exists, "the hook")
        children = pathlib.Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
        # the hook's keeper has children of its own, the guardian has none
        guardians = [int(p) for p in children if not pathlib.Path(f"/proc/{p}/task/{p}/children").read_text().strip()]
        self.assertEqual(len(guardians), 1, children)
        os.kill(guardians[0], signal.SIGSTOP)
        gate.touch()
        self.assertEqual(driver.wait(timeout=WAIT_S), 0)
        self.assertEqual(node.committed(), "1.0.0")
        with self.assertRaises(ProcessLookupError):
            os.kill(guardians[0], 0)


class Replaced(harness.Case):
    def test_a_file_that_is_replaced_during_the_download_is_taken_from_the_start(self):
        noise = os.urandom(3_000_000)
        first = self.workshop.pack("1.0.0", files={"noise": noise}).read_bytes()
        second = self.workshop.pack("2.0.0", files={"noise": noise[::-1]}).read_bytes()
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.headers.get("Range"))
                content, tag = (first, '"one"') if len(asked) == 1 else (second, '"two"')
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("ETag", tag)
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if len(asked) == 1 else content)
                self.close_connection = True

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            node = self.node()
            done = self.assert_exit(node.apply(f"http://127.0.0.1:{server.server_port}/demo.tar.gz"), 0)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
        self.assertEqual((done.json["outcome"], done.json["to"]), ("committed", "2.0.0"))
        self.assertIsNotNone(asked[1])
        self.assertIn("fetch.replaced", [e["event"] for e in node.events("--app", "demo")])
        self.assert_intact(node)


if __name__ == "__main__":
    unittest.main()
