"""--json prints exactly one document, whatever verb it is and however it ends."""

import json
import re
import tarfile
import unittest

import harness
from cli_case import Case


class Json(Case):
    """--json prints one document, whatever happens."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.exits = {}
        cls.installed = harness.Node(cls.workshop)
        assert cls.installed.apply(cls.good).code == 0
        cls.next = cls.workshop.pack("1.1.0")
        cls.plain = cls.workshop.path / "plain.tar.gz"
        with tarfile.open(cls.plain, "w:gz") as tar:
            tar.add(cls.workshop.public(), "x")

    def listed_exits(self, verb):
        if verb not in self.exits:
            self.exits[verb] = {int(n) for n in re.findall(r"(?m)^  (\d)  ", harness.run(verb, "--help").out)}
        return self.exits[verb]

    def check(self, node, words, code, lines=False):
        with self.subTest(" ".join(map(str, words))):
            done = self.assert_exit(node.run("--json", *words), code)
            if lines:
                for line in done.out.splitlines():
                    self.assertIsInstance(json.loads(line), dict)
            else:
                document = json.loads(done.out)  # exactly one: anything after it is refused
                self.assertEqual(document["api"], 1)
                if code != 0:
                    self.assertIn("error", document)
                    self.assertIsNotNone(document["error"]["code"])
            if words and words[0] in ("keygen", "pack", "sign", "inspect", "verify", "trust", "apply", "rollback", "recover",
                                      "hold", "remove", "status", "releases", "log", "doctor", "version", "help"):
                self.assertIn(code, self.listed_exits(words[0]))
            return done

    def test_what_goes_well(self):
        node = self.installed.clone("json-well")
        out = self.workshop.path
        for words in (["keygen", "--out", out / "k", "--name", "j"], ["pack", harness.SOURCE / "schema", "--app", "s", "--version", "1.0.0",
                                                                     "--key", self.workshop.key, "-o", out / "s.tar.gz"],
                      ["sign", self.good, "--key", self.workshop.key, "-o", out / "signed.tar.gz"], ["inspect", self.good],
                      ["inspect", "--files", self.good], ["verify", self.good], ["verify", "--installed", "demo"],
                      ["trust", "add", out / "k/j.pub"], ["trust", "list"], ["trust", "remove", "j"],
                      ["apply", self.next, "--dry-run"], ["apply", self.next], ["apply", self.next], ["rollback", "demo"],
                      ["recover"], ["recover", "demo"], ["hold", "demo"], ["hold", "demo", "--off"], ["status"], ["status", "demo"],
                      ["releases", "demo"], ["log", "verify"], ["log", "show", node.events()[0]["trace_id"]],
                      ["log", "prune", "--before", "1h"], ["doctor"], ["version"], ["help"], ["help", "log"], ["help", "--man"],
                      ["apply", "--help"], ["--help"], ["--version"], ["remove", "demo", "--version", "1.1.0"],
                      ["remove", "demo", "--data"], ["recover", "--rebuild"]):
            self.check(node, words, 0)
        for words in (["log"], ["log", "export"], ["log", "--app", "nosuch"]):
            self.check(node, words, 0, lines=True)

    def test_what_fails(self):
        node = self.installed.clone("json-fails")
        nothing = self.node(trust=False)
        gone = f"http://127.0.0.1:{harness.free_port()}/x.tar.gz"
        node.configure('[fetch]\ngive_up_after = "1s"\n')
        for words, code in (([], 2), (["nonsense"], 2), (["apply"], 2), (["status", "--nonsense"], 2),
                            (["keygen", "--name", "a/b"], 2), (["keygen"], 2), (["pack", "/nonexistent", "--key", self.workshop.key, "-o", "x.tar.gz"], 2),
                            (["sign", self.good], 2), (["sign", self.plain, "--print-pae"], 3), (["inspect", "/nonexistent"], 2),
                            (["inspect", self.plain], 3), (["inspect", gone], 7), (["verify"], 2), (["verify", self.plain], 3),
                            (["verify", gone], 7), (["verify", "--installed", "nosuch"], 6), (["trust"], 2),
                            (["trust", "add", "/nonexistent"], 1), (["trust", "remove", "nosuch"], 6),
                            (["apply", "/nonexistent"], 2), (["apply", self.plain], 3), (["apply", gone], 7),
                            (["apply", self.hook_fails], 1), (["apply", self.bad], 4), (["apply", self.bad], 3),
                            (["rollback", "nosuch"], 6), (["rollback", "demo", "--to", "9.9.9"], 6), (["recover", "nosuch"], 6),
                            (["hold", "nosuch"], 6), (["remove", "nosuch"], 6), (["status", "nosuch"], 6), (["releases", "nosuch"], 6),
                            (["log", "--since", "nonsense"], 2), (["log", "show", "ffffffff"], 6), (["log", "verify", "--head", "x"], 2),
                            (["log", "prune", "--before", "x"], 2), (["help", "nonsense"], 2)):
            self.check(node, words, code)
        self.check(nothing, ["log"], 6)
        self.check(nothing, ["log", "verify"], 6)
        node.configure("nonsense = 1\n")
        for words in (["status"], ["apply", self.good]):
            self.check(node, words, 2)

    def test_doctor_that_finds_something_broken(self):
        node = self.node()
        node.configure("nonsense = 1\n")
        done = self.assert_exit(node.run("--json", "doctor"), 2)
        self.assertFalse(json.loads(done.out)["healthy"])


if __name__ == "__main__":
    unittest.main()
