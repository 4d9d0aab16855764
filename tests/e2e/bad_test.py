"""Every artifact of fixtures/releases/bad is refused as its list.json says, and leaves no trace.

What the list's fields mean stands in the list; fixtures/releases/make_bad.py writes it.
"""

import hashlib
import itertools
import json
import os
import re
import stat
import subprocess
import sys
import unittest

import harness

BAD = harness.SOURCE / "fixtures/releases/bad"
KEYS = harness.SOURCE / "fixtures/keys"
LIST = json.loads((BAD / "list.json").read_text())
# what a refused deployment may leave: the log, its reserve, locks, and the folder of all apps
LOG = re.compile(r"updagent\.db(-wal|-shm)?|audit\.head(\.lock)?|journal\.reserve|run(/.*)?|apps")
# refusals that no file alone can bring about: they need a history, and have tests of their own
NEED_A_HISTORY = {"failed_before", "rollback_floor"}


def shard(items):
    """ctest runs this file several times side by side, each with its share of the list."""
    index, count = (int(n) for n in os.environ.get("UPDAGENT_SHARD", "0/1").split("/"))
    return [item for number, item in enumerate(items) if number % count == index]


def listing(root):
    """All that is below `root` but the log: {path: (type, mode, size, digest, link target)}."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if LOG.fullmatch(name):
            continue
        about = path.lstat()
        is_file, is_link = stat.S_ISREG(about.st_mode), stat.S_ISLNK(about.st_mode)
        found[name] = (oct(about.st_mode), about.st_size if is_file else 0,
                       hashlib.sha256(path.read_bytes()).hexdigest() if is_file else "",
                       os.readlink(path) if is_link else "")
    return found


def variants(case):
    """(name, bytes) of each file that the case stands for."""
    content = (BAD / case["file"]).read_bytes()
    how = case.get("rule", {})
    if "truncate" in how:
        for part in range(1, how["truncate"]):
            yield f"{part}/{how['truncate']}", content[:len(content) * part // how["truncate"]]
    elif "flip" in how:
        first, last, count = (how["flip"][key] for key in ("from", "to", "count"))
        for number in range(count):
            at = first + number * (last - first) // count
            bit = number % 8
            flipped = content[at] ^ (1 << bit)
            yield f"byte {at} bit {bit}", content[:at] + bytes([flipped]) + content[at + 1:]
    else:
        yield "as it is", content


class Bad(harness.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.nodes = {}
        cls.file = cls.workshop.path / "offered"

    def node_of(self, kind):
        if kind not in self.nodes:
            self.nodes[kind] = self.make_node(LIST["nodes"][kind])
            self.nodes[kind].before = listing(self.nodes[kind].root)
        return self.nodes[kind]

    def make_node(self, about):
        node = self.node(trust=False)
        for key in about["trust"]:
            self.assert_exit(node.run("trust", "add", KEYS / f"{key}.pub"), 0)
        if "config" in about:
            node.configure(about["config"])
        if "apply" in about:
            self.assert_exit(node.apply(BAD / about["apply"]), 0)
        return node

    def offer(self, content):
        self.file.write_bytes(content)
        return self.file

    def assert_unchanged(self, kind):
        node = self.nodes[kind]
        after = listing(node.root)
        if after != node.before:
            del self.nodes[kind]  # the next case gets a clean one
        self.assertEqual(after, node.before, "something changed on disk")

    def assert_refused(self, case, done):
        self.assert_exit(done, case["exit"])
        document = done.json
        error = document["error"]
        self.assertIn(error["code"], case["codes"], str(done))
        self.assertEqual(document["outcome"], "refused", str(done))
        self.assertEqual(document["reason"], error["code"], str(done))
        for field in ("expected", "got"):
            self.assertTrue(error[field], f"nothing in '{field}': {done}")
            self.assertIn(case.get(field, ""), error[field], str(done))
        return error

    def assert_one_clear_line(self, error, done):
        """What a person reads: the same refusal on one line, and what to do on another."""
        lines = done.err.split("\n")
        self.assertEqual(lines.pop(), "", str(done))
        self.assertEqual(lines[0], f"updagent: {error['message']}", str(done))
        self.assertIn(len(lines), (1, 2), str(done))
        for hint in lines[1:]:
            self.assertTrue(hint.startswith("  -> "), str(done))
        self.assertFalse(any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in "".join(lines)), str(done))

    def check(self, case, kind, content, for_people):
        node = self.node_of(kind)
        words = ["apply", self.offer(content), *case.get("args", [])]
        done = node.run("--json", *words)
        if done.code == 0:
            del self.nodes[kind]  # it has changed: the next case gets a clean one
        error = self.assert_refused(case, done)
        self.assert_unchanged(kind)
        if not for_people:
            return
        done = self.assert_exit(node.run("--quiet", *words), case["exit"])
        self.assert_one_clear_line(error, done)
        self.assert_unchanged(kind)

    def test_each_is_refused_with_its_code_and_changes_nothing(self):
        for case in shard(LIST["cases"]):
            for kind in case["nodes"]:
                for number, (name, content) in enumerate(variants(case)):
                    with self.subTest(case["name"], node=kind, variant=name):
                        # one line for people per case: its variants differ in their bytes alone
                        self.check(case, kind, content, for_people=number == 0)

    def test_what_is_right_is_taken(self):
        for good in shard(LIST["accepted"]):
            for kind, (name, content) in itertools.product(good["nodes"], variants(good)):
                with self.subTest(good["file"], node=kind, variant=name):
                    node = self.node_of(kind)
                    done = self.assert_exit(node.run("--json", "verify", self.offer(content)), 0)
                    self.assertEqual(done.json["version"], "2.0.0")
                    done = self.assert_exit(node.apply(self.file, "--dry-run"), 0)
                    self.assertEqual(done.json["to"], "2.0.0")
                    self.assert_unchanged(kind)


class List(unittest.TestCase):
    def test_list_and_folder_agree(self):
        named = [row["file"] for row in LIST["cases"] + LIST["accepted"]]
        named += [about["apply"] for about in LIST["nodes"].values() if "apply" in about]
        self.assertEqual(sorted(set(named)), sorted(p.name for p in BAD.iterdir() if p.name != "list.json"))
        names = [row["name"] for row in LIST["cases"]]
        self.assertEqual(len(names), len(set(names)))

    def test_every_refusal_has_a_case(self):
        table = (harness.SOURCE / "docs/exit-codes.md").read_text()
        refusals = set(re.findall(r"^\| `(\w+)` \| 3 \|", table, re.MULTILINE))
        self.assertGreater(len(refusals), 30)
        single = {row["codes"][0] for row in LIST["cases"] if len(row["codes"]) == 1}
        self.assertEqual(refusals - NEED_A_HISTORY, single)

    def test_make_bad_writes_what_is_checked_in(self):
        done = subprocess.run([sys.executable, BAD.parent / "make_bad.py", "--check"],
                              capture_output=True, text=True, timeout=harness.COMMAND_LIMIT_S)
        self.assertEqual((done.returncode, done.stdout), (0, "as generated\n"), done.stderr)


if __name__ == "__main__":
    unittest.main()
