"""A release that says nothing of rollouts, gates and preflight, of plain servers that know nothing of all this: it is
proved before it has a user, judged by the gates that need no help, and undone without a start."""

import json
import pathlib
import signal
import sys
import unittest

import canary
import census
import scene

NGINX = """worker_processes 1;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {data}/body; proxy_temp_path {data}/proxy; fastcgi_temp_path {data}/fastcgi;
  uwsgi_temp_path {data}/uwsgi; scgi_temp_path {data}/scgi;
  add_header X-Generation {version} always;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "{version}"; }} location = /healthz {{ return {health} "x"; }} }}
}}
"""
# The standard library's server; all that it has of its own is a header, what each request costs in memory and what the
# first one takes.
PYTHON = """import http.server
import time
KEPT = []
SLOW = [{slow_s}]
class Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self):
        time.sleep(SLOW.pop() if SLOW else 0)
        KEPT.append(bytearray(b"x") * {bytes} if sum(map(len, KEPT)) < {most} else b"")
        self.send_header("X-Generation", "{version}")
        super().end_headers()
    def log_message(self, *_):
        pass
http.server.{server}(("127.0.0.1", {port}), Handler).serve_forever()
"""
MIB = 1024 * 1024


class Plain(canary.Case):
    """`service`: the lines of [service]; `program`: (path, text) of what a version runs."""

    users = {"fresh": {"connections": 100, "rate": 100, "timeout_ms": 30_000}}
    probe_text = ""

    @classmethod
    def pack(cls, version, *_, more="", **settings):
        path, text = cls.program(version, **settings)
        spec = f"""strategy = "handoff"
[service]
{cls.service}
[[service.listener]]
name = "http"
address = "tcp:127.0.0.1:{cls.port}"
{cls.probe_text.format(port=cls.port)}{more}"""
        return cls.workshop.pack(version, spec, {path: text.encode()})

    def processes(self):
        """nginx writes over its environment, by which others are found: its main process, and those below it."""
        found = super().processes()
        for one in self.generations() if found["supervisor"] else []:
            found["service", one["number"]] = census.descendants(one["pid"])
        return found

    def candidate(self):
        return max(kind[1] for kind in self.processes() if kind[0] == "service")

    def stages(self, done):
        return [stage["stage"] for stage in done.json["stages"]]

    def upgrade(self):
        self.before = self.node_.committed()
        done = self.apply(self.release()).end()
        self.assert_committed(done, self.newest)
        self.assertLess(self.stages(done).index("preflight"), self.stages(done).index("shift"))
        judged = {event["detail"]["gate"] for event in self.events_of(done) if event["event"] == "gate.passed"}
        self.assertGreaterEqual(len(judged), 2, "gates that nobody wrote")
        self.before = self.newest

    def assert_hang_is_undone(self):
        driver = self.apply(self.release())
        driver.wait_for_progress(lambda one: one.get("progress") == "watch", "the watch")
        hung = self.processes()["service", self.candidate()]
        scene.send(hung, signal.SIGSTOP)
        # who waits in its queue is served by the old one; what it had accepted ends with it, or waits for it until then
        self.assert_undone(driver.end(), allowed=scene.IN_FLIGHT | {"timeout"})


class Nginx(Plain):
    service = """command = ["/usr/sbin/nginx", "-p", "{release}", "-c", "nginx.conf", "-e", "stderr", "-g",
  "user root; daemon off; pid {runtime_dir}/nginx.pid;"]
protocol = "nginx"
stop_timeout = "2s"
"""
    probe_text = """[[probe]]
name = "healthz"
type = "http"
url = "http://127.0.0.1:{port}/healthz"
"""

    @classmethod
    def program(cls, version, health=200):
        data = cls.node_.root / "apps/demo/data"
        return "nginx.conf", NGINX.format(version=version, port=cls.port, data=data, health=health)

    def test_a_good_one_is_committed(self):
        self.upgrade()

    def test_one_that_is_not_well_never_has_a_user(self):
        done = self.apply(self.release(health=500)).end()
        self.assert_exit(done, 1)
        self.assertEqual((done.json["outcome"], self.failed_stage(done)["stage"]), ("aborted", "preflight"))
        self.assert_only(canary.NONE)
        self.assert_settled_as(self.before)

    def test_one_that_hangs_after_its_preflight_is_undone(self):
        self.assert_hang_is_undone()


class Python(Plain):
    service = """command = ["/usr/bin/python3", "serve.py"]
protocol = "inject"
stop_timeout = "2s"
"""

    server = "ThreadingHTTPServer"

    @classmethod
    def program(cls, version, kept=0, slow_s=0):
        return "serve.py", PYTHON.format(version=version, port=cls.port, bytes=max(1, kept), most=600 * MIB if kept else 0,
                                         server=cls.server, slow_s=slow_s)


class HttpServer(Python):
    def test_a_good_one_is_committed_though_it_has_no_probe(self):
        self.upgrade()

    def test_one_that_hangs_is_seen_by_its_queue(self):
        self.assert_hang_is_undone()

    def test_one_whose_memory_explodes_is_undone(self):
        done = self.apply(self.release(kept=4 * MIB)).end()
        self.assert_undone(done, code="gate_failed")
        self.assertIn("memory", json.dumps(self.failed_stage(done)["detail"]))


class OneThread(Python):
    """It accepts nothing while it answers, and its first answer takes longer than three windows of the default gates."""

    server = "HTTPServer"

    def test_a_slow_answer_is_no_hang(self):
        done = self.apply(self.release(slow_s=7)).end()
        self.assert_committed(done, self.newest)
        hangs = [event for event in self.events_of(done)
                 if (event["event"], event["detail"].get("gate")) == ("gate.failed", "kernel:hang")]
        self.assertGreaterEqual(len(hangs), 2, "it was looked at while it was slow")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
