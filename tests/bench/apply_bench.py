#!/usr/bin/env python3
"""apply against stock tools on the same contents, whole processes, alternating runs, medians.

  python3 tests/bench/apply_bench.py [--runs 5] [--binary build/release/updagent] [--folder /var/tmp]

Per contents and compression:
  updagent   verify the signature, hash every file while writing, make durable, switch, commit
  tar        tar x, then sync -f: nothing is verified
  tar+sum    tar x, sha256sum of every file, sync -f: what people do by hand
Cold: the page cache is dropped before each run (as root). The printed ratio is updagent / peer of the
same round; its median is the figure to quote.
"""

import argparse
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import tempfile
import time


def timed(words, **options):
    """Wall seconds, CPU seconds and peak memory (MiB) of one process and what it waits for."""
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode != 0:
        raise SystemExit(f"{words}: exit {process.returncode}: {errors.decode()}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def make_contents(folder):
    """Two trees: a published package of many small files, and one large half-compressible file."""
    small = folder / "small"
    small.mkdir()
    subprocess.run(["npm", "pack", "--silent", "next@14.2.4"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["tar", "xzf", next(folder.glob("next-*.tgz")), "-C", small, "--strip-components=1"], check=True)
    large = folder / "large"
    large.mkdir()
    source = random.Random(1)
    words = [source.randbytes(48) for _ in range(4096)]
    with open(large / "image.bin", "wb") as file:
        for _ in range(128):
            block = bytearray()
            while len(block) < 1 << 20:
                block += source.choice(words) + source.randbytes(16)
            file.write(block[: 1 << 20])
    return {"small": small, "large": large}


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


class Bench:
    def __init__(self, binary, folder):
        self.binary = binary
        self.folder = folder
        self.runs = 0
        subprocess.run([binary, "keygen", "--out", folder / "keys", "--name", "bench"], check=True, stdout=subprocess.DEVNULL)

    def pack(self, name, tree, suffix):
        out = self.folder / f"{name}{suffix}"
        subprocess.run([self.binary, "--quiet", "pack", tree, "--app", name, "--version", "1.0.0", "--key",
                        self.folder / "keys/bench.key", "-o", out], check=True, stdout=subprocess.DEVNULL)
        return out

    def new_folder(self):
        """Nothing is deleted between runs: ext4 avoids inodes that were freed within the last minute, and whoever
        runs after a deletion pays for the search."""
        self.runs += 1
        folder = self.folder / f"run-{self.runs}"
        folder.mkdir()
        return folder

    def updagent(self, artifact):
        root = self.new_folder()
        trust = root / "etc/trust.d"
        trust.mkdir(parents=True)
        shutil.copy(self.folder / "keys/bench.pub", trust)
        return [str(self.binary), "--root", str(root), "--quiet", "apply", str(artifact)]

    def tar(self, artifact, with_sum):
        target = self.new_folder()
        kind = "-z" if artifact.suffix == ".gz" else "--zstd"
        script = f"tar -x {kind} -f {artifact} -C {target}"
        if with_sum:
            script += f" && find {target} -type f -print0 | xargs -0 sha256sum > /dev/null"
        return ["sh", "-c", script + f" && sync -f {target}"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--binary", default="build/release/updagent")
    parser.add_argument("--folder", default="/var/tmp")
    options = parser.parse_args()
    binary = pathlib.Path(options.binary).resolve()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="updagent-bench-", dir=options.folder))
    try:
        bench = Bench(binary, folder)
        contents = make_contents(folder)
        print("| contents | cache | updagent s | tar s | tar+sum s | updagent/tar | updagent/tar+sum | CPU s | peak MiB |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for name, tree in contents.items():
            for suffix in (".tar.gz", ".tar.zst"):
                artifact = bench.pack(name, tree, suffix)
                size = artifact.stat().st_size / 2**20
                for cache in ("warm", "cold"):
                    rows = []
                    for round_number in range(options.runs + 1):
                        row = {}
                        plans = [("updagent", lambda: bench.updagent(artifact)), ("tar", lambda: bench.tar(artifact, False)),
                                 ("tar+sum", lambda: bench.tar(artifact, True))]
                        for peer, plan in plans[round_number % 3:] + plans[:round_number % 3]:
                            words = plan()
                            os.sync()
                            if cache == "cold":
                                drop_caches()
                            row[peer] = timed(words)
                        if round_number > 0:  # the first round warms up
                            rows.append(row)

                    def median(pick):
                        return statistics.median(pick(row) for row in rows)

                    print(f"| {name}{suffix}, {size:.1f} MiB | {cache} | {median(lambda r: r['updagent'][0]):.2f} "
                          f"| {median(lambda r: r['tar'][0]):.2f} | {median(lambda r: r['tar+sum'][0]):.2f} "
                          f"| {median(lambda r: r['updagent'][0] / r['tar'][0]):.2f} "
                          f"| {median(lambda r: r['updagent'][0] / r['tar+sum'][0]):.2f} "
                          f"| {median(lambda r: r['updagent'][1]):.2f} | {max(r['updagent'][2] for r in rows):.0f} |", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
