"""fixtures/demo-service as a child of the test, for tests that need no supervisor."""

import array
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile

BINARY = os.environ.get("UPDAGENT_DEMO_SERVICE", "demo-service")
LIMIT_S = 60  # of each wait; far above what any needs


def listening(family=socket.AF_INET, address=("127.0.0.1", 0), reuseport=False):
    listener = socket.socket(family)
    if reuseport:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(address)
    listener.listen(512)
    return listener


class NotifySocket:
    """What a service says by sd_notify(3)."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = f"{self.folder.name}/notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(LIMIT_S)
        self.stored = {}

    def close(self):
        self.socket.close()
        for fd in self.stored.values():
            os.close(fd)
        self.folder.cleanup()

    def receive(self):
        """One message as {name: value}; descriptors for the store are kept by name."""
        text, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(253 * 4))
        fds = array.array("i")
        for level, kind, data in ancillary:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
        message = dict(line.split("=", 1) for line in text.decode().splitlines())
        for fd in fds:
            name = message.get("FDNAME", "stored")
            if message.get("FDSTORE") == "1" and name not in self.stored:
                self.stored[name] = fd
            else:
                os.close(fd)
        return message | ({"fds": len(fds)} if fds else {})

    def wait_for(self, name):
        while name not in (message := self.receive()):
            pass
        return message


class Service:
    """A running demo-service. `inherit`: [(name, socket or descriptor)] from descriptor 3 on."""

    def __init__(self, *words, inherit=None, env=None, wait=True):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("LISTEN_", "NOTIFY", "DEMO_"))}
        environment.update(env or {})
        command = [BINARY, *words]
        descriptors = [fd if isinstance(fd, int) else fd.fileno() for _, fd in inherit or ()]
        if inherit is not None:
            environment |= {"LISTEN_FDS": str(len(inherit)), "LISTEN_FDNAMES": ":".join(name for name, _ in inherit)}
            if "LISTEN_PID" not in environment:  # the pid is the service's own: exec keeps it
                command = ["sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"', *command]

        def place():
            high = [os.dup2(fd, 500 + n, inheritable=False) for n, fd in enumerate(descriptors)]
            for n, fd in enumerate(high):
                os.dup2(fd, 3 + n, inheritable=True)
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        preexec_fn=place, close_fds=False, text=True)
        if wait:
            self.said = json.loads(self.process.stdout.readline())
            self.pid = self.said["pid"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def address(self, name="http"):
        return next(each["address"] for each in self.said["listeners"] if each["name"] == name)

    def target(self, name="http"):
        address = self.address(name)
        return f"unix:{address}" if address[0] in "/@" else f"tcp:{address}"

    def connect(self, name="http"):
        address = self.address(name)
        if address[0] in "/@":
            client = socket.socket(socket.AF_UNIX)
            client.connect(address.replace("@", "\0", 1))
        else:
            host, port = address.rsplit(":", 1)
            client = socket.create_connection((host.strip("[]"), int(port)))
        client.settimeout(LIMIT_S)
        return client

    def client(self, name="http"):
        """An HTTP client with one connection."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = self.connect(name)
        return connection

    def get(self, path="/", name="http", method="GET"):
        connection = self.client(name)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            answer.text = answer.read().decode()
            return answer
        finally:
            connection.close()

    def switch(self, name, value, listener="http"):
        answer = self.get(f"/switch?{name}={value}", listener, "POST")
        return json.loads(answer.text)["result"] if answer.status == 200 else answer.status

    def stop(self, sign=signal.SIGTERM):
        self.process.send_signal(sign)
        return self.process.wait(timeout=LIMIT_S)


def stream(size):
    return b"".join(b"%015x\n" % line for line in range(size // 16 + 1))[:size]


def receive_all(client):
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)
