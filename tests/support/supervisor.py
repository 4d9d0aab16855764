"""Speaks to a supervisor's control socket, as a driver does (agent/service/control.hpp)."""

import array
import json
import os
import socket
import subprocess
import time

WAIT_S = float(os.environ.get("UPDAGENT_WAIT_S", "60"))  # of each wait; far above what any needs


class Refused(Exception):
    """The supervisor's error: .code is its stable name, .got what it found."""

    def __init__(self, error):
        super().__init__(error["message"] + (f" (expected {error['expected']}, got {error['got']})" if error["expected"] else ""))
        self.code, self.got = error["code"], error["got"]


class Ended(AssertionError):
    """A supervisor that was started and is gone before it listens."""


class Control:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(WAIT_S)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.number = 0
        self.news = []

    def close(self):
        self.socket.close()

    def ask(self, op, service=None, **fields):
        self.number += 1
        message = json.dumps({"v": 1, "id": self.number, "op": op, **fields}).encode()
        if service is None:
            self.socket.send(message)
        else:
            fd = os.memfd_create("service")
            os.write(fd, json.dumps(service).encode())
            os.lseek(fd, 0, os.SEEK_SET)
            self.socket.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
            os.close(fd)
        while True:
            answer = self.receive()
            if "news" in answer:
                self.news.append(answer)
            elif answer["id"] == self.number:
                if not answer["ok"]:
                    raise Refused(answer["error"])
                return answer

    def receive(self):
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the supervisor closed the connection")
        return json.loads(data)

    def await_news(self, fits):
        while True:
            for news in self.news:
                if fits(news):
                    self.news.remove(news)
                    return news
            self.news.append(self.receive())


def wait_for(condition, what):
    end = time.monotonic() + WAIT_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.01)


class Supervisor:
    """A supervisor of its own runtime folder; stopped with its services by stop()."""

    def __init__(self, binary, folder, app="demo", cgroup=None):
        self.binary, self.folder, self.app, self.cgroup = binary, folder, app, cgroup
        self.process = None
        (folder / "app").mkdir(exist_ok=True)
        self.start()

    @property
    def path(self):
        return self.folder / "run" / f"{self.app}.sock"

    def start(self, **environment):
        words = [self.binary, "--events", self.folder / "spool", "--app", self.app, "--runtime", self.folder / "run", "--folder", self.folder / "app"]
        if self.cgroup:
            words += ["--cgroup", self.cgroup]
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL,
                                        env={**os.environ, **environment})
        wait_for(self.connectable, "the control socket")

    def connectable(self):
        try:
            self.connect().close()
            return True
        except OSError:
            if self.process.poll() is not None:
                raise Ended(f"the supervisor ended with {self.process.returncode}")
            return False

    def connect(self):
        return Control(self.path)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def status(self):
        control = self.connect()
        try:
            return control.ask("status")
        finally:
            control.close()

    def stop(self):
        if self.process.poll() is None:
            control = self.connect()
            control.ask("stop")
            control.close()
            self.process.wait(timeout=WAIT_S)
