"""The servers of handoff_bench.py: nginx and HAProxy, handed over in their own way and under updagent.

To measure another kind of handoff write a context manager that yields a Server, and add it to SERVERS there.
Both ways get the same configuration but for the line that opens the listener.
"""

import contextlib
import ctypes
import dataclasses
import datetime
import os
import pathlib
import select
import signal
import subprocess
import time
from collections.abc import Callable

import census
import harness
import recipes

LIMIT_S = 60  # for one step of a handoff
PR_SET_CHILD_SUBREAPER = 36
# Longer than what a client of ours needs to send its next request, so that it is felt; the clients keep their
# connections busy, so without a bound the old one would drain for the recipe's minute.
DRAIN = "500ms"
WORDS = "ok\n"


@dataclasses.dataclass
class Server:
    target: str
    # To this generation; returns when the old one is gone. The answer: when the new one was ready
    # (time.monotonic_ns()).
    handoff: Callable[[int], int]
    processes: Callable[[], list]  # pids that serve, of all generations
    supervisor: Callable[[], int | None] = lambda: None  # pid of what else is there because of us


def become_subreaper():
    """Daemons become our children: their end can be waited for."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def wait_for(what, condition):
    deadline = time.monotonic() + LIMIT_S
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not in {LIMIT_S} s")
        time.sleep(0.005)
    return answer


def wait_for_end(pid):
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([pidfd], [], [], LIMIT_S)[0]:
            raise SystemExit(f"process {pid} goes on after {LIMIT_S} s")
    finally:
        os.close(pidfd)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def read_pid(path):
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):  # not there yet, or being written
        return None


def end_daemons():
    """Whatever a server left running, also after a handoff that failed: they are our children, or will be."""
    while rest := census.descendants(os.getpid())[1:]:
        for pid in rest:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in rest:
            wait_for_end(pid)


# --- configurations ---


def nginx_conf(port, generation, folder, head=""):
    return f"""{head}error_log {folder}/error.log; worker_processes 2;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ add_header X-Generation {generation}; return 200 "ok\\n"; }} }} }}
"""


def haproxy_cfg(bind, generation, more=""):
    return f"""global
{more}  nbthread 2
  maxconn 8000
  hard-stop-after 30s
defaults
  mode http
  timeout client 30s
  timeout http-request 30s
  timeout http-keep-alive 30s
  option idle-close-on-response
frontend main
  bind {bind}
  http-request return status 200 content-type text/plain string "ok\\n" hdr X-Generation {generation}
"""


# --- in their own way ---


@contextlib.contextmanager
def nginx_upgrade(folder, _options):
    """USR2: the old master starts a new one, which inherits the listeners. The name that it is started by
    must be a path, and nothing may be believed of the pid file until it names somebody else."""
    port, config, pid_file = harness.free_port(), folder / "nginx.conf", folder / "nginx.pid"

    def configure(generation):
        config.write_text(nginx_conf(port, generation, folder, f"user www-data; pid {pid_file}; "))

    def workers(master):
        return len(census.descendants(master)) - 1

    def handoff(generation):
        old = read_pid(pid_file)
        configure(generation)
        os.kill(old, signal.SIGUSR2)
        new = wait_for("a new pid file", lambda: (pid := read_pid(pid_file)) != old and pid)
        wait_for("workers of the new master", lambda: workers(new) >= 2)
        ready = time.monotonic_ns()
        os.kill(old, signal.SIGQUIT)
        wait_for_end(old)
        return ready

    configure(0)
    subprocess.run(["/usr/sbin/nginx", "-c", config, "-e", folder / "error.log"], check=True)
    wait_for("nginx's pid file", lambda: read_pid(pid_file))
    try:
        yield Server(f"tcp:127.0.0.1:{port}", handoff, lambda: named("nginx", os.getpid()))
    finally:
        end_daemons()


def named(name, ancestor):
    return [pid for pid in census.descendants(ancestor)[1:] if name_of(pid) == name]


def name_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None


@contextlib.contextmanager
def haproxy_reload(folder, _options):
    """-x: the new process asks the old one for its listeners, then tells it to finish (-sf)."""
    port, config, pid_file = harness.free_port(), folder / "haproxy.cfg", folder / "haproxy.pid"

    def start(generation, *more):
        config.write_text(haproxy_cfg(f"127.0.0.1:{port} backlog 4096", generation,
                                      f"  stats socket {folder}/stats level admin expose-fd listeners\n"))
        # returns when the new process has its listeners
        subprocess.run(["/usr/sbin/haproxy", "-D", "-q", "-f", config, "-p", pid_file, *more], check=True)

    def handoff(generation):
        old = read_pid(pid_file)
        start(generation, "-x", f"{folder}/stats", "-sf", str(old))
        ready = time.monotonic_ns()
        wait_for_end(old)
        return ready

    start(0)
    try:
        yield Server(f"tcp:127.0.0.1:{port}", handoff, lambda: named("haproxy", os.getpid()))
    finally:
        end_daemons()


# --- under updagent ---


def monotonic_of(text):
    """Of a time in updagent's JSON: both clocks of this machine are read now."""
    wall_ns = datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1e9
    return int(wall_ns + time.monotonic_ns() - time.time_ns())


