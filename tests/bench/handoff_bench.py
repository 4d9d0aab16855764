#!/usr/bin/env python3
"""Handoffs under load, ours beside the servers' own; what steering costs; how long a rollback takes.

  cmake --preset release && cmake --build build/release -t updagent updagent-supervisor
  cmake -S tests/handoff/load -B build/loadclient && cmake --build build/loadclient
  python3 tests/bench/handoff_bench.py [--runs 3] [--handoffs 20] [--rate 1000] [--part handoffs|steering|rollback]

*handoffs*: each server answers '/' from memory with its generation in a header. Two flows at fixed rates, so that
a stall is felt by every request that was due meanwhile: fresh (a connection for each request) and kept (connections
that are kept alive). Around each handoff 'before' and 'after' are half a --gap long, 'during' is from the command
until the old one is gone. Times are medians over the runs of the percentiles of all handoffs of a run; requests and
failures are sums. 'all new ms' is how long after the new one was ready the last new connection still reached the old
one (windows of 10 ms). Memory is the proportional set size of the server's processes while both generations live
against one alone, during one more handoff; CPU is the supervisor's own over the run, in steps of 10 ms.

*steering*: wrk against nginx under updagent and against the same nginx that opened its own listener, in turns.

*rollback*: processes connect as fast as they can and note when each connect(2) began and returned; meanwhile the driver
(we, in place of `updagent apply`) decides to go back, as it does: the lease of the share is ended in the policy's memory,
then the supervisor is told. The kernel chooses a socket within connect(2): of the last one that was then answered by the
candidate the choice lies between its two times. Measured from the moment before the store. "Asked alone" is the same
without the store: the supervisor has to get a processor first.
"""

import argparse
import collections
import contextlib
import ctypes
import mmap
import multiprocessing
import os
import pathlib
import re
import resource
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "support"))
os.environ.setdefault("UPDAGENT_SOURCE_DIR", str(SOURCE))
os.environ.setdefault("UPDAGENT_BINARY", str(SOURCE / "build/release/updagent"))
os.environ.setdefault("UPDAGENT_LOADCLIENT", str(SOURCE / "build/loadclient/loadclient"))
import census  # noqa: E402
import harness  # noqa: E402
import handoff_servers as servers  # noqa: E402
import load  # noqa: E402
import supervisor  # noqa: E402

SERVERS = {"nginx, updagent": servers.nginx_updagent, "nginx, USR2": servers.nginx_upgrade,
           "HAProxy, updagent": servers.haproxy_updagent, "HAProxy, -x": servers.haproxy_reload}
FLOWS = ("fresh", "kept")
PHASES = ("before", "during", "after")
SUPERVISOR_AIM_MIB = 4  # of an idle one, and of its holder; past it the benchmark ends with exit 1
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1}


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print(flush=True)


# --- handoffs ---


def flows(target, options):
    common = {"target": target, "text": "ok%0A", "rate": options.rate}
    return {"fresh": common | {"connections": 500, "sources": "127.0.0.2-127.0.0.9"},
            "kept": common | {"connections": 50, "keepalive": 1}}


def all_new_ms(seen, ready_ns, end_ns, generation):
    """From ready to the last window in which a new connection was answered by an older one."""
    last = ready_ns
    for _, to_ns, answers in seen.generations_over_time("fresh"):
        if ready_ns < to_ns <= end_ns and any(int(name) < generation for name in answers):
            last = to_ns
    return (last - ready_ns) / 1e6


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss_mib(pids):
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, TypeError):  # ended since
            total += census.pss_kib(pid)
    return total / 1024


def supervisor_memory(pid):
    """MiB of an idle supervisor and of its holder, which has the same command line."""
    words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    both = []
    for other in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            if pathlib.Path(f"/proc/{other}/cmdline").read_bytes() == words:
                both.append(other)
    (holder,) = set(both) - {pid}
    return [census.pss_kib(one) / 1024 for one in (pid, holder)]


def most_memory(server, generation):
    """Of the server's processes together, during one more handoff."""
    most, over = [0.0], threading.Event()

    def look():
        while not over.wait(0.01):
            most.append(pss_mib(server.processes()))

    thread = threading.Thread(target=look)
    thread.start()
    server.handoff(generation)
    over.set()
    thread.join()
    return max(most)


