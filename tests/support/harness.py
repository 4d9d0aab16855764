"""What the end-to-end tests share: a node in a temporary folder, releases for it, the built binary.

Holds no product code: everything is done and asked through the command line, as an operator would.
"""

import contextlib
import ctypes
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

BINARY = os.environ["UPDAGENT_BINARY"]
SOURCE = pathlib.Path(os.environ["UPDAGENT_SOURCE_DIR"])
# For tests that start thousands of processes. LeakSanitizer can't run in one that is killed anyway, and to watch over
# global variables costs each of them half of its start; unit tests, fuzzers and the bad list have both.
SHORT_LIVED = {"ASAN_OPTIONS": "detect_leaks=0:report_globals=0"}
COMMAND_LIMIT_S = 120  # of one command; far above what any needs, so that a hang ends the test

_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    """Guardians and notifiers of killed drivers become our children: they can be waited for."""
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def reap_all():
    """Waits until every process that our commands left behind has ended."""
    signal.alarm(COMMAND_LIMIT_S)
    try:
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return
    finally:
        signal.alarm(0)


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def run(*words, env=None, stdin=None, cwd=None):
    """Runs the binary; `env` adds to an environment without any UPDAGENT_* of ours."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("UPDAGENT_")}
    clean.update(env or {})
    done = subprocess.run(
        [BINARY, *map(str, words)], env=clean, cwd=cwd, timeout=COMMAND_LIMIT_S,
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return Result(done.returncode, done.stdout.decode(errors="replace"),
                  done.stderr.decode(errors="replace"))


class Workshop:
    """Where releases are made: a key and trees. One per test module is enough."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="updagent-test-"))
        os.chmod(self.path, 0o755)
        self.key = self.make_key("release")

    def close(self):
        shutil.rmtree(self.path, ignore_errors=True)

    def make_key(self, name, *more):
        done = run("keygen", "--out", self.path / "keys", "--name", name, *more)
        assert done.code == 0, done
        return self.path / "keys" / f"{name}.key"

    def public(self, name="release"):
        return self.path / "keys" / f"{name}.pub"

    def pack(self, version, spec="", files=None, app="demo", name=None, key=None, suffix=".tar.gz"):
        """A release with a few files; `files`: {path: bytes or (bytes, mode)}. Returns the artifact."""
        tree = pathlib.Path(tempfile.mkdtemp(dir=self.path))
        contents = {"version.txt": version.encode() + b"\n", "same.txt": b"same in all\n" * 500,
                    "bin/true": (b"#!/bin/sh\nexit 0\n", 0o755),
                    "bin/false": (b"#!/bin/sh\necho not good\nexit 1\n", 0o755)}
        contents.update(files or {})
        for path, value in contents.items():
            data, mode = value if isinstance(value, tuple) else (value, 0o644)
            target = tree / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(mode)
        (tree / "updagent.toml").write_text(f'app = "{app}"\nversion = "{version}"\n{spec}')
        for folder, _, names in os.walk(tree):  # two packs of the same contents are the same release
            for path in [folder, *(os.path.join(folder, name) for name in names)]:
                os.utime(path, (1_700_000_000, 1_700_000_000))
        artifact = self.path / (name or f"{app}-{version}{suffix}")
        done = run("pack", tree, "--key", key or self.key, "-o", artifact)
        assert done.code == 0, done
        shutil.rmtree(tree)
        return artifact


