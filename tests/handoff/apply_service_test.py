"""`updagent apply` of services, from the command line, under load."""

import contextlib
import ctypes
import errno
import grp
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import unittest

import harness
import load
import scene
from supervisor import Control, wait_for

DEMO = os.environ["UPDAGENT_DEMO_SERVICE"]
ENV = harness.SHORT_LIVED
# The ten seconds that a handoff is watched where nothing is said would only cost time here.
UNWATCHED = '[rollout]\nwatch = "0s"\n'


class Case(harness.Case):
    def setUp(self):
        harness.become_subreaper()
        self.node_ = self.node()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    spec_more = ""

    def tearDown(self):
        self.node_.run("stop", "demo")
        harness.reap_all()

    def release(self, version, *options, strategy="handoff", probe="", more="", app="demo", program=None):
        spec = f"""strategy = "{strategy}"
[service]
command = {json.dumps(["bin/demo-service", "--version", version, "--generation", version, *options])}
ready_timeout = "20s"
drain_timeout = "20s"
stop_timeout = "10s"
{self.spec_more}
[[service.listener]]
name = "http"
address = "tcp:127.0.0.1:{self.port}"
[[probe]]
name = "healthz"
type = "http"
url = "http://127.0.0.1:{self.port}/healthz"
interval = "50ms"
timeout = "5s"
failures = 2
{probe}
{more if "[rollout]" in more else more + UNWATCHED}"""
        files = {"bin/demo-service": (program or pathlib.Path(DEMO).read_bytes(), 0o755)}
        return self.workshop.pack(version, spec, files, app=app)

    def load(self):
        target = f"tcp:127.0.0.1:{self.port}"
        return load.Load({"fresh": {"target": target, "connections": 8, "rate": 200},
                          "kept": {"target": target, "connections": 8, "rate": 100, "keepalive": 1}})

    def serving(self):
        return subprocess.run(["curl", "-sS", f"http://127.0.0.1:{self.port}/"], check=True, capture_output=True,
                              text=True).stdout

    def generations(self):
        return self.node_.json("status", "demo")["apps"][0]["generations"]

    def assert_log_is_whole(self):
        self.assert_exit(self.node_.run("log", "verify"), 0)
        self.assert_exit(self.node_.run("recover"), 0)