def one_run(make_server, options):
    """{"handoff_ms", ..., flow: its result, (flow, phase): {percentile: us}}"""
    spans, ready, result = collections.defaultdict(list), [], {}
    with tempfile.TemporaryDirectory(prefix="handoff-", dir=options.folder) as name:
        os.chmod(name, 0o755)
        with make_server(pathlib.Path(name), options) as server:
            cpu = cpu_s(server.supervisor()) if server.supervisor() else 0
            with load.Load(flows(server.target, options), window_ms=10) as client:
                time.sleep(options.gap)  # it warms up
                for generation in range(1, options.handoffs + 1):
                    quiet = client.mark("quiet")
                    time.sleep(options.gap / 2)
                    begin = client.mark("begin")
                    ready.append(server.handoff(generation))
                    over = client.mark("over")
                    time.sleep(options.gap / 2)
                    later = client.mark("later")
                    for phase, span in zip(PHASES, ((quiet, begin), (begin, over), (over, later))):
                        spans[phase].append(span)
                seen = client.stop()
            alone = pss_mib(server.processes())
            if server.supervisor():
                result["cpu_ms"] = (cpu_s(server.supervisor()) - cpu) / options.handoffs * 1e3
                result["supervisor_mib"], result["holder_mib"] = supervisor_memory(server.supervisor())
            result["extra_mib"] = most_memory(server, options.handoffs + 1) - alone
    result["handoff_ms"] = statistics.median((b - a) / 1e6 for a, b in spans["during"])
    result["all_new_ms"] = statistics.median(
        all_new_ms(seen, at, later, n) for n, (at, (_, later)) in enumerate(zip(ready, spans["after"]), 1))
    for flow in FLOWS:
        result[flow] = seen.flows[flow]
        for phase in PHASES:
            segment = load.Segment(w for w in seen.windows if w["flow"] == flow and any(
                a <= w["from_ns"] and w["to_ns"] <= b for a, b in spans[phase]))
            result[flow, phase] = {share: segment.percentile(share) or 0 for share in SHARES.values()}
    return result


def failures_text(runs, flow):
    sums = collections.Counter()
    for run in runs:
        sums.update({name: run[flow]["classes"][name] for name in load.FAILURES + ("unfinished",)})
    return ", ".join(f"{name} {count}" for name, count in sums.items() if count) or "0"


def latency_rows(name, runs, options):
    for flow in FLOWS:
        def total(pick):
            return sum(pick(run[flow]) for run in runs)

        idle = total(lambda f: f["idle"]["eof"] + f["idle"]["reset"] + f["idle"]["data"])
        medians = {(phase, share): statistics.median(run[flow, phase][share] for run in runs)
                   for phase in PHASES for share in SHARES.values()}
        row = [name, flow, len(runs) * options.handoffs, total(lambda f: f["requests"]), failures_text(runs, flow),
               total(lambda f: f["classes"]["keepalive_race"]), idle]
        row += [" / ".join(f"{medians[phase, share] / 1000:.2f}" for phase in PHASES) for share in SHARES.values()]
        yield row + [f"{medians['during', 0.99] / max(1, medians['before', 0.99]):.2f}"]


def other_row(name, runs):
    def median(key, digits=1):
        found = [run[key] for run in runs if key in run]
        return f"{statistics.median(found):.{digits}f}" if found else "–"

    return [name, median("handoff_ms", 0), median("all_new_ms", 0), median("extra_mib"), median("supervisor_mib"),
            median("holder_mib"), median("cpu_ms", 0)]


def past_the_aim(name, runs):
    most = max((run.get(key, 0) for run in runs for key in ("supervisor_mib", "holder_mib")), default=0)
    return [] if most < SUPERVISOR_AIM_MIB else [f"{name}: {most:.1f} MiB of a supervisor or holder, aim {SUPERVISOR_AIM_MIB}"]


def measure_handoffs(options):
    chosen = {name: make for name, make in SERVERS.items() if options.only in name}
    results = collections.defaultdict(list)
    for _ in range(options.runs):  # in turns, so that the machine's moods fall on all
        for name, make in chosen.items():
            results[name].append(one_run(make, options))
    table(("server", "flow", "handoffs", "requests", "failed", "keep-alive races", "idle ends",
           "p50 ms before / during / after", "p99", "p99.9", "max", "p99 during/before"),
          [row for name, runs in results.items() for row in latency_rows(name, runs, options)])
    table(("server", "handoff ms", "all new ms", "extra PSS MiB", "supervisor PSS MiB", "holder PSS MiB", "supervisor CPU ms per handoff"),
          [other_row(name, runs) for name, runs in results.items()])
    return [line for name, runs in results.items() for line in past_the_aim(name, runs)]


# --- what steering costs ---


@contextlib.contextmanager
def bare_nginx(folder):
    """The same server with a listener of its own."""
    folder.mkdir()
    port, config, data = harness.free_port(), folder / "nginx.conf", folder / "data"
    data.mkdir()
    config.write_text(servers.nginx_conf(port, 0, data, f"user www-data; daemon off; pid {folder}/pid; "))
    process = subprocess.Popen(["/usr/sbin/nginx", "-c", config, "-e", folder / "error.log"])
    servers.wait_for("nginx", lambda: census.listeners(port))
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait()


