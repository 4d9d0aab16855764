"""Real servers, as Debian packs them: handed over again and again under load, by the recipes of docs/handoff.md.

    python3 servers_test.py Nginx
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import unittest

import census
import harness
from server_case import DEMO, ServerCase, background, stream_text, DOWNLOAD_BYTES


class Nginx(ServerCase):
    recipe_name = "nginx"

    def test_handoffs_under_load(self):
        self.assert_all_served(self.hand_over_often(), races=self.idle_ends())


    def refused(self, changes):
        """The error of a release with these changes, while the one before it goes on."""
        self.start_first()
        answer = self.apply(self.pack(1, changes), 1)
        self.assertEqual((answer["outcome"], self.node_.current(self.recipe.app)), ("aborted", "1.0.0"))
        failed = [e for e in self.node_.events("--trace", answer["trace_id"]) if e["event"] == "service.failed"]
        self.assertEqual(len(failed), 1)  # the log explains it, and is there at once
        self.assertIn("output", failed[0]["detail"])
        return answer["error"]["message"]

    def test_reuseport_is_refused_by_name(self):
        message = self.refused({f"listen 127.0.0.1:{self.port}": f"listen 127.0.0.1:{self.port} reuseport"})
        self.assertIn("without 'reuseport'", message)
        self.assertIn("could not bind", message)  # nginx's own words

    def test_reuseport_of_root_is_refused_by_name(self):
        self.node_.configure('[allow]\nroot = true\nusers = ["www-data"]\n', self.recipe.app)
        message = self.refused({f"listen 127.0.0.1:{self.port}": f"listen 127.0.0.1:{self.port} reuseport",
                                'user = "www-data"': 'user = "root"'})
        self.assertIn("without 'reuseport'", message)

    def test_workers_never_sleep_in_accept(self):
        """nginx leaves the flags of an inherited socket as they are; two workers wait at the same one."""
        self.start_first()
        master = self.generations()[0]["pid"]
        for pid in census.descendants(master):
            listeners = {inode for inode, what in census.sockets_of(pid).items() if "LISTEN" in what}
            for fd, target in census.descriptors(pid).items():
                if target in {f"socket:[{inode}]" for inode in listeners}:
                    flags = re.search(r"^flags:\s+(\d+)", pathlib.Path(f"/proc/{pid}/fdinfo/{fd}").read_text(), re.M)
                    self.assertTrue(int(flags[1], 8) & os.O_NONBLOCK, f"pid {pid}, descriptor {fd}")


class Haproxy(ServerCase):
    """Before another server, which is none of ours to hand over."""

    recipe_name = "HAProxy"

    def setUp(self):
        super().setUp()
        self.put_a_server_behind()

    def put_a_server_behind(self):
        behind = harness.free_port()
        self.more = {"9000": str(behind)}
        self.enterContext(background([DEMO, "--port", str(behind)], behind))

    def flows(self):
        flows = super().flows()
        flows["files"]["path"] = f"/stream?bytes={DOWNLOAD_BYTES}"
        return flows

    def test_handoffs_under_load(self):
        self.assert_all_served(self.hand_over_often())


class Gunicorn(ServerCase):
    recipe_name = "gunicorn"

    def test_handoffs_under_load(self):
        self.assert_all_served(self.hand_over_often())


class Node(ServerCase):
    recipe_name = "Node"

    def test_handoffs_under_load(self):
        self.assert_all_served(self.hand_over_often())


class Go(ServerCase):
    recipe_name = "Go"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.sources = cls.recipe.files.pop("gate.go")

    def add_files(self, tree):
        program = self.workshop.path / f"gate-{self.port}"
        if not program.exists():
            source = self.workshop.path / "gate.go"
            source.write_text(self.sources.replace("8080", str(self.port)))
            environment = {"PATH": "/usr/bin:/bin", "CGO_ENABLED": "0", "GO111MODULE": "off", "GOFLAGS": "-trimpath",
                           "GOCACHE": str(pathlib.Path(harness.BINARY).parent / "go-cache"),  # kept: half a minute
                           "HOME": str(self.workshop.path)}
            subprocess.run(["go", "build", "-o", program, source], check=True, env=environment, timeout=600)
        (tree / "bin").mkdir()
        shutil.copy(program, tree / "bin" / "gate")

    def test_handoffs_under_load(self):
        self.assert_all_served(self.hand_over_often())


class Wrk(ServerCase):
    """Another client's judgement, on connections that it keeps as busy as it can and on fresh ones."""

    recipe_name = "A service of your own"
    handoffs = 3
    connections = 16
    races = 0  # kept connections that may be closed under a request, which wrk does not send again

    def add_files(self, tree):
        DemoService.add_files(self, tree)

    def hand_over_under_wrk(self, *words):
        self.start_first()
        wrk = subprocess.Popen(["wrk", "--threads", "1", "--connections", str(self.connections), "--duration", "10m", *words,
                                f"http://127.0.0.1:{self.port}/"], stdout=subprocess.PIPE, text=True)
        with wrk:
            for number in range(1, self.handoffs + 1):
                self.apply(self.pack(number))
            self.wait_until_old_ones_are_gone()
            wrk.send_signal(signal.SIGINT)  # it says what it saw, and ends
            said = wrk.communicate(timeout=harness.COMMAND_LIMIT_S)[0]
        self.assertGreater(int(re.search(r"(\d+) requests in", said)[1]), 0, said)
        self.assertNotIn("Non-2xx", said)
        found = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
        connect, read, write, timeout = map(int, found.groups()) if found else (0, 0, 0, 0)
        self.assertEqual((connect, write, timeout), (0, 0, 0), said)
        return read

    def test_kept_connections(self):
        self.assertLessEqual(self.hand_over_under_wrk(), self.races)

    def test_fresh_connections(self):
        self.assertEqual(self.hand_over_under_wrk("--header", "Connection: close"), 0)


