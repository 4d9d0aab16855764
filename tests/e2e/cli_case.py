"""What the tests of the command line share."""

import os
import time

import harness

PROBE = """
[[probe]]
name = "good"
type = "exec"
command = ["bin/{program}"]
interval = "50ms"
failures = 2
"""


def environment(**more):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("UPDAGENT_")}
    return {**clean, **more}


class Case(harness.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.good = cls.workshop.pack("1.0.0", PROBE.format(program="true"))
        cls.bad = cls.workshop.pack("2.0.0", PROBE.format(program="false"))
        cls.hook_fails = cls.workshop.pack("3.0.0", '[hooks]\npre_upgrade = { command = ["bin/false"], timeout = "5s" }\n')

    def wait_for(self, what, condition):
        deadline = time.monotonic() + harness.COMMAND_LIMIT_S
        while not condition():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.02)

    def ended(self, node, outcome):
        """The deployment of 2.0.0 is closed; asked of the log, as an operator would."""
        return any(e["event"] == "deployment.finished" and e["to_version"] == "2.0.0"
                   and e["detail"]["outcome"] == outcome for e in node.events("--app", "demo"))
