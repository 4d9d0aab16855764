#!/usr/bin/env python3
"""A service that writes down what happens to it, a line each in LOG: "VERSION WHAT".

    witness_server.py LOG [close] [hang] [daemon] [store=N] [flood=TEXT]

WHAT: ready, TERM, asked (a request for /slow has come), shut, closed, removed. It gets its sockets as systemd passes
them and answers each connection with its version; to /slow when the file LOG.go is there. On SIGTERM it ends when
nothing is under way, on SIGUSR1 it shuts its first listener down (shut).
close: it closes its listeners on SIGTERM (closed). hang: it accepts nobody after READY=1. daemon: its main process
forks the one that serves, says so by MAINPID, and ends. store: it gives N descriptors to the FDSTORE, one by one, and
takes them out again (removed). flood: sent to NOTIFY_SOCKET after READY=1 for ever.
"""

import os
import pathlib
import selectors
import signal
import socket
import sys
import threading
import time

VERSION = os.environ["UPDAGENT_VERSION"]
LOG = sys.argv[1]
WORDS = dict((word.split("=", 1) + [""])[:2] for word in sys.argv[2:])


def note(what):
    log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(log, f"{VERSION} {what}\n".encode())
    os.close(log)


def answer(connection):
    with connection:
        if b"/slow" in connection.recv(65_536):
            note("asked")
            while not pathlib.Path(LOG + ".go").exists():
                time.sleep(0.01)
        connection.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{VERSION}".encode())


def serve(listeners, ended):
    at_work = []
    events = selectors.DefaultSelector()
    for one in listeners:
        one.setblocking(False)
        events.register(one, selectors.EVENT_READ)
    while not ended.is_set() or any(thread.is_alive() for thread in at_work):
        for key, _ in events.select(timeout=0.02):
            try:
                connection, _ = key.fileobj.accept()
            except BlockingIOError:
                continue
            except OSError:  # it was shut down
                events.unregister(key.fileobj)
                continue
            connection.setblocking(True)
            at_work.append(threading.Thread(target=answer, args=[connection]))
            at_work[-1].start()
        if ended.is_set() and "close" in WORDS:
            for one in listeners:
                one.close()
            if listeners:
                note("closed")
            listeners = []


def main():
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: (note("TERM"), ended.set()))
    main_pid = ""
    if "daemon" in WORDS:
        told, tell = os.pipe()
        if os.fork() != 0:
            os.close(tell)
            os.read(told, 1)  # until the one that serves has been believed
            os._exit(0)
        main_pid = f"MAINPID={os.getpid()}\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(os.environ["NOTIFY_SOCKET"])
        notify.send(f"{main_pid}READY=1".encode())
        if main_pid:
            one, other = os.pipe()
            socket.send_fds(notify, [b"BARRIER=1"], [other])
            os.close(other)
            os.read(one, 1)
            os.close(tell)
        note("ready")
        names = [f"stored-{i}" for i in range(int(WORDS.get("store", "0")))]
        for name in names:
            one = os.memfd_create(name)
            socket.send_fds(notify, [f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0".encode()], [one])
            os.close(one)
        for name in names:
            notify.send(f"FDSTOREREMOVE=1\nFDNAME={name}".encode())
        if names:
            note("removed")
        while "flood" in WORDS and not ended.is_set():
            notify.send(WORDS["flood"].encode())
        if "hang" in WORDS:
            ended.wait()
    listeners = [socket.socket(fileno=3 + i) for i in range(int(os.environ.get("LISTEN_FDS", "0")))]
    signal.signal(signal.SIGUSR1, lambda *_: (listeners[0].shutdown(socket.SHUT_RDWR), note("shut")))
    serve(listeners, ended)


if __name__ == "__main__":
    main()
