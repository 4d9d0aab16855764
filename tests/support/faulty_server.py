#!/usr/bin/env python3
"""An HTTP server that misbehaves on request, for tests of downloads.

usage: faulty_server.py DIR

Listens on 127.0.0.1, port 0, and prints the port. GET /NAME is answered by DIR/NAME.json: a list of
steps, one per request to that name; the last one repeats. What was asked is appended to
DIR/NAME.log, one JSON object with the request's headers (lower-case names; a body as "(body)") per
line, before the answer is sent. A step's fields, all optional:

  size, seed     the file: `size` bytes made from `seed` (see content())
  etag, last_modified, date, headers   response headers; headers is an object of any others
  status         instead of 200 / 206
  reason_length  length of an error's body
  range          "honour" (default: with If-Range), "ignore" (200), "blind" (206 without looking at
                 If-Range), "wrong_start", "wrong_total", "no_content_range", "short", "pieces"
                 (at most piece_length bytes at once, of a total that is not said: "a-b/*")
  piece_length   of "pieces"
  cut            close after so many body bytes of this answer
  stall          stop sending after so many body bytes, keep the connection open
  until_close    neither length nor chunks: closing the connection is the end
  chunked        no Content-Length; a cut leaves out the last chunk
  extra          so many bytes past the announced end (chunked: a longer body)
  endless        a chunked body without an end
  close_at_once  close before any answer
  silent         no answer at all, keep the connection open
  not_satisfiable  always 416 for a Range
"""
import hashlib
import json
import os
import socket
import sys
import threading

BLOCK = 32


def content(seed, size):
    """The same bytes as content() in fetch_fixture.hpp: SHA-256 of 'SEED:N' for N = 0, 1, ..."""
    blocks = (size + BLOCK - 1) // BLOCK
    return b"".join(hashlib.sha256(f"{seed}:{n}".encode()).digest() for n in range(blocks))[:size]


class Server:
    def __init__(self, directory):
        self.directory = directory
        self.lock = threading.Lock()
        self.counts = {}

    def step_for(self, name, headers):
        with open(os.path.join(self.directory, name + ".json"), encoding="utf-8") as file:
            steps = json.load(file)
        with self.lock:
            number = self.counts.get(name, 0)
            self.counts[name] = number + 1
            with open(os.path.join(self.directory, name + ".log"), "a", encoding="utf-8") as log:
                log.write(json.dumps(headers) + "\n")
        return steps[min(number, len(steps) - 1)]

    def serve(self, connection):
        with connection, connection.makefile("rb") as reader:
            try:
                while self.answer(connection, reader):
                    pass
            except (ConnectionError, OSError):
                pass  # the client has gone

    def answer(self, connection, reader):
        """True: the connection can be used again."""
        request = reader.readline().decode().split()
        if len(request) < 2:
            return False
        headers = {}
        while line := reader.readline().decode().strip():
            key, _, value = line.partition(":")
            headers[key.strip().lower()] = value.strip()
        if body := reader.read(int(headers.get("content-length", 0))):
            headers["(body)"] = body.decode()
        # the last segment: a client that takes us for its proxy sends a whole URL
        step = self.step_for(request[1].split("?")[0].rsplit("/", 1)[-1], headers)
        if step.get("close_at_once"):
            return False
        if step.get("silent"):
            connection.recv(1)  # until the client gives up
            return False
        return self.send(connection, step, headers)

    def send(self, connection, step, headers):
        if "status" in step:
            body, status, fields = b"x" * step.get("reason_length", 0), step["status"], {}
        else:
            body, status, fields = select(step, headers)
        fields.update(step.get("headers", {}))
        for key in ("etag", "last_modified", "date"):
            if key in step:
                fields[key.replace("_", "-").title()] = step[key]
        chunked = step.get("chunked") or step.get("endless")
        if chunked:
            fields["Transfer-Encoding"] = "chunked"
        elif not step.get("until_close"):
            fields.setdefault("Content-Length", str(len(body)))
        lines = [f"HTTP/1.1 {status} Faulty"] + [f"{k}: {v}" for k, v in fields.items()]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return self.send_body(connection, step, body + b"+" * step.get("extra", 0), chunked)

    def send_body(self, connection, step, body, chunked):
        whole = body
        for limit in ("cut", "stall"):
            if limit in step:
                body = body[: step[limit]]
        if not chunked:
            connection.sendall(body)
        while chunked:
            for start in range(0, len(body), 4096):
                piece = body[start : start + 4096]
                connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            if not step.get("endless"):
                break
        if "stall" in step:
            connection.recv(1)  # until the client gives up
            return False
        if "cut" in step and len(body) < len(whole) or step.get("extra") or step.get("until_close"):
            return False
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        return True


def select(step, headers):
    """Body, status and range fields for a request of the step's file."""
    file = content(step.get("seed", "a"), step.get("size", 0))
    mode = step.get("range", "honour")
    known = {step.get("etag"), step.get("last_modified")} - {None}
    if "if-none-match" in headers and mode != "ignore" and headers["if-none-match"] in known:
        return b"", 304, {}
    wanted = headers.get("range", "")
    if not wanted.startswith("bytes=") or mode == "ignore":
        return file, 200, {}
    if mode != "blind" and headers.get("if-range") not in known:
        return file, 200, {}
    start = int(wanted[len("bytes=") :].split("-")[0])
    if start >= len(file) or step.get("not_satisfiable"):
        return b"", 416, {"Content-Range": f"bytes */{len(file)}"}
    if mode == "no_content_range":
        return file[start:], 206, {}
    if mode == "pieces":
        body = file[start : start + step["piece_length"]]
        return body, 206, {"Content-Range": f"bytes {start}-{start + len(body) - 1}/*"}
    shift = 1 if mode == "wrong_start" else 0
    total = len(file) + (7 if mode == "wrong_total" else 0)
    end = (start + len(file)) // 2 if mode == "short" else len(file) - 1
    body = file[start - shift : end + 1 - shift]
    return body, 206, {"Content-Range": f"bytes {start - shift}-{end - shift}/{total}"}


def main():
    server = Server(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=server.serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
