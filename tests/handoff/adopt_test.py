"""`updagent adopt`: a service that runs already is taken over under load, and its first deployment has no gap."""

import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import harness
import load
from supervisor import Control, wait_for

LIBC = ctypes.CDLL(None, use_errno=True)
SYS_PIDFD_GETFD = 438

DEMO = os.environ["UPDAGENT_DEMO_SERVICE"]
IPPROTO_MPTCP = 262  # not in Python's socket module


class Case(harness.Case):
    def setUp(self):
        harness.become_subreaper()
        self.node_ = self.node()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(subprocess.run, ["rm", "-rf", self.folder], check=True)

    def tearDown(self):
        self.node_.run("stop", "demo")
        harness.reap_all()

    def spec(self, version="", address=None, more=""):
        return f"""strategy = "handoff"
[service]
command = {json.dumps(["bin/demo-service", "--version", version, "--generation", version])}
ready_timeout = "20s"
drain_timeout = "20s"
stop_timeout = "10s"
{more}
[[service.listener]]
name = "http"
address = "{address or f'tcp:127.0.0.1:{self.port}'}"
[[probe]]
name = "healthz"
type = "http"
url = "http://127.0.0.1:{self.port}/healthz"
interval = "50ms"
timeout = "5s"
[rollout]
watch = "0s"
"""

    def spec_file(self, **changes):
        path = self.folder / "updagent.toml"
        path.write_text('app = "demo"\n' + self.spec(**changes))
        return path

    def release(self, version, **changes):
        return self.workshop.pack(version, self.spec(version, **changes),
                                  {"bin/demo-service": (pathlib.Path(DEMO).read_bytes(), 0o755)})

    def adopt(self, pid, *words):
        return self.node_.run("adopt", "demo", "--pid", str(pid), *words, "--json")

    def nginx(self, workers=2):
        """An nginx as a distribution runs it: a master, workers of another user, no SO_REUSEPORT."""
        config = self.folder / "nginx.conf"
        config.write_text(f"""pid {self.folder}/nginx.pid; error_log {self.folder}/error.log; worker_processes {workers};
user nobody nogroup;
events {{ worker_connections 512; }}
http {{ access_log off; keepalive_timeout 1000s;
  server {{ listen 127.0.0.1:{self.port} backlog=300;
    location / {{ add_header X-Generation "nginx"; return 200 "nginx\\n"; }} }} }}
""")
        self.folder.chmod(0o755)
        process = subprocess.Popen(["/usr/sbin/nginx", "-c", config, "-g", "daemon off;"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wait_for(lambda: (self.folder / "nginx.pid").exists() and self.reachable(), "nginx")
        return process

    def reachable(self):
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        except OSError:
            return False

    def load(self):
        target = f"tcp:127.0.0.1:{self.port}"
        return load.Load({"fresh": {"target": target, "connections": 8, "rate": 200},
                          "kept": {"target": target, "connections": 4, "rate": 50, "keepalive": 1}})

    def supervisor_pid(self):
        control = Control(self.node_.root / "run/demo.sock")
        try:
            return control.ask("status")["pid"]
        finally:
            control.close()

    def events(self, name):
        return [event for event in self.node_.events("--app", "demo") if event["event"] == name]

    def generations(self):
        return self.node_.json("status", "demo")["apps"][0]["generations"]


class Adopted(Case):
    def test_a_running_nginx_is_replaced_without_a_gap(self):
        nginx = self.nginx()
        with self.load() as running:
            running.wait_for_answers(50)
            adopted = self.assert_exit(self.adopt(nginx.pid, "--spec", self.spec_file()), 0).json
            self.assertEqual((adopted["mechanism"], adopted["reason"], adopted["not_adopted"]), ("steered", "", []))
            one, = self.generations()
            self.assertEqual((one["pid"], one["role"], one["state"], one["weight_percent"]),
                             (nginx.pid, "active", "ready", 100))
            running.wait_for_answers(50)
            self.assert_exit(self.node_.apply(self.release("0.9.0")), 0)
            running.wait_for_answers(50, generation="0.9.0")
            nginx.wait(timeout=60)
            self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
            running.wait_for_answers(50, generation="1.0.0")
            seen = running.stop()
        seen.assert_nothing_failed()
        wait_for(lambda: [g["version"] for g in self.generations()] == ["1.0.0"], "one generation")
        self.assertEqual(self.events("service.adopted")[0]["detail"]["pid"], nginx.pid)

    def test_a_bad_first_release_leaves_the_adopted_one_alone(self):
        nginx = self.nginx()
        self.assert_exit(self.adopt(nginx.pid, "--spec", self.spec_file()), 0)
        spec = self.spec("1.0.0").replace('"bin/demo-service",', '"bin/demo-service", "--unhealthy", "1",')
        bad = self.workshop.pack("1.0.0", spec, {"bin/demo-service": (pathlib.Path(DEMO).read_bytes(), 0o755)})
        with self.load() as running:
            running.wait_for_answers(20)
            self.assert_exit(self.node_.apply(bad), 1)
            running.wait_for_answers(100)
            running.stop().assert_nothing_failed()
        self.assertIsNone(nginx.poll())
        self.assertEqual([g["pid"] for g in self.generations()], [nginx.pid])

    def test_the_supervisors_successor_knows_it(self):
        nginx = self.nginx()
        self.assert_exit(self.adopt(nginx.pid, "--spec", self.spec_file()), 0)
        pid = self.supervisor_pid()
        with self.load() as running:
            running.wait_for_answers(20)
            os.kill(pid, signal.SIGKILL)
            self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
            running.wait_for_answers(50, generation="1.0.0")
            running.stop().assert_nothing_failed()
        nginx.wait(timeout=60)

    def test_its_options_are_its_successors(self):
        server = socket.socket()
        # it closes first: without this what is left of its connections would keep others from joining it
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 7654)
        server.bind(("127.0.0.1", self.port))
        pid = os.fork()
        if pid == 0:
            server.listen(77)
            while True:
                server.accept()[0].close()
        server.close()
        try:
            wait_for(self.reachable, "the server")
            self.assert_exit(self.adopt(pid, "--spec", self.spec_file()), 0)
            os.kill(self.supervisor_pid(), signal.SIGKILL)
            self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
            one = wait_for(lambda: len(self.generations()) == 1 and self.generations()[0], "one generation")
            self.assertEqual(self.option_of(one["pid"]), 7654)
        finally:
            os.kill(pid, signal.SIGKILL)  # ended by now, and not reaped, unless the test has failed
            os.waitpid(pid, 0)

    def option_of(self, pid):
        """TCP_USER_TIMEOUT of the first inherited listener of a process."""
        pidfd = os.pidfd_open(pid)
        try:
            number = LIBC.syscall(SYS_PIDFD_GETFD, pidfd, 3, 0)
            self.assertGreaterEqual(number, 0)
            with socket.socket(fileno=number) as copy:
                return copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        finally:
            os.close(pidfd)

    def test_when_the_adopted_process_dies_nobody_is_left_hanging(self):
        server = subprocess.Popen(["python3", "-m", "http.server", "--bind", "127.0.0.1", str(self.port)],
                                  cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        wait_for(self.reachable, "the server")
        self.assert_exit(self.adopt(server.pid, "--spec", self.spec_file()), 0)
        server.kill()
        wait_for(lambda: not self.reachable(), "a refusal")
        self.assertIn("can't start it again", self.events("service.failed")[0]["detail"]["problem"])
        self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)

    def test_workers_that_outlive_their_master_serve_on(self):
        nginx = self.nginx(workers=1)
        self.assert_exit(self.adopt(nginx.pid, "--spec", self.spec_file()), 0)
        workers = pathlib.Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text().split()
        nginx.kill()
        nginx.wait()
        try:
            wait_for(lambda: self.events("service.failed"), "the event")
            answer = subprocess.run(["curl", "-sS", "--max-time", "30", f"http://127.0.0.1:{self.port}/"], check=True,
                                    capture_output=True, text=True)
            self.assertEqual(answer.stdout, "nginx\n")
            os.kill(self.supervisor_pid(), signal.SIGKILL)  # its successor finds a service without a main process
            self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
            wait_for(lambda: [g["version"] for g in self.generations()] == ["1.0.0"], "the release alone")
        finally:
            for pid in workers:
                os.kill(int(pid), signal.SIGKILL)

    def test_nobody_is_called_for_when_it_ends_while_it_drains(self):
        nginx = self.nginx(workers=1)
        self.assert_exit(self.adopt(nginx.pid, "--spec", self.spec_file()), 0)
        workers = pathlib.Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text().split()
        try:
            with socket.create_connection(("127.0.0.1", self.port)) as busy:
                time.sleep(0.05)  # the kernel counts in ticks: the last word is the client's
                busy.sendall(b"GET / HTTP/1.1\r\n")  # it drains until there is more
                self.assert_exit(self.node_.apply(self.release("1.0.0")), 0)
                self.assertIn((nginx.pid, "draining"), [(g["pid"], g["role"]) for g in self.generations()])
                nginx.kill()
                nginx.wait()
                wait_for(lambda: self.events("service.failed"), "the event")
            self.assertNotIn("can't start it again", self.events("service.failed")[0]["detail"]["problem"])
            wait_for(lambda: [g["version"] for g in self.generations()] == ["1.0.0"], "the release alone")
        finally:
            for pid in workers:
                os.kill(int(pid), signal.SIGKILL)


class Shared(Case):
    """A running socket that no fresh one can join."""

    def server(self, protocol, reuse):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(300)
        process = subprocess.Popen(["sh", "-c", f'exec 3<&{listener.fileno()}; export LISTEN_PID=$$; exec "$0" "$@"', DEMO,
                                    "--version", "old", "--generation", "old"], pass_fds=[listener.fileno()],
                                   env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"},
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        listener.close()
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.client = socket.create_connection(("127.0.0.1", self.port))
        self.addCleanup(self.client.close)
        self.client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(self.client.recv(1))
        return process

    def mechanism(self):
        service = self.node_.json("status", "demo")["apps"][0]["service"]
        return service["mechanism"], service["reason"]

    def assert_shared_until_it_is_stopped_once(self, old, why):
        adopted = self.assert_exit(self.adopt(old.pid, "--spec", self.spec_file()), 0)
        self.client.close()  # first: nothing is left of it at the server's port
        with self.load() as running:
            running.wait_for_answers(50, generation="old")
            self.assertEqual(adopted.json["mechanism"], "shared")
            self.assertIn(why, adopted.json["reason"])
            self.assertIn(f"shared and not steered: {adopted.json['reason']}", adopted.err)
            self.assertEqual(self.mechanism(), ("shared", adopted.json["reason"]))
            refused = self.assert_exit(self.node_.apply(self.release("0.9.0")), 3)
            self.assertIn("allow_shared", refused.json["error"]["expected"])
            self.assertIsNone(old.poll())
            self.assertEqual([g["pid"] for g in self.generations()], [old.pid])
            running.wait_for_answers(50, generation="old")
            self.assert_exit(self.node_.apply(self.release("1.0.0", more="allow_shared = true")), 0)
            running.wait_for_answers(50, generation="1.0.0")
            old.wait(timeout=60)
            running.stop().assert_nothing_failed()
        self.assertEqual(self.mechanism()[0], "shared")
        self.assert_exit(self.node_.run("stop", "demo"), 0)
        self.assert_exit(self.node_.run("start", "demo"), 0)
        self.assertEqual(self.mechanism(), ("steered", ""))
        self.assert_exit(self.node_.apply(self.release("1.1.0")), 0)

    def test_one_without_so_reuseaddr_whose_connections_are_in_the_way(self):
        self.assert_shared_until_it_is_stopped_once(self.server(socket.IPPROTO_TCP, 0), "the server does not set SO_REUSEADDR")

    def test_one_of_mptcp(self):
        self.assert_shared_until_it_is_stopped_once(self.server(IPPROTO_MPTCP, 0), "it is an MPTCP socket")


class Refused(Case):
    def refused(self, pid, code, *words):
        done = self.assert_exit(self.adopt(pid, *words), code)
        return done.json["error"]

    def test_what_can_not_be_adopted_is_named(self):
        nginx = self.nginx(workers=1)
        spec = self.spec_file()
        worker, = map(int, pathlib.Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text().split())
        self.assertEqual(self.refused(worker, 2, "--spec", spec)["hint"], f"--pid {nginx.pid}")
        self.assertIn("no process", self.refused(4_000_000, 6, "--spec", spec)["message"])
        self.assertIn("where the service listens", self.refused(nginx.pid, 2)["message"])
        other = self.spec_file(address="tcp:127.0.0.1:1")
        error = self.refused(nginx.pid, 3, "--spec", other)
        self.assertEqual(error["code"], "privilege")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free = probe.getsockname()[1]
        error = self.refused(nginx.pid, 6, "--spec", self.spec_file(address=f"tcp:127.0.0.1:{free}"))
        self.assertEqual((error["expected"], error["got"]), (f"tcp:127.0.0.1:{free}", f"tcp:127.0.0.1:{self.port}"))
        spec = self.spec_file()
        self.assert_exit(self.adopt(nginx.pid, "--spec", spec), 0)
        self.assertEqual(self.refused(nginx.pid, 5, "--spec", spec)["code"], "busy")

    def test_strategy_restart_has_no_way_back_to_it(self):
        nginx = self.nginx(workers=1)
        self.assert_exit(self.adopt(nginx.pid, "--spec", self.spec_file()), 0)
        spec = self.spec("1.0.0").replace('strategy = "handoff"', 'strategy = "restart"')
        restart = self.workshop.pack("1.0.0", spec, {"bin/demo-service": (pathlib.Path(DEMO).read_bytes(), 0o755)})
        done = self.node_.apply(restart)
        self.assertIn("adopted", json.dumps(done.json))
        self.assertNotEqual(done.code, 0)
        self.assertIsNone(nginx.poll())


if __name__ == "__main__":
    unittest.main()
