"""The last part of fixtures/demo.sh: what it tells people is what happens."""

import os
import pathlib
import re
import subprocess
import sys
import unittest

import binomial
import harness
import scene

SOURCE = pathlib.Path(os.environ["UPDAGENT_SOURCE_DIR"])


class Rollout(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        done = subprocess.run(["bash", SOURCE / "fixtures/demo.sh", "rollout"], stdin=subprocess.DEVNULL, text=True,
                              env=os.environ | scene.ENV, timeout=harness.COMMAND_LIMIT_S, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        cls.code, cls.text = done.returncode, done.stdout

    def setUp(self):
        self.assertEqual(self.code, 0, self.text)

    def users(self, flow):
        """(answered well, [(count, class of failure)], {version: answers}), as they are told."""
        well, rest, versions = re.search(rf"^  {flow} +(\d+) answered well, (.*?)   \((.*)\)$", self.text, re.M).groups()
        failed = [(int(count), kind) for count, kind in re.findall(r"(\d+) ([a-z ]+)", rest) if kind != "failed"]
        return int(well), failed, {version: int(count) for count, version in re.findall(r"(\d+) by ([\d.]+)", versions)}

    def timeline(self, version):
        return re.search(rf"^shop \S+ -> {version} +trace \w+\nbegan .*?\n\n", self.text, re.M | re.S).group()

    def test_the_good_one_is_committed_and_the_bad_one_undone(self):
        ends = re.findall(r"apply shop-([\d.]+)\.tar\.gz$.*?^\(exit status (\d)\)$", self.text, re.M | re.S)
        self.assertEqual(ends, [("1.0.0", "0"), ("2.0.0", "0"), ("3.0.0", "4")])

    def test_users_see_errors_of_the_bad_one_alone_and_no_more_than_its_share(self):
        well, failed, versions = self.users("fresh")
        ((wrong, kind),) = failed
        self.assertEqual((kind, set(versions)), ("wrong status", {"1.0.0", "2.0.0", "3.0.0"}))
        # its answers are those errors, and not one was of the next step's share
        self.assertEqual(wrong, versions["3.0.0"])
        self.assertIn("rolled_back", self.timeline("3.0.0"))
        self.assertNotRegex(self.timeline("3.0.0"), r"rollout\.step")
        self.assertEqual(self.users("kept")[1], [])

    def test_the_timelines_tell_why(self):
        steps = re.findall(r"rollout\.step +(\d+) %: (\d+) of (\d+) new connections$", self.timeline("2.0.0"), re.M)
        self.assertEqual([int(percent) for percent, _, _ in steps], [1, 10, 50, 100])
        for percent, connections, every in steps:
            binomial.assert_share(self, int(connections), int(every), int(percent) / 100, f"connections at {percent} %")
        self.assertRegex(self.timeline("3.0.0"), r"gate\.failed +errors +error_ratio ")

    def test_it_says_how_long_it_took(self):
        self.assertRegex(self.text, r"(?m)^It took \d+ s\.")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