class Handoff(Case):
    def test_upgrade_bad_release_and_way_back_under_load(self):
        node = self.node_
        first = self.assert_exit(node.apply(self.release("1.0.0")), 0).json
        self.assertEqual([s["stage"] for s in first["stages"]],
                         ["fetch", "verify", "stage", "pre_upgrade", "start", "preflight", "switch", "shift", "watch",
                          "commit", "cleanup"])
        with self.load() as running:
            running.wait_for_answers(50)
            self.assert_exit(node.apply(self.release("2.0.0")), 0)
            running.wait_for_answers(50, generation="2.0.0")
            bad = self.assert_exit(node.apply(self.release("3.0.0", "--unhealthy", "1")), 1).json
            self.assertEqual((bad["outcome"], node.current(), node.committed()), ("aborted", "2.0.0", "2.0.0"))
            self.assertEqual(bad["stages"][-2]["stage"], "preflight")
            self.assert_exit(node.apply(self.release("3.1.0", "--crash-at-start", "3")), 1)
            self.assert_exit(node.run("rollback", "demo"), 0)
            running.wait_for_answers(50, generation="1.0.0")
            seen = running.stop()
        seen.assert_nothing_failed()
        self.assertEqual(set(seen.whole("fresh").generations), {"1.0.0", "2.0.0"})
        self.assertEqual((node.current(), node.committed()), ("1.0.0", "1.0.0"))
        self.assert_log_is_whole()

    def test_one_that_turns_bad_in_the_watch_is_undone_and_users_are_back(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0")), 0)
        watched = self.release("2.0.0", "--crash-after", "150", more='[rollout]\nwatch = "30s"\n')
        with self.load() as running:
            done = self.assert_exit(node.apply(watched), 4).json
            self.assertEqual(done["outcome"], "rolled_back")
            running.wait_for_answers(100, generation="1.0.0")
            seen = running.stop()
        # what it had accepted and not answered died with it, and nothing else
        self.assertEqual([f for f in seen.failures if f["class"] not in scene.IN_FLIGHT], [])
        self.assertIn("1.0.0", self.serving())
        self.assertEqual((node.current(), node.committed()), ("1.0.0", "1.0.0"))
        self.assert_log_is_whole()

    def test_strategy_restart(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0", strategy="restart")), 0)
        with self.load() as running:
            running.wait_for_answers(50)
            self.assert_exit(node.apply(self.release("2.0.0", strategy="restart")), 0)
            running.wait_for_answers(50, generation="2.0.0")
            self.assert_exit(node.apply(self.release("3.0.0", "--unhealthy", "1", strategy="restart")), 4)
            running.wait_for_answers(50, generation="2.0.0")
            seen = running.stop()
        seen.assert_nothing_failed("fresh")
        self.assertEqual(node.current(), "2.0.0")

    def test_an_interrupt_does_not_cut_a_rollback_short(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0")), 0)
        self.assert_exit(node.apply(self.release("2.0.0")), 0)
        for place in ("deploy.before_rollback_link", "deploy.after_rollback_link", "deploy.after_post_rollback"):
            target = "1.0.0" if node.current() == "2.0.0" else "2.0.0"
            driver = scene.Driver(node, "rollback", "demo", "--to", target, env={"UPDAGENT_FAILPOINTS": f"{place}=stop"})
            scene.wait_stopped(driver.pid)
            os.kill(driver.pid, signal.SIGINT)
            driver.resume()
            done = self.assert_exit(driver.end(), 0)
            self.assertEqual([s["status"] for s in done.json["stages"]], ["success"] * 3, done)
            self.assertEqual((node.current(), node.committed()), (target, target))

    def test_what_becomes_of_the_old_one_is_told_under_the_deployment_that_replaced_it(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0")), 0)
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"GET /stream?bytes=100000000 HTTP/1.1\r\nHost: x\r\n\r\n")  # and never reads it
            trace = self.assert_exit(node.apply(self.release("2.0.0")), 0).json["trace_id"]
            self.assertEqual([g["version"] for g in self.generations() if g["role"] == "draining"], ["1.0.0"])
        wait_for(lambda: len(self.generations()) == 1, "the end of the old one")
        told = {e["event"]: e["trace_id"] for e in node.events("--app", "demo") if e["detail"].get("generation") == 1}
        self.assertEqual((told["traffic.drained"], told["service.stopped"]), (trace, trace))
        shown = self.assert_exit(node.run("log", "show", trace), 0).out
        self.assertIn("traffic.drained", shown)

    def test_with_strategy_restart_nothing_below_the_floor_is_started(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0", strategy="restart")), 0)
        floor = '[requires]\nrollback_floor = "2.0.0"\n'
        for version, *options in (("2.0.0", "--unhealthy", "1"), ("2.1.0", "--crash-at-start", "3")):
            bad = node.apply(self.release(version, *options, strategy="restart", more=floor))
            self.assertEqual(self.assert_exit(bad, 8).json["reason"], "rollback_floor")
            self.assertEqual((node.current(), node.committed()), (version, "1.0.0"))
            (left,) = self.generations()
            self.assertEqual((left["version"], left["role"]), (version, "active"))
            for verb in ("restart", "stop", "start"):
                comes_up = verb == "stop" or version == "2.0.0"
                self.assert_exit(node.run(verb, "demo"), 0 if comes_up else 1)
                self.assertEqual({g["version"] for g in self.generations()}, set() if verb == "stop" else {version}, verb)
            self.assert_exit(node.run("rollback", "demo", "--to", "1.0.0", "--force"), 0)
            self.assertIn('"1.0.0"', self.serving())

    def test_restart_start_and_stop(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0")), 0)
        with self.load() as running:
            running.wait_for_answers(50)
            self.assert_exit(node.run("restart", "demo"), 0)
            wait_for(lambda: [g["number"] for g in self.generations()] == [2], "the second generation alone")
            running.wait_for_answers(50)
            running.stop().assert_nothing_failed()
        self.assert_exit(node.run("stop", "demo"), 0)
        self.assertEqual(self.generations(), [])
        self.assert_exit(node.run("start", "demo"), 0)
        wait_for(lambda: [g["state"] for g in self.generations()] == ["ready"], "the service")
        self.assertIn("1.0.0", self.serving())


    def test_a_start_that_fails_is_a_failure_and_says_why(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0")), 0)
        self.assertIn("runs already", self.assert_exit(node.run("start", "demo"), 0).out)
        node.configure('[run]\nenvironment = { DEMO_CRASH_AT_START = "3" }\n', app="demo")
        failed = self.assert_exit(node.run("restart", "demo"), 1).err
        self.assertRegex(failed, r"was not restarted, what ran goes on: .*exit status 3")
        wait_for(lambda: [(g["number"], g["state"]) for g in self.generations()] == [(1, "ready")], "the first alone")
        self.assertIn("1.0.0", self.serving())
        self.assert_exit(node.run("stop", "demo"), 0)
        failed = self.assert_exit(node.run("--json", "start", "demo"), 1).json["error"]["message"]
        self.assertRegex(failed, r"does not come up.*exit status 3")
        wait_for(lambda: "exit status 3" in node.run("status", "demo").out, "the reason in the status")
        node.configure("", app="demo")
        self.assert_exit(node.run("restart", "demo"), 0)
        self.assertEqual([g["state"] for g in self.generations() if g["role"] == "active"], ["ready"])

    @unittest.skipUnless(os.geteuid() == 0, "only root can become another user")
    def test_a_reader_of_the_log_takes_no_deployment_that_runs_for_one_left_open(self):
        node = self.node_
        node.configure('[audit]\ngroup = "games"\n')
        self.assert_exit(node.apply(self.release("1.0.0")), 0)
        group = grp.getgrnam("games").gr_gid
        program = self.program_for_everybody()

        def look(*words, groups=(group,)):
            done = subprocess.run([program, "--root", node.root, "--json", *words], user="nobody", group="nogroup",
                                  extra_groups=groups, capture_output=True, text=True, check=False)
            return json.loads(done.stdout)

        running = subprocess.Popen([harness.BINARY, "--root", node.root, "apply", self.release(
            "2.0.0", more='[rollout]\nwatch = "300s"\n')], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            for line in running.stderr:
                if line.split()[:1] == ["shift"]:
                    break
            for groups in ((group,), ()):
                app = look("status", "demo", groups=groups)["apps"][0]
                self.assertFalse(app["needs_person"], app)
                self.assertIn("Permission denied", app["not_seen"])
            told = node.run("status", "demo").out
            self.assertRegex(told, r"(?m)^demo  2\.0\.0  committed 1\.0\.0")
            self.assertIn(f"updagent --root {node.root} supervise demo", told)
            self.assertTrue(look("status", "demo")["apps"][0]["deployment"]["running"])
            self.assertIn("Permission denied", look("deployment", "abort", "demo")["error"]["message"])
        finally:
            running.kill()
            running.wait()
            running.stderr.close()
        wait_for(lambda: not self.node_.json("status", "demo")["apps"][0]["deployment"], "the guardian's end")
        self.assertFalse(look("status", "demo")["apps"][0]["needs_person"])

    def test_what_a_candidate_said_before_it_ended_is_in_the_story(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0")), 0)
        program = b"#!/bin/sh\necho the first word\necho the last word\nexit 3\n"
        failed = self.assert_exit(node.apply(self.release("2.0.0", program=program)), 1)
        shown = self.assert_exit(node.run("log", "show", failed.json["trace_id"]), 0).out
        self.assertRegex(shown, r"service\.failed .*exit status 3\)\n +\| the first word\n +\| the last word\n")

    def test_two_apps_at_one_address(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0")), 0)
        taken = node.apply(self.release("1.0.0", app="other"))
        node.run("remove", "other")  # and its supervisor
        error = self.assert_exit(taken, 1).json["error"]
        self.assertIn("updagent-holder", error["message"])
        self.assertIn("another app of updagent", error["hint"])


class Upgrade(Case):
    def test_the_supervisor_becomes_the_installed_program(self):
        self.assertEqual(self.node_.run("supervise", "demo", "--upgrade").code, 6)
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        before = self.node_.json("status", "demo")["apps"][0]["service"]["supervisor_pid"]
        with self.load() as running:
            running.wait_for_answers(50)
            done = self.assert_exit(self.node_.run("--json", "supervise", "demo", "--upgrade"), 0).json
            self.assertEqual(done["pid"], before)
            self.assert_exit(self.node_.apply(self.release("2.0.0")), 0)
            running.wait_for_answers(50, generation="2.0.0")
            running.stop().assert_nothing_failed()
        self.assertTrue([e for e in self.node_.events("--app", "demo") if e["event"] == "supervisor.upgraded"])


class CrashLoop(Case):
    def crashing(self, more=""):
        # crashes under load, after it was committed
        return self.release("2.0.0", "--crash-after", "60", more=more)

    def provoke(self, release):
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        with load.Load({"fresh": {"target": f"tcp:127.0.0.1:{self.port}", "connections": 4, "rate": 200}}) as running:
            self.assert_exit(self.node_.apply(release), 0)
            wait_for(lambda: self.events("service.crash_loop"), "the crash loop")
            return running, self.events("service.crash_loop")[0]

    def events(self, name):
        return [event for event in self.node_.events("--app", "demo") if event["event"] == name]

    def test_a_release_that_asks_for_it_is_rolled_back(self):
        self.spec_more = 'on_crash_loop = "rollback"\n'
        _, said = self.provoke(self.crashing())
        self.assertEqual((said["detail"]["rollback"], said["status"]), (True, "failure"))
        wait_for(lambda: self.node_.committed() == "1.0.0", "the way back")
        wait_for(lambda: [g["version"] for g in self.generations()] == ["1.0.0"], "the old one alone")
        self.assertIn("1.0.0", self.serving())
        actor, = {e["actor"] for e in self.node_.events("--app", "demo") if e["event"] == "rollback.started"}
        self.assertEqual(actor, "supervisor")
        self.assert_log_is_whole()

    def test_without_that_it_is_said_and_started_again(self):
        _, said = self.provoke(self.crashing())
        self.assertFalse(said["detail"]["rollback"])
        self.assertEqual((self.node_.current(), self.node_.committed()), ("2.0.0", "2.0.0"))
        wait_for(lambda: [g["state"] for g in self.generations()] == ["ready"], "the next start")


class Room(Case):
    @contextlib.contextmanager
    def waiting(self):
        """3.0.0 while 1.0.0 can't end, because of a stream, and 2.0.0 serves: (the waiting apply, what it said)."""
        self.node_.configure("[run]\nmax_generations = 2\n", app="demo")
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        with socket.create_connection(("127.0.0.1", self.port)) as held:
            held.sendall(b"GET /stream?bytes=1000000&rate=100 HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertTrue(held.recv(1))
            self.assert_exit(self.node_.apply(self.release("2.0.0")), 0)
            self.assertEqual(sorted(g["role"] for g in self.generations()), ["active", "draining"])
            waiting = subprocess.Popen([harness.BINARY, "--root", self.node_.root, "apply", self.release("3.0.0")],
                                       stderr=subprocess.PIPE, text=True)
            line = ""
            while "waiting for room" not in line:
                line = waiting.stderr.readline()
                self.assertTrue(line, "it ended without waiting")
            yield waiting, line

    def assert_given_up(self, waiting):
        waiting.communicate(timeout=60)
        self.assertEqual((waiting.returncode, self.node_.current()), (1, "2.0.0"))

    def test_a_deployment_waits_for_room_or_ends_the_oldest(self):
        with self.waiting() as (waiting, line):
            self.assertIn("1.0.0 with 1 busy", line)
            waiting.send_signal(signal.SIGINT)
            self.assert_given_up(waiting)
            self.assert_exit(self.node_.apply(self.release("3.0.0"), "--end-oldest"), 0)
        self.assertIn("3.0.0", self.serving())
        ended = [e for e in self.node_.events("--app", "demo") if e["event"] == "traffic.drain_ended"]
        self.assertEqual(ended[0]["detail"]["busy"], 1)
        # the stream that would not end was cut by the kill, and that is counted
        cut = [e for e in self.node_.events("--app", "demo") if e["event"] == "service.cut"]
        self.assertEqual(cut[0]["detail"]["connections"], 1)

    def test_one_that_waits_for_room_can_be_aborted(self):
        with self.waiting() as (waiting, _):
            self.assert_exit(self.node_.run("deployment", "abort", "demo"), 0)
            self.assert_given_up(waiting)


class Gates(Case):
    """Where nothing is compared gates judge the watch."""

    failing = """[[gate]]
name = "never"
type = "exec"
command = ["/bin/false"]
interval = "500ms"
failures = 1
[rollout]
watch = "60s"
"""

    def assert_undone(self, done):
        self.assert_exit(done, 4)
        self.assertEqual(done.json["error"]["code"], "gate_failed", done)
        self.assertIn("gate 'never'", done.json["error"]["message"])
        self.assertEqual((self.node_.current(), self.node_.committed()), ("1.0.0", "1.0.0"))

    def test_of_a_service_that_must_not_run_twice(self):
        self.assert_exit(self.node_.apply(self.release("1.0.0", strategy="restart")), 0)
        self.assert_undone(self.node_.apply(self.release("2.0.0", strategy="restart", more=self.failing)))
        wait_for(lambda: [(g["version"], g["state"]) for g in self.generations()] == [("1.0.0", "ready")], "the old one")
        self.assertIn("1.0.0", self.serving())

    def test_of_files(self):
        def files(version, more):
            return self.workshop.pack(version, 'strategy = "files"\n' + more, {"a": version.encode()})
        self.assert_exit(self.node_.apply(files("1.0.0", "")), 0)
        self.assert_undone(self.node_.apply(files("2.0.0", self.failing)))


class WayBack(Case):
    def test_from_a_committed_release_that_can_not_start_any_more(self):
        flag = self.node_.root / "flag"
        flag.touch()
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        demo = json.dumps(f"test -e {flag} && exec bin/demo-service --version 2.0.0 --generation 2.0.0")
        spec = f"""strategy = "handoff"
[service]
command = ["/bin/sh", "-c", {demo}]
ready_timeout = "5s"
[[service.listener]]
name = "http"
address = "tcp:127.0.0.1:{self.port}"
[rollout]
watch = "0s"
"""
        broken = self.workshop.pack("2.0.0", spec, {"bin/demo-service": (pathlib.Path(DEMO).read_bytes(), 0o755)})
        self.assert_exit(self.node_.apply(broken), 0)
        wait_for(lambda: [g["version"] for g in self.generations()] == ["2.0.0"], "the new one alone")
        flag.unlink()
        os.kill(self.generations()[0]["pid"], signal.SIGKILL)
        wait_for(lambda: [e for e in self.node_.events("--app", "demo") if e["event"] == "service.crash_loop"]
                 or self.node_.run("recover").code, "the crash loop")
        self.assert_exit(self.node_.run("rollback", "demo"), 0)
        self.assertEqual((self.node_.current(), self.node_.committed()), ("1.0.0", "1.0.0"))
        self.assertIn("1.0.0", self.serving())


# Says in its status how io_uring_setup(2) ended.
RING_SERVICE = """#!/usr/bin/python3 -IS
import ctypes, errno, os, socket, threading
libc = ctypes.CDLL(None, use_errno=True)
done = libc.syscall(425, 4, ctypes.create_string_buffer(256))
said = "a ring" if done >= 0 else errno.errorcode[ctypes.get_errno()]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.sendto(f"READY=1\\nSTATUS={said}".encode(), os.environ["NOTIFY_SOCKET"])
threading.Event().wait()
"""


class IoUring(Case):
    def said_by(self, version):
        spec = f"""strategy = "handoff"
[service]
command = ["bin/ring"]
[[service.listener]]
name = "http"
address = "tcp:127.0.0.1:{self.port}"
""" + UNWATCHED
        release = self.workshop.pack(version, spec, {"bin/ring": (RING_SERVICE.encode(), 0o755)})
        self.assert_exit(self.node_.apply(release), 0)
        return next(g["status"] for g in self.generations() if g["version"] == version)

    def test_a_service_has_it_where_the_node_allows_it(self):
        libc = ctypes.CDLL(None, use_errno=True)
        ring = libc.syscall(425, 4, ctypes.create_string_buffer(256))
        outside = "a ring" if ring >= 0 else errno.errorcode[ctypes.get_errno()]
        if ring >= 0:
            os.close(ring)
        self.assertEqual(self.said_by("1.0.0"), "EPERM")
        self.node_.configure("[allow]\nio_uring = true\n", app="demo")
        self.assertEqual(self.said_by("2.0.0"), outside)


class Strangers(Case):
    def test_a_socket_that_joins_later_is_reported(self):
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            stranger.bind(("127.0.0.1", self.port))
            stranger.listen(5)
            with self.load() as running:
                running.wait_for_answers(100)
                running.stop().assert_nothing_failed()
            service = self.node_.json("status", "demo")["apps"][0]["service"]
            self.assertIn(f"pid {os.getpid()}", service["strangers"])
            stranger.setblocking(False)
            with self.assertRaises(BlockingIOError):
                stranger.accept()
        self.assertEqual(self.node_.json("status", "demo")["apps"][0]["service"]["strangers"], "")
        self.assertTrue([e for e in self.node_.events("--app", "demo") if e["event"] == "traffic.stranger"])


class Wishes(Case):
    """Without systemd: whoever starts a supervisor after a boot runs `updagent supervise`."""

    def stopped(self):
        return self.node_.json("status", "demo")["apps"][0]["stopped"]

    def supervisor_pid(self):
        control = Control(self.node_.root / "run/demo.sock")
        try:
            return control.ask("status")["pid"]
        finally:
            control.close()

    def refused(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0

    def test_a_stopped_app_is_started_by_start_or_a_commit_alone(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0")), 0)
        self.assertIsNone(self.stopped())
        self.assertIn("boot: nothing starts it", node.run("status").out)
        self.assert_exit(node.run("stop", "demo"), 0)
        since = self.stopped()
        self.assertIn("uid=", since["by"])
        self.assert_exit(node.run("stop", "demo"), 0)
        self.assertEqual(self.stopped(), since)
        self.assert_exit(node.run("supervise", "demo"), 0)  # what a boot does; else it would stay
        self.assertTrue(self.refused())
        self.assert_exit(node.apply(self.release("2.0.0", "--crash-at-start", "3")), 1)
        self.assertTrue(self.refused())
        self.assertEqual(self.stopped(), since)
        self.assert_exit(node.apply(self.release("3.0.0")), 0)
        self.assertIsNone(self.stopped())
        self.assertIn("3.0.0", self.serving())
        self.assert_exit(node.run("stop", "demo"), 0)
        self.assert_exit(node.run("start", "demo"), 0)
        self.assertIsNone(self.stopped())
        self.assertEqual([event["event"] for event in node.events() if event["event"].startswith("app.")],
                         ["app.stopped", "app.started"] * 2)
        self.assert_log_is_whole()

    def test_a_generation_has_memory_figures_where_the_controller_is(self):
        """Of cgroups of our own; in a unit they can't be had (agent/launch/cgroup.hpp)."""
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        mounts = [line.split()[1] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()
                  if line.split()[2] == "cgroup2"]
        if not mounts or os.geteuid() != 0:
            return  # its processes are found otherwise
        mount = pathlib.Path(mounts[0])
        pid = self.generations()[0]["pid"]
        path = next(line for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
        folder = mount / path[len("0::/"):]
        self.assertTrue(folder.name.startswith("generation-"), folder)
        # what the root gives to its children is the machine's decision
        offered = "memory" in (mount / "cgroup.subtree_control").read_text().split()
        for name in ("memory.current", "memory.events"):
            self.assertEqual((folder / name).exists(), offered, name)

    def test_stop_ends_what_a_dead_supervisor_left(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0")), 0)
        os.kill(self.supervisor_pid(), signal.SIGKILL)
        self.assertIn("1.0.0", self.serving())
        self.assertIn("no supervisor runs", node.run("status").out)
        self.assert_exit(node.run("stop", "demo"), 0)
        self.assertTrue(self.refused())

    def test_stop_stops_though_it_can_not_be_recorded(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0")), 0)
        database = node.root / "updagent.db"
        database.rename(node.root / "kept.db")
        database.mkdir()
        failed = node.run("stop", "demo")
        database.rmdir()
        (node.root / "kept.db").rename(database)
        self.assertNotEqual(failed.code, 0)
        self.assertIn("a boot starts it again", failed.err)
        self.assertTrue(self.refused())

    def test_a_damaged_tree_is_not_started(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0")), 0)
        self.assert_exit(node.run("stop", "demo"), 0)
        program = node.root / "apps/demo/releases/1.0.0/bin/demo-service"
        program.write_bytes(program.read_bytes() + b"x")
        self.assertIn("not what was signed", self.assert_exit(node.run("start", "demo"), 9).err)
        self.assertTrue(self.refused())
        self.assertIsNotNone(self.stopped())

    def test_a_supervisor_has_nothing_of_the_session_that_started_it(self):
        node = self.node_
        artifact = self.release("1.0.0")
        init = [resource.prlimit(1, which) for which in (resource.RLIMIT_FSIZE, resource.RLIMIT_MSGQUEUE)]
        subprocess.run(["sh", "-c", 'umask 077 && exec "$@"', "sh", "prlimit", f"--fsize={10**9}:", "--msgqueue=4096:", "nice", "-n", "7",
                        "taskset", "-c", "0", os.environ["UPDAGENT_BINARY"], "--root", node.root, "apply", artifact],
                       check=True, capture_output=True, env=os.environ | ENV)
        pid = self.supervisor_pid()
        self.assertEqual([resource.prlimit(pid, which) for which in (resource.RLIMIT_FSIZE, resource.RLIMIT_MSGQUEUE)], init)
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, pid), 0)
        self.assertEqual(os.sched_getaffinity(pid), os.sched_getaffinity(1))
        self.assertEqual(os.getsid(pid), pid)
        self.assertIn("Umask:\t0022\n", pathlib.Path(f"/proc/{pid}/status").read_text())
        mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
        if any(line.split()[2] == "cgroup2" for line in mounts) and os.geteuid() == 0:
            self.assertIn("/demo/supervisor\n", pathlib.Path(f"/proc/{pid}/cgroup").read_text())


class Deaths(Case):
    def test_a_driver_that_is_killed_anywhere_leaves_the_old_one_or_the_new_one(self):
        node = self.node_
        self.assert_exit(node.apply(self.release("1.0.0")), 0)
        v2 = self.release("2.0.0")
        with self.load() as running:
            for point in ("deploy.after_start", "deploy.begin.preflight", "deploy.after_switch", "deploy.before_shift",
                          "deploy.after_shift", "deploy.after_probes", "deploy.before_commit_link"):
                done = node.run("apply", v2, "--retry", env=ENV | {"UPDAGENT_FAILPOINTS": f"{point}=kill"})
                self.assertEqual(done.code, -signal.SIGKILL, done)
                wait_for(lambda: node.json("status", "demo")["apps"][0]["deployment"] is None, "the guardian")
                self.assertEqual((node.current(), node.committed()), ("1.0.0", "1.0.0"), point)
                mark = running.mark(point.replace(".", "_"))
                running.wait_for_answers(30, generation="1.0.0")
            seen = running.stop()
        seen.assert_nothing_failed()
        done = node.run("apply", v2, "--retry", env=ENV | {"UPDAGENT_FAILPOINTS": "deploy.after_commit_link=kill"})
        self.assertEqual(done.code, -signal.SIGKILL)
        wait_for(lambda: node.json("status", "demo")["apps"][0]["deployment"] is None, "the guardian")
        self.assertEqual((node.current(), node.committed()), ("2.0.0", "2.0.0"))
        wait_for(lambda: "2.0.0" in self.serving(), "the new one")
        self.assert_log_is_whole()


@unittest.skipUnless(os.geteuid() == 0, "capabilities are taken away with setpriv, by root")
class WithoutSteering(Case):
    """CAP_BPF and its like are not there, as in many a container."""

    def bare(self, *words):
        names = ",".join("-" + name for name in ("bpf", "sys_admin", "net_admin", "perfmon"))
        done = subprocess.run(["setpriv", "--bounding-set", names, "--inh-caps", names, harness.BINARY, "--root",
                               self.node_.root, "--json", *map(str, words)], capture_output=True, text=True, timeout=120)
        return harness.Result(done.returncode, done.stdout, done.stderr)

    def test_a_release_is_refused_before_anything_is_touched_or_takes_what_there_is(self):
        refused = self.assert_exit(self.bare("apply", self.release("1.0.0")), 3).json["error"]
        self.assertEqual(refused["code"], "strategy_unsupported")
        self.assertIn("allow_shared", refused["expected"])
        self.assertIn("'shared': ", refused["got"])
        self.assertIsNone(self.node_.current())
        checks = {one["check"]: one for one in self.bare("doctor").json["checks"]}
        self.assertEqual(checks["steering"]["health"], "limited")
        self.spec_more = "allow_shared = true"
        said = self.assert_exit(self.bare("apply", self.release("1.1.0")), 0)
        self.assertIn("shared and not steered", said.err)
        with self.load() as running:
            running.wait_for_answers(50)
            self.assert_exit(self.bare("apply", self.release("2.0.0")), 0)
            running.wait_for_answers(50, generation="2.0.0")
            running.stop().assert_nothing_failed()
        service = self.node_.json("status", "demo")["apps"][0]["service"]
        self.assertEqual(service["mechanism"], "shared")
        self.assertTrue(service["reason"])


class Refused(Case):
    def test_more_than_the_node_allows(self):
        spec_port = self.port
        self.port = 80
        try:
            refused = self.assert_exit(self.node_.apply(self.release("1.0.0")), 3).json["error"]
        finally:
            self.port = spec_port
        self.assertEqual(refused["code"], "privilege")
        self.assertIn("addresses", refused["hint"])

    def test_a_port_that_somebody_has_is_refused_naming_him(self):
        with socket.create_server(("127.0.0.1", self.port)):
            done = self.assert_exit(self.node_.apply(self.release("1.0.0")), 1).json
            self.assertIn(str(os.getpid()), json.dumps(done["error"]))
        self.assertIsNone(self.node_.current())

    def test_a_start_without_the_memory_for_it(self):
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
        before = self.generations()
        self.node_.configure('[limits]\nmemory_reserve = "15TiB"\n')
        with self.load() as running:
            done = self.assert_exit(self.node_.apply(self.release("2.0.0")), 1).json
            self.assertIn("not enough memory", done["error"]["message"])
            self.assertIn("not enough memory", self.assert_exit(self.node_.run("restart", "demo"), 1).err)
            self.assertEqual(self.generations(), before)
            running.wait_for_answers(50, generation="1.0.0")
            running.stop().assert_nothing_failed()
        self.assertEqual((self.node_.current(), self.node_.committed()), ("1.0.0", "1.0.0"))


if __name__ == "__main__":
    unittest.main()
