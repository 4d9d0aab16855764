#!/usr/bin/env python3
"""Handoffs of other servers' own making under load, as a baseline: what do their users see?

  python3 tests/bench/handoff_peers.py --loadclient PATH [--runs 3] [--handoffs 20] [--rate 2000]

Each server answers '/' from memory with its generation in a header. Two flows at fixed rates, so that a
stall is felt by every request that was due meanwhile: fresh (a connection for each request) and kept
(connections that are kept alive). One run has --handoffs handoffs; around each, 'before' and 'after' are
half a --gap long, 'during' is from the command until the old one is gone. Times are medians over the runs
of the percentiles of all handoffs of a run; requests and failures are sums. 'old one answers' is how long
after the command the last new connection still reached the old one (windows of 20 ms).

To measure another kind of handoff, write a function like nginx_upgrade() and add it to SERVERS: a context
manager that yields a Server, whose handoff(generation) returns when the old generation is gone.
"""

import argparse
import collections
import contextlib
import ctypes
import dataclasses
import os
import pathlib
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import census  # noqa: E402
import load  # noqa: E402

LIMIT_S = 60  # for one step of a handoff
PR_SET_CHILD_SUBREAPER = 36


@dataclasses.dataclass
class Server:
    target: str
    handoff: Callable[[int], None]  # to this generation; returns when the old one is gone


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
    pidfd = os.pidfd_open(pid)
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
            with contextlib.suppress(ProcessLookupError):
                wait_for_end(pid)


@contextlib.contextmanager
def nginx_upgrade(folder, binary):
    """USR2: the old master starts a new one, which inherits the listeners. The name that it is started by
    must be a path, and nothing may be believed of the pid file until it names somebody else."""
    port, config, pid_file = free_port(), folder / "nginx.conf", folder / "nginx.pid"

    def configure(generation):
        config.write_text(f"""pid {pid_file}; error_log {folder}/error.log; worker_processes 2; user root;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ add_header X-Generation {generation}; return 200 "ok\\n"; }} }} }}
""")

    def workers(master):
        return len(census.descendants(master)) - 1

    def handoff(generation):
        old = read_pid(pid_file)
        configure(generation)
        os.kill(old, signal.SIGUSR2)
        new = wait_for("a new pid file", lambda: (pid := read_pid(pid_file)) != old and pid)
        wait_for("workers of the new master", lambda: workers(new) >= 2)
        os.kill(old, signal.SIGQUIT)
        wait_for_end(old)

    configure(0)
    subprocess.run([binary, "-c", config, "-e", folder / "error.log"], check=True)
    wait_for("nginx's pid file", lambda: read_pid(pid_file))
    try:
        yield Server(f"tcp:127.0.0.1:{port}", handoff)
    finally:
        end_daemons()


@contextlib.contextmanager
def haproxy_reload(folder, binary):
    """-x: the new process asks the old one for its listeners, then tells it to finish (-sf)."""
    port, config, pid_file = free_port(), folder / "haproxy.cfg", folder / "haproxy.pid"

    def start(generation, *more):
        config.write_text(f"""global
  stats socket {folder}/stats level admin expose-fd listeners
  nbthread 2
  maxconn 8000
  hard-stop-after 30s
defaults
  mode http
  timeout client 30s
  timeout http-request 30s
  timeout http-keep-alive 30s
frontend main
  bind 127.0.0.1:{port} backlog 4096
  http-request return status 200 content-type text/plain string "ok\\n" hdr X-Generation {generation}
""")
        # returns when the new process has its listeners
        subprocess.run([binary, "-D", "-q", "-f", config, "-p", pid_file, *more], check=True)

    def handoff(generation):
        old = read_pid(pid_file)
        start(generation, "-x", f"{folder}/stats", "-sf", str(old))
        wait_for_end(old)

    start(0)
    try:
        yield Server(f"tcp:127.0.0.1:{port}", handoff)
    finally:
        end_daemons()


SERVERS = {
    "nginx, USR2": lambda folder: nginx_upgrade(folder, "/usr/sbin/nginx"),
    "HAProxy, -x": lambda folder: haproxy_reload(folder, "/usr/sbin/haproxy"),
}
FLOWS = ("fresh", "kept")
PHASES = ("before", "during", "after")


def flows(target, options):
    common = {"target": target, "text": "ok%0A"}
    return {"fresh": common | {"rate": options.rate, "connections": 500, "sources": "127.0.0.2-127.0.0.9"},
            "kept": common | {"rate": options.rate, "connections": 100, "keepalive": 1}}


