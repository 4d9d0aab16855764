#!/usr/bin/python3 -IS
"""A service that is good to its users and does to its supervisor whatever it is told.

Takes its listener as systemd hands it over, and commands at RUNTIME_DIRECTORY/ctl: one JSON line
["attack", argument...], answered by one line: "ok ..." or the kernel's "EPERM" and the like.
"""

import array
import ctypes
import errno
import json
import os
import socket
import struct
import sys
import threading

VERSION = sys.argv[1]
LISTENER = socket.socket(fileno=3)
LISTENER.setblocking(True)
SOL_SOCKET, SO_ATTACH_FILTER, SO_LOCK_FILTER = 1, 26, 44
SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF, SO_DETACH_REUSEPORT_BPF = 51, 52, 68
BPF_RETURN_FIRST = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # always socket 0 of the group
libc = ctypes.CDLL(None, use_errno=True)


def serve(listener):
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            client.settimeout(10)
            try:
                asked = more = client.recv(65536)
                while more and b"\r\n\r\n" not in asked:
                    asked += (more := client.recv(65536))
                body = json.dumps({"version": VERSION}).encode()
                client.sendall(b"HTTP/1.1 200 OK\r\nX-Generation: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                               % (VERSION.encode(), len(body), body))
            except OSError:
                pass


def notify(text, path=None, fds=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        ancillary = [(SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sender.sendmsg([text], ancillary, 0, path or os.environ["NOTIFY_SOCKET"])


def check(answer):
    if answer < 0:
        raise OSError(ctypes.get_errno(), "")
    return answer


def syscall(number, *arguments):
    return check(libc.syscall(number, *arguments))


def program():
    return struct.pack("HxxxxxxP", 1, ctypes.addressof(BPF_RETURN_FIRST))


def attach_by_raw_call():
    text = ctypes.create_string_buffer(program())
    return syscall(54, 3, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, text, 16)


def second_bind():
    other = socket.socket(LISTENER.family)
    other.setsockopt(SOL_SOCKET, socket.SO_REUSEPORT, 1)
    other.bind(LISTENER.getsockname())
    other.listen(16)
    KEPT.append(other)


def flood(messages):
    sent = 0
    for _ in range(messages):
        fds = [os.memfd_create("flood") for _ in range(100)]
        try:
            notify(b"FDSTORE=1\nFDNAME=flood\n", fds=fds)
            sent += 1
        except BlockingIOError:
            pass  # its queue is full: nobody waits for us
        finally:
            for fd in fds:
                os.close(fd)
    return sent


def bound(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    return listener


def connect_to(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(path)


def steal(pid):
    pidfd = os.pidfd_open(pid)
    try:
        return [syscall(438, pidfd, fd, 0) for fd in range(3, 20)]
    finally:
        os.close(pidfd)


def bpf(command, number):
    return syscall(321, command, ctypes.create_string_buffer(struct.pack("I", number).ljust(128, b"\0")), 128)


KEPT = []
ATTACKS = {
    "attach_cbpf": lambda: LISTENER.setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program()),
    "attach_cbpf_raw": attach_by_raw_call,
    "attach_ebpf": lambda: LISTENER.setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, 3),
    "detach": lambda: LISTENER.setsockopt(SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0),
    "unlock_filter": lambda: LISTENER.setsockopt(SOL_SOCKET, SO_LOCK_FILTER, 0),
    "attach_filter": lambda: LISTENER.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, program()),
    "listen_0": lambda: LISTENER.listen(0),
    "shutdown": lambda: LISTENER.shutdown(socket.SHUT_RDWR),
    "second_bind": second_bind,
    "notify": lambda text: notify(text.encode()),
    "notify_at": lambda path, text: notify(text.encode(), path),
    "huge_notify": lambda size: notify(b"STATUS=" + b"x" * size),
    "flood": flood,
    "store_as": lambda name: notify(f"FDSTORE=1\nFDNAME={name}\n".encode(), fds=[os.memfd_create("mine")]),
    "connect": connect_to,
    "bpf_map": lambda number: bpf(14, number),
    "bpf_program": lambda number: bpf(13, number),
    "steal": steal,
    "ptrace": lambda pid: syscall(101, 16, pid, 0, 0),
    "kill": lambda pid: os.kill(pid, 9),
    "symlink": lambda target, path: os.symlink(target, path),
    "replace_by_symlink": lambda target, path: (os.unlink(path), os.symlink(target, path)),
    "rename": os.rename,
    "write": lambda path: open(path, "a").close(),
    "list": os.listdir,
    "read": lambda path: open(path, "rb").read(1),
    "bind_path": lambda path: KEPT.append(bound(path)),
}


def command(line):
    name, *arguments = json.loads(line)
    try:
        return f"ok {ATTACKS[name](*arguments)}"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))


def obey(control):
    while True:
        client, _ = control.accept()
        with client, client.makefile("rw") as stream:
            for line in stream:
                stream.write(command(line) + "\n")
                stream.flush()


def main():
    control = socket.socket(socket.AF_UNIX)
    control.bind(os.environ["RUNTIME_DIRECTORY"] + "/ctl")
    control.listen()
    threading.Thread(target=obey, args=(control,), daemon=True).start()
    for _ in range(8):
        threading.Thread(target=serve, args=(LISTENER,), daemon=True).start()
    notify(b"READY=1")
    threading.Event().wait()


main()