class WrkOfNginx(Wrk):
    recipe_name = "nginx"
    add_files = Nginx.add_files
    races = Wrk.handoffs * Wrk.connections  # as idle_ends()


class WrkOfHaproxy(Wrk):
    recipe_name = "HAProxy"
    add_files = Haproxy.add_files

    def setUp(self):
        super().setUp()
        Haproxy.put_a_server_behind(self)


class HttpServer(ServerCase):
    """It has no header for a version: the length of its only page tells the releases apart."""

    recipe_name = "Python's http.server"
    version_header = "Content-Length"
    handoffs = 3
    max_drain = None  # it has nothing but the drain
    keepalive = False  # HTTP/1.0

    def add_files(self, tree):
        page = tree / "html" / "index.html"
        number = int(re.search(r"1\.0\.(\d+)", page.read_text())[1])
        page.write_text("." * (1000 + number))
        (tree / "html" / "files").mkdir()
        (tree / "html" / "files" / "stream").write_bytes(stream_text(DOWNLOAD_BYTES))

    def version_of(self, number):
        return str(1000 + number)

    def test_handoffs_under_load(self):
        self.assert_all_served(self.hand_over_often())


class Apache(ServerCase):
    recipe_name = "Apache"
    handoffs = 3

    def test_handoffs_under_load(self):
        self.assert_all_served(self.hand_over_often(), races=self.idle_ends())


class Uvicorn(ServerCase):
    recipe_name = "uvicorn"
    handoffs = 3

    def test_handoffs_under_load(self):
        self.assert_all_served(self.hand_over_often(), races=self.idle_ends())


class Puma(ServerCase):
    recipe_name = "Puma"
    handoffs = 3

    def test_handoffs_under_load(self):
        self.assert_all_served(self.hand_over_often(), races=self.idle_ends())


class PhpFpm(ServerCase):
    """Behind an nginx that is none of ours to hand over."""

    recipe_name = "PHP-FPM"
    handoffs = 3
    downloads = False

    def setUp(self):
        super().setUp()
        folder = self.workshop.path / "front"
        url = self.enterContext(harness.nginx(folder, folder, f"""
            location /php {{ include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME index.php;
                             fastcgi_pass 127.0.0.1:{self.port}; }}"""))
        self.front = url.removeprefix("http://")

    def target(self):
        return f"tcp:{self.front}"

    def flows(self):
        return {name: flow | {"path": "/php"} for name, flow in super().flows().items()}

    def test_handoffs_under_load(self):
        self.assert_all_served(self.hand_over_often())


class DemoService(ServerCase):
    recipe_name = "A service of your own"

    def add_files(self, tree):
        (tree / "bin").mkdir()
        shutil.copy(DEMO, tree / "bin" / "demo-service")

    def flows(self):
        flows = super().flows()
        flows["files"]["path"] = f"/stream?bytes={DOWNLOAD_BYTES}"
        return flows

    def test_handoffs_under_load(self):
        self.assert_all_served(self.hand_over_often())


if __name__ == "__main__":
    unittest.main()
