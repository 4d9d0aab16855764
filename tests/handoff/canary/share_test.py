"""The share of real connections in each step, by chance and by client."""

import collections
import http.client
import json
import sys
import unittest

import binomial
import canary
import harness
import scene

STEPS = (1, 10, 50, 100)
PLACES = [f"deploy.step.{percent}" for percent in STEPS]
CLIENTS = 300  # addresses of 127.0.0.0/8; enough that a tenth of them is no accident
ENOUGH = 1_000  # fresh connections in each step


class Share(canary.Case):
    def walk(self, artifact, in_step):
        """Deploys it and calls in_step(percent) while each share holds."""
        driver = self.apply(artifact, failpoints=";".join(f"{place}=stop" for place in PLACES))
        for percent in STEPS:
            canary.scene.wait_stopped(driver.pid)
            self.pause_here(driver)
            in_step(percent)
            self.deployment("resume")
        return driver.end()


class ByConnection(Share):
    users = {"fresh": {"connections": 100, "rate": 500, "timeout_ms": 20_000, "sources": "127.0.0.2-127.0.0.9"}}

    def test_each_step_gives_its_share_of_new_connections(self):
        def measure(percent):
            begin = self.load_.mark("begin")
            self.load_.wait_for_answers(ENOUGH)
            seen = self.load_.segment(begin, self.load_.mark("end"))
            self.assertEqual(seen.failed, 0)
            binomial.assert_share(self, seen.generations[self.newest], seen.generations.total(), percent / 100,
                                  f"answers of the candidate at {percent} %")
        artifact = self.release(rollout={"steps": STEPS, "step_duration": "200ms"})
        done = self.walk(artifact, measure)
        self.assert_committed(done, self.newest)
        for percent, connections, every in self.steps_of(done):
            binomial.assert_share(self, connections, every, percent / 100, f"counted by the kernel at {percent} %")

    def test_what_is_shown_is_what_was_measured(self):
        artifact = self.release(rollout={"steps": [50, 100], "step_duration": "1s"})
        driver = self.apply(artifact)
        done = driver.end()
        (shown,) = [one for one in driver.progress() if one["progress"] == "step" and one["ended"] and one["percent"] == 50]
        percent, connections, every = self.steps_of(done)[0]
        self.assertEqual((shown["connections"], percent), (connections, 50))
        self.assertAlmostEqual(shown["measured_percent"], 100 * connections / every, places=3)

    def test_a_step_waits_for_as_many_connections_as_it_needs_to_prove_something(self):
        artifact = self.release(rollout={"steps": [10, 100], "step_duration": "100ms", "min_connections": 100})
        done = self.apply(artifact).end()
        self.assert_committed(done, self.newest)
        self.assertGreaterEqual(self.steps_of(done)[0][1], 100)


class Quiet(canary.Case):
    """Connections that are kept stay where they are: nothing new comes."""

    users = {"fresh": {"connections": 4, "rate": 100, "keepalive": 1, "timeout_ms": 20_000}}
    options = ("--idle-grace", "2000")

    def test_a_step_in_which_nobody_came_says_so(self):
        artifact = self.release(rollout={"steps": [50, 100], "step_duration": "500ms"})
        done = self.apply(artifact).end()
        self.assert_exit(done, 0)
        self.assertIn("the step of 50 % proves nothing", done.err)
        self.assertIn("keeps its connections", done.err)
        proves = {event["detail"]["percent"]: event["detail"]["proves"] for event in self.events_of(done)
                  if event["event"] == "rollout.step"}
        self.assertEqual(proves[50], False)
        self.assertIn(50, done.json["unproven_steps"])
        self.assert_settled_as(self.newest)  # with all connections
        told = self.node_.run("apply", self.release(rollout={"steps": [50, 100], "step_duration": "500ms"}), env=scene.ENV)
        self.assertRegex(told.out.splitlines()[-1], rf"^  the steps of 50.* % prove nothing: no new connection was {self.newest}'s$")

    def test_it_does_not_pass_for_proof_where_some_are_wanted(self):
        artifact = self.release(rollout={"steps": [50, 100], "step_duration": "100ms", "min_connections": 10,
                                         "step_patience": "1s"})
        done = self.apply(artifact).end()
        self.assert_undone(done, step=50, code="gate_failed")
        self.assertIn("too few connections", done.json["error"]["message"])


class ByClient(Share):
    users = {"fresh": {"connections": 50, "rate": 200, "timeout_ms": 20_000, "sources": "127.0.0.2"}}
    rollout = {"steps": STEPS, "step_duration": "200ms", "affinity": "client"}

    def version_for(self, source):
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=harness.COMMAND_LIMIT_S, source_address=(source, 0))
        try:
            client.request("GET", "/", headers={"Connection": "close"})
            return json.loads(client.getresponse().read())["version"]
        finally:
            client.close()

    def test_clients_move_once_and_each_step_has_its_share_of_them(self):
        addresses = [f"127.1.{n // 200}.{n % 200 + 1}" for n in range(CLIENTS)]
        moved = collections.defaultdict(set)

        def measure(percent):
            for _ in range(2):  # the same address goes the same way
                seen = {address for address in addresses if self.version_for(address) == self.newest}
                self.assertIn(moved[percent], (set(), seen), f"clients that changed sides at {percent} %")
                moved[percent] = seen
            binomial.assert_share(self, len(seen), CLIENTS, percent / 100, f"clients of the candidate at {percent} %")
            begin = self.load_.mark("begin")
            self.load_.wait_for_answers(100)
            behind_one = self.load_.segment(begin, self.load_.mark("end"))
            self.assertEqual(len(behind_one.generations), 1, "connections from one address that went both ways")

        self.assert_committed(self.walk(self.release(rollout=self.rollout), measure), self.newest)
        for less, more in zip(STEPS, STEPS[1:]):
            self.assertLessEqual(moved[less], moved[more], f"clients that left the candidate from {less} to {more} %")

    def test_few_addresses_with_most_of_the_connections_are_warned_of(self):
        artifact = self.release(rollout=self.rollout | {"steps": [50, 100], "step_duration": "2s"})
        done = self.apply(artifact).end()
        self.assert_exit(done, 0)
        self.assertIn("ten addresses carry 100 % of the connections", done.err)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