def wrk(url, seconds, *words):
    said = subprocess.run(["wrk", "--threads", "1", "--connections", "32", "--duration", f"{seconds}s", *words, url],
                          check=True, capture_output=True, text=True).stdout
    if "Socket errors" in said or "Non-2xx" in said:
        raise SystemExit(said)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])


def measure_steering(options):
    rows = []
    with tempfile.TemporaryDirectory(prefix="handoff-", dir=options.folder) as name:
        os.chmod(name, 0o755)
        folder = pathlib.Path(name)
        with servers.under_updagent(folder, "nginx", "nginx.conf", servers.nginx_conf, 0) as steered, \
                bare_nginx(folder / "bare") as bare_url:
            urls = {"bare": bare_url, "steered": "http://" + steered.target.removeprefix("tcp:") + "/"}
            for kind, words in (("keep-alive", ()), ("fresh", ("--header", "Connection: close"))):
                rates = collections.defaultdict(list)
                for turn in range(options.pairs):  # who begins takes turns, too
                    for which in sorted(urls, reverse=turn % 2 == 1):
                        rates[which].append(wrk(urls[which], options.seconds, *words))
                ratios = [a / b for a, b in zip(rates["steered"], rates["bare"])]
                rows.append([kind, options.pairs, *(f"{statistics.median(rates[which]):.0f}" for which in urls),
                             f"{statistics.median(ratios):.3f}", f"{min(ratios):.3f} to {max(ratios):.3f}"])
    table(("connections", "pairs of runs", "bare requests/s", "steered requests/s", "steered/bare", "of the pairs"),
          rows)


# --- how long a rollback takes ---


KEPT = 2000  # connections of each process; more than come while we wait for a processor


def connect_and_note(port, stop_ns, pipe):
    """Connects until then; says for each connection when connect(2) began and returned and who answered it."""
    made = []
    pipe.send("begun")
    while (now := time.monotonic_ns()) < stop_ns.value or stop_ns.value == 0:
        one = socket.socket()
        began = time.monotonic_ns()
        one.connect(("127.0.0.1", port))
        made.append((began, time.monotonic_ns(), one))
        if stop_ns.value == 0 and len(made) > KEPT:  # what was long before the decision does not count
            made.pop(0)[-1].close()
    answers = []
    for began, returned, one in made:
        one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers.append((began, returned, b"X-Generation: 2" in b"".join(iter(lambda: one.recv(4096), b""))))
        one.close()
    pipe.send(answers)


class Steering:
    """The policy's memory, opened by its id as a driver does; agent/listen/policy.h has its layout."""

    SYS_BPF = {"x86_64": 321, "aarch64": 280}
    BPF_MAP_GET_FD_BY_ID = 14
    EXPIRES_NS = 16  # SteeringPolicy.expires_ns

    def __init__(self, policy):
        words = ctypes.create_string_buffer(struct.pack("=IIII", policy["map"], 0, 0, 0))
        fd = ctypes.CDLL(None, use_errno=True).syscall(self.SYS_BPF[os.uname().machine], self.BPF_MAP_GET_FD_BY_ID, words, 16)
        if fd < 0:
            raise SystemExit(f"cannot open the steering policy: {os.strerror(ctypes.get_errno())}")
        self.memory = mmap.mmap(fd, mmap.PAGESIZE)
        os.close(fd)

    def end_lease(self):
        self.memory[self.EXPIRES_NS : self.EXPIRES_NS + 8] = struct.pack("=Q", 1)


SEEN_AFTER_NS = 50_000_000  # of connections after the decision


def one_rollback(own, service, port, options, stores):
    """us from the decision to the last connection for the candidate: began, returned; to the supervisor's answer; how
    many came after it"""
    control = own.connect()
    begun = control.ask("begin", trace=os.urandom(16).hex())
    control.epoch = begun["epoch"]
    steering = Steering(begun["policy"])
    number = control.ask("start", service=service, epoch=control.epoch)["generation"]
    control.await_news(lambda n: n.get("number") == number and n["life"] in ("ready", "failed"))
    control.ask("weight", epoch=control.epoch, weight=10_000)
    stop_ns = multiprocessing.Value("q", 0)
    pairs = [multiprocessing.Pipe() for _ in range(options.connectors)]
    workers = [multiprocessing.Process(target=connect_and_note, args=(port, stop_ns, ours)) for _, ours in pairs]
    for worker in workers:
        worker.start()
    for theirs, _ in pairs:
        theirs.recv()
    time.sleep(0.1)  # they are under way
    decided = time.monotonic_ns()
    if stores:
        steering.end_lease()
    stop_ns.value = decided + SEEN_AFTER_NS
    control.ask("rollback", epoch=control.epoch, reason="measured")
    answered = time.monotonic_ns()
    answers = [one for theirs, _ in pairs for one in theirs.recv()]
    for worker in workers:
        worker.join()
    control.ask("end", epoch=control.epoch)
    control.close()
    supervisor.wait_for(lambda: len(own.status()["generations"]) == 1, "the candidate's end")
    after = sum(began > decided for began, _, _ in answers)
    last = max(((began, returned) for began, returned, candidate in answers if candidate), default=None)
    if last is None or not after:
        raise SystemExit("no connection reached the candidate, or none came after the decision")
    began, returned = (max(0, at - decided) / 1e3 for at in last)
    return began, returned, (answered - decided) / 1e3, after