class Node:
    """One node: a root folder that trusts the workshop's key."""

    def __init__(self, workshop, root=None, trust=True):
        self.workshop = workshop
        self.root = pathlib.Path(root or tempfile.mkdtemp(prefix="node-", dir=workshop.path))
        os.chmod(self.root, 0o755)
        if trust:
            assert self.run("trust", "add", workshop.public()).code == 0

    def run(self, *words, env=None, stdin=None):
        return run("--root", self.root, *words, env=env, stdin=stdin)

    def json(self, *words, env=None):
        return self.run("--json", *words, env=env).json

    def apply(self, artifact, *more, env=None):
        return self.run("--json", "apply", artifact, *more, env=env)

    def configure(self, text, app=None):
        path = self.root / "etc" / (f"apps.d/{app}.toml" if app else "node.toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)

    def link(self, name, app="demo"):
        path = self.root / "apps" / app / name
        return os.readlink(path).removeprefix("releases/") if path.is_symlink() else None

    def current(self, app="demo"):
        return self.link("current", app)

    def committed(self, app="demo"):
        return self.link("committed", app)

    def events(self, *filters):
        done = self.run("--json", "log", "--limit", "0", *filters)
        assert done.code == 0, done
        return [json.loads(line) for line in done.out.splitlines()]

    def clone(self, name):
        """A copy of this node, links and hard links kept."""
        target = self.workshop.path / name
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-a", self.root, target], check=True)
        return Node(self.workshop, target, trust=False)


class Case(unittest.TestCase):
    """A test case with a workshop; `self.node()` makes nodes."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.workshop = Workshop()

    @classmethod
    def tearDownClass(cls):
        cls.workshop.close()

    def node(self, **options):
        return Node(self.workshop, **options)

    def program_for_everybody(self):
        """Where an ordinary user can reach it: the folder that it was built in may be root's alone."""
        folder = self.workshop.path / "programs"
        folder.mkdir(exist_ok=True)
        for program in (BINARY, os.environ["UPDAGENT_SUPERVISOR"]):
            shutil.copy2(program, folder)
        return folder / pathlib.Path(BINARY).name

    def assert_exit(self, done, code):
        self.assertEqual(done.code, code, str(done))
        return done

    def assert_intact(self, node, app="demo"):
        """What must hold at every instant: the links name complete trees, the log is whole."""
        if node.current(app) is not None:
            self.assert_exit(node.run("verify", "--installed", app), 0)
        committed = node.committed(app)
        if committed not in (None, node.current(app)):
            self.assert_exit(node.run("verify", "--installed", app, "--version", committed), 0)
        self.assert_exit(node.run("log", "verify"), 0)

    def assert_settled(self, node, app="demo"):
        """Nothing is open, nothing half-done lies around, nobody is needed."""
        status = node.json("status", app)["apps"][0]
        self.assertIsNone(status["deployment"], status)
        self.assertFalse(status["needs_person"], status)
        self.assertEqual(node.current(app), node.committed(app))
        folder = node.root / "apps" / app
        if not folder.exists():
            return
        self.assertEqual([p.name for p in folder.glob(".*")], [])
        # what a killed run had unpacked may wait for the next try; nothing else lies there
        for left in (folder / "incoming").iterdir():
            self.assertRegex(left.name, r"^[0-9a-f]{64}(\.left)?$")
        self.assertEqual([p.name for p in node.root.glob(".*")], [])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def nginx(folder, root, extra=""):
    """A real nginx that serves `root`; yields its URL."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(f"""daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1; user root;
events {{}}
http {{ access_log {folder}/access.log; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; root {root}; {extra} }} }}
""")
    process = subprocess.Popen(["nginx", "-c", config, "-e", f"{folder}/error.log"])
    try:
        subprocess.run(["curl", "--silent", "--output", "/dev/null", "--retry", "100", "--retry-delay", "0",
                        "--retry-connrefused", f"http://127.0.0.1:{port}/"], check=True, timeout=60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextlib.contextmanager
def webhook(status=200):
    """A receiver of POSTs; yields (url, wait) where wait(n) blocks until n bodies have come."""
    bodies, arrived = [], threading.Condition()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            with arrived:
                bodies.append((dict(self.headers), json.loads(body)))
                arrived.notify_all()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def wait(count):
        with arrived:
            if not arrived.wait_for(lambda: len(bodies) >= count, timeout=COMMAND_LIMIT_S):
                raise AssertionError(f"{len(bodies)} of {count} notifications came")
            return list(bodies)

    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", wait
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
