"""A node with one service that runs under load, for tests that kill and stop its processes.

    class Kills(scene.Case):
        def test_...(self):
            driver = self.apply(failpoint="deploy.after_shift=stop")   # stops itself there
            scene.wait_stopped(driver.pid)
            os.kill(self.supervisor_pid(), signal.SIGKILL)
            driver.resume()
            self.assert_ended(driver, "undone", codes={4})

The versions 1.0.0 and 2.0.0 take turns, so that one node and one load live through a whole table.
Processes are found by what the kernel says of them: the node's folder is in their command line or in
their environment, so no process of anybody else is touched.
"""

import collections
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import threading

import harness
import load
from supervisor import wait_for

DEMO = os.environ.get("UPDAGENT_DEMO_SERVICE", "demo-service")
LONG = os.environ.get("UPDAGENT_LONG") == "1"
ENV = harness.SHORT_LIVED
LEASE_NS = 10_000_000_000  # of a candidate's share
# What a server that was killed had accepted and not answered dies with it: no one can promise more.
IN_FLIGHT = frozenset({"reset", "eof", "cut"})


def state_of(pid):
    """R, S, T (stopped), Z ...; empty for a process that is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_stopped(pid):
    wait_for(lambda: state_of(pid) in ("T", "Z", ""), f"process {pid} to stop")
    if state_of(pid) != "T":
        raise AssertionError(f"process {pid} ended before the place where it was to stop")


def send(pids, number):
    """To each that still lives."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def end(pids):
    """Kills them and waits until they are gone, with all that they held."""
    send(pids, signal.SIGKILL)
    wait_for(lambda: all(state_of(pid) in ("", "Z") for pid in pids), "the end of processes")


def _read(pid, name):
    try:
        return pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def processes_of(root, app="demo"):
    """{kind: [pids]} of the living processes of an app: supervisor, holder, generation N as ("service", N)."""
    found = collections.defaultdict(list)
    mark = str(root).encode()
    pattern = re.compile(rb"(?:^|\0)RUNTIME_DIRECTORY=" + re.escape(mark) + b"/run/" + app.encode() + rb"/(\d+)(?:\0|$)")
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        words = _read(pid, "cmdline").split(b"\0")
        if state_of(pid) in ("", "Z"):
            continue
        if words[0].endswith(b"updagent-supervisor") and any(w.startswith(mark + b"/") for w in words) and app.encode() in words:
            comm = _read(pid, "comm").strip()
            found["holder" if comm == b"updagent-holder" else "supervisor"].append(pid)
        elif match := pattern.search(_read(pid, "environ")):
            found["service", int(match[1])].append(pid)
    return found


