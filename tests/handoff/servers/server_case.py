"""What the tests of real servers share: the recipe of docs/handoff.md, released again and again under load.

Every release answers its own version in a header, so an old one that gets a new connection is seen. Fresh
connections, kept ones and long downloads are counted apart; none may fail. A request on a kept connection that
lost the race against the server's closing it is sent again by the client, and is no failure: each test says how
many there may be, and why.
"""

import contextlib
import os
import pathlib
import subprocess
import tempfile

import census
import harness
import load
import recipes
from supervisor import wait_for

DEMO = os.environ["UPDAGENT_DEMO_SERVICE"]
LONG = os.environ.get("UPDAGENT_LONG") == "1"
# More than what a server's socket holds, so that it must go on writing while the client reads slowly.
DOWNLOAD_BYTES = 6 * 1024 * 1024
DOWNLOAD_RATE = 3 * 1024 * 1024
KEPT = 8  # connections that are kept alive
LONG_FACTOR = 10  # more handoffs with --long
GENERATIONS = 8  # old ones that still send a download live beside the new ones


@contextlib.contextmanager
def background(words, port):
    """A server that is not handed over."""
    process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: census.listeners(port), f"somebody at port {port}")
        yield process
    finally:
        process.terminate()
        process.wait(timeout=harness.COMMAND_LIMIT_S)


def _stat(pid):
    """[state, parent, ...] of a process that may just have ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["", "0"]


def parent_of(pid):
    return int(_stat(pid)[1])


def zombies_of(parent):
    stats = {pid: _stat(pid) for pid in filter(str.isdigit, os.listdir("/proc"))}
    return [pid for pid, stat in stats.items() if stat[0] == "Z" and int(stat[1]) == parent]


def stream_text(size):
    return b"".join(b"%015x\n" % line for line in range(size // 16))


class ServerCase(harness.Case):
    recipe_name = None
    version_header = "X-Version"
    handoffs = 20
    upstream = None  # replaces 9000 in the recipe
    # Clients that keep their connections busy would drain for as long as the recipe says.
    max_drain = "300ms"
    keepalive = True
    downloads = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        harness.become_subreaper()
        cls.recipe = recipes.read_all()[cls.recipe_name]
        if LONG:
            cls.handoffs *= LONG_FACTOR

    def setUp(self):
        self.port = harness.free_port()
        self.node_ = self.node()
        self.addCleanup(self.stop_all)  # the last one: what runs beside the service has ended before
        self.more = {}
        for path, text in self.recipe.node.items():
            self.node_.configure(text, path.removeprefix("apps.d/").removesuffix(".toml"))
        limits = f'[run]\nmax_generations = {GENERATIONS}\n'
        if self.max_drain:
            limits += f'[limits]\nmax_drain_timeout = "{self.max_drain}"\n'
        self.node_.configure(limits)

    def stop_all(self):
        self.node_.run("stop", self.recipe.app)
        harness.reap_all()

    # --- releases ---

    def add_files(self, tree):
        """What the release needs beside the recipe's files."""

    def pack(self, number, changes=None):
        version = f"1.0.{number}"
        with tempfile.TemporaryDirectory(dir=self.workshop.path) as name:
            tree = pathlib.Path(name)
            for path, text in self.recipe.release(version, self.port, self.node_.root, **self.more).items():
                for old, new in (changes or {}).items():
                    text = text.replace(old, new)
                target = tree / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
            self.add_files(tree)
            artifact = self.workshop.path / f"{self.recipe.app}-{version}.tar.zst"
            self.assert_exit(harness.run("pack", tree, "--key", self.workshop.key, "-o", artifact), 0)
        return artifact

    def version_of(self, number):
        """What the answers of that release have in version_header."""
        return f"1.0.{number}"

    def idle_ends(self):
        """So many requests may be lost with a server that closes idle connections: each connection that there is
        at a handoff is closed once, and a request may just be on its way."""
        return self.handoffs * KEPT

    def apply(self, artifact, code=0):
        return self.assert_exit(self.node_.apply(artifact), code).json

    def start_first(self):
        self.apply(self.pack(0))
        if self.downloads:
            (self.node_.root / "apps" / self.recipe.app / "data" / "stream").write_bytes(stream_text(DOWNLOAD_BYTES))

    # --- load ---

    def target(self):
        return f"tcp:127.0.0.1:{self.port}"

    def flows(self):
        common = {"target": self.target(), "generation_header": self.version_header, "timeout_ms": 20000}
        flows = {"fresh": common | {"connections": 16, "rate": 150}}
        if self.keepalive:
            flows["kept"] = common | {"connections": KEPT, "rate": 100, "keepalive": 1}
        if self.downloads:
            flows["files"] = common | {"connections": 2, "path": "/files/stream", "stream": DOWNLOAD_BYTES,
                                       "read_rate": DOWNLOAD_RATE}
        return flows

    # --- the test ---

    def hand_over(self, running, number):
        self.apply(self.pack(number))
        version = self.version_of(number)
        running.expect("fresh", version)  # `apply` has returned: nobody else answers a new connection
        running.wait_for_answers(20, "fresh", version)
        running.expect("fresh")

    def hand_over_often(self):
        self.start_first()
        with load.Load(self.flows()) as running:
            running.wait_for_answers(20, "fresh", self.version_of(0))
            for number in range(1, self.handoffs + 1):
                self.hand_over(running, number)
            self.wait_until_old_ones_are_gone()
            seen = running.stop()
        self.report(seen)
        return seen

    def generations(self):
        return self.node_.json("status", self.recipe.app)["apps"][0]["generations"]

    def wait_until_old_ones_are_gone(self):
        wait_for(lambda: len(self.generations()) == 1, "the end of the old generations")

    def report(self, seen):
        print(f"{self.recipe.name}: {self.handoffs} handoffs\n{seen.describe()}", flush=True)

    def assert_all_served(self, seen, races=0):
        seen.assert_nothing_failed()
        self.assertLessEqual(seen.total("keepalive_race"), races, seen.describe())
        versions = {self.version_of(number) for number in range(self.handoffs + 1)}
        self.assertEqual(set(seen.whole("fresh").generations), versions)
        self.assert_nothing_killed()
        self.assert_exit(self.node_.run("log", "verify"), 0)
        self.assert_settled(self.node_, self.recipe.app)

    def assert_nothing_killed(self):
        """Each old generation came to its own end by its stop signal, and none had to be started again."""
        found = [event for event in self.node_.events() if event["event"] in ("service.complaint", "service.failed", "service.cut")]
        self.assertEqual(found, [])
        parent = parent_of(self.generations()[0]["pid"])
        self.assertEqual(zombies_of(parent), [], "the supervisor has not reaped what it started")