def measure_rollback(options):
    binary = str(pathlib.Path(os.environ["UPDAGENT_BINARY"]).with_name("updagent-supervisor"))
    with tempfile.TemporaryDirectory(prefix="handoff-", dir=options.folder) as name:
        root, port = pathlib.Path(name), harness.free_port()
        root.chmod(0o755)
        (root / "run").mkdir()
        (root / "data").mkdir()

        def service(version):
            config = root / f"nginx-{version}.conf"
            config.write_text(servers.nginx_conf(port, version, root / "data", f"user www-data; pid {root}/{version}; "))
            run = {"command": ["/usr/sbin/nginx", "-c", str(config), "-e", "stderr", "-g", "daemon off;"],
                   "protocol": "nginx", "ready": "listening", "drain_timeout_ms": 5000, "ready_timeout_ms": 20_000,
                   "stop_signal": "SIGQUIT",
                   "stop_timeout_ms": 10_000,
                   "listeners": [{"name": "http", "address": f"tcp:127.0.0.1:{port}", "backlog": 4096}]}
            return {"schema": 1, "app": "demo", "version": version, "strategy": "handoff", "release": str(root),
                    "data": str(root / "data"), "cache": str(root / "cache"), "runtime": str(root / "run/demo"),
                    "user": "", "environment": {}, "environment_files": [], "max_generations": 4,
                    "max_ready_timeout_ms": 600_000, "max_stop_timeout_ms": 600_000, "memory_reserve": 0,
                    "service": run}

        own = supervisor.Supervisor(binary, root)
        control = own.connect()
        epoch = control.ask("begin", trace=os.urandom(16).hex())["epoch"]
        first = control.ask("start", service=service("1"), epoch=epoch)["generation"]
        control.await_news(lambda n: n.get("number") == first and n["life"] == "ready")
        for op, more in (("weight", {"weight": 10_000}), ("commit", {}), ("end", {})):
            control.ask(op, epoch=epoch, **more)
        control.close()
        try:
            seen = {stores: [one_rollback(own, service("2"), port, options, stores) for _ in range(options.rollbacks)]
                    for stores in (True, False)}
        finally:
            own.stop()

    def spread(values):
        return f"{statistics.median(values):.0f} / {sorted(values)[int(len(values) * 0.9) - 1]:.0f} / {max(values):.0f}"

    rows = []
    for stores, name in ((True, "by the driver, in the kernel"), (False, "the supervisor asked alone")):
        began, returned, answered, after = zip(*seen[stores])
        rows.append([name, len(began), sum(after), spread(began), spread(returned), spread(answered)])
    table(("who ends the share", "rollbacks", f"connections in the {SEEN_AFTER_NS // 1_000_000} ms after the decision",
           "last one for the candidate, µs, began: median / p90 / max", "returned", "supervisor's answer"), rows)


PARTS = {"handoffs": measure_handoffs, "steering": measure_steering, "rollback": measure_rollback}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="all if none is named")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--handoffs", type=int, default=20)
    parser.add_argument("--rate", type=int, default=1000, help="requests a second of each flow")
    parser.add_argument("--gap", type=float, default=1.0, help="seconds of quiet between handoffs")
    parser.add_argument("--only", default="", help="servers whose name contains this")
    parser.add_argument("--pairs", type=int, default=11, help="of runs of wrk")
    parser.add_argument("--seconds", type=int, default=3, help="of each run of wrk")
    parser.add_argument("--rollbacks", type=int, default=50)
    parser.add_argument("--connectors", type=int, default=1, help="processes that connect during a rollback")
    parser.add_argument("--folder", default="/var/tmp")
    options = parser.parse_args()
    servers.become_subreaper()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    missed = []
    for part in options.part or PARTS:
        print("load average: " + " ".join(f"{one:.2f}" for one in os.getloadavg()) + "\n", flush=True)
        missed += PARTS[part](options) or []
    return "\n".join(missed) or None  # a line is exit 1


if __name__ == "__main__":
    sys.exit(main())