class Driver:
    """A running command of the node. What it streams on standard error can be waited for."""

    def __init__(self, node, *words, env=None):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("UPDAGENT_")}
        self.process = subprocess.Popen([harness.BINARY, "--root", node.root, "--json", *map(str, words)],
                                        env=clean | ENV | (env or {}), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.lines, self.out, self.arrived = [], "", threading.Condition()
        self.readers = [threading.Thread(target=read, daemon=True) for read in (self._read_lines, self._read_answer)]
        for reader in self.readers:
            reader.start()

    def _read_lines(self):
        for line in self.process.stderr:
            with self.arrived:
                self.lines.append(line)
                self.arrived.notify_all()

    def _read_answer(self):
        self.out = self.process.stdout.read()

    def progress(self):
        """What it has streamed so far, as documents."""
        with self.arrived:
            return [json.loads(line) for line in self.lines if line.startswith("{")]

    def wait_for_progress(self, fits, what):
        """The first document that it streams and that fits; its end means that none came."""
        def look():
            found = next((one for one in self.progress() if fits(one)), None)
            if found is None and self.process.poll() is not None and not self.readers[0].is_alive():
                raise AssertionError(f"ended without {what}: {''.join(self.lines[-20:])}\n{self.out}")
            return found
        return wait_for(look, what)

    def wait_for_step(self, percent):
        return self.wait_for_progress(lambda one: (one.get("progress"), one.get("percent")) == ("step", percent),
                                      f"the step of {percent} %")

    def resume(self):
        send([self.pid], signal.SIGCONT)

    def end(self, limit_s=harness.COMMAND_LIMIT_S):
        """Waits for it, and for what it left behind with its output; a Result."""
        code = self.process.wait(timeout=limit_s)
        for reader in self.readers:
            reader.join(timeout=limit_s)
            if reader.is_alive():
                raise AssertionError("somebody holds its output open")
        self.process.stdout.close()
        self.process.stderr.close()
        return harness.Result(code, self.out, "".join(self.lines))


class Case(harness.Case):
    """One node and one load for all tests of a class."""

    options = ()  # of the demo service, in both versions
    watch = "200ms"
    drain_timeout = "500ms"  # the flow `kept` is never quiet; what is in flight then still ends by the graceful stop
    ready_timeout = "20s"
    stop_timeout = "10s"
    probe_timeout = "5s"
    listen_host = "127.0.0.1"
    backlog = 4096
    listener_more = ""
    service_more = ""
    flows = {"fresh": {"connections": 8, "rate": 100, "timeout_ms": 20_000},
             "kept": {"connections": 4, "rate": 50, "keepalive": 1, "timeout_ms": 20_000},
             "stream": {"connections": 2, "path": "/stream?bytes=16000&rate=40000", "stream": 16_000,
                        "think_ms": 50, "timeout_ms": 20_000}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.node_ = harness.Node(cls.workshop)
        cls.port = harness.free_port()
        cls.prepare()
        cls.artifacts = {version: cls.pack(version) for version in ("1.0.0", "2.0.0")}
        done = cls.node_.apply(cls.artifacts["1.0.0"], env=ENV)
        assert done.code == 0, done
        (pid,) = processes_of(cls.node_.root)["supervisor"]
        cls.supervisor_words = _read(pid, "cmdline").decode().split("\0")[:-1]
        cls.spawned = []
        cls.kills = collections.Counter()
        cls.load_ = None
        if cls.flows:
            cls.start_load()

    @classmethod
    def prepare(cls):
        """What the node must allow before the first release."""

    @classmethod
    def start_load(cls):
        cls.load_ = load.Load({name: {"target": f"tcp:127.0.0.1:{cls.port}"} | keys for name, keys in cls.flows.items()},
                              seconds=3_600, drain_s=40)
        cls.load_.__enter__()
        cls.judged = 0

    @classmethod
    def tearDownClass(cls):
        try:
            seen = cls.load_.stop() if cls.load_ else load.Seen([{"event": "result", "flows": {}}])
            print(f"\n{cls.__name__}: {dict(cls.kills)}; " + "; ".join(
                f"{name} {flow['requests']} requests, {flow['failed']} failed" for name, flow in seen.flows.items()), flush=True)
        finally:
            if cls.load_:
                cls.load_.__exit__()
            cls.end_everything()
            super().tearDownClass()

    @classmethod
    def end_everything(cls):
        """Also what a failed test left stopped."""
        found = processes_of(cls.node_.root)
        send(sum(found.values(), []), signal.SIGCONT)
        cls.node_.run("stop", "demo", env=ENV)
        for kind, pids in processes_of(cls.node_.root).items():
            send(pids, signal.SIGKILL)
        for process in cls.spawned:
            process.wait(timeout=harness.COMMAND_LIMIT_S)

    @classmethod
    def pack(cls, version, *options, watch=None, probe=None, rollout=None, more="", files=None, **keys):
        """`rollout`: further keys of that section; `more`: sections after it; `keys`: of the service."""
        settings = {"ready_timeout": cls.ready_timeout, "drain_timeout": cls.drain_timeout,
                    "stop_timeout": cls.stop_timeout, **keys}
        words = ["bin/demo-service", "--version", version, "--generation", version, *cls.options, *options]
        spec = f"""strategy = "handoff"
[service]
command = {json.dumps(words)}
{"".join(f'{key} = {json.dumps(value)}' + chr(10) for key, value in settings.items())}{cls.service_more}
[[service.listener]]
name = "http"
address = "tcp:{cls.listen_host}:{cls.port}"
backlog = {cls.backlog}
{cls.listener_more}
{cls.http_probe() if probe is None else probe}
[rollout]
watch = "{watch or cls.watch}"
{"".join(f'{key} = {json.dumps(value)}' + chr(10) for key, value in (rollout or {}).items())}{more}"""
        program = {"bin/demo-service": (pathlib.Path(DEMO).read_bytes(), 0o755)}
        return cls.workshop.pack(version, spec, program | (files or {}))

    @classmethod
    def http_probe(cls):
        return f"""[[probe]]
name = "healthz"
type = "http"
url = "http://127.0.0.1:{cls.port}/healthz"
interval = "50ms"
timeout = "{cls.probe_timeout}"
failures = 2"""

    # --- what runs

    def processes(self):
        return processes_of(self.node_.root)

    def one(self, kind):
        (pid,) = self.processes()[kind]
        return pid

    def status(self):
        return self.node_.json("status", "demo", env=ENV)["apps"][0]

    def generations(self):
        return self.status()["generations"]

    def serves(self):
        """(number, pid) of the active generation: the same ones after a way back, for which nothing is started."""
        return next((one["number"], one["pid"]) for one in self.generations() if one["role"] == "active")

    def other(self):
        """What the next deployment goes to."""
        return "1.0.0" if self.node_.committed() == "2.0.0" else "2.0.0"

    def supervise(self, failpoints="", asan="", kinds=("supervisor",), words=()):
        """The supervisor that runs is killed (and whoever else `kinds` names), which harms nobody, and one with
        failpoints takes over. Its parent is the test, which reaps it."""
        end([pid for kind in kinds for pid in self.processes()[kind]])
        environment = dict(ENV)
        environment["ASAN_OPTIONS"] += asan
        if failpoints:
            environment["UPDAGENT_FAILPOINTS"] = failpoints
        process = subprocess.Popen([*self.supervisor_words, *words], env=environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, start_new_session=True)
        self.spawned.append(process)
        return process.pid

    def apply(self, artifact=None, failpoints="", words=()):
        return Driver(self.node_, "apply", artifact or self.artifacts[self.other()], "--retry", "--allow-downgrade", *words,
                      env={"UPDAGENT_FAILPOINTS": failpoints} if failpoints else None)

    def story(self):
        """For whoever reads a failure: what runs, and what the log says of the last deployments."""
        lines = [f"processes: {dict(self.processes())}"]
        done = self.node_.run("--json", "status", "demo", env=ENV)
        lines.append(done.out or str(done))
        self.node_.run("recover", env=ENV)  # whoever writes the journal imports what the supervisor has said
        lines += self.node_.run("log", "--limit", "60", env=ENV).out.splitlines()
        return "\n".join(lines)

    def version_of_users(self):
        return json.loads(self.get())["version"]

    def get(self, path="/", method="GET"):
        """One request on a connection of its own, for moments when the load's windows don't end."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=harness.COMMAND_LIMIT_S)
        try:
            client.request(method, path, headers={"Connection": "close"})
            answer = client.getresponse()
            text = answer.read().decode()
            self.assertEqual(answer.status, 200, text)
            return text
        finally:
            client.close()

    # --- what must be

    def take_failures(self):
        """Of the load, since the last call."""
        every = self.load_.failed_so_far()
        new = every[self.judged:]
        type(self).judged = len(every)
        return new

    def assert_served(self, version, allowed=frozenset()):
        """Users are with this version, and since the last look no request failed but as `allowed` says."""
        self.load_.wait_for_answers(20, flow="fresh", generation=version)
        bad = [f for f in self.take_failures() if f["class"] in load.FAILURES and f["class"] not in allowed]
        self.assertEqual(bad, [], f"requests failed while {version} was to serve")

    def settled(self):
        """Nothing is open, and one generation is left, ready and active."""
        status = self.status()
        left = status["generations"]
        if status["deployment"] is not None or len(left) != 1:
            return None
        return left[0] if (left[0]["role"], left[0]["state"]) == ("active", "ready") else None

    def assert_back_within_the_lease(self, since_ns, candidate, had_users=True):
        """Nobody has renewed it since then. By when requests were due, not by when a busy machine sent them: that is
        never earlier."""
        end_ns = since_ns + LEASE_NS
        self.load_.wait_until(lambda seen: seen.generations.total() >= 100, since_ns=end_ns)
        with self.load_.arrived:
            windows = [one for one in self.load_.events
                       if one["event"] == "window" and one["flow"] == "fresh" and one["from_ns"] >= since_ns]
        if had_users:
            self.assertTrue(any(candidate in one["generations"] for one in windows), "nobody was with the candidate")
        late = [one["from_ns"] - since_ns for one in windows if one["from_ns"] >= end_ns and candidate in one["generations"]]
        self.assertEqual(late, [], "nanoseconds after it, and users are still with the candidate")

    def assert_settled_as(self, version, allowed=frozenset()):
        """The links, the generation that is left, its processes and the users agree."""
        end = wait_for(self.settled, "one generation and no deployment")
        node = self.node_
        self.assertEqual((node.current(), node.committed(), end["version"]), (version, version, version))
        services = [kind for kind in self.processes() if kind[0] == "service"]
        self.assertEqual(services, [("service", end["number"])])
        if self.load_:
            self.assert_served(version, allowed)
        self.assert_exit(node.run("recover", env=ENV), 0)
