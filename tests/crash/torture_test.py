"""SIGKILL at a random moment, again and again, on one node that lives through all of it.

The seed is printed; UPDAGENT_SEED repeats a run. The default is short; --long (UPDAGENT_LONG=1) is the torture.
"""

import os
import random
import subprocess
import sys
import unittest

import crash_test
import harness

ROUNDS = 400 if os.environ.get("UPDAGENT_LONG") == "1" else 15


class Torture(harness.Case):
    def test_random_kills_never_leave_half_a_deployment(self):
        harness.become_subreaper()
        seed = int(os.environ.get("UPDAGENT_SEED", random.randrange(1 << 30)))
        print(f"seed {seed}, {ROUNDS} rounds")
        chance = random.Random(seed)
        files = {"bin/note": crash_test.NOTE, "big": random.Random(1).randbytes(4_000_000)}
        good = [self.workshop.pack(f"1.{n}.0", crash_test.HOOKS, files | {f"file{n}": b"x" * n}) for n in range(6)]
        bad = self.workshop.pack("9.0.0", crash_test.HOOKS.replace("bin/true", "bin/false"), files)
        node = self.node()
        self.assert_exit(node.apply(good[0], env=crash_test.ENV), 0)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("UPDAGENT_")} | crash_test.ENV
        killed = 0
        for number in range(ROUNDS):
            action = chance.choice([["apply", chance.choice(good), "--retry", "--allow-downgrade"], ["apply", bad, "--retry"],
                                    ["rollback", "demo"]])
            running = subprocess.Popen([harness.BINARY, "--root", node.root, "--quiet", *action], env=clean,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                running.wait(timeout=chance.uniform(0.01, 1.2))
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
                killed += 1
            harness.reap_all()  # the guardian has done its work, nobody typed anything
            with self.subTest(round=number, seed=seed, action=action):
                if node.current() != node.committed():
                    self.assert_exit(node.run("recover", env=crash_test.ENV), 0)
                self.assert_intact(node)
                self.assertEqual(node.current(), node.committed())
                self.assertIsNotNone(node.current())
        print(f"{killed} of {ROUNDS} were killed")
        self.assert_exit(node.run("recover", env=crash_test.ENV), 0)
        self.assert_settled(node)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
