"""apply, rollback and what stands around them, as an operator uses them."""

import json
import os
import pwd
import re
import signal
import subprocess
import sys
import unittest

import harness


def probe(command, more=""):
    return f'[[probe]]\nname = "check"\ntype = "exec"\ncommand = {json.dumps(command)}\ninterval = "50ms"\ntimeout = "20s"\n{more}'


def hook(name, *command, timeout="20s"):
    return f'[hooks]\n{name} = {{ command = {json.dumps(command)}, timeout = "{timeout}" }}\n'


class Decisions(harness.Case):
    def test_unchanged_conflict_and_downgrade(self):
        node = self.node()
        v1, v2 = self.workshop.pack("1.0.0"), self.workshop.pack("2.0.0")
        other = self.workshop.pack("2.0.0", files={"extra": b"x"}, name="other.tar.gz")
        self.assert_exit(node.apply(v1), 0)
        self.assert_exit(node.apply(v2), 0)
        self.assertEqual(self.assert_exit(node.apply(v2), 0).json["outcome"], "unchanged")
        conflict = self.assert_exit(node.apply(other), 3).json["error"]
        self.assertEqual(conflict["code"], "version_conflict")
        self.assertIn("publish a new version", conflict["hint"])
        older = self.assert_exit(node.apply(v1), 3).json["error"]
        self.assertEqual((older["code"], older["got"]), ("downgrade", "1.0.0"))
        self.assertEqual(node.current(), "2.0.0")
        done = self.assert_exit(node.apply(v1, "--allow-downgrade"), 0).json
        self.assertEqual((done["outcome"], node.current()), ("committed", "1.0.0"))
        self.assert_exit(node.apply(v2), 0)
        self.assert_intact(node)

    def test_the_same_release_in_another_compression_is_unchanged(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        same = self.workshop.pack("1.0.0", suffix=".tar.zst")
        self.assertEqual(self.assert_exit(node.apply(same), 0).json["outcome"], "unchanged")

    def test_new_signatures_of_the_same_release_are_kept(self):
        node = self.node()
        artifact = self.workshop.pack("1.0.0")
        self.assert_exit(node.apply(artifact), 0)
        second = self.workshop.make_key("second", "--type", "ecdsa-p256")
        both = self.workshop.path / "both.tar.gz"
        self.assert_exit(harness.run("sign", artifact, "--key", second, "-o", both), 0)
        self.assert_exit(node.run("trust", "add", self.workshop.public("second")), 0)
        self.assertEqual(self.assert_exit(node.apply(both), 0).json["outcome"], "unchanged")
        kept = json.loads((node.root / "apps/demo/current/.updagent/release.dsse.json").read_text())
        self.assertEqual(len(kept["signatures"]), 2)
        node.configure("[trust]\nthreshold = 2\n")
        self.assert_exit(node.run("verify", "--installed", "demo"), 0)

    def test_threshold_and_expected_app_and_digest(self):
        node = self.node()
        artifact = self.workshop.pack("1.0.0")
        node.configure("[trust]\nthreshold = 2\n")
        self.assertEqual(self.assert_exit(node.apply(artifact), 3).json["error"]["code"], "signature_threshold")
        node.configure("")
        wrong = self.assert_exit(node.apply(artifact, "--app", "shop"), 3).json["error"]
        self.assertEqual((wrong["code"], wrong["expected"], wrong["got"]), ("app_mismatch", "'shop'", "'demo'"))
        self.assertEqual(self.assert_exit(node.apply(artifact, "--expect-sha256", "0" * 64), 3).json["error"]["code"],
                         "file_digest")
        digest = subprocess.run(["sha256sum", artifact], check=True, capture_output=True, text=True).stdout.split()[0]
        self.assert_exit(node.apply(artifact, "--expect-sha256", digest), 0)

    def test_standard_input_and_its_digest(self):
        node = self.node()
        artifact = self.workshop.pack("1.0.0")
        with open(artifact, "rb") as stdin:
            done = node.run("--json", "apply", "-", "--expect-sha256", "0" * 64, stdin=stdin)
        self.assertEqual(self.assert_exit(done, 3).json["error"]["code"], "file_digest")
        self.assertIsNone(node.current())
        with open(artifact, "rb") as stdin:
            self.assert_exit(node.run("apply", "-", stdin=stdin), 0)
        self.assertEqual(node.current(), "1.0.0")

    def test_a_dry_run_changes_nothing_and_says_what_would_happen(self):
        node = self.node()
        spec = probe(["bin/true"]) + hook("post_switch", "bin/true")
        done = self.assert_exit(node.apply(self.workshop.pack("1.0.0", spec), "--dry-run"), 0).json
        self.assertTrue(done["dry_run"])
        plan = "\n".join(done["plan"])
        for words in ("switch current to 1.0.0", "run post_switch: bin/true", "probe 'check'", "commit 1.0.0"):
            self.assertIn(words, plan)
        self.assertIsNone(node.current())
        self.assertEqual([p for p in node.root.glob("apps/*/releases/*")], [])
        self.assertEqual([p for p in node.root.glob("apps/*/incoming/*")], [])
        broken = self.workshop.path / "broken.tar.gz"
        broken.write_bytes((self.workshop.pack("1.0.0", spec)).read_bytes()[:-40])
        self.assert_exit(node.apply(broken, "--dry-run"), 3)

    def test_hold_stops_apply_but_not_rollback(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        self.assert_exit(node.apply(self.workshop.pack("2.0.0")), 0)
        self.assert_exit(node.run("hold", "demo"), 0)
        held = self.assert_exit(node.apply(self.workshop.pack("3.0.0")), 2).json["error"]
        self.assertEqual(held["code"], "held")
        self.assertIn("hold demo --off", held["hint"])
        self.assert_exit(node.run("rollback", "demo"), 0)
        self.assert_exit(node.run("hold", "demo", "--off"), 0)
        self.assert_exit(node.apply(self.workshop.pack("3.0.0")), 0)

    def test_privileges_that_the_node_does_not_give_are_refused(self):
        node = self.node()
        root = self.workshop.pack("1.0.0", '[service]\nuser = "root"\n')
        refused = self.assert_exit(node.apply(root), 3).json["error"]
        self.assertEqual(refused["code"], "privilege")
        self.assertIn("[allow] root = true", refused["hint"])
        self.assertEqual(list(node.root.glob("apps/demo")), [])
        node.configure("[allow]\nroot = true\n", app="demo")
        self.assert_exit(node.apply(root), 0)
        daemon = self.workshop.pack("2.0.0", '[service]\nuser = "daemon"\n')
        self.assert_exit(node.apply(daemon), 3)
        node.configure('[allow]\nusers = ["daemon"]\n', app="demo")
        self.assert_exit(node.apply(daemon), 0)


class GoingBack(harness.Case):
    def test_a_failing_probe_rolls_back_and_the_release_is_not_tried_again(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        bad = self.workshop.pack("2.0.0", probe(["bin/false"]))
        done = self.assert_exit(node.apply(bad), 4).json
        self.assertEqual((done["outcome"], done["reason"]), ("rolled_back", "probe_failed"))
        self.assertEqual((node.current(), node.committed()), ("1.0.0", "1.0.0"))
        again = self.assert_exit(node.apply(bad), 3).json["error"]
        self.assertEqual(again["code"], "failed_before")
        self.assert_exit(node.apply(bad, "--retry"), 4)
        self.assertIn("not good", node.run("log", "show", done["trace_id"]).out)

    def test_the_first_release_that_fails_leaves_no_current(self):
        node = self.node()
        done = self.assert_exit(node.apply(self.workshop.pack("1.0.0", probe(["bin/false"]))), 4).json
        self.assertEqual((done["outcome"], done["reason"]), ("rolled_back", "no_previous"))
        self.assertEqual((node.current(), node.committed()), (None, None))
        self.assert_exit(node.apply(self.workshop.pack("1.0.1")), 0)

    def test_a_probe_that_turns_bad_while_watched_rolls_back(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        script = b'#!/bin/sh\nn=$(cat "$STATE_DIRECTORY/n" 2>/dev/null || echo 0)\necho $((n+1)) > "$STATE_DIRECTORY/n"\n[ "$UPDAGENT_VERSION" = 1.0.0 ] || [ "$n" -lt 4 ]\n'
        turning = self.workshop.pack("2.0.0", probe(["bin/turn"]) + '[rollout]\nwatch = "60s"\n', {"bin/turn": (script, 0o755)})
        done = self.assert_exit(node.apply(turning), 4).json
        self.assertEqual([s["stage"] for s in done["stages"] if s["status"] == "failure"], ["watch"])
        self.assertEqual(node.current(), "1.0.0")

    def test_hooks_run_when_the_design_says_and_none_can_stop_a_rollback(self):
        note = (b'#!/bin/sh\necho "$UPDAGENT_HOOK $UPDAGENT_VERSION" >> "$STATE_DIRECTORY/hooks"\n', 0o755)
        hang = (b'#!/bin/sh\necho hanging >> "$STATE_DIRECTORY/hooks"\nsetsid sleep 98765 &\nsleep 98765\n', 0o755)
        names = ("pre_upgrade", "post_switch", "post_commit", "post_rollback")
        hooks = "[hooks]\n" + "".join(f'{n} = {{ command = ["bin/note"], timeout = "20s" }}\n' for n in names)
        node = self.node()
        ran = node.root / "apps/demo/data/hooks"
        self.assert_exit(node.apply(self.workshop.pack("1.0.0", hooks, {"bin/note": note})), 0)
        self.assertEqual(ran.read_text().split("\n")[:-1], ["pre_upgrade 1.0.0", "post_switch 1.0.0", "post_commit 1.0.0"])
        ran.unlink()
        self.assert_exit(node.apply(self.workshop.pack("2.0.0", hooks + probe(["bin/false"]), {"bin/note": note})), 4)
        self.assertEqual(ran.read_text().split("\n")[:-1], ["pre_upgrade 2.0.0", "post_switch 2.0.0", "post_rollback 1.0.0"])
        hanging = hooks.replace('post_rollback = { command = ["bin/note"], timeout = "20s" }',
                                'post_rollback = { command = ["bin/hang"], timeout = "1s" }')
        self.assert_exit(node.apply(self.workshop.pack("3.0.0", hanging, {"bin/note": note, "bin/hang": hang})), 0)
        ran.unlink()
        done = self.assert_exit(node.apply(self.workshop.pack("4.0.0", probe(["bin/false"]))), 4).json
        self.assertEqual(done["outcome"], "rolled_back")
        self.assertEqual((node.current(), ran.read_text()), ("3.0.0", "hanging\n"))
        self.assertEqual(subprocess.run(["pgrep", "-f", "sleep 98765"], capture_output=True).stdout, b"")

    def test_a_failing_pre_upgrade_changes_nothing_and_is_undone(self):
        note = (b'#!/bin/sh\necho undone >> "$STATE_DIRECTORY/undone"\n', 0o755)
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0", hook("post_rollback", "bin/note"), {"bin/note": note})), 0)
        done = self.assert_exit(node.apply(self.workshop.pack("2.0.0", hook("pre_upgrade", "bin/false"))), 1).json
        self.assertEqual((done["outcome"], done["reason"]), ("aborted", "hook_failed"))
        self.assertEqual(node.current(), "1.0.0")
        self.assertEqual((node.root / "apps/demo/data/undone").read_text(), "undone\n")
        self.assertIn("not good", node.run("log", "show", done["trace_id"]).out)

    def test_rollback_goes_to_the_release_before_and_hashes_it_first(self):
        node = self.node()
        for version in ("1.0.0", "2.0.0", "3.0.0"):
            self.assert_exit(node.apply(self.workshop.pack(version)), 0)
        done = self.assert_exit(node.run("--json", "rollback", "demo"), 0).json
        self.assertEqual((done["outcome"], done["from"], done["to"]), ("rolled_back", "3.0.0", "2.0.0"))
        self.assertEqual((node.current(), node.committed()), ("2.0.0", "2.0.0"))
        victim = node.root / "apps/demo/releases/1.0.0/version.txt"
        victim.chmod(0o644)
        victim.write_bytes(b"1.0.1\n")
        damaged = self.assert_exit(node.run("--json", "rollback", "demo", "--to", "1.0.0"), 9).json
        self.assertEqual(damaged["error"]["code"], "damaged")
        self.assertEqual(node.current(), "2.0.0")
        missing = self.assert_exit(node.run("--json", "rollback", "demo", "--to", "9.9.9"), 6).json["error"]
        self.assertEqual(missing["code"], "not_found")
        self.assert_exit(node.run("rollback", "nobody-knows"), 6)
        self.assert_exit(node.run("rollback", "demo", "--to", "3.0.0"), 0)

    def test_a_rollback_floor_is_honoured(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        floor = '[requires]\nrollback_floor = "2.0.0"\n'
        failed = self.assert_exit(node.apply(self.workshop.pack("2.0.0", floor + probe(["bin/false"]))), 8).json
        self.assertEqual((failed["outcome"], failed["reason"]), ("rollback_failed", "rollback_floor"))
        self.assertEqual((node.current(), node.committed()), ("2.0.0", "1.0.0"))
        self.assertTrue(node.json("status", "demo")["apps"][0]["needs_person"])
        self.assert_exit(node.run("recover"), 8)
        self.assertEqual(node.current(), "2.0.0")
        self.assert_exit(node.run("rollback", "demo"), 3)
        self.assert_exit(node.apply(self.workshop.pack("2.0.1", floor)), 0)
        self.assert_exit(node.run("rollback", "demo", "--to", "1.0.0"), 3)
        self.assert_exit(node.run("rollback", "demo", "--to", "1.0.0", "--force"), 0)
        self.assertEqual(node.current(), "1.0.0")


class Side(harness.Case):
    def test_one_deployment_an_app_and_several_apps_at_once(self):
        node = self.node()
        slow = self.workshop.pack("1.0.0", '[rollout]\nwatch = "300s"\n' + probe(["bin/true"]))
        other = self.workshop.pack("1.0.0", app="other")
        running = subprocess.Popen([harness.BINARY, "--root", node.root, "apply", slow], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        for line in running.stderr:
            if line.split()[:1] == ["switch"]:
                break
        busy = self.assert_exit(node.apply(slow), 5).json["error"]
        self.assertEqual(busy["code"], "busy")
        self.assertIn(str(running.pid), busy["message"])
        self.assertIn("of 'demo' is under way", busy["message"])
        self.assertIn("updagent status demo", busy["hint"])
        self.assertIn("under way", self.assert_exit(node.run("remove", "demo"), 5).err)
        self.assert_exit(node.apply(other), 0)
        self.assert_exit(node.run("recover", "demo"), 5)
        status = {app["app"]: app for app in node.json("status")["apps"]}
        self.assertEqual(status["demo"]["deployment"]["stage"], "watch")
        waiter = subprocess.Popen([harness.BINARY, "--root", node.root, "--json", "apply",
                                   self.workshop.pack("1.0.1"), "--wait", "100s"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        running.send_signal(signal.SIGHUP)  # a closed terminal changes nothing
        running.send_signal(signal.SIGTERM)
        self.assertEqual(running.wait(timeout=100), 4)
        running.stderr.close()
        out, _ = waiter.communicate(timeout=100)
        self.assertEqual((waiter.returncode, json.loads(out)["outcome"]), (0, "committed"))
        self.assert_settled(node)

    def test_status_says_why_the_newest_release_does_not_run(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        self.assertNotIn("last deployment", node.run("status").out)
        bad = self.assert_exit(node.apply(self.workshop.pack("2.0.0", probe(["bin/false"]))), 4).json
        last = node.json("status")["apps"][0]["last_deployment"]
        self.assertEqual((last["trace_id"], last["to"], last["outcome"], last["reason"]),
                         (bad["trace_id"], "2.0.0", "rolled_back", "probe_failed"))
        line = re.search(r"(?m)^  last deployment: 2\.0\.0 rolled_back \(probe_failed\): updagent log show (\w+)$",
                         node.run("status").out)
        self.assert_exit(node.run("log", "show", line[1]), 0)
        self.assert_exit(node.apply(self.workshop.pack("3.0.0")), 0)
        self.assert_exit(node.run("rollback", "demo"), 0)
        self.assertNotIn("last deployment", node.run("status").out)

    def test_who_stops_a_release_is_told_how_to_go_on(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        slow = self.workshop.pack("2.0.0", '[rollout]\nwatch = "300s"\n' + probe(["bin/true"]))
        running = subprocess.Popen([harness.BINARY, "--root", node.root, "apply", slow], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        for line in running.stderr:
            if line.split()[:1] == ["switch"]:
                break
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=100)
        self.assertEqual(running.returncode, 4)
        self.assertIn("2.0.0 was stopped: 1.0.0 is current again", out)
        self.assertIn("--retry", out)
        self.assertEqual(self.assert_exit(node.apply(slow), 3).json["error"]["code"], "failed_before")

    def test_control_c_before_the_switch_aborts(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        wait = (b'#!/bin/sh\nexec sleep 1000\n', 0o755)
        artifact = self.workshop.pack("2.0.0", hook("pre_upgrade", "bin/wait", timeout="300s"), {"bin/wait": wait})
        running = subprocess.Popen([harness.BINARY, "--root", node.root, "--json", "apply", artifact], stdout=subprocess.PIPE)
        while not any(e["event"] == "hook.started" for e in node.events("--app", "demo")):
            pass
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=100)
        done = json.loads(out)
        self.assertEqual((running.returncode, done["outcome"], done["reason"]), (1, "aborted", "interrupted"))
        self.assertEqual(node.current(), "1.0.0")
        self.assert_settled(node)

    def test_retention_keeps_good_releases(self):
        node = self.node()
        keep = "[retention]\nkeep = 2\n"
        self.assert_exit(node.apply(self.workshop.pack("1.0.0", keep)), 0)
        for bad in ("1.0.1", "1.0.2", "1.0.3"):
            self.assert_exit(node.apply(self.workshop.pack(bad, keep + probe(["bin/false"]))), 4)
        self.assertEqual(node.current(), "1.0.0")
        for version in ("1.1.0", "1.2.0", "1.3.0"):
            self.assert_exit(node.apply(self.workshop.pack(version, keep)), 0)
        listed = {r["version"]: r["state"] for r in node.json("releases", "demo")["releases"]}
        self.assertEqual(listed, {"1.2.0": "good", "1.3.0": "good"})
        self.assertEqual(sorted(p.name for p in node.root.glob("apps/demo/releases/*")), ["1.2.0", "1.3.0"])

    def test_a_release_that_is_in_use_is_kept(self):
        node = self.node()
        keep = "[retention]\nkeep = 1\n"
        self.assert_exit(node.apply(self.workshop.pack("1.0.0", keep)), 0)
        user = subprocess.Popen(["sleep", "1000"], cwd=node.root / "apps/demo/releases/1.0.0")
        try:
            for version in ("1.1.0", "1.2.0", "1.3.0"):
                self.assert_exit(node.apply(self.workshop.pack(version, keep)), 0)
            self.assertTrue((node.root / "apps/demo/releases/1.0.0").exists())
        finally:
            user.kill()
            user.wait()
        self.assert_exit(node.apply(self.workshop.pack("1.4.0", keep)), 0)
        self.assertFalse((node.root / "apps/demo/releases/1.0.0").exists())

    def test_hooks_see_their_environment_and_run_unprivileged(self):
        show = (b'#!/bin/sh\nenv > "$STATE_DIRECTORY/env"; id -un > "$STATE_DIRECTORY/user"; pwd > "$STATE_DIRECTORY/pwd"\n'
                b'grep NoNewPrivs /proc/self/status >> "$STATE_DIRECTORY/user"; ls /proc/self/fd >> "$STATE_DIRECTORY/fds"\n', 0o755)
        node = self.node()
        secret = node.root / "secret.env"
        secret.write_text("TOKEN=hush\n")
        secret.chmod(0o600)
        node.configure(f'[run]\nenvironment_files = ["{secret}"]\nenvironment = {{ MODE = "node" }}\n', app="demo")
        spec = '[service]\nenvironment = { MODE = "release", OWN = "yes" }\n' + hook("post_switch", "bin/show")
        done = self.assert_exit(node.run("--json", "apply", self.workshop.pack("1.0.0", spec, {"bin/show": show}),
                                         env={"LEAK": "no", "LISTEN_FDS": "3"}), 0).json
        data = node.root / "apps/demo/data"
        seen = dict(line.split("=", 1) for line in (data / "env").read_text().splitlines() if "=" in line)
        self.assertEqual((seen["MODE"], seen["OWN"], seen["TOKEN"]), ("node", "yes", "hush"))
        self.assertEqual(seen["UPDAGENT_TRACE_ID"], done["trace_id"])
        self.assertRegex(seen["TRACEPARENT"], f"^00-{done['trace_id']}-[0-9a-f]{{16}}-01$")
        self.assertEqual((seen["UPDAGENT_APP"], seen["UPDAGENT_VERSION"], seen["UPDAGENT_HOOK"], seen["UPDAGENT_PHASE"]),
                         ("demo", "1.0.0", "post_switch", "upgrade"))
        self.assertNotIn("LEAK", seen)
        self.assertNotIn("LISTEN_FDS", seen)
        self.assertEqual((data / "pwd").read_text().strip(), str(node.root / "apps/demo/releases/1.0.0"))
        expected = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self.assertEqual((data / "user").read_text().split(), [expected, "NoNewPrivs:", "1"])
        # the standard ones, and that of the listing itself: nothing of ours is open in a hook
        self.assertLessEqual(set((data / "fds").read_text().split()), {"0", "1", "2", "3"})
        whole_log = node.run("--json", "log", "--limit", "0").out
        self.assertNotIn("hush", whole_log)

    def test_notifications_tell_of_a_rollback_and_never_delay_it(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        with harness.webhook() as (url, wait):
            node.configure(f'[[notify]]\nname = "ops"\nwebhook = "{url}"\n[[notify]]\nname = "dead"\nwebhook = "http://127.0.0.1:1/"\nretries = 0\n')
            self.assert_exit(node.apply(self.workshop.pack("1.1.0")), 0)  # committed: not asked for
            done = self.assert_exit(node.apply(self.workshop.pack("2.0.0", probe(["bin/false"]))), 4).json
            (headers, body), = wait(1)
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertEqual((body["outcome"], body["trace_id"], body["app"]), ("rolled_back", done["trace_id"], "demo"))
        self.assertIn("count", body["audit_head"])

    def test_an_installed_tree_that_was_changed_is_found(self):
        node = self.node()
        self.assert_exit(node.apply(self.workshop.pack("1.0.0")), 0)
        victim = node.root / "apps/demo/current/same.txt"
        victim.chmod(0o644)
        with open(victim, "r+b") as file:
            file.write(b"S")
        found = self.assert_exit(node.run("--json", "verify", "--installed", "demo"), 9).json
        self.assertFalse(found["intact"])
        self.assertIn("same.txt", " ".join(found["problems"]))

    def test_the_database_can_be_lost_damaged_and_rebuilt(self):
        node = self.node()
        for version in ("1.0.0", "2.0.0"):
            self.assert_exit(node.apply(self.workshop.pack(version)), 0)
        database = node.root / "updagent.db"
        for damaged in (database, node.root / "updagent.db-wal"):
            with open(damaged, "r+b") as file:
                file.write(os.urandom(8192))
        self.assert_exit(node.apply(self.workshop.pack("3.0.0")), 2)
        self.assert_exit(node.run("rollback", "demo", "--to", "1.0.0"), 0)  # never waits for it
        self.assertEqual((node.current(), node.committed()), ("1.0.0", "1.0.0"))
        self.assert_exit(node.run("recover", "--rebuild"), 0)
        self.assertTrue(list(node.root.glob("updagent.db.damaged-*")))
        self.assert_exit(node.apply(self.workshop.pack("3.0.0")), 0)
        self.assert_intact(node)

    def test_remove(self):
        node = self.node()
        for version in ("1.0.0", "2.0.0"):
            self.assert_exit(node.apply(self.workshop.pack(version, probe(["bin/true"]))), 0)
        (node.root / "apps/demo/data/kept").write_text("the app's own")
        self.assert_exit(node.run("remove", "demo", "--version", "2.0.0"), 1)  # it is current
        self.assert_exit(node.run("remove", "demo", "--version", "1.0.0"), 0)
        self.assert_exit(node.run("remove", "demo"), 0)
        self.assertIsNone(node.current())
        self.assertEqual((node.root / "apps/demo/data/kept").read_text(), "the app's own")
        self.assert_exit(node.run("log", "verify"), 0)
        self.assert_exit(node.run("remove", "demo", "--data"), 0)
        self.assertFalse((node.root / "apps/demo").exists())


class FirstUse(harness.Case):
    def test_no_key_unknown_key_and_an_ordinary_tarball(self):
        node = self.node(trust=False)
        artifact = self.workshop.pack("1.0.0")
        none = self.assert_exit(node.apply(artifact), 3).json["error"]
        self.assertEqual(none["code"], "no_trusted_keys")
        self.assertIn("SHA256:", none["hint"])
        self.assertIn("updagent trust add", none["hint"])
        self.workshop.make_key("stranger")
        self.assert_exit(node.run("trust", "add", self.workshop.public("stranger")), 0)
        self.assertEqual(self.assert_exit(node.apply(artifact), 3).json["error"]["code"], "signature_unknown_key")
        self.assert_exit(node.run("--trust", self.workshop.public(), "apply", artifact), 0)
        tarball = self.workshop.path / "plain.tar.gz"
        subprocess.run(["tar", "czf", tarball, "-C", SOURCE_DOCS, "."], check=True)
        plain = self.assert_exit(node.apply(tarball), 3).json["error"]
        self.assertEqual(plain["code"], "not_an_artifact")
        self.assertIn("updagent pack", plain["hint"])
        subprocess.run(f"gunzip {tarball} && gzip {self.workshop.path}/plain.tar", shell=True, check=True)  # with its name
        self.assertIn("updagent pack", self.assert_exit(node.apply(tarball), 3).json["error"]["hint"])

    def test_a_root_that_can_not_be_written_names_sudo_and_root(self):
        if os.getuid() != 0:
            self.fail("run the tests as root")
        artifact = self.workshop.pack("1.0.0")
        done = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", harness.BINARY, "--root",
                               "/var/lib/updagent-test-root", "apply", artifact], capture_output=True, text=True,
                              env={"PATH": os.environ["PATH"], "ASAN_OPTIONS": "detect_leaks=0"})
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("sudo", done.stderr)
        self.assertIn("--root", done.stderr)

    def test_usage_errors_are_one_line_and_name_the_way_on(self):
        node = self.node()
        for words, said in ((["aply", "x"], "did you mean 'apply'"), (["apply"], "SOURCE"),
                            (["apply", "x", "--wait", "soon"], "duration"), (["apply", "/no/such/file"], "No such file"),
                            (["log", "--since", "yesterday"], "yesterday"), (["rollback"], "APP")):
            done = self.assert_exit(node.run(*words), 2)
            self.assertIn(said, done.err)
            self.assertLessEqual(len(done.err.strip().splitlines()), 2, done.err)
            as_json = self.assert_exit(node.run(*words, "--json"), 2).json
            self.assertEqual(as_json["api"], 1)
            self.assertTrue(as_json["error"]["message"])

    def test_every_verb_has_help(self):
        overview = self.assert_exit(harness.run("help"), 0).out
        for verb in ("keygen", "pack", "sign", "inspect", "verify", "trust", "apply", "rollback", "recover", "hold",
                     "remove", "status", "releases", "log", "doctor", "version"):
            self.assertIn(verb, overview)
            self.assert_exit(harness.run("help", verb), 0)
            self.assert_exit(harness.run(verb, "--help"), 0)
        self.assertIn(".TH UPDAGENT", harness.run("help", "--man").out)
        done = subprocess.run(["bash", "-n"], input=harness.run("help", "--completion").out, text=True)
        self.assertEqual(done.returncode, 0)


SOURCE_DOCS = harness.SOURCE / "docs"

if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
