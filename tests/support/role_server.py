#!/usr/bin/env python3
"""A service that writes down which role it has: at its start and at each SIGUSR1, "VERSION ROLE" a line.

    role_server.py LOG [--unready FIFO]

It gets its socket as systemd passes it and answers each connection with its version. --unready: it says READY=1 only
when a byte comes through that FIFO, and has no handler for SIGUSR1 before.
"""

import os
import pathlib
import select
import signal
import socket
import sys


def main():
    version = os.environ["UPDAGENT_VERSION"]
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(*_):
        role = pathlib.Path(os.environ["UPDAGENT_ROLE_FILE"]).read_text().strip()
        os.write(log, f"{version} {role}\n".encode())

    listener = socket.socket(fileno=3)
    note()
    if "--unready" in sys.argv:
        gate = os.open(sys.argv[sys.argv.index("--unready") + 1], os.O_RDWR)
        os.read(gate, 1)
    signal.signal(signal.SIGUSR1, note)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(os.environ["NOTIFY_SOCKET"])
        notify.send(b"READY=1")
    listener.setblocking(False)
    while True:
        select.select([listener], [], [])
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            continue  # another one had it
        with connection:
            connection.sendall(f"{version}\n".encode())


if __name__ == "__main__":
    main()
