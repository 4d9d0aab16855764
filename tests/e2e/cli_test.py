"""The command line itself: what it prints, where, and what becomes of a deployment when nobody reads it."""

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import tarfile
import time
import unittest

import harness

BAD = harness.SOURCE / "fixtures/releases/bad"
KEYS = harness.SOURCE / "fixtures/keys"
F_SETPIPE_SZ = 1031

PROBE = """
[[probe]]
name = "good"
type = "exec"
command = ["bin/{program}"]
interval = "50ms"
failures = 2
"""


def environment(**more):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("UPDAGENT_")}
    return {**clean, **more}


class Case(harness.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.good = cls.workshop.pack("1.0.0", PROBE.format(program="true"))
        cls.bad = cls.workshop.pack("2.0.0", PROBE.format(program="false"))
        cls.hook_fails = cls.workshop.pack("3.0.0", '[hooks]\npre_upgrade = { command = ["bin/false"], timeout = "5s" }\n')

    def wait_for(self, what, condition):
        deadline = time.monotonic() + harness.COMMAND_LIMIT_S
        while not condition():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.02)

    def ended(self, node, outcome):
        """The deployment of 2.0.0 is closed; asked of the log, as an operator would."""
        return any(e["event"] == "deployment.finished" and e["to_version"] == "2.0.0"
                   and e["detail"]["outcome"] == outcome for e in node.events("--app", "demo"))


