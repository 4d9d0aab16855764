#!/usr/bin/env python3
"""Peak memory (maxrss) of whole processes at the largest release that the format allows.

  python3 tests/bench/memory_bench.py [--binary build/release/updagent] [--entries 255000] [--folder /var/tmp]

Three versions of a tree whose manifest is close to its 64 MiB: the second differs in one file of a
hundred, in the third every file has moved. Prints a table; the aim is 64 MB in each row.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

FILES_OF_A_FOLDER = 1000
AIM_MIB = 64e6 / (1 << 20)


def make_tree(root, entries, top, changed=""):
    """Folders of a thousand small files, with paths of about 60 bytes."""
    files = entries - entries // FILES_OF_A_FOLDER - 2
    for number in range(files):
        folder = root / top / f"packages-{number // FILES_OF_A_FOLDER:04}"
        if number % FILES_OF_A_FOLDER == 0:
            folder.mkdir(parents=True)
        name = f"a-file-with-a-name-of-usual-length-{number:06}.txt"
        mark = changed if number % 100 == 0 else ""
        with open(folder / name, "w", encoding="ascii") as file:
            file.write(f"{number}{mark}\n")
        os.utime(folder / name, (1718730000, 1718730000))


def peak(words, expected=0):
    """Seconds and MiB of one process. Python's own size is the floor: keep it small."""
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode != expected:
        raise SystemExit(f"{words}: exit {process.returncode}: {errors.decode()}")
    return time.monotonic() - began, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="build/release/updagent")
    parser.add_argument("--entries", type=int, default=255_000)
    parser.add_argument("--folder", default=None)
    options = parser.parse_args()
    binary = str(pathlib.Path(options.binary).resolve())
    work = pathlib.Path(tempfile.mkdtemp(prefix="updagent-memory-", dir=options.folder))

    def row(what, *words):
        seconds, mib = peak([binary, *map(str, words)])
        print(f"{what:34}{mib:8.1f} MiB{seconds:8.1f} s{'' if mib <= AIM_MIB else '   past the aim'}", flush=True)

    try:
        subprocess.run([binary, "keygen", "--out", work, "--name", "key"], check=True, stdout=subprocess.DEVNULL)
        node = ("--root", work / "node", "--trust", work / "key.pub")
        for version, top, changed in (("1.0.0", "old", ""), ("2.0.0", "old", "!"), ("3.0.0", "new", "!")):
            make_tree(work / "tree", options.entries, top, changed)
            suffix = "tar.zst" if version == "2.0.0" else "tar.gz"
            row(f"pack {version} ({suffix})", "pack", work / "tree", "--key", work / "key.key", "--app", "bench",
                "--version", version, "-o", work / f"{version}.{suffix}")
            shutil.rmtree(work / "tree")
            row(f"apply {version}", *node, "apply", work / f"{version}.{suffix}")
        row("rollback to 2.0.0", *node, "rollback", "bench", "--to", "2.0.0")
        row("verify --installed", *node, "verify", "--installed", "bench")
        row("inspect", "inspect", work / "3.0.0.tar.gz")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
