"""What a candidate must show before its first user, through the production port: probes, warm-up, smoke commands."""

import json
import os
import pathlib
import re
import signal
import subprocess
import unittest

import harness
import recipes
from apply_service_test import Case
from supervisor import wait_for

ROOT = os.geteuid() == 0
BARE = ("bpf", "sys_admin", "net_admin", "perfmon")


class Preflight(Case):
    def release(self, version, *options, smoke="", warmup="", more="", service="", **others):
        """`smoke`: a shell script that is the only smoke command."""
        preflight = "[preflight]\n" if smoke or warmup else ""
        if warmup:
            preflight += f"warmup = {warmup}\n"
        if smoke:
            words = json.dumps(["/bin/sh", "-ec", smoke])
            preflight += f'smoke = [{{ command = {words}, timeout = "60s" }}]\n'
        self.spec_more = f"{service}\n"
        if "[rollout]" not in more:
            more += '[rollout]\nwatch = "0s"\n'
        return super().release(version, *options, more=preflight + more, **others)

    def data(self, name):
        return self.node_.root / "apps" / "demo" / "data" / name

    def starting(self, artifact):
        return subprocess.Popen([harness.BINARY, "--root", self.node_.root, "--json", "apply", artifact],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ended(self, process, code):
        out, err = process.communicate(timeout=harness.COMMAND_LIMIT_S)
        return self.assert_exit(harness.Result(process.returncode, out, err), code).json

    def connect(self, *words, data=b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
        return subprocess.run([harness.BINARY, "--root", self.node_.root, "probe-connect", *words], input=data,
                              capture_output=True, timeout=harness.COMMAND_LIMIT_S)

    def hold(self, artifact):
        """The deployment, held by a smoke command that tells that it runs and waits for the file `go`."""
        process = self.starting(artifact)
        wait_for(lambda: self.data("told").exists() or process.poll() is not None, "the smoke command")
        self.assertIsNone(process.poll(), process.poll() is not None and process.communicate())
        return process

    def warmup_of(self, trace):
        """(requests, answers) in the log."""
        told, = [e["detail"]["warmup"] for e in self.node_.events("--trace", trace) if "warmup" in e["detail"]]
        return told["requests"], told["answered"]

    HELD = """
        curl -sS http://$UPDAGENT_PROBE_ADDRESS/ > $STATE_DIRECTORY/page
        curl -sS http://$UPDAGENT_PROBE_ADDRESS/metrics > $STATE_DIRECTORY/metrics
        id -un > $STATE_DIRECTORY/user
        pwd > $STATE_DIRECTORY/folder
        env > $STATE_DIRECTORY/environment
        touch $STATE_DIRECTORY/told
        until [ -e $STATE_DIRECTORY/go ]; do sleep 0.02; done
        """


class BeforeTheFirstUser(Preflight):
    def test_the_candidate_is_warmed_up_and_asked_and_no_user_reaches_it(self):
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        second = self.release("2.0.0", warmup='{ paths = ["/", "/?page=2"], count = 20 }', smoke=self.HELD)
        with self.load() as running:
            running.wait_for_answers(50)
            process = self.hold(second)
            running.expect("fresh", "1.0.0")
            running.expect("kept", "1.0.0")
            running.wait_for_answers(100)
            self.assertIn("2.0.0", self.data("page").read_text())
            self.assertIn("1.0.0", self.serving())
            before = running.stop()
        self.data("go").touch()
        done = self.ended(process, 0)
        before.assert_nothing_failed()
        self.assertEqual(set(before.whole().generations), {"1.0.0"})
        answered = re.search(r'http_requests_total\{code="200"\} (\d+)', self.data("metrics").read_text())
        self.assertGreaterEqual(int(answered[1]), 40)
        self.assertEqual(self.warmup_of(done["trace_id"]), (40, 40))
        environment = self.data("environment").read_text()
        address = re.search(r"^UPDAGENT_PROBE_ADDRESS=(127\.0\.0\.1:\d+)$", environment, re.M)[1]
        self.assertIn(f"\nUPDAGENT_PROBE_ADDRESS_HTTP={address}\n", environment)
        self.assertIn("\nUPDAGENT_HOOK=smoke\n", environment)
        self.assertTrue(self.data("folder").read_text().endswith("/releases/2.0.0\n"))
        finished, = [e["detail"] for e in self.node_.events() if e["event"] == "hook.finished"]
        self.assertEqual((finished["hook"], finished["result"]), ("smoke", "exit status 0"))
        self.assert_log_is_whole()

    def test_a_smoke_command_that_fails_ends_it_and_nobody_has_noticed(self):
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        bad = self.release("2.0.0", smoke="curl -sS http://$UPDAGENT_PROBE_ADDRESS/; echo the price is wrong; exit 3")
        with self.load() as running:
            running.wait_for_answers(50)
            answer = self.assert_exit(self.node_.apply(bad), 1).json
            running.wait_for_answers(50)
            seen = running.stop()
        seen.assert_nothing_failed()
        self.assertEqual(set(seen.whole().generations), {"1.0.0"})
        error = answer["error"]
        self.assertEqual((answer["outcome"], error["code"]), ("aborted", "hook_failed"))
        self.assertEqual(error["got"], "exit status 3, saying: the price is wrong")
        finished, = [e["detail"] for e in self.node_.events() if e["event"] == "hook.finished"]
        self.assertIn("2.0.0", finished["output"])
        self.assertEqual((self.node_.current(), self.node_.committed()), ("1.0.0", "1.0.0"))
        self.assert_log_is_whole()

    def test_a_candidate_that_dies_meanwhile_ends_the_smoke_command(self):
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        process = self.hold(self.release("2.0.0", smoke=self.HELD))
        victim, = [g["pid"] for g in self.generations() if g["role"] == "candidate"]
        os.kill(victim, signal.SIGKILL)
        self.assertIn("killed", self.ended(process, 1)["error"]["message"])
        self.assertIn("1.0.0", self.serving())

    def test_an_interrupt_ends_it(self):
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        process = self.hold(self.release("2.0.0", smoke=self.HELD))
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.ended(process, 1)["error"]["code"], "interrupted")
        self.assertIn("1.0.0", self.serving())

    def test_a_warm_up_that_nobody_answers_is_a_failure_and_a_partial_one_is_told(self):
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        bad = self.release("2.0.0", warmup='{ paths = ["/slow?ms=3600000"], count = 3, timeout = "500ms" }')
        error = self.assert_exit(self.node_.apply(bad), 1).json["error"]
        self.assertEqual((error["code"], error["got"]), ("probe_failed", "its time of 500ms was over"))
        self.assertIn("1.0.0", self.serving())
        partial = self.release("3.0.0", warmup='{ paths = ["/", "/slow?ms=3600000"], timeout = "2s" }')
        done = self.assert_exit(self.node_.run("apply", partial), 0)
        self.assertIn("1 probe passed, warmed up with 1 of 2 requests", done.err)
        self.assertIn("had no answer", done.err)

    def test_an_exec_probe_asks_the_candidate(self):
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        script = ('if [ -z "$UPDAGENT_PROBE_ADDRESS" ]; then exit 0; fi; '
                  "curl -sS http://$UPDAGENT_PROBE_ADDRESS/ | tee $STATE_DIRECTORY/page | grep -q 2.0.0")
        probe = ('[[probe]]\nname = "script"\ntype = "exec"\ntimeout = "60s"\nfailures = 1\n'
                 f'command = {json.dumps(["/bin/sh", "-c", script])}\n')
        self.assert_exit(self.node_.apply(self.release("2.0.0", probe=probe)), 0)
        self.assertIn("2.0.0", self.data("page").read_text())

    def test_a_unix_path_has_a_door_too(self):
        unix = self.workshop.path / f"{self.id().rpartition('.')[2][:20]}.sock"
        self.node_.configure(f'[allow]\naddresses = ["tcp:*:1024-65535", "unix:{unix}"]\n', app="demo")
        listener = f'[[service.listener]]\nname = "local-api"\naddress = "unix:{unix}"\n'
        self.assert_exit(self.node_.apply(self.release("1.0.0", more=listener)), 0)
        asks = "curl -sS http://$UPDAGENT_PROBE_ADDRESS_LOCAL_API/ | grep -q 2.0.0"
        second = self.release("2.0.0", more=listener, smoke=asks + self.HELD)
        process = self.hold(second)
        for version in ("1.0.0", "2.0.0"):
            answer = self.connect("demo", version, "--listener", "local-api")
            self.assertIn(version.encode(), answer.stdout)
        public = subprocess.run(["curl", "-sS", "--unix-socket", unix, "http://x/"], capture_output=True, text=True)
        self.assertIn("1.0.0", public.stdout)
        self.data("go").touch()
        self.ended(process, 0)

    @unittest.skipUnless(ROOT, "another user's commands are root's to start")
    def test_smoke_commands_run_as_the_services_user(self):
        self.node_.configure('[allow]\nusers = ["daemon"]\n', app="demo")
        process = self.hold(self.release("1.0.0", smoke=self.HELD, service='user = "daemon"'))
        self.data("go").touch()
        self.ended(process, 0)
        self.assertEqual(self.data("user").read_text(), "daemon\n")


class ProbeConnect(Preflight):
    def test_old_and_new_are_reached_while_both_live(self):
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        process = self.hold(self.release("2.0.0", smoke=self.HELD))
        for version in ("1.0.0", "2.0.0", "1.0.0"):
            answer = self.connect("demo", version)
            self.assertEqual(answer.returncode, 0, answer)
            self.assertTrue(answer.stdout.startswith(b"HTTP/1.1 200 "), answer)
            self.assertIn(version.encode(), answer.stdout.partition(b"\r\n\r\n")[2])
        none = self.connect("demo", "9.9.9")
        self.assertEqual(none.returncode, 6)
        self.assertIn(b"1.0.0, 2.0.0", none.stderr)
        wrong = self.connect("demo", "1.0.0", "--listener", "admin")
        self.assertEqual(wrong.returncode, 6)
        self.assertIn(b"expected http", wrong.stderr)
        self.data("go").touch()
        self.ended(process, 0)

    def test_much_goes_through_and_the_ends_too(self):
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        size = 3_000_000
        asked = f"GET /stream?bytes={size} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        answer = self.connect("demo", "1.0.0", data=asked)
        self.assertEqual((answer.returncode, len(answer.stdout.partition(b"\r\n\r\n")[2])), (0, size))

    def test_what_does_not_run_is_not_found(self):
        answer = self.connect("demo", "1.0.0")
        self.assertEqual(answer.returncode, 6)
        self.assertIn(b"no service of 'demo' runs", answer.stderr)


class ProxyProtocol(harness.Case):
    """nginx that takes connections with the header only: from probes, the warm-up, commands and people alike."""

    def setUp(self):
        harness.become_subreaper()
        self.recipe = recipes.read_all()["nginx"]
        self.port = harness.free_port()
        self.node_ = self.node()
        for path, text in self.recipe.node.items():
            self.node_.configure(text, path.removeprefix("apps.d/").removesuffix(".toml"))

    def tearDown(self):
        self.node_.run("stop", self.recipe.app)
        harness.reap_all()

    def release(self, version, header):
        files = self.recipe.release(version, self.port, self.node_.root)
        spec = files.pop("updagent.toml")
        spec = re.sub(r'^(app|version) = .*\n', "", spec, flags=re.M)
        # a key of the listener: in front of the next table
        address = f'address = "tcp:127.0.0.1:{self.port}"\n'
        self.assertIn(address, spec)
        spec = spec.replace(address, address + f"proxy_protocol = {'true' if header else 'false'}\n")
        smoke = json.dumps(["/bin/sh", "-c", f"curl -sS http://$UPDAGENT_PROBE_ADDRESS/ | grep -q {version}"])
        spec += (f'\n[preflight]\nwarmup = {{ paths = ["/"], count = 10 }}\n'
                 f"smoke = [{{ command = {smoke} }}]\n")
        listen = f"listen 127.0.0.1:{self.port}"
        self.assertIn(listen, files["nginx.conf"])
        files["nginx.conf"] = files["nginx.conf"].replace(listen, listen + " proxy_protocol")
        return self.workshop.pack(version, spec, {path: text.encode() for path, text in files.items()},
                                  app=self.recipe.app)

    def page(self, *options):
        return subprocess.run(["curl", "-sS", *options, f"http://127.0.0.1:{self.port}/"], capture_output=True, text=True)

    def test_probes_pass_because_they_send_the_header(self):
        self.assert_exit(self.node_.apply(self.release("1.0.1", True)), 0)
        self.assert_exit(self.node_.apply(self.release("1.0.2", True)), 0)
        self.assertEqual(self.page("--haproxy-protocol").stdout, "1.0.2\n")
        self.assertNotEqual(self.page().returncode, 0)
        asked = subprocess.run([harness.BINARY, "--root", self.node_.root, "probe-connect", self.recipe.app, "1.0.2"],
                               input=b"GET / HTTP/1.0\r\n\r\n", capture_output=True, timeout=harness.COMMAND_LIMIT_S)
        self.assertIn(b"1.0.2\n", asked.stdout)
        refused = self.assert_exit(self.node_.apply(self.release("1.0.3", False)), 1).json
        self.assertEqual(refused["error"]["code"], "probe_failed")
        self.assertEqual(self.page("--haproxy-protocol").stdout, "1.0.2\n")


@unittest.skipUnless(ROOT, "capabilities are taken away with setpriv, by root")
class Shared(Preflight):
    def bare(self, *words):
        names = ",".join("-" + name for name in BARE)
        done = subprocess.run(["setpriv", "--bounding-set", names, "--inh-caps", names, harness.BINARY, "--root",
                               self.node_.root, "--json", *map(str, words)], capture_output=True, text=True,
                              timeout=harness.COMMAND_LIMIT_S)
        return harness.Result(done.returncode, done.stdout, done.stderr)

    def test_what_is_impossible_is_said_before_the_start(self):
        wishes = {"smoke": "exit 1", "warmup": '{ paths = ["/"] }',
                  "more": '[rollout]\nwatch = "0s"\nsteps = [1, 100]\n'
                          '[[gate]]\nname = "slower"\ntype = "scrape"\n'
                          f'url = "http://127.0.0.1:{self.port}/metrics"\ncondition = "p99 <= 3.0 x active"\n'}
        self.assert_exit(self.bare("apply", self.release("1.0.0", **wishes)), 3)
        wishes["service"] = "allow_shared = true"
        # it crashes at its start, and yet it was said
        crashing = self.assert_exit(self.bare("apply", self.release("1.1.0", "--crash-at-start", "3", **wishes)), 1)
        self.assertIn("so there is no preflight, no warm-up, no smoke command, no steps (2), "
                      "no judgement by gate 'slower', no warm standby", crashing.err)
        # a smoke command that would fail is not run
        self.assert_exit(self.bare("apply", self.release("1.2.0", smoke="exit 1", service="allow_shared = true")), 0)
        refused = self.connect("demo", "1.2.0")
        self.assertEqual(refused.returncode, 3)
        self.assertIn(b"share their sockets", refused.stderr)


class WholeListeners(Preflight):
    def test_steps_that_share_nothing_are_told(self):
        unix = self.workshop.path / "whole.sock"
        self.node_.configure(f'[allow]\naddresses = ["unix:{unix}"]\n', app="demo")
        spec = f"""strategy = "handoff"
[rollout]
watch = "0s"
steps = [{{ percent = 10, duration = "1s" }}, {{ percent = 100, duration = "1s" }}]
[service]
command = ["bin/demo-service", "--version", "1.0.0"]
[[service.listener]]
name = "http"
address = "unix:{unix}"
"""
        demo = (pathlib.Path(os.environ["UPDAGENT_DEMO_SERVICE"]).read_bytes(), 0o755)
        done = self.node_.apply(self.workshop.pack("1.0.0", spec, {"bin/demo-service": demo}))
        self.assert_exit(done, 0)
        self.assertIn(f"the steps share nothing: unix:{unix} goes to the candidate as a whole, at 100 % only", done.err)


if __name__ == "__main__":
    unittest.main()