def full_pipe():
    """A pipe that has no room left."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, F_SETPIPE_SZ, 4096)
    os.set_blocking(write_end, False)
    try:
        while True:
            os.write(write_end, b"~" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(write_end, True)
    return read_end, write_end


class NobodyReads(Case):
    """A deployment ends by its rules, whoever reads what it says or does not."""

    def roll_back_unread(self, node, stdout, stderr):
        self.assert_exit(node.apply(self.good), 0)
        running = subprocess.Popen([harness.BINARY, "--root", node.root, "apply", self.bad], env=environment(TERM="xterm"),
                                   stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True)
        self.addCleanup(lambda: (running.kill(), running.wait()))
        self.wait_for("it was not rolled back", lambda: self.ended(node, "rolled_back"))
        self.assertEqual((node.current(), node.committed()), ("1.0.0", "1.0.0"))
        # the lock is free: the next one neither waits nor is busy
        self.assert_exit(node.apply(self.good), 0)
        return running

    def read_all(self, fd):
        pieces = []
        while piece := os.read(fd, 65536):
            pieces.append(piece)
        os.close(fd)
        return b"".join(pieces).lstrip(b"~").decode()

    def test_full_pipes(self):
        read_end, write_end = full_pipe()
        running = self.roll_back_unread(self.node(), write_end, write_end)
        os.close(write_end)
        text = self.read_all(read_end)
        self.assertEqual(running.wait(harness.COMMAND_LIMIT_S), 4)
        self.assertRegex(text, r"\.\.\. \d+ lines not shown\n")
        self.assertIn("ROLLED BACK", text)

    def test_full_stderr_alone(self):
        read_end, write_end = full_pipe()
        running = self.roll_back_unread(self.node(), subprocess.DEVNULL, write_end)
        os.close(write_end)
        self.assertIn("lines not shown", self.read_all(read_end))
        self.assertEqual(running.wait(harness.COMMAND_LIMIT_S), 4)

    def test_a_terminal_stopped_by_control_s(self):
        master, slave = pty.openpty()
        os.write(master, b"\x13")
        running = self.roll_back_unread(self.node(), slave, slave)
        os.write(master, b"\x11")
        os.close(slave)
        text = b""
        try:
            while piece := os.read(master, 65536):
                text += piece
        except OSError:  # the other end is closed
            pass
        os.close(master)
        self.assertEqual(running.wait(harness.COMMAND_LIMIT_S), 4)
        self.assertIn("ROLLED BACK", text.decode())

    def test_a_socket_that_nobody_reads(self):
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        try:
            while True:
                theirs.send(b"~" * 4096)
        except BlockingIOError:
            pass
        theirs.setblocking(True)
        running = self.roll_back_unread(self.node(), subprocess.DEVNULL, theirs.fileno())
        theirs.close()
        ours.settimeout(harness.COMMAND_LIMIT_S)
        text = b""
        while piece := ours.recv(65536):
            text += piece
        ours.close()
        self.assertIn(b"lines not shown", text)
        self.assertEqual(running.wait(harness.COMMAND_LIMIT_S), 4)

    def test_readers_that_have_gone(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        running = self.roll_back_unread(self.node(), write_end, write_end)
        os.close(write_end)
        self.assertEqual(running.wait(harness.COMMAND_LIMIT_S), 4)

    def test_notifications_do_not_wait_for_a_reader(self):
        node = self.node()
        read_end, write_end = full_pipe()
        with harness.webhook() as (url, wait):
            node.configure(f'[[notify]]\nname = "w"\non = ["rolled_back"]\nwebhook = "{url}"\n')
            running = self.roll_back_unread(node, write_end, subprocess.DEVNULL)
            self.assertEqual(wait(1)[0][1]["outcome"], "rolled_back")
        os.close(write_end)
        os.close(read_end)
        self.assertEqual(running.wait(harness.COMMAND_LIMIT_S), 4)


class FullDisk(Case):
    """Standard output that takes nothing is no success."""

    def to_full(self, node, *words):
        with open("/dev/full", "w") as full:
            done = subprocess.run([harness.BINARY, "--root", node.root, *map(str, words)], env=environment(), stdout=full,
                                  stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=harness.COMMAND_LIMIT_S)
        return harness.Result(done.returncode, "", done.stderr.decode())

    def test_an_answer_that_could_not_be_written_is_a_failure(self):
        node = self.node()
        self.assert_exit(node.apply(self.good), 0)
        for words in (["--json", "log"], ["log"], ["log", "export"], ["log", "verify"], ["sign", self.good, "--print-pae"],
                      ["inspect", self.good], ["--json", "inspect", self.good], ["verify", self.good], ["status"],
                      ["releases", "demo"], ["trust", "list"], ["doctor"], ["version"], ["help"], ["help", "--man"],
                      ["apply", "--help"], ["--help"], ["--version"], ["verify", "--installed", "demo"],
                      ["apply", self.good, "--dry-run", "--quiet"]):
            with self.subTest(words):
                done = self.assert_exit(self.to_full(node, *words), 1)
                self.assertEqual(done.err.count("\n"), 1, done)
                self.assertIn("could not be written to standard output: No space left", done.err)

    def test_a_deployment_that_has_ended_keeps_its_exit_status(self):
        node = self.node()
        for artifact, code in ((self.good, 0), (self.bad, 4)):
            done = self.assert_exit(self.to_full(node, "apply", artifact), code)
            self.assertIn("warning: the answer could not be written", done.err)
        self.assertEqual(node.current(), "1.0.0")

    def test_a_reader_that_has_enough_is_no_failure(self):
        node = self.node()
        self.assert_exit(node.apply(self.good), 0)
        for words in ("log", "log export", f"inspect --files {shlex.quote(str(self.good))}"):
            command = f"set -o pipefail; {shlex.quote(harness.BINARY)} --root {node.root} {words} | head -n 1"
            done = subprocess.run(["bash", "-c", command], env=environment(), capture_output=True, text=True)
            self.assertIn(done.returncode, (0, 128 + signal.SIGPIPE), done)
            self.assertEqual((done.stdout.count("\n"), done.stderr), (1, ""))

    def test_closed_standard_descriptors_are_no_trap(self):
        node = self.node()
        quoted = f"{shlex.quote(harness.BINARY)} --root {node.root}"
        for command, code in ((f"{quoted} apply - <&-", 3), (f"{quoted} apply {self.good} <&- >&- 2>&-", 0),
                              (f"{quoted} status >&-", 0), (f"{quoted} nonsense 2>&-", 2)):
            done = subprocess.run(["bash", "-c", command], env=environment(), capture_output=True, text=True,
                                  timeout=harness.COMMAND_LIMIT_S)
            self.assertEqual(done.returncode, code, (command, done))
        self.assert_intact(node)


class Looking(Case):
    def test_inspect_and_verify_agree_about_trust(self):
        node = self.node(trust=False)
        listed = json.loads((BAD / "list.json").read_text())
        for key in next(iter(listed["nodes"].values()))["trust"]:
            self.assert_exit(node.run("trust", "add", KEYS / f"{key}.pub"), 0)
        for name in ("statement-other-app", "statement-other-version"):
            with self.subTest(name):
                artifact = next(BAD.glob(f"{name}.*"))
                error = self.assert_exit(node.run("--json", "verify", artifact), 3).json["error"]
                self.assertEqual(error["code"], "statement_mismatch")
                document = self.assert_exit(node.run("--json", "inspect", artifact), 0).json
                self.assertFalse(document["trusted"])
                self.assertEqual(document["why_not"], error["message"])
                self.assertRegex(node.run("inspect", artifact).out, r"(?m)^trusted +no: ")

    def test_names_of_files_do_not_drive_the_terminal(self):
        hostile = "a\u009b31m\u202etxt.exe\u2066"
        artifact = self.workshop.pack("1.0.9", files={hostile: b"x"}, name="hostile.tar.gz")
        done = self.assert_exit(self.node().run("inspect", "--files", artifact), 0)
        self.assertIn("a\\xc2\\x9b31m\\xe2\\x80\\xaetxt.exe\\xe2\\x81\\xa6", done.out)
        for character in "\u009b\u202e\u2066":
            self.assertNotIn(character, done.out)
        listed = self.assert_exit(self.node().run("--json", "inspect", "--files", artifact), 0).json["files"]
        self.assertIn(hostile, [entry["path"] for entry in listed])

    def test_inspect(self):
        document = self.assert_exit(self.node().run("--json", "inspect", "--files", self.good), 0).json
        self.assertEqual((document["app"], document["version"], document["trusted"]), ("demo", "1.0.0", True))
        self.assertEqual([probe["target"] for probe in document["probes"]], ["bin/true"])
        self.assertIn("version.txt", [entry["path"] for entry in document["files"]])
        stranger = self.assert_exit(self.node(trust=False).run("--json", "inspect", self.good), 0).json
        self.assertFalse(stranger["trusted"])
        self.assertIn("trusts no key", stranger["why_not"])

    def test_looking_at_a_url_uses_the_nodes_fetch_settings(self):
        node = self.node()
        with harness.nginx(self.workshop.path / "looked-at", self.workshop.path) as url:
            source = f"{url}/{self.good.name}"
            self.assert_exit(node.run("verify", source), 0)
            node.configure("[fetch]\nmax_artifact_bytes = \"64B\"\n")
            self.assert_exit(node.run("verify", source), 3)
            node.configure("[fetch]\ngive_up_after = \"1s\"\n")
        done = self.assert_exit(node.run("--json", "verify", source), 7)  # gone: 60 s were it not for the setting
        self.assertIn("1s", done.json["error"]["message"])

    def test_installed_and_signer_are_two_questions(self):
        node = self.node()
        self.assert_exit(node.apply(self.good), 0)
        whole = self.assert_exit(node.run("--json", "verify", "--installed", "demo"), 0).json
        self.assertTrue(whole["intact"] and whole["trusted"])
        # keys have been changed: nothing is wrong with the tree
        self.workshop.make_key("next")
        self.assert_exit(node.run("trust", "add", self.workshop.public("next")), 0)
        self.assert_exit(node.run("trust", "remove", "release"), 0)
        rotated = self.assert_exit(node.run("--json", "verify", "--installed", "demo"), 3).json
        self.assertEqual((rotated["intact"], rotated["trusted"], rotated["problems"]), (True, False, []))
        self.assertEqual(rotated["error"]["code"], "signature_unknown_key")
        self.assertNotIn("not what was signed", node.run("verify", "--installed", "demo").err)

    def test_what_was_changed_is_damage_whoever_is_trusted(self):
        for path, change in (("version.txt", b"other\n"), (".updagent/manifest.json", None), (".updagent/release.dsse.json", b"{}")):
            with self.subTest(path):
                node = self.node()
                self.assert_exit(node.apply(self.good), 0)
                file = node.root / "apps/demo/releases/1.0.0" / path
                content = file.read_bytes()
                file.chmod(0o644)
                file.write_bytes(change or content.replace(b'"app":"demo"', b'"app":"memo"'))
                done = self.assert_exit(node.run("--json", "verify", "--installed", "demo"), 9).json
                self.assertFalse(done["intact"])
                self.assertEqual(done["error"]["code"], "damaged")

    def test_a_whole_tree_by_another_signer_is_not_what_was_installed(self):
        node, other = self.node(), self.node(trust=False)
        thief = self.workshop.make_key("thief")
        forged = self.workshop.pack("1.0.0", files={"extra": b"!"}, name="forged.tar.gz", key=thief)
        self.assert_exit(node.apply(self.good), 0)
        self.assert_exit(other.run("trust", "add", self.workshop.public("thief")), 0)
        self.assert_exit(other.apply(forged), 0)
        tree = "apps/demo/releases/1.0.0"
        subprocess.run(["rm", "-rf", node.root / tree], check=True)
        subprocess.run(["cp", "-a", other.root / tree, node.root / tree], check=True)
        done = self.assert_exit(node.run("--json", "verify", "--installed", "demo"), 9).json
        self.assertIn("not the one that was installed", done["problems"][0])

    def test_by_hand_as_the_document_says(self):
        text = (harness.SOURCE / "docs/artifact.md").read_text()
        script = re.search(r"## Checking by hand.*?```sh\n(.*?)```", text, re.DOTALL).group(1)
        folder = self.workshop.path / "by-hand"
        folder.mkdir()
        (folder / "shop-1.4.2.tar.gz").write_bytes(self.workshop.pack("1.4.2", app="shop").read_bytes())
        (folder / "release.pub").write_bytes(self.workshop.public().read_bytes())
        done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60)
        for line in ("Signature Verified Successfully", "tree/.updagent/manifest.json: OK", "the same entries",
                     "files are right"):
            self.assertIn(line, done.stdout, done.stderr)
        # it can say no, too
        manifest = folder / "look/tree/.updagent/manifest.json"
        manifest.chmod(0o644)
        manifest.write_bytes(manifest.read_bytes().replace(b"demo", b"memo").replace(b"shop", b"shap"))
        check = subprocess.run(["bash", "-c", 'cd look && echo "$(cat digest)  tree/.updagent/manifest.json" | sha256sum -c'],
                               cwd=folder, capture_output=True, text=True, timeout=60)
        self.assertNotEqual(check.returncode, 0)


class Fetching(Case):
    def test_one_outage_is_told_once(self):
        node = self.node()
        node.configure('[fetch]\ngive_up_after = "4s"\n')
        url = f"http://127.0.0.1:{harness.free_port()}/demo-1.0.0.tar.gz"
        done = self.assert_exit(node.run("apply", url), 7)
        self.assertEqual(done.err.count("waiting: "), 1, done)
        self.assertNotIn("again in", done.err)
        self.assertEqual([e["event"] for e in node.events()].count("fetch.waiting"), 1)


class Trust(Case):
    def test_an_apps_last_own_key_widens_trust_with_a_warning(self):
        node = self.node()
        for name in ("own-1", "own-2"):
            self.workshop.make_key(name)
            self.assert_exit(node.run("trust", "add", self.workshop.public(name), "--app", "demo"), 0)
        done = self.assert_exit(node.run("--json", "trust", "remove", "own-1", "--app", "demo"), 0)
        self.assertNotIn("now_trusted", done.json)
        self.assertNotIn("warning", done.err)
        done = self.assert_exit(node.run("--json", "trust", "remove", "own-2", "--app", "demo"), 0)
        self.assertEqual([key["name"] for key in done.json["now_trusted"]], ["release"])
        self.assertRegex(done.err, "warning: this was the last key of 'demo' alone: .*release")

    def test_the_hint_names_a_command_that_helps(self):
        node = self.node()
        self.workshop.make_key("alone")
        self.assert_exit(node.run("trust", "add", self.workshop.public("alone"), "--app", "demo"), 0)
        error = self.assert_exit(node.apply(self.good), 3).json["error"]
        self.assertIn("updagent trust add FILE --app demo", error["hint"])
        self.assert_exit(node.run("trust", "add", self.workshop.public(), "--app", "demo"), 0)
        self.assert_exit(node.apply(self.good), 0)
        # and the one for a name that is taken
        self.workshop.make_key("other")
        error = self.assert_exit(node.run("--json", "trust", "add", self.workshop.public("other"), "--name", "alone",
                                          "--app", "demo"), 2).json["error"]
        self.assertIn("updagent trust remove alone --app demo", error["hint"])

    def test_list_passes_what_is_no_app(self):
        node = self.node()
        self.workshop.make_key("listed")
        self.assert_exit(node.run("trust", "add", self.workshop.public("listed"), "--app", "shop"), 0)
        (node.root / "etc/trust.d/Old Keys").mkdir()
        done = self.assert_exit(node.run("--json", "trust", "list"), 0)
        self.assertEqual([(key["name"], key["app"]) for key in done.json["keys"]], [("release", None), ("listed", "shop")])
        self.assertIn("Old Keys", done.err)

    def test_a_key_has_a_name_that_reads_well(self):
        node = self.node()
        for name in ("a\nb", "-x", ".x", "a/b", "", "\u202eeman"):
            words = ["trust", "add", self.workshop.public(), f"--name={name}"]
            if name:
                error = self.assert_exit(node.run("--json", *words), 2).json["error"]
                self.assertEqual(error["code"], "usage", name)
        self.assertEqual(len(node.json("trust", "list")["keys"]), 1)

    def test_remove_by_id_and_of_nothing(self):
        node = self.node()
        key = node.json("trust", "list")["keys"][0]
        self.assert_exit(node.run("--json", "trust", "remove", "nosuch"), 6)
        self.assertEqual(self.assert_exit(node.run("--json", "trust", "remove", key["key_id"]), 0).json["name"], "release")
        self.assertEqual(node.json("trust", "list")["keys"], [])


class Configuration(Case):
    def test_config_file_brings_conf_d_and_not_the_keys(self):
        node = self.node()
        folder = self.workshop.path / "elsewhere"
        (folder / "conf.d").mkdir(parents=True)
        (folder / "node.toml").write_text('node_name = "one"\n')
        done = self.assert_exit(node.run("--config", folder / "node.toml", "--json", "status"), 0)
        self.assertEqual(done.json["node"], "one")
        (folder / "conf.d/10.toml").write_text('node_name = "two"\n')
        (folder / "conf.d/20.toml").write_text('node_name = "three"\n')
        done = self.assert_exit(node.run("--json", "--config", folder / "node.toml", "status"), 0)
        self.assertEqual(done.json["node"], "three")
        # who may release is the node's, whatever file says how it runs
        self.assert_exit(node.run("--config", folder / "node.toml", "apply", self.good), 0)
        self.assertFalse((folder / "trust.d").exists())
        self.assert_exit(node.run("--config", folder / "nosuch.toml", "--json", "status"), 2)

    def test_conf_d_of_the_root(self):
        node = self.node()
        node.configure('node_name = "first"\n')
        (node.root / "etc/conf.d").mkdir()
        (node.root / "etc/conf.d/x.toml").write_text('node_name = "second"\n')
        self.assertEqual(node.json("status")["node"], "second")


class Doctor(Case):
    def checks(self, node, code):
        document = self.assert_exit(node.run("--json", "doctor"), code).json
        self.assertEqual(document["healthy"], code == 0)
        return {check["check"]: check for check in document["checks"]}

    def test_a_node_in_order(self):
        node = self.node()
        self.assert_exit(node.apply(self.good), 0)
        checks = self.checks(node, 0)
        self.assertEqual(checks["app demo"]["health"], "ok")
        self.assertEqual(checks["deployments"]["health"], "ok")

    def test_what_would_break_a_deployment_of_one_app(self):
        def wrong_toml(node):
            node.configure("[run]\nuser = 7\n", app="shop")

        def writable_toml(node):
            node.configure("", app="shop")
            (node.root / "etc/apps.d/shop.toml").chmod(0o666)

        def own_key(node):
            assert node.run("trust", "add", self.workshop.public(), "--app", "shop").code == 0
            return node.root / "etc/trust.d/shop"

        def writable_key(node):
            (own_key(node) / "release.pub").chmod(0o666)

        def writable_folder(node):
            own_key(node).chmod(0o777)

        def no_key(node):
            (own_key(node) / "note.pub").write_text("no key\n")

        def open_secrets(node):
            secrets = node.root / "secrets"
            secrets.write_text("A=b\n")
            secrets.chmod(0o644)
            node.configure(f'[run]\nenvironment_files = ["{secrets}"]\n', app="shop")

        for spoil in (wrong_toml, writable_toml, writable_key, writable_folder, no_key, open_secrets):
            with self.subTest(spoil.__name__):
                node = self.node()
                spoil(node)
                check = self.checks(node, 2)["app shop"]
                self.assertEqual(check["health"], "broken", check)
                self.assertIn("app shop", node.run("doctor").out)

    def test_a_file_that_no_app_reads(self):
        node = self.node()
        node.configure("", app="Shop")
        self.assertEqual(self.checks(node, 0)["apps.d"]["health"], "limited")

    def test_a_threshold_that_an_apps_keys_cannot_reach(self):
        node = self.node()
        node.configure("[trust]\nthreshold = 2\n", app="demo")
        check = self.checks(node, 0)["app demo"]
        self.assertEqual(check["health"], "limited")
        self.assertIn("trust add", check["mend"])


class NeedsAPerson(Case):
    def setUp(self):
        self.failed = self.node()
        self.assert_exit(self.failed.apply(self.good), 0)
        floor = self.workshop.pack("2.5.0", PROBE.format(program="false") + '[requires]\nrollback_floor = "2.0.0"\n')
        self.trace = self.assert_exit(self.failed.apply(floor), 8).json["trace_id"]

    def test_status_and_doctor_say_so_and_what_leads_out(self):
        status = self.failed.json("status", "demo")["apps"][0]
        self.assertTrue(status["needs_person"])
        text = self.failed.run("status").out
        self.assertIn("a person is needed", text)
        self.assertIn(f"log show {self.trace}", text)
        self.assertNotIn("recover", text)
        checks = {c["check"]: c for c in self.assert_exit(self.failed.run("--json", "doctor"), 2).json["checks"]}
        self.assertEqual(checks["deployments"]["health"], "broken")
        self.assertIn("a person is needed", checks["deployments"]["found"])
        way_out = re.search(r"updagent (rollback \S+ --to \S+)", checks["deployments"]["mend"]).group(1)
        self.assert_exit(self.failed.run(*way_out.split(), "--force"), 0)
        self.assertFalse(self.failed.json("status", "demo")["apps"][0]["needs_person"])

    def test_a_newer_release_leads_out_too(self):
        self.assert_exit(self.failed.apply(self.workshop.pack("2.6.0")), 0)
        self.assertFalse(self.failed.json("status", "demo")["apps"][0]["needs_person"])


class Recover(Case):
    def test_an_unknown_app_is_not_found(self):
        node = self.node()
        self.assertEqual(self.assert_exit(node.run("--json", "recover", "nosuch"), 6).json["error"]["code"], "not_found")
        self.assert_exit(node.apply(self.good), 0)
        self.assert_exit(node.run("recover", "nosuch"), 6)
        self.assert_exit(node.run("recover", "demo"), 0)
        self.assert_exit(node.run("remove", "demo"), 0)
        self.assert_exit(node.run("recover", "demo"), 0)  # the log knows it


class Log(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.logged = harness.Node(cls.workshop)
        assert cls.logged.apply(cls.good).code == 0
        assert cls.logged.apply(cls.bad).code == 4

    def test_export_has_every_event_and_the_head(self):
        lines = [json.loads(line) for line in self.assert_exit(self.logged.run("log", "export"), 0).out.splitlines()]
        head = lines.pop()["audit_head"]
        last = max(lines, key=lambda event: event["event_id"])
        self.assertEqual((head["count"], head["hash"]), (last["event_id"], last["hash"]))
        self.assertEqual({event["event_id"] for event in lines}, set(range(1, head["count"] + 1)))

    def test_a_head_that_was_kept_proves_and_another_does_not(self):
        node = self.logged.clone("kept")
        head = node.json("log", "verify")["head"]
        self.assert_exit(node.run("hold", "demo"), 0)
        self.assert_exit(node.run("log", "verify", "--head", head), 0)
        count, digest = head.split(":")
        forged = digest[:-1] + ("0" if digest[-1] != "0" else "1")
        done = self.assert_exit(node.run("--json", "log", "verify", "--head", f"{count}:{forged}"), 9).json
        self.assertFalse(done["intact"])
        self.assertIn(f"event {count}", done["error"]["message"])
        self.assert_exit(node.run("log", "verify", "--head", f"{int(count) + 1000}:{digest}"), 9)
        self.assert_exit(node.run("log", "verify", "--head", "nonsense"), 2)

    def test_prune_leaves_a_chain_that_holds(self):
        node = self.logged.clone("pruned")
        before = node.events()
        removed = self.assert_exit(node.run("--json", "log", "prune", "--before", "0s"), 0).json["removed"]
        self.assertGreater(removed, 0)
        after = node.events()
        self.assertEqual(len(after), len(before) - removed + 1)
        self.assertIn("log.pruned", [event["event"] for event in after])
        self.assert_exit(node.run("log", "verify"), 0)
        self.assert_exit(node.run("log", "prune"), 2)


class Help(Case):
    GLOBALS = ("--root", "--config", "--trust", "--json", "--quiet", "--no-color", "--log-level")

    def verbs(self):
        text = harness.run("help").out
        return [line.split()[0] for line in re.findall(r"(?m)^  [a-z]+ +.*$", text)]

    def test_options_of_subcommands_are_in_help_man_page_and_completion(self):
        man, completion = harness.run("help", "--man").out, harness.run("help", "--completion").out
        for words, options in ((["log", "prune"], ["--before"]), (["log", "verify"], ["--head"]), (["log", "show"], ["TRACE"]),
                               (["log", "export"], ["--since"]), (["trust", "add"], ["--app", "--name"]),
                               (["trust", "remove"], ["--app"])):
            for done in (harness.run(*words, "--help"), harness.run("help", *words), harness.run("help", words[0])):
                self.assert_exit(done, 0)
                self.assertIn(" ".join(["updagent", *words]), done.out)
                for option in [*options, *self.GLOBALS]:
                    self.assertIn(option, done.out)
            section = man[man.index(".B " + " ".join(words)):]
            section = section[:section.index("\n.TP")] if "\n.TP" in section else section
            for option in options:
                self.assertIn(option.replace("-", "\\-"), section)
        self.assertRegex(completion, r"'log prune'\) words=\"[^\"]*--before")
        self.assertNotIn("trust add", harness.run("log", "prune", "--help").out)

    def test_global_options_stand_everywhere(self):
        man = harness.run("help", "--man").out
        for option in self.GLOBALS:
            self.assertIn(option.replace("-", "\\-"), man[man.index(".SH OPTIONS"):man.index(".SH VERBS")])
            self.assertIn(option, harness.run("help").out)
        for verb in self.verbs():
            done = harness.run(verb, "--help")
            for option in self.GLOBALS:
                self.assertIn(option, done.out, verb)

    def test_defaults_are_said(self):
        man = harness.run("help", "--man").out
        self.assertRegex(harness.run("log", "--help").out, r"--limit.*50")
        self.assertRegex(harness.run("apply", "--help").out, r"--wait.*0s")
        self.assertRegex(man, r"limit.*\(default 50\)")

    def test_completion_completes(self):
        script = self.workshop.path / "completion"
        script.write_text(harness.run("help", "--completion").out)
        for words, expected, not_expected in ((["updagent", "--jso"], "--json", "apply"), (["updagent", "app"], "apply", "--json"),
                                              (["updagent", "log", "prune", "--b"], "--before", "--since"),
                                              (["updagent", "trust", "a"], "add", "list"),
                                              (["updagent", "apply", "--q"], "--quiet", "--wait")):
            code = (f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _updagent; "
                    'printf "%s\\n" "${COMPREPLY[@]}"')
            done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
            self.assertIn(expected, done.stdout.split())
            self.assertNotIn(not_expected, done.stdout.split())

    def test_help_of_every_verb_lists_the_exits_of_a_failure(self):
        for verb in self.verbs():
            listed = re.findall(r"(?m)^  (\d)  ", harness.run(verb, "--help").out)
            for needed in ("0", "1", "2"):
                self.assertIn(needed, listed, verb)
        self.assertRegex(harness.run("recover", "--help").out, r"(?m)^  6  not found")


def on_a_terminal(words, **more):
    """stdout and stderr are one real terminal; returns (exit status, all that came)."""
    master, slave = pty.openpty()
    running = subprocess.Popen([harness.BINARY, *map(str, words)], env=environment(**{"TERM": "xterm", **more}), stdin=slave,
                               stdout=slave, stderr=slave)
    os.close(slave)
    text = b""
    try:
        while piece := os.read(master, 65536):
            text += piece
    except OSError:  # the other end is closed
        pass
    os.close(master)
    return running.wait(harness.COMMAND_LIMIT_S), text.decode()


class Terminal(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # long enough for a bar, whatever the machine
        cls.watched = cls.workshop.pack("1.5.0", PROBE.format(program="true") + '[rollout]\nwatch = "500ms"\n')

    def test_bars_on_a_terminal(self):
        code, text = on_a_terminal(["--root", self.node().root, "apply", self.watched])
        self.assertEqual(code, 0, text)
        self.assertRegex(text, r"\r\x1b\[K  watching +\[#*\.+\]")
        self.assertIn("\x1b[32m", text)
        last = [line for line in text.split("\r\n") if "watch " in line][-1]
        self.assertRegex(last, r"\r\x1b\[K  watch +", "the bar is wiped before its line")

    def test_plain_lines_in_a_pipe(self):
        done = self.assert_exit(self.node().run("apply", self.watched, env={"TERM": "xterm"}), 0)
        for text in (done.out, done.err):
            self.assertNotRegex(text, r"[\r\x1b]")
        self.assertRegex(done.err, r"(?m)^  watch +ok ")

    def test_no_colours_when_they_are_not_wanted(self):
        for options, more in ((["--no-color"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})):
            with self.subTest(options=options, **more):
                code, text = on_a_terminal([*options, "--root", self.node().root, "apply", self.watched], **more)
                self.assertEqual(code, 0, text)
                self.assertNotRegex(text, r"\x1b\[[0-9;]*m")
        _, text = on_a_terminal(["--root", self.node().root, "status"], NO_COLOR="")
        self.assertIn("nothing is installed", text)

    def test_quiet_says_the_answer_alone(self):
        done = self.assert_exit(self.node().run("--quiet", "apply", self.watched), 0)
        self.assertEqual(done.err, "")
        self.assertIn("committed", done.out)

    def test_json_on_a_terminal_cannot_drive_it(self):
        artifact = self.workshop.pack("1.0.8", files={"a\u009b31m": b"x"}, name="terminal.tar.gz")
        _, text = on_a_terminal(["--json", "inspect", "--files", artifact])
        self.assertNotIn("\u009b", text)
        self.assertIn("a\u009b31m", [entry["path"] for entry in json.loads(text)["files"]])


class Json(Case):
    """--json prints one document, whatever happens."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.exits = {}
        cls.installed = harness.Node(cls.workshop)
        assert cls.installed.apply(cls.good).code == 0
        cls.next = cls.workshop.pack("1.1.0")
        cls.plain = cls.workshop.path / "plain.tar.gz"
        with tarfile.open(cls.plain, "w:gz") as tar:
            tar.add(cls.workshop.public(), "x")

    def listed_exits(self, verb):
        if verb not in self.exits:
            self.exits[verb] = {int(n) for n in re.findall(r"(?m)^  (\d)  ", harness.run(verb, "--help").out)}
        return self.exits[verb]

    def check(self, node, words, code, lines=False):
        with self.subTest(" ".join(map(str, words))):
            done = self.assert_exit(node.run("--json", *words), code)
            if lines:
                for line in done.out.splitlines():
                    self.assertIsInstance(json.loads(line), dict)
            else:
                document = json.loads(done.out)  # exactly one: anything after it is refused
                self.assertEqual(document["api"], 1)
                if code != 0:
                    self.assertIn("error", document)
                    self.assertIsNotNone(document["error"]["code"])
            if words and words[0] in ("keygen", "pack", "sign", "inspect", "verify", "trust", "apply", "rollback", "recover",
                                      "hold", "remove", "status", "releases", "log", "doctor", "version", "help"):
                self.assertIn(code, self.listed_exits(words[0]))
            return done

    def test_what_goes_well(self):
        node = self.installed.clone("json-well")
        out = self.workshop.path
        for words in (["keygen", "--out", out / "k", "--name", "j"], ["pack", harness.SOURCE / "schema", "--app", "s", "--version", "1.0.0",
                                                                     "--key", self.workshop.key, "-o", out / "s.tar.gz"],
                      ["sign", self.good, "--key", self.workshop.key, "-o", out / "signed.tar.gz"], ["inspect", self.good],
                      ["inspect", "--files", self.good], ["verify", self.good], ["verify", "--installed", "demo"],
                      ["trust", "add", out / "k/j.pub"], ["trust", "list"], ["trust", "remove", "j"],
                      ["apply", self.next, "--dry-run"], ["apply", self.next], ["apply", self.next], ["rollback", "demo"],
                      ["recover"], ["recover", "demo"], ["hold", "demo"], ["hold", "demo", "--off"], ["status"], ["status", "demo"],
                      ["releases", "demo"], ["log", "verify"], ["log", "show", node.events()[0]["trace_id"]],
                      ["log", "prune", "--before", "1h"], ["doctor"], ["version"], ["help"], ["help", "log"], ["help", "--man"],
                      ["apply", "--help"], ["--help"], ["--version"], ["remove", "demo", "--version", "1.1.0"],
                      ["remove", "demo", "--data"], ["recover", "--rebuild"]):
            self.check(node, words, 0)
        for words in (["log"], ["log", "export"], ["log", "--app", "nosuch"]):
            self.check(node, words, 0, lines=True)

    def test_what_fails(self):
        node = self.installed.clone("json-fails")
        nothing = self.node(trust=False)
        gone = f"http://127.0.0.1:{harness.free_port()}/x.tar.gz"
        node.configure('[fetch]\ngive_up_after = "1s"\n')
        for words, code in (([], 2), (["nonsense"], 2), (["apply"], 2), (["status", "--nonsense"], 2),
                            (["keygen", "--name", "a/b"], 2), (["keygen"], 2), (["pack", "/nonexistent", "--key", self.workshop.key, "-o", "x.tar.gz"], 2),
                            (["sign", self.good], 2), (["sign", self.plain, "--print-pae"], 3), (["inspect", "/nonexistent"], 2),
                            (["inspect", self.plain], 3), (["inspect", gone], 7), (["verify"], 2), (["verify", self.plain], 3),
                            (["verify", gone], 7), (["verify", "--installed", "nosuch"], 6), (["trust"], 2),
                            (["trust", "add", "/nonexistent"], 1), (["trust", "remove", "nosuch"], 6),
                            (["apply", "/nonexistent"], 2), (["apply", self.plain], 3), (["apply", gone], 7),
                            (["apply", self.hook_fails], 1), (["apply", self.bad], 4), (["apply", self.bad], 3),
                            (["rollback", "nosuch"], 6), (["rollback", "demo", "--to", "9.9.9"], 6), (["recover", "nosuch"], 6),
                            (["hold", "nosuch"], 6), (["remove", "nosuch"], 6), (["status", "nosuch"], 6), (["releases", "nosuch"], 6),
                            (["log", "--since", "nonsense"], 2), (["log", "show", "ffffffff"], 6), (["log", "verify", "--head", "x"], 2),
                            (["log", "prune", "--before", "x"], 2), (["help", "nonsense"], 2)):
            self.check(node, words, code)
        self.check(nothing, ["log"], 6)
        self.check(nothing, ["log", "verify"], 6)
        node.configure("nonsense = 1\n")
        for words in (["status"], ["apply", self.good]):
            self.check(node, words, 2)

    def test_doctor_that_finds_something_broken(self):
        node = self.node()
        node.configure("nonsense = 1\n")
        done = self.assert_exit(node.run("--json", "doctor"), 2)
        self.assertFalse(json.loads(done.out)["healthy"])


if __name__ == "__main__":
    unittest.main()
