#!/usr/bin/env python3
"""What a canary costs: the processor time of its gates, and what users of the active version feel of it.

  cmake --preset release && cmake --build build/release -t updagent updagent-supervisor
  cmake -S fixtures/demo-service -B build/demo-service && cmake --build build/demo-service
  python3 tests/bench/canary_bench.py [--pairs 5] [--seconds 5] [--part gates|users]

The service is fixtures/demo-service; wrk asks it as fast as it answers, a new connection for each request, so that every
request is one that the kernel gives to one of the two versions.

*gates*: while the candidate holds a step of --share percent, the processor time per second of the driver (`updagent
apply`, which judges) and of the supervisor, without gates and with 1 and 4 of them, with windows of 1 s. The first four
of: errors, errors beside the active one, p99 beside the active one (each scrapes both versions), the queue. Times are
those of /proc/PID/task/*/schedstat.

*users*: runs of wrk in pairs, with one version alone (what a plain handoff leaves) and with a candidate that holds 1 %
beside it, no gates; who begins takes turns. Requests per second, and p99 as wrk sees it: 99 of 100 of these requests are
the active version's.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "support"))
os.environ.setdefault("UPDAGENT_SOURCE_DIR", str(SOURCE))
os.environ.setdefault("UPDAGENT_BINARY", str(SOURCE / "build/release/updagent"))
os.environ.setdefault("UPDAGENT_DEMO_SERVICE", str(SOURCE / "build/demo-service/demo-service"))
import canary  # noqa: E402
import harness  # noqa: E402
import scene  # noqa: E402
from supervisor import wait_for  # noqa: E402

UNITS_MS = {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print(flush=True)


def cpu_ms(pid):
    """Of all threads of a process, so far."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


class Service:
    """A node with a service that has one version; held_at() gives it a candidate."""

    def __init__(self):
        self.workshop = harness.Workshop()
        self.node = harness.Node(self.workshop)
        self.port = harness.free_port()
        self.number = 0
        done = self.node.apply(self.pack({}, ()))
        assert done.code == 0, done

    def close(self):
        self.node.run("stop", "demo")
        self.workshop.close()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def pack(self, rollout, gates):
        self.number += 1
        version = f"{self.number}.0.0"
        words = ["bin/demo-service", "--version", version, "--generation", version, "--backlog", "4096"]
        spec = f"""strategy = "handoff"
[service]
command = {json.dumps(words)}
drain_timeout = "1s"
[[service.listener]]
name = "http"
address = "tcp:127.0.0.1:{self.port}"
{canary.section("rollout", {"watch": "0s"} | rollout)}{"".join(canary.section("[gate]", gate) for gate in gates)}"""
        return self.workshop.pack(version, spec, {"bin/demo-service": (pathlib.Path(scene.DEMO).read_bytes(), 0o755)})

    def held_at(self, percent, gates=()):
        """A driver whose candidate holds this share."""
        driver = scene.Driver(self.node, "apply", self.pack({"steps": [percent, 100], "step_duration": "50m"}, gates))
        driver.wait_for_step(percent)
        return driver

    def end(self, driver):
        done = self.node.run("deployment", "abort", "demo")
        assert done.code == 0, done
        ended = driver.end()
        assert ended.code == 4, ended
        wait_for(lambda: len(self.status()["generations"]) == 1, "the candidate's end")

    def status(self):
        return self.node.json("status", "demo")["apps"][0]

    def wrk(self, seconds):
        """(requests a second, p99 in ms)"""
        said = subprocess.run(["wrk", "--threads", "1", "--connections", "32", "--duration", f"{seconds}s", "--latency",
                               "--header", "Connection: close", self.url("/")], check=True, capture_output=True,
                              text=True).stdout
        if "Non-2xx" in said or re.search(r"Socket errors: connect [^0]|timeout [^0]", said):
            raise SystemExit(said)
        value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", said).groups()
        return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]), float(value) * UNITS_MS[unit]


def gates_of(service):
    page = {"type": "scrape", "url": service.url("/metrics"), "window": "1s", "min_samples": 1}
    return [page | {"name": "errors", "condition": "error_ratio <= 0.05"},
            page | {"name": "more-errors", "condition": "error_ratio <= 2.0 x active"},
            page | {"name": "latency", "condition": "p99 <= 100 x active"},
            canary.kernel("queue", "queue <= 100000", window="1s")]


def measure_gates(service, options):
    rows = []
    for count in (0, 1, 4):
        runs = []
        for _ in range(options.pairs):
            driver = service.held_at(options.share, gates_of(service)[:count])
            pids = [driver.pid, service.status()["service"]["supervisor_pid"]]
            before, began = [cpu_ms(pid) for pid in pids], time.monotonic()
            rate, _ = service.wrk(options.seconds)
            spent = [(cpu_ms(pid) - was) / (time.monotonic() - began) for pid, was in zip(pids, before)]
            runs.append((rate, *spent))
            service.end(driver)
        rate, driver_ms, supervisor_ms = (statistics.median(column) for column in zip(*runs))
        rows.append([count, f"{rate:.0f}", f"{driver_ms:.1f}", f"{supervisor_ms:.1f}"])
    table(("gates", "connections/s", "driver, CPU ms per second", "supervisor, CPU ms per second"), rows)


def measure_users(service, options):
    plain, with_canary = [], []
    for turn in range(options.pairs):
        def alone():
            plain.append(service.wrk(options.seconds))

        def beside():
            driver = service.held_at(1)
            with_canary.append(service.wrk(options.seconds))
            service.end(driver)
        for one in (alone, beside) if turn % 2 == 0 else (beside, alone):
            one()
    rows = []
    for place, what in enumerate(("requests/s", "p99 ms")):
        a, b = ([run[place] for run in runs] for runs in (plain, with_canary))
        ratios = [y / x for x, y in zip(a, b)]
        rows.append([what, options.pairs, f"{statistics.median(a):.2f}", f"{statistics.median(b):.2f}",
                     f"{statistics.median(ratios):.3f}", f"{min(ratios):.3f} to {max(ratios):.3f}"])
    table(("of users", "pairs of runs", "one version", "canary of 1 %", "canary/one", "of the pairs"), rows)


PARTS = {"gates": measure_gates, "users": measure_users}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="both if none is named")
    parser.add_argument("--pairs", type=int, default=5, help="of runs of wrk, and runs for each number of gates")
    parser.add_argument("--seconds", type=int, default=5, help="of each run of wrk")
    parser.add_argument("--share", type=int, default=50, help="percent, of the part gates")
    options = parser.parse_args()
    harness.become_subreaper()
    for part in options.part or PARTS:
        print("load average: " + " ".join(f"{one:.2f}" for one in os.getloadavg()) + "\n", flush=True)
        service = Service()
        try:
            PARTS[part](service, options)
        finally:
            service.close()


if __name__ == "__main__":
    main()
