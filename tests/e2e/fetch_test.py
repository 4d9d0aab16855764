"""Fetching through the command line: a killed download goes on where it was, refusals cost kilobytes."""

import http.server
import os
import random
import subprocess
import sys
import threading
import time
import unittest

import harness

MIB = 1 << 20


class Fetching(harness.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.www = cls.workshop.path / "www"
        cls.www.mkdir()
        noise = random.Random(7).randbytes(6 * MIB)
        for version in ("1.0.0", "2.0.0"):
            artifact = cls.workshop.pack(version, files={"noise": noise + version.encode()})
            os.rename(artifact, cls.www / artifact.name)

    def test_a_killed_download_is_resumed_by_the_next_command(self):
        node = self.node()
        with harness.nginx(self.workshop.path / "slow", self.www, "limit_rate 2m;") as url:
            source = f"{url}/demo-1.0.0.tar.gz"
            running = subprocess.Popen([harness.BINARY, "--root", node.root, "--quiet", "apply", source],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while sum(p.stat().st_size for p in node.root.glob("downloads/*.part")) < 2 * MIB:
                self.assertIsNone(running.poll(), "the download ended before it could be killed")
            running.kill()
            running.wait()
            aborted = []
            deadline = time.monotonic() + harness.COMMAND_LIMIT_S
            while not aborted:  # the guardian ends it by itself
                self.assertLess(time.monotonic(), deadline, "the guardian did nothing")
                aborted = [e for e in node.events("--app", "demo") if e["event"] == "deployment.finished"]
            self.assertEqual(aborted[-1]["detail"]["outcome"], "aborted")
            self.assertEqual(aborted[-1]["actor"], "guardian")
            done = self.assert_exit(node.apply(source), 0).json
        whole = (self.www / "demo-1.0.0.tar.gz").stat().st_size
        self.assertLess(done["bytes_downloaded"], whole - MIB)
        self.assertEqual(list(node.root.glob("downloads/*.part")), [])
        self.assert_intact(node)

    def test_unchanged_and_refused_cost_only_the_head(self):
        node = self.node()
        with harness.nginx(self.workshop.path / "fast", self.www) as url:
            self.assert_exit(node.apply(f"{url}/demo-2.0.0.tar.gz"), 0)
            for version, code in (("2.0.0", 0), ("1.0.0", 3)):
                done = self.assert_exit(node.apply(f"{url}/demo-{version}.tar.gz"), code).json
                self.assertLess(done["bytes_downloaded"], MIB)
        self.assertEqual(list(node.root.glob("downloads/*.part")), [])

    def test_what_can_not_be_fetched_is_exit_7(self):
        node = self.node()
        node.configure('[fetch]\ngive_up_after = "1s"\n')
        with harness.nginx(self.workshop.path / "missing", self.www) as url:
            gone = self.assert_exit(node.apply(f"{url}/nothing.tar.gz"), 7).json["error"]
        self.assertEqual(gone["code"], "fetch_failed")
        self.assertIn("404", gone["message"])
        dead = self.assert_exit(node.apply(f"http://127.0.0.1:{harness.free_port()}/x.tar.gz"), 7).json["error"]
        self.assertEqual(dead["code"], "fetch_failed")

    def test_a_download_of_unknown_length_that_is_cut_is_kept_and_gone_on_with(self):
        """No length, no chunks: closing the connection is the end, and a cut looks the same."""
        whole = (self.www / "demo-1.0.0.tar.gz").read_bytes()
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):  # HTTP/1.0: it closes after each answer
            def do_GET(self):
                asked.append(self.headers.get("Range", ""))
                begin = int(asked[-1].removeprefix("bytes=").removesuffix("-") or 0)
                self.send_response(206 if begin else 200)
                self.send_header("ETag", '"one"')
                if begin:
                    self.send_header("Content-Range", f"bytes {begin}-{len(whole) - 1}/{len(whole)}")
                self.end_headers()
                self.wfile.write(whole[begin:] if begin else whole[: len(whole) // 2])

            def log_message(self, *_):
                pass

        node = self.node()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            source = f"http://127.0.0.1:{server.server_port}/x.tar.gz"
            cut = self.assert_exit(node.apply(source), 7).json
            self.assertEqual((cut["outcome"], cut["error"]["code"]), ("aborted", "fetch_failed"))
            done = self.assert_exit(node.apply(source), 0).json
        finally:
            server.shutdown()
            server.server_close()
        self.assertEqual(asked, ["", f"bytes={len(whole) // 2}-"])
        self.assertEqual(done["bytes_downloaded"], len(whole) - len(whole) // 2)
        self.assertEqual(list(node.root.glob("downloads/*.part")), [])
        self.assert_intact(node)

    def test_a_file_url_needs_no_network(self):
        node = self.node()
        self.assert_exit(node.apply(f"file://{self.www}/demo-1.0.0.tar.gz"), 0)
        self.assertEqual(node.current(), "1.0.0")


class Installing(harness.Case):
    def test_cmake_installs_the_binary_its_supervisor_and_the_boot_unit(self):
        build = os.path.dirname(harness.BINARY)
        target = self.workshop.path / "installed"
        subprocess.run(["cmake", "--install", build, "--prefix", target], check=True, stdout=subprocess.DEVNULL)
        files = sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file())
        self.assertEqual(files, ["bin/updagent", "lib/systemd/system/updagent-recover.service", "lib/systemd/system/updagent@.service",
                                 "libexec/updagent/updagent-supervisor"])
        linked = subprocess.run(["ldd", target / "bin/updagent"], check=True, capture_output=True, text=True).stdout
        for library in ("libcurl", "libcrypto", "libarchive", "libsqlite3", "libzstd"):
            self.assertIn(library, linked)
        unit = (target / "lib/systemd/system/updagent-recover.service").read_text()
        self.assertIn("recover --as boot", unit)
        done = subprocess.run(["systemd-analyze", "verify", target / "lib/systemd/system/updagent-recover.service"],
                              capture_output=True, text=True) if os.path.exists("/usr/bin/systemd-analyze") else None
        if done is not None:
            self.assertNotIn("Unknown", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