def old_answers_ms(seen, begin, end_ns, generation):
    """From the command to the last window in which a new connection was answered by an older one."""
    last = begin
    for _, to_ns, answers in seen.generations_over_time("fresh"):
        if begin < to_ns <= end_ns and any(int(name) < generation for name in answers):
            last = to_ns
    return (last - begin) / 1e6


def one_run(make_server, options):
    """{"requests", "failed", ..., (flow, phase): {percentile: us}} of one run."""
    with tempfile.TemporaryDirectory(prefix="handoff-", dir=options.folder) as name, \
            make_server(pathlib.Path(name)) as server, \
            load.Load(flows(server.target, options), window_ms=20, binary=options.loadclient) as client:
        spans = collections.defaultdict(list)
        time.sleep(options.gap)  # it warms up
        for generation in range(1, options.handoffs + 1):
            quiet = client.mark("quiet")
            time.sleep(options.gap / 2)
            begin = client.mark("begin")
            server.handoff(generation)
            over = client.mark("over")
            time.sleep(options.gap / 2)
            later = client.mark("later")
            for phase, span in zip(PHASES, ((quiet, begin), (begin, over), (over, later))):
                spans[phase].append(span)
        seen = client.stop()
    result = {"handoff_ms": statistics.median((b - a) / 1e6 for a, b in spans["during"]),
              "old_ms": statistics.median(old_answers_ms(seen, begin, later, n) for n, ((begin, _), (_, later))
                                          in enumerate(zip(spans["during"], spans["after"]), 1)),
              "client_cpu": seen.result["client"]["cpu_us"] / (seen.result["ended_ns"] - seen.result["started_ns"]) * 1e3}
    for flow in FLOWS:
        result[flow] = seen.flows[flow]
        for phase in PHASES:
            segment = load.Segment(w for w in seen.windows if w["flow"] == flow and any(
                a <= w["from_ns"] and w["to_ns"] <= b for a, b in spans[phase]))
            result[flow, phase] = {share: segment.percentile(share) or 0 for share in (0.5, 0.99, 0.999, 1)}
    return result


def failures_text(runs, flow):
    sums = collections.Counter()
    for run in runs:
        sums.update({name: run[flow]["classes"][name] for name in load.FAILURES + ("unfinished",)})
    return ", ".join(f"{name} {count}" for name, count in sums.items() if count) or "0"


def rows(name, runs, options):
    for flow in FLOWS:
        def total(pick):
            return sum(pick(run[flow]) for run in runs)
        idle = total(lambda f: f["idle"]["eof"] + f["idle"]["reset"] + f["idle"]["data"])
        cells = [name, flow, len(runs) * options.handoffs, total(lambda f: f["requests"]), failures_text(runs, flow),
                 total(lambda f: f["classes"]["keepalive_race"]), idle]
        for share in (0.5, 0.99, 0.999, 1):
            cells.append(" / ".join(f"{statistics.median(run[flow, phase][share] for run in runs) / 1000:.2f}"
                                    for phase in PHASES))
        cells += [f"{statistics.median(run[key] for run in runs):.0f}" for key in ("handoff_ms", "old_ms")]
        yield "| " + " | ".join(map(str, cells)) + " |"


HEAD = ("server", "flow", "handoffs", "requests", "failed", "keep-alive races", "idle ends",
        "p50 ms before / during / after", "p99", "p99.9", "max", "handoff ms", "old one answers ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loadclient", default=load.BINARY)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--handoffs", type=int, default=20)
    parser.add_argument("--rate", type=int, default=2000, help="requests a second of each flow")
    parser.add_argument("--gap", type=float, default=1.0, help="seconds of quiet between handoffs")
    parser.add_argument("--only", help="servers whose name contains this")
    parser.add_argument("--folder", default="/var/tmp")
    options = parser.parse_args()
    become_subreaper()
    print("| " + " | ".join(HEAD) + " |")
    print("|" + " --- |" * len(HEAD))
    chosen = {name: make for name, make in SERVERS.items() if (options.only or "") in name}
    results = collections.defaultdict(list)
    for _ in range(options.runs):  # in turns, so that the machine's moods fall on all
        for name, make in chosen.items():
            results[name].append(one_run(make, options))
    for name, runs in results.items():
        print("\n".join(rows(name, runs, options)), flush=True)


if __name__ == "__main__":
    main()
