"""What a supervisor leaves to the next one, and what happens where something of it is lost."""

import json
import pathlib
import socket
import unittest

import census
import scene
import supervisor
from supervisor_test import BINARY, Case

SERVER = pathlib.Path(__file__).parents[1] / "support/witness_server.py"


class Witnessed(Case):
    def setUp(self):
        super().setUp()
        self.log = self.root / "log"

    def tearDown(self):
        (self.root / "log.go").touch()
        self.doCleanups()  # a supervisor with a driver is not to be stopped
        supervisor.wait_for(lambda: not (self.supervisor.status()["deployment"] or {}).get("driven"), "the driver's end")
        super().tearDown()

    def witness(self, version, *words, **changes):
        return self.service(version, command=["/usr/bin/python3", str(SERVER), str(self.log), *words], **changes)

    def seen(self, what):
        """How often."""
        return self.log.read_text().splitlines().count(what) if self.log.exists() else 0

    def wait_seen(self, what):
        supervisor.wait_for(lambda: self.seen(what), f"'{what}' of the service")

    def connection(self, path="/"):
        """With a request in it."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=supervisor.WAIT_S)
        self.addCleanup(client.close)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return client

    def answer(self, client):
        """The version that answered."""
        return b"".join(iter(lambda: client.recv(65_536), b"")).decode().rpartition("\r\n")[2]

    def answer_at(self, path):
        """The same of a unix path."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(supervisor.WAIT_S)
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            return self.answer(client)

    def one_under_way(self, version):
        client = self.connection("/slow")
        self.wait_seen(f"{version} asked")
        return client

    def kill(self, *kinds):
        """The supervisor and whoever else."""
        pids = [pid for kind in kinds for pid in scene.processes_of(self.root)[kind]]
        self.supervisor.kill()
        scene.end(pids)

    def state(self, change):
        """What the next supervisor will read, as `change` makes it."""
        file = self.root / "run/.demo/state"
        state = json.loads(file.read_text())
        change(state)
        file.write_text(json.dumps(state))

    def events(self, name):
        return [event["detail"] for event in (json.loads(file.read_text().splitlines()[1])["event"]
                                              for file in sorted((self.root / "spool").glob("*.jsonl"))) if event["event"] == name]


class Stops(Witnessed):
    """Many a server takes a second stop signal for "now"."""

    def assert_told_once(self, client, after=lambda: None):
        self.wait_seen("1 TERM")
        self.kill()
        self.supervisor.start()
        after()
        self.assertEqual(self.generations()[1]["state"], "stopping")
        (self.root / "log.go").touch()
        self.assertEqual(self.answer(client), "1")
        supervisor.wait_for(lambda: 1 not in self.generations(), "the old one's end")
        self.assertEqual(self.seen("1 TERM"), 1)

    def test_the_one_that_a_restart_replaces_is_told_once(self):
        self.handoff(self.witness("1"))
        client = self.one_under_way("1")
        control = self.begin()
        control.ask("start", service=self.witness("2", strategy="restart"), epoch=control.epoch)
        self.assert_told_once(client)
        control = self.begin()
        supervisor.wait_for(lambda: self.generations()[2]["state"] == "ready", "the new one")
        control.ask("commit", epoch=control.epoch)
        control.ask("end", epoch=control.epoch)

    def test_the_one_that_shares_its_socket_is_told_once(self):
        shared = {"name": "side", "address": f"unix:@{self.root.name}", "backlog": 16}
        listeners = [self.service("1")["service"]["listeners"][0], shared]
        self.handoff(self.witness("1", listeners=listeners))
        client = self.one_under_way("1")
        control = self.begin()
        self.candidate(control, self.witness("2", listeners=listeners))
        control.ask("weight", epoch=control.epoch, weight=10_000)
        control.ask("commit", epoch=control.epoch)
        self.assert_told_once(client)

    def test_the_oldest_that_is_ended_for_another_is_told_once(self):
        self.handoff(self.witness("1"))
        client = self.one_under_way("1")
        self.handoff(self.witness("2"))
        control = self.begin()
        third = self.witness("3") | {"max_generations": 2}
        self.assertIsNone(control.ask("start", service=third, epoch=control.epoch, end_oldest=1)["generation"])
        self.assert_told_once(client)


class Queues(Witnessed):
    def test_who_waits_at_a_candidate_that_was_withdrawn_does_not_wait_for_its_drain(self):
        self.handoff(self.witness("1"))
        control = self.begin()
        number, _ = self.candidate(control, self.witness("2", "hang", drain_timeout_ms=600_000))
        control.ask("weight", epoch=control.epoch, weight=10_000)
        clients = [self.connection() for _ in range(10)]
        supervisor.wait_for(lambda: self.generations()[number]["waiting"] == 10, "its queue")
        control.ask("rollback", epoch=control.epoch, reason="it hangs")
        self.kill()
        control.close()
        self.supervisor.start()
        self.assertEqual([self.answer(client) for client in clients], ["1"] * 10)


