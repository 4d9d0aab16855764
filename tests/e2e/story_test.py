"""The end of the first issue on real input: the TypeScript compiler from npm, packed, signed, served by
nginx, applied by URL, probed by running it; a broken one undone by itself; the log explains all."""

import os
import subprocess
import sys
import unittest

import harness

SPEC = """app = "typescript"
[[probe]]
name = "compiles"
type = "exec"
command = ["node", "bin/tsc", "--noEmit", "--noLib", "lib/lib.es5.d.ts"]
interval = "200ms"
timeout = "60s"
failures = 2
[rollout]
watch = "1s"
"""


class Story(harness.Case):
    def test_three_releases_of_typescript(self):
        shop = self.workshop.path
        www = shop / "www"
        www.mkdir()
        (shop / "updagent.toml").write_text(SPEC)
        subprocess.run(["npm", "pack", "--silent", "typescript@5.4.5", "typescript@5.5.4"], cwd=shop,
                       check=True, stdout=subprocess.DEVNULL, timeout=600)
        (shop / "broken").mkdir()
        subprocess.run(["tar", "xzf", shop / "typescript-5.5.4.tgz", "-C", shop / "broken"], check=True, timeout=600)
        compiler = shop / "broken/package/lib/tsc.js"
        os.truncate(compiler, compiler.stat().st_size // 2)
        for version, source in (("5.4.5", "typescript-5.4.5.tgz"), ("5.5.4", "typescript-5.5.4.tgz"),
                                ("5.5.5", "broken/package")):
            self.assert_exit(harness.run("pack", shop / source, "--spec", shop / "updagent.toml", "--version", version,
                                         "--key", self.workshop.key, "-o", www / f"ts-{version}.tar.gz"), 0)
        node = self.node()
        with harness.nginx(shop / "nginx", www) as url:
            first = self.assert_exit(node.apply(f"{url}/ts-5.4.5.tar.gz"), 0).json
            self.assertEqual((first["outcome"], first["from"], first["to"]), ("committed", None, "5.4.5"))
            self.assertEqual(first["bytes_downloaded"], (www / "ts-5.4.5.tar.gz").stat().st_size)
            second = self.assert_exit(node.apply(f"{url}/ts-5.5.4.tar.gz"), 0).json
            self.assertEqual((second["from"], second["to"]), ("5.4.5", "5.5.4"))
            self.assertGreater(second["bytes_reused"], 0)
            again = self.assert_exit(node.apply(f"{url}/ts-5.5.4.tar.gz"), 0).json
            self.assertEqual(again["outcome"], "unchanged")
            self.assertLess(again["bytes_downloaded"], 400_000)
            third = self.assert_exit(node.apply(f"{url}/ts-5.5.5.tar.gz"), 4).json
            self.assertEqual((third["outcome"], third["reason"]), ("rolled_back", "probe_failed"))
        self.assertEqual(node.current("typescript"), "5.5.4")
        self.assert_intact(node, "typescript")
        shown = self.assert_exit(node.run("log", "show", third["trace_id"]), 0).out
        for word in ("fetch", "verify", "stage", "switch", "watch", "rollback", "rolled_back", "compiles", "SyntaxError"):
            self.assertIn(word, shown)
        stages = [stage["stage"] for stage in second["stages"]]
        self.assertEqual(stages, ["fetch", "verify", "stage", "pre_upgrade", "switch", "watch", "commit", "cleanup"])
        traces = {event["trace_id"] for event in node.events("--app", "typescript")}
        self.assertLessEqual({first["trace_id"], second["trace_id"], third["trace_id"]}, traces)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
