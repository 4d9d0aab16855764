#!/usr/bin/env python3
"""Pages for gates, as two generations would have them. Prints its port, ends when its standard input ends.

  metrics_server.py FOLDER

Who asks from 127.0.0.2 (or for version 2.0.0) gets the pages of the candidate, from 127.0.0.3 (or for
version 1.0.0) those of the active one, all others those of nobody. The n-th answer is the file FOLDER/SIDE.N,
or the last one that there is: its first line "STATUS CONTENT-TYPE", then the body. "hang" never answers.
"""
import http.server
import pathlib
import sys
import threading
from collections import Counter

folder = pathlib.Path(sys.argv[1])
asked = Counter()
over = threading.Event()
lock = threading.Lock()


def side_of(address, path):
    if address == "127.0.0.2" or "2.0.0" in path:
        return "candidate"
    return "active" if address == "127.0.0.3" or "1.0.0" in path else "nobody"


def page_of(side):
    with lock:
        number = asked[side]
        asked[side] += 1
    while number > 0 and not (folder / f"{side}.{number}").exists():
        number -= 1
    return (folder / f"{side}.{number}").read_bytes()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        head, _, body = page_of(side_of(self.client_address[0], self.path)).partition(b"\n")
        if head == b"hang":
            over.wait()
            return
        status, _, content_type = head.decode().partition(" ")
        self.send_response(int(status))
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):  # a gate that hangs up is no news
        pass


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
over.set()
