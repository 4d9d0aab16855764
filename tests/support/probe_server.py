#!/usr/bin/env python3
"""A service to be probed. Prints its port, ends when its standard input ends.

  /ok /fail /slow /drop /short /redirect   200, 503, never, closes, cut body, 302
  /body                                    200 and "status: green"
  /big                                     200 and a body without end, "needle" at its start
  /flap?n=N                                N good answers, N bad ones, and so on
  /after?n=N                               N good answers, then only bad ones
  /late?n=N                                N bad answers, then only good ones
  /state, /control/good, /control/bad      what the last control said
  /connections                             200 if each request so far had a connection of its own
"""
import argparse
import http.server
import ssl
import sys
import threading
from collections import Counter
from urllib.parse import parse_qs, urlsplit

asked = Counter()
connections = set()
state = {"good": True}
over = threading.Event()
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", headers=(), length=None):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urlsplit(self.path)
        n = int(parse_qs(url.query).get("n", ["1"])[0])
        with lock:
            before = asked[self.path]
            asked[self.path] += 1
            asked["all"] += 1
            connections.add(self.client_address)
        verdicts = {
            "/ok": True,
            "/fail": False,
            "/flap": before // n % 2 == 0,
            "/after": before < n,
            "/late": before >= n,
            "/state": state["good"],
            "/connections": len(connections) == asked["all"],
        }
        if url.path in verdicts:
            self.answer(200 if verdicts[url.path] else 503, b"here\n")
        elif url.path.startswith("/control/"):
            state["good"] = url.path.endswith("good")
            self.answer(200)
        else:
            self.special(url.path)

    def special(self, path):
        if path == "/body":
            self.answer(200, b"status: green\n")
        elif path == "/redirect":
            self.answer(302, headers=[("Location", "/ok")])
        elif path == "/slow":
            over.wait()
        elif path == "/drop":
            self.close_connection = True
        elif path == "/short":
            self.answer(200, b"half", length=1000)
            self.close_connection = True
        elif path == "/big":
            self.answer(200, b"needle" + b"x" * 1_000_000, length=10**12)
            over.wait()
        else:
            self.answer(404)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):  # a probe that hangs up is no news
        pass


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--certificate")
    options.add_argument("--key")
    given = options.parse_args()
    server = Server(("127.0.0.1", 0), Handler)
    if given.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given.certificate, given.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    over.set()


main()
