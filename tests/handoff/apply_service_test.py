"""`updagent apply` of services, from the command line, under load."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import unittest

import harness
import load
from supervisor import wait_for

DEMO = os.environ["UPDAGENT_DEMO_SERVICE"]
ENV = {"ASAN_OPTIONS": "detect_leaks=0"}


class Case(harness.Case):
    def setUp(self):
        harness.become_subreaper()
        self.node_ = self.node()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def tearDown(self):
        self.node_.run("stop", "demo")
        harness.reap_all()

    def release(self, version, *options, strategy="handoff", probe="", more=""):
        spec = f"""strategy = "{strategy}"
[service]
command = {json.dumps(["bin/demo-service", "--version", version, "--generation", version, *options])}
ready_timeout = "20s"
drain_timeout = "20s"
stop_timeout = "10s"
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
{more}"""
        files = {"bin/demo-service": (pathlib.Path(DEMO).read_bytes(), 0o755)}
        return self.workshop.pack(version, spec, files)

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
            running.stop()
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


if __name__ == "__main__":
    unittest.main()
