#!/usr/bin/env python3
"""A million events in the database: how long each kind of query takes, as whole processes.

  python3 tests/bench/log_bench.py [--events 1000000] [--runs 5] [--binary build/release/updagent]

The events are written by the agent's own export format turned into rows by SQLite, then chained by
nothing: this measures queries, not `log verify`; verify is timed on what the agent itself wrote.
"""

import argparse
import pathlib
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time


def fill(database, count):
    """Rows as 40-event deployments of 20 apps, one a minute, ending now."""
    db = sqlite3.connect(database)
    columns = [row[1] for row in db.execute("PRAGMA table_info(events)")]
    template = dict(zip(columns, db.execute("SELECT * FROM events ORDER BY event_id DESC LIMIT 1").fetchone()))
    first = template["event_id"] + 1
    now = int(time.time() * 1e6)
    stages = ["fetch", "verify", "stage", "pre_upgrade", "switch", "watch", "commit", "cleanup"]

    def rows():
        for n in range(count):
            deployment = n // 40
            row = dict(template)
            row.update(event_id=first + n, trace_id=f"{deployment:032x}", app=f"app{deployment % 20}",
                       stage=stages[n % 8], status="failure" if n % 997 == 0 else "success",
                       timestamp_us=now - (count - n) * 1_500_000)
            yield [row[c] for c in columns]

    with db:
        db.executemany(f"INSERT INTO events ({','.join(columns)}) VALUES ({','.join('?' * len(columns))})", rows())
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return f"{(count // 80):032x}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--binary", default="build/release/updagent")
    options = parser.parse_args()
    binary = str(pathlib.Path(options.binary).resolve())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="updagent-bench-", dir="/var/tmp"))
    try:
        root = folder / "root"
        (folder / "tree").mkdir()
        (folder / "tree/file").write_text("x")
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        subprocess.run([binary, "keygen", "--out", folder, "--name", "k"], **quiet)
        subprocess.run([binary, "pack", folder / "tree", "--app", "app1", "--version", "1.0.0", "--key", folder / "k.key",
                        "-o", folder / "a.tar.gz"], **quiet)
        subprocess.run([binary, "--root", root, "trust", "add", folder / "k.pub"], **quiet)
        subprocess.run([binary, "--root", root, "apply", folder / "a.tar.gz"], **quiet)
        trace = fill(root / "updagent.db", options.events)
        queries = {
            "newest 50": ["log"],
            "by trace (40 events)": ["log", "show", trace],
            "by app and time, newest 50": ["log", "--app", "app7", "--since", "2d"],
            "failures of one stage, newest 50": ["log", "--stage", "watch", "--status", "failure"],
            "by app, an old window": ["log", "--app", "app3", "--since", "10d", "--until", "9d"],
        }
        print(f"| query over {options.events:,} events | median ms | max ms |")
        print("| --- | --- | --- |")
        for name, words in queries.items():
            times = []
            for _ in range(options.runs):
                began = time.monotonic()
                subprocess.run([binary, "--root", root, *words], **quiet)
                times.append((time.monotonic() - began) * 1000)
            print(f"| {name} | {statistics.median(times):.1f} | {max(times):.1f} |", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