def supervisor_of(root):
    """The pid of the supervisor whose runtime folder is in this root; its holder of descriptors is younger."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = pathlib.Path(f"/proc/{name}/cmdline").read_text().split("\0")
            if words[0].endswith("updagent-supervisor") and any(word.startswith(f"{root}/") for word in words):
                found.append(int(name))
    return min(found)


@contextlib.contextmanager
def under_updagent(folder, recipe_name, config, make_config, handoffs, probes=True):
    """The recipe of docs/handoff.md with the peer's configuration. All releases are packed before."""
    recipe, port = recipes.read_all()[recipe_name], harness.free_port()
    workshop = harness.Workshop()
    (folder / "node").mkdir()
    node = harness.Node(workshop, folder / "node")
    node.configure(f'[limits]\nmax_drain_timeout = "{DRAIN}"\n[allow]\nusers = ["www-data"]\n')
    data = folder / "node" / "apps" / recipe.app / "data"
    artifacts = []
    for generation in range(handoffs + 1):
        tree = folder / f"tree-{generation}"
        tree.mkdir()
        spec = recipe.release(f"1.0.{generation}", port, node.root)["updagent.toml"]
        without_probes = spec.partition("[[probe]]")[0] + recipes.UNWATCHED
        (tree / "updagent.toml").write_text(spec if probes else without_probes)
        (tree / config).write_text(make_config(port, generation, data))
        artifacts.append(workshop.path / f"{generation}.tar.gz")
        check(harness.run("pack", tree, "--key", workshop.key, "-o", artifacts[-1]))

    def apply(generation):
        return check(node.apply(artifacts[generation])).json

    def handoff(generation):
        old = node.json("status", recipe.app)["apps"][0]["generations"][0]["pid"]
        start = next(s for s in apply(generation)["stages"] if s["stage"] == "start")
        wait_for_end(old)
        return monotonic_of(start["started_at"]) + int(start["duration_ms"] * 1e6)

    apply(0)
    supervisor = supervisor_of(node.root)
    try:
        yield Server(f"tcp:127.0.0.1:{port}", handoff,
                     lambda: named(config.partition(".")[0], supervisor),
                     lambda: supervisor)
    finally:
        node.run("stop", recipe.app)
        end_daemons()
        workshop.close()


def check(done):
    if done.code != 0:
        raise SystemExit(str(done))
    return done


def nginx_updagent(folder, options):
    return under_updagent(folder, "nginx", "nginx.conf", nginx_conf, options.handoffs + 1)


def haproxy_updagent(folder, options):
    return under_updagent(folder, "HAProxy", "haproxy.cfg",
                          lambda _port, generation, _data: haproxy_cfg("fd@3", generation), options.handoffs + 1)
