"""A server that knows nothing of updagent: it binds its own address when the file GO is there, and answers each
connection with its version.

    bind_server.py VERSION PORT GO [--eager]

What bind(2) fails with is left in GO.error. --eager: it says READY=1 before it waits, and again when it listens.
"""

import os
import pathlib
import select
import signal
import socket
import sys
import threading
import time


def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(text, os.environ["NOTIFY_SOCKET"])


def answer(client, version):
    with client:
        client.settimeout(10)
        try:
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += (more := client.recv(65536))
                if not more:
                    return
            client.sendall(b"HTTP/1.1 200 OK\r\nX-Generation: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                           % (version, len(version), version))
        except OSError:
            pass


def main():
    version, port, go = sys.argv[1].encode(), int(sys.argv[2]), sys.argv[3]
    eager = "--eager" in sys.argv
    if eager:
        notify(b"READY=1\nSTATUS=waiting")
    while not os.path.exists(go):
        time.sleep(0.01)
    listener = socket.socket()
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        pathlib.Path(f"{go}.error").write_text(str(error.errno))
        raise
    listener.listen(128)
    listener.setblocking(False)
    stop, stopped = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.close(stopped))
    if eager:
        notify(b"READY=1\nSTATUS=serving")
    while True:
        readable, _, _ = select.select([listener, stop], [], [])
        if stop in readable:
            return  # the threads answer what was accepted
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            continue
        threading.Thread(target=answer, args=(client, version)).start()


if __name__ == "__main__":
    main()
