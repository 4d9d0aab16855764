"""tests/support/census.py: it sees what is left behind, and nothing else."""

import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import unittest

import census

# Does what it is told, one command a line, and says so: a process that leaks on request.
LEAKY = """
import os, socket, subprocess, sys
kept = []
print("ready", flush=True)
for line in sys.stdin:
    what = line.strip()
    if what == "listen":
        kept.append(socket.create_server(("127.0.0.1", 0)))
    elif what == "unix":
        kept.append(socket.socket(socket.AF_UNIX)); kept[-1].bind("\\0census-test"); kept[-1].listen()
    elif what == "pipe":
        kept.append(os.pipe())
    elif what == "memfd":
        kept.append(os.memfd_create("counter"))
    elif what == "file":
        kept.append(open("/proc/self/status"))
    elif what == "child":
        kept.append(subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL))
    elif what == "memory":
        kept.append(b"x" * (8 << 20))
    elif what == "end children":
        for each in [k for k in kept if isinstance(k, subprocess.Popen)]: each.kill(); each.wait()
    print("done", flush=True)
"""


class Leaks(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.process = subprocess.Popen([sys.executable, "-c", LEAKY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end)
        self.assertEqual(self.process.stdout.readline(), "ready\n")
        self.tell("nothing")  # the first command takes memory of its own

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()

    def tell(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        self.assertEqual(self.process.stdout.readline(), "done\n")

    def take(self):
        return census.take([self.process.pid], cgroups=[self.folder.name], folders=[self.folder.name])

    def found_after(self, what):
        before = self.take()
        self.tell(what)
        return census.differences(before, self.take(), pss_slack_kib=1024)

    def test_nothing_is_nothing(self):
        self.assertEqual(self.found_after("nothing"), [])
        census.assert_same(self.take(), self.take(), pss_slack_kib=256)

    def test_each_kind_is_seen(self):
        pid = self.process.pid
        for what, kind, by in (("pipe", "pipe", 2), ("memfd", "memfd:counter", 1), ("file", "file", 1)):
            (found,) = self.found_after(what)
            numbers = re.fullmatch(rf"pid {pid}: descriptors '{kind}': (\d+) -> (\d+)", found)
            self.assertEqual(int(numbers[2]) - int(numbers[1]), by, found)
        self.assertEqual(self.found_after("memory")[0].split(":")[1].split()[0], "memory")
        found = self.found_after("listen")
        self.assertEqual(found[0], f"pid {pid}: descriptors 'socket': 0 -> 1")
        self.assertRegex(found[1], rf"^pid {pid}: sockets 'tcp LISTEN 127\.0\.0\.1:\d+': 0 -> 1$")
        self.assertIn(f"pid {pid}: sockets 'unix LISTEN @census-test': 0 -> 1", self.found_after("unix"))
        with self.assertRaises(AssertionError):
            before = self.take()
            self.tell("pipe")
            census.assert_same(before, self.take())

    def test_children_are_counted(self):
        self.assertIn("processes: 1 -> 2", self.found_after("child"))
        self.assertEqual(len(census.descendants(self.process.pid)), 2)
        self.assertIn("processes: 2 -> 1", self.found_after("end children"))

    def test_files_and_folders_are_counted(self):
        before = self.take()
        (pathlib.Path(self.folder.name) / "left/behind").mkdir(parents=True)
        (pathlib.Path(self.folder.name) / "left/file").touch()
        self.assertEqual(census.differences(before, self.take(), 256), ["cgroups: 0 -> 2", "files: 0 -> 3"])

    def test_holders_of_a_listener(self):
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
            inode = os.fstat(listener.fileno()).st_ino
            self.assertEqual(census.listeners(listener.getsockname()[1]), {inode: [os.getpid()]})
            self.assertEqual(census.sockets_of(os.getpid())[inode], f"tcp6 LISTEN [::1]:{listener.getsockname()[1]}")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