class Losses(Witnessed):
    def test_one_whose_user_nobody_knows_just_now_serves_on(self):
        number = self.handoff(self.witness("1"))
        before = self.generations()[number]["pid"]

        def without_user(state):
            run = json.loads(state["generations"][0]["run"])
            state["generations"][0]["run"] = json.dumps(run | {"user": "nobody-knows"})
        self.kill()
        self.state(without_user)
        self.supervisor.start()
        self.assertEqual(self.answer(self.connection()), "1")
        after = self.generations()[number]
        self.assertEqual((after["pid"], after["state"]), (before, "ready"))
        self.assertIn("nobody-knows", str(self.events("service.complaint")))

    def test_one_that_ends_and_has_closed_its_listener_ends_in_its_time(self):
        self.handoff(self.witness("1", "close", drain_timeout_ms=0))
        client = self.one_under_way("1")
        self.handoff(self.witness("2"))
        self.wait_seen("1 closed")
        self.kill("holder")
        self.supervisor.start()
        self.assertEqual({n: one["state"] for n, one in self.generations().items()}, {1: "stopping", 2: "ready"})
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        control.ask("upgrade", program=BINARY)
        self.assertEqual(control.ask("status")["problem"], "")
        (self.root / "log.go").touch()
        self.assertEqual(self.answer(client), "1")
        self.only(2)
        self.assertEqual(self.answer(self.connection()), "2")

    def test_what_a_supervisor_does_not_understand_it_leaves_alone(self):
        number = self.handoff(self.witness("1"))
        before = self.generations()[number]["pid"]
        self.kill()

        def newer(state):
            state["state_version"] += 1

        def newer_release(state):
            run = json.loads(state["generations"][0]["run"])
            state["generations"][0]["run"] = json.dumps(run | {"key of tomorrow": 1})
        file = self.root / "run/.demo/state"
        as_it_was = file.read_text()
        for change in (newer, newer_release):
            self.state(change)
            with self.assertRaises(supervisor.Ended):
                self.supervisor.start()
            self.assertEqual(self.answer(self.connection()), "1")
            file.write_text(as_it_was)
        self.supervisor.start()
        self.assertEqual(self.generations()[number]["pid"], before)

    def test_a_holder_that_can_not_be_started_is_tried_again(self):
        self.handoff(self.witness("1"))
        place = self.root / "run/.demo/held"
        place.unlink()
        place.mkdir()
        scene.end(scene.processes_of(self.root)["holder"])
        supervisor.wait_for(lambda: "held" in self.supervisor.status()["problem"], "its word on that")
        place.rmdir()
        (holder,) = supervisor.wait_for(lambda: scene.processes_of(self.root)["holder"], "another holder")
        listens = self.inode_of_the_listener()
        supervisor.wait_for(lambda: listens in census.descriptors(holder).values(), "the listener to be held")

    def inode_of_the_listener(self):
        """As /proc names it."""
        (one,) = [fields[9] for fields in map(str.split, pathlib.Path("/proc/net/tcp").read_text().splitlines())
                  if fields[1].endswith(f":{self.port:04X}") and fields[3] == "0A"]
        return f"socket:[{one}]"

    def test_where_the_state_is_lost_its_addresses_are_free_again(self):
        number = self.handoff(self.witness("1"))
        self.kill(("service", number))
        (self.root / "run/.demo/state").unlink()
        self.supervisor.start()
        self.assertIn("is lost", self.supervisor.status()["problem"])
        self.handoff(self.witness("2"))
        self.assertEqual(self.answer(self.connection()), "2")


class WithoutSteering(Witnessed):
    def test_the_lease_of_a_public_name_goes_on(self):
        self.supervisor.stop()
        program = self.root / "bare"
        program.write_text(f'#!/bin/sh\nexec setpriv --bounding-set=-bpf,-sys_admin {self.supervisor.binary} "$@"\n')
        program.chmod(0o755)
        self.supervisor.binary = program
        self.supervisor.start()
        path = self.root / "public"
        listeners = [{"name": "http", "address": f"unix:{path}", "backlog": 16}]
        self.handoff(self.witness("1", listeners=listeners))
        self.assertEqual(self.supervisor.status()["mechanism"], "shared")
        control = self.begin()
        self.candidate(control, self.witness("2", listeners=listeners))
        control.ask("weight", epoch=control.epoch, weight=10_000)
        self.assertEqual(self.answer_at(path), "2")
        self.kill()
        control.close()
        self.supervisor.start()
        self.assertEqual(self.supervisor.status()["deployment"]["weight"], 10_000)
        supervisor.wait_for(lambda: self.events("traffic.lease_lost"), "the end of the lease")
        self.assertEqual(self.answer_at(path), "1")


if __name__ == "__main__":
    unittest.main()
