"""A process of a service that says to NOTIFY_SOCKET what a test wants: each new line of the file ORDERS is one message
(line feeds within it as '|'). It waits for the supervisor's queue as sd_notify(3) does, and counts in ORDERS.said."""

import ctypes
import os
import signal
import socket
import sys
import time

orders = sys.argv[1]
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # the service's main process is our parent
said = 0
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, open(orders, "rb") as file:
    while True:
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(-len(line), os.SEEK_CUR)
            time.sleep(0.01)
            continue
        notify.sendto(line[:-1].replace(b"|", b"\n"), os.environ["NOTIFY_SOCKET"])
        said += 1
        with open(orders + ".new", "w") as count:
            count.write(str(said))
        os.rename(orders + ".new", orders + ".said")
