"""The verbs that look and that keep a node in order, and their help."""

import json
import os
import pathlib
import re
import subprocess
import unittest

import harness
from cli_case import PROBE, Case

BAD = harness.SOURCE / "fixtures/releases/bad"
KEYS = harness.SOURCE / "fixtures/keys"


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
        hostile = "a\u202etxt.exe\u2066"
        artifact = self.workshop.pack("1.0.9", files={hostile: b"x"}, name="hostile.tar.gz")
        done = self.assert_exit(self.node().run("inspect", "--files", artifact), 0)
        self.assertIn("a\\xe2\\x80\\xaetxt.exe\\xe2\\x81\\xa6", done.out)
        for character in "\u202e\u2066":
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

    def test_a_broken_file_hides_nothing_that_is_asked(self):
        node = self.node()
        self.assert_exit(node.apply(self.good), 0)
        node.configure("[limit]\n")
        done = self.assert_exit(node.run("--json", "status"), 2)
        self.assertEqual(done.json["apps"][0]["current"], "1.0.0")
        self.assertEqual(done.json["error"]["code"], "config_invalid")
        self.assertTrue(done.json["node"])
        done = self.assert_exit(node.run("status"), 2)
        self.assertIn("demo  1.0.0", done.out)
        self.assertIn("unknown key 'limit'", done.err)
        self.assertIn("1.0.0", self.assert_exit(node.run("releases", "demo"), 0).out)
        self.assertIn("deployment.finished", self.assert_exit(node.run("log"), 0).out)
        self.assert_exit(node.run("log", "verify"), 0)


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

    def test_a_root_folder_that_services_may_not_enter(self):
        node = self.node()
        node.root.chmod(0o700)
        check = self.checks(node, 0)["user"]
        self.assertEqual(check["health"], "limited")
        self.assertIn(str(node.root), check["mend"])

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
        (node.root / "spool").mkdir(mode=0o700, exist_ok=True)  # as every supervisor leaves it
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
        return re.findall(r"(?m)^  ([a-z][a-z-]+)  +\S", text)

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
        self.assertLessEqual({"apply", "deployment", "probe-connect"}, set(self.verbs()), "a long name runs into its summary")
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

    def test_what_there_is_to_choose_from_is_said_in_full(self):
        states = (pathlib.Path(os.environ["UPDAGENT_SOURCE_DIR"]) / "docs/states.md").read_text()
        stages = set(re.findall(r"(?m)^\| (\w+) \| (?:pre-upgrade|upgrade|post-check|rollback) \|", states))
        self.assertIn("preflight", stages)
        stages.remove("abandon")  # the one state that is no stage
        listed = re.search(r"(?s)--stage STAGE +(.*?)--status", harness.run("log", "--help").out)[1]
        self.assertEqual(set(re.findall(r"\w+", listed)), stages)
        self.assertEqual(json.loads(harness.run("--json", "version").out)["strategies"], ["files", "handoff", "restart"])


if __name__ == "__main__":
    unittest.main()
