"""`updagent apply` of services by somebody without any privilege, in a folder of his own, under load."""

import os
import pathlib
import pwd
import socket
import subprocess
import unittest

import harness
import scene
from apply_service_test import Case, ENV
from supervisor import wait_for


@unittest.skipUnless(os.geteuid() == 0, "becomes another user with setpriv, as root")
class Unprivileged(Case):
    """No steering, no cgroup, no other user than one's own: as root all of this goes another way."""

    USER = "daemon"
    spec_more = "allow_shared = true"

    def setUp(self):
        super().setUp()
        self.program = self.program_for_everybody()
        subprocess.run(["chown", "-R", self.USER, self.node_.root], check=True)

    def tearDown(self):
        self.assert_exit(self.as_user("stop", "demo"), 0)
        harness.reap_all()
        self.assertEqual(scene.processes_of(self.node_.root), {})
        with socket.socket() as probe:
            self.assertNotEqual(probe.connect_ex(("127.0.0.1", self.port)), 0)

    def as_user(self, *words):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("UPDAGENT_")}
        done = subprocess.run(["setpriv", "--reuid", self.USER, "--regid", self.USER, "--clear-groups", "--bounding-set=-all",
                               "--inh-caps=-all", self.program, "--root", self.node_.root, "--json", *map(str, words)],
                              capture_output=True, text=True, timeout=harness.COMMAND_LIMIT_S, cwd="/", env=clean | ENV)
        return harness.Result(done.returncode, done.stdout, done.stderr)

    def app(self):
        return self.as_user("status", "demo").json["apps"][0]

    def play(self, *options):
        self.assert_exit(self.as_user("apply", self.release("1.0.0", *options)), 0)
        service = self.app()["service"]
        self.assertEqual((service["mechanism"], bool(service["reason"])), ("shared", True))
        with self.load() as running:
            running.wait_for_answers(50, generation="1.0.0")
            self.assert_exit(self.as_user("apply", self.release("2.0.0", *options)), 0)
            running.wait_for_answers(50, generation="2.0.0")
            scene.end([service["supervisor_pid"]])
            running.wait_for_answers(50, generation="2.0.0")
            self.assert_exit(self.as_user("apply", self.release("3.0.0", "--crash-at-start", "3")), 1)
            self.assert_exit(self.as_user("rollback", "demo"), 0)
            running.wait_for_answers(50, generation="1.0.0")
            wait_for(lambda: [g["version"] for g in self.app()["generations"]] == ["1.0.0"], "the old one alone")
            running.stop().assert_nothing_failed()
        (one,) = self.app()["generations"]
        owner = pathlib.Path(f"/proc/{one['pid']}").stat().st_uid
        self.assertEqual(owner, pwd.getpwnam(self.USER).pw_uid)
        self.assert_exit(self.as_user("log", "verify"), 0)

    def test_two_releases_a_dead_supervisor_and_the_way_back(self):
        self.play()

    def test_the_same_of_a_server_that_binds_by_itself(self):
        self.spec_more += '\nprotocol = "inject"'
        self.play("--port", str(self.port))


if __name__ == "__main__":
    unittest.main()
