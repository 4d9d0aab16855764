"""Candidates that misbehave by accident: each works, or is refused in words; none harms the one that serves."""

import dataclasses
import os
import sys
import unittest

import harness
import scene
from supervisor import wait_for


@dataclasses.dataclass(frozen=True)
class Candidate:
    what: str
    options: tuple
    code: int
    words: str = ""  # in the error
    keys: tuple = ()  # of [service]
    probe: str = None
    watch: str = "0s"


def tcp_probe(port):
    return f'[[probe]]\nname = "port"\ntype = "tcp"\naddress = "127.0.0.1:{port}"\ninterval = "50ms"\ntimeout = "500ms"\nfailures = 2'


TCP = "tcp"
NO_PROBE = ""
CANDIDATES = (
    Candidate("never accepts, asked by http", ("--hang", "accept"), 1, "healthz"),
    Candidate("never accepts, asked by tcp: our socket listens, but nobody does", ("--hang", "accept"), 1, "port", probe=TCP),
    Candidate("never accepts, and that is what ready means", ("--hang", "accept"), 1, "was not ready in time",
              keys=(("ready", "listening"), ("ready_timeout", "1s")), probe=NO_PROBE),
    Candidate("accepts, and that is what ready means", ("--never-ready", "1"), 0, keys=(("ready", "listening"),)),
    Candidate("forks twice and goes on as a grandchild", ("--daemonize", "1"), 1, "ended though nobody asked it to"),
    Candidate("has a child that holds its listeners", ("--fork", "hold"), 0),
    Candidate("has an orphan that holds its listeners", ("--fork", "orphan"), 0),
    Candidate("closes its listener", ("--close-listener", "all"), 1, "healthz"),
    Candidate("shuts its listener down", ("--shutdown-listener", "all"), 1, "healthz"),
    Candidate("shuts its listener down, and nobody probes it", ("--shutdown-listener", "all"), 1, "does not listen any more",
              probe=NO_PROBE),
    Candidate("listens again with another backlog", ("--listen-again", "64"), 0),
    Candidate("dies when it is stopped from being ready", ("--ready-after", "60000"), 1, "was not ready in time",
              keys=(("ready_timeout", "1s"),)),
    Candidate("needs longer to get ready than its watchdog waits later", ("--ready-after", "2000"), 0, keys=(("watchdog", "1s"),)),
    Candidate("asks for more time than the node gives", ("--never-ready", "1", "--notify", "EXTEND_TIMEOUT_USEC=3600000000"), 1,
              "in the time that it asked for", keys=(("ready_timeout", "1s"),)),
    Candidate("gives no sign of life to its watchdog", ("--no-watchdog", "1"), 4, "no sign of life", keys=(("watchdog", "1s"),),
              watch="20s"),
)


class Candidates(scene.Case):
    probe_timeout = "500ms"
    stop_timeout = "2s"  # so long a child that holds the listeners is waited for
    flows = {"fresh": {"connections": 8, "rate": 200, "timeout_ms": 20_000},
             "kept": {"connections": 4, "rate": 50, "keepalive": 1, "timeout_ms": 20_000}}

    @classmethod
    def prepare(cls):
        cls.node_.configure('[limits]\nmax_ready_timeout = "3s"\n', app="demo")

    def test_each_works_or_is_refused_in_words(self):
        for number, candidate in enumerate(CANDIDATES):
            with self.subTest(candidate.what):
                self.play(f"3.0.{number}", candidate)

    def play(self, version, candidate):
        before = self.node_.committed()
        probe = tcp_probe(self.port) if candidate.probe == TCP else candidate.probe
        artifact = self.pack(version, *candidate.options, probe=probe, watch=candidate.watch, **dict(candidate.keys))
        done = self.assert_exit(self.apply(artifact).end(), candidate.code)
        if candidate.words:
            self.assertIn(candidate.words, done.json["error"]["message"])
        self.assert_settled_as(version if candidate.code == 0 else before)

    def test_one_that_serves_and_gives_no_sign_of_life_any_more_is_started_again(self):
        artifact = self.pack("4.0.0", watchdog="1s")
        self.assert_exit(self.apply(artifact).end(), 0)
        self.assert_settled_as("4.0.0")
        (before,) = self.generations()
        self.get("/switch?no-watchdog=1", "POST")
        wait_for(lambda: (one := self.settled()) and one["pid"] != before["pid"], "another process of the same generation")
        # it was killed with users
        self.assert_settled_as("4.0.0", scene.IN_FLIGHT)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
