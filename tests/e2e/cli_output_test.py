"""Where the command line prints, and what becomes of a deployment when nobody reads it."""

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import unittest

import harness
from cli_case import PROBE, Case, environment

F_SETPIPE_SZ = 1031


def full_pipe():
    """A pipe that has no room left."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, F_SETPIPE_SZ, 4096)
    os.set_blocking(write_end, False)
    try:
        while True:
            os.write(write_end, b"~" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(write_end, True)
    return read_end, write_end


class NobodyReads(Case):
    """A deployment ends by its rules, whoever reads what it says or does not."""

    def roll_back_unread(self, node, stdout, stderr):
        self.assert_exit(node.apply(self.good), 0)
        running = subprocess.Popen([harness.BINARY, "--root", node.root, "apply", self.bad], env=environment(TERM="xterm"),
                                   stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True)
        self.addCleanup(lambda: (running.kill(), running.wait()))
        self.wait_for("it was not rolled back", lambda: self.ended(node, "rolled_back"))
        self.assertEqual((node.current(), node.committed()), ("1.0.0", "1.0.0"))
        # the lock gets free though nobody reads: the end of the driver is some moments after that of the deployment
        self.assert_exit(node.apply(self.good, "--wait", "60s"), 0)
        return running

    def read_all(self, fd):
        pieces = []
        while piece := os.read(fd, 65536):
            pieces.append(piece)
        os.close(fd)
        return b"".join(pieces).lstrip(b"~").decode()

    def test_full_pipes(self):
        read_end, write_end = full_pipe()
        running = self.roll_back_unread(self.node(), write_end, write_end)
        os.close(write_end)
        text = self.read_all(read_end)
        self.assertEqual(running.wait(harness.COMMAND_LIMIT_S), 4)
        self.assertRegex(text, r"\.\.\. \d+ lines not shown\n")
        self.assertIn("ROLLED BACK", text)

    def test_full_stderr_alone(self):
        read_end, write_end = full_pipe()
        running = self.roll_back_unread(self.node(), subprocess.DEVNULL, write_end)
        os.close(write_end)
        self.assertIn("lines not shown", self.read_all(read_end))
        self.assertEqual(running.wait(harness.COMMAND_LIMIT_S), 4)

    def test_a_terminal_stopped_by_control_s(self):
        master, slave = pty.openpty()
        os.write(master, b"\x13")
        running = self.roll_back_unread(self.node(), slave, slave)
        os.write(master, b"\x11")
        os.close(slave)
        text = b""
        try:
            while piece := os.read(master, 65536):
                text += piece
        except OSError:  # the other end is closed
            pass
        os.close(master)
        self.assertEqual(running.wait(harness.COMMAND_LIMIT_S), 4)
        self.assertIn("ROLLED BACK", text.decode())

    def test_a_socket_that_nobody_reads(self):
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        try:
            while True:
                theirs.send(b"~" * 4096)
        except BlockingIOError:
            pass
        theirs.setblocking(True)
        running = self.roll_back_unread(self.node(), subprocess.DEVNULL, theirs.fileno())
        theirs.close()
        ours.settimeout(harness.COMMAND_LIMIT_S)
        text = b""
        while piece := ours.recv(65536):
            text += piece
        ours.close()
        self.assertIn(b"lines not shown", text)
        self.assertEqual(running.wait(harness.COMMAND_LIMIT_S), 4)

    def test_readers_that_have_gone(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        running = self.roll_back_unread(self.node(), write_end, write_end)
        os.close(write_end)
        self.assertEqual(running.wait(harness.COMMAND_LIMIT_S), 4)

    def test_notifications_do_not_wait_for_a_reader(self):
        node = self.node()
        read_end, write_end = full_pipe()
        with harness.webhook() as (url, wait):
            node.configure(f'[[notify]]\nname = "w"\non = ["rolled_back"]\nwebhook = "{url}"\n')
            running = self.roll_back_unread(node, write_end, subprocess.DEVNULL)
            self.assertEqual(wait(1)[0][1]["outcome"], "rolled_back")
        os.close(write_end)
        os.close(read_end)
        self.assertEqual(running.wait(harness.COMMAND_LIMIT_S), 4)


class FullDisk(Case):
    """Standard output that takes nothing is no success."""

    def to_full(self, node, *words):
        with open("/dev/full", "w") as full:
            done = subprocess.run([harness.BINARY, "--root", node.root, *map(str, words)], env=environment(), stdout=full,
                                  stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=harness.COMMAND_LIMIT_S)
        return harness.Result(done.returncode, "", done.stderr.decode())

    def test_an_answer_that_could_not_be_written_is_a_failure(self):
        node = self.node()
        self.assert_exit(node.apply(self.good), 0)
        for words in (["--json", "log"], ["log"], ["log", "export"], ["log", "verify"], ["sign", self.good, "--print-pae"],
                      ["inspect", self.good], ["--json", "inspect", self.good], ["verify", self.good], ["status"],
                      ["releases", "demo"], ["trust", "list"], ["doctor"], ["version"], ["help"], ["help", "--man"],
                      ["apply", "--help"], ["--help"], ["--version"], ["verify", "--installed", "demo"],
                      ["apply", self.good, "--dry-run", "--quiet"]):
            with self.subTest(words):
                done = self.assert_exit(self.to_full(node, *words), 1)
                self.assertEqual(done.err.count("\n"), 1, done)
                self.assertIn("could not be written to standard output: No space left", done.err)

    def test_a_deployment_that_has_ended_keeps_its_exit_status(self):
        node = self.node()
        for artifact, code in ((self.good, 0), (self.bad, 4)):
            done = self.assert_exit(self.to_full(node, "apply", artifact), code)
            self.assertIn("warning: the answer could not be written", done.err)
        self.assertEqual(node.current(), "1.0.0")

    def test_a_reader_that_has_enough_is_no_failure(self):
        node = self.node()
        self.assert_exit(node.apply(self.good), 0)
        for words in ("log", "log export", f"inspect --files {shlex.quote(str(self.good))}"):
            command = f"set -o pipefail; {shlex.quote(harness.BINARY)} --root {node.root} {words} | head -n 1"
            done = subprocess.run(["bash", "-c", command], env=environment(), capture_output=True, text=True)
            self.assertIn(done.returncode, (0, 128 + signal.SIGPIPE), done)
            self.assertEqual((done.stdout.count("\n"), done.stderr), (1, ""))

    def test_closed_standard_descriptors_are_no_trap(self):
        node = self.node()
        quoted = f"{shlex.quote(harness.BINARY)} --root {node.root}"
        for command, code in ((f"{quoted} apply - <&-", 3), (f"{quoted} apply {self.good} <&- >&- 2>&-", 0),
                              (f"{quoted} status >&-", 0), (f"{quoted} nonsense 2>&-", 2)):
            done = subprocess.run(["bash", "-c", command], env=environment(), capture_output=True, text=True,
                                  timeout=harness.COMMAND_LIMIT_S)
            self.assertEqual(done.returncode, code, (command, done))
        self.assert_intact(node)


def on_a_terminal(words, **more):
    """stdout and stderr are one real terminal; returns (exit status, all that came)."""
    master, slave = pty.openpty()
    running = subprocess.Popen([harness.BINARY, *map(str, words)], env=environment(**{"TERM": "xterm", **more}), stdin=slave,
                               stdout=slave, stderr=slave)
    os.close(slave)
    text = b""
    try:
        while piece := os.read(master, 65536):
            text += piece
    except OSError:  # the other end is closed
        pass
    os.close(master)
    return running.wait(harness.COMMAND_LIMIT_S), text.decode()


class Terminal(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # long enough for a bar, whatever the machine
        cls.watched = cls.workshop.pack("1.5.0", PROBE.format(program="true") + '[rollout]\nwatch = "500ms"\n')

    def test_bars_on_a_terminal(self):
        code, text = on_a_terminal(["--root", self.node().root, "apply", self.watched])
        self.assertEqual(code, 0, text)
        self.assertRegex(text, r"\r\x1b\[K  watching +\[#*\.+\]")
        self.assertIn("\x1b[32m", text)
        last = [line for line in text.split("\r\n") if "watch " in line][-1]
        self.assertRegex(last, r"\r\x1b\[K  watch +", "the bar is wiped before its line")

    def test_plain_lines_in_a_pipe(self):
        done = self.assert_exit(self.node().run("apply", self.watched, env={"TERM": "xterm"}), 0)
        for text in (done.out, done.err):
            self.assertNotRegex(text, r"[\r\x1b]")
        self.assertRegex(done.err, r"(?m)^  watch +ok ")

    def test_no_colours_when_they_are_not_wanted(self):
        for options, more in ((["--no-color"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})):
            with self.subTest(options=options, **more):
                code, text = on_a_terminal([*options, "--root", self.node().root, "apply", self.watched], **more)
                self.assertEqual(code, 0, text)
                self.assertNotRegex(text, r"\x1b\[[0-9;]*m")
        _, text = on_a_terminal(["--root", self.node().root, "status"], NO_COLOR="")
        self.assertIn("nothing is installed", text)

    def test_quiet_says_the_answer_alone(self):
        done = self.assert_exit(self.node().run("--quiet", "apply", self.watched), 0)
        self.assertEqual(done.err, "")
        self.assertIn("committed", done.out)

    def test_json_on_a_terminal_cannot_drive_it(self):
        artifact = self.workshop.pack("1.0.8", files={"a\u202e31m": b"x"}, name="terminal.tar.gz")
        _, text = on_a_terminal(["--json", "inspect", "--files", artifact])
        self.assertNotIn("\u202e", text)
        self.assertIn("a\u202e31m", [entry["path"] for entry in json.loads(text)["files"]])


if __name__ == "__main__":
    unittest.main()
