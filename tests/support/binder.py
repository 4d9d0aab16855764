"""A service of protocol inject that binds its port when the file BIND is there, and says READY=1 before and after."""

import os
import socket
import sys
import time

bind, port = sys.argv[1], int(sys.argv[2])


def say(message):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(message, os.environ["NOTIFY_SOCKET"])


say(b"READY=1\nSTATUS=not bound")
while not os.path.exists(bind):
    time.sleep(0.01)
with socket.create_server(("127.0.0.1", port)) as server:
    say(b"READY=1\nSTATUS=bound")
    while True:
        server.accept()[0].close()
