"""Corners: starts that fail at first, what nobody heard, stops and starts that meet, ways back of strategy restart."""

import http.client
import os
import pathlib
import shlex
import signal
import socket
import sys
import time
import unittest

import supervisor
from supervisor_test import BINARY, Case


class Starts(Case):
    def test_a_first_start_that_fails_is_tried_again(self):
        secrets = self.root / "secrets"
        service = self.service("1.0.0") | {"environment_files": [str(secrets)]}
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        number = control.ask("restart", service=service)["generation"]
        self.assertIn("secrets", self.supervisor.status()["problem"])
        secrets.write_text("A=1\n")
        secrets.chmod(0o600)
        supervisor.wait_for(lambda: self.generations()[number]["state"] == "ready", "the service")

    def test_a_successor_goes_on_trying(self):
        secrets = self.root / "secrets"
        service = self.service("1.0.0") | {"environment_files": [str(secrets)]}
        control = self.supervisor.connect()
        number = control.ask("restart", service=service)["generation"]
        control.close()
        self.supervisor.kill()
        self.supervisor.start()
        secrets.write_text("A=1\n")
        secrets.chmod(0o600)
        supervisor.wait_for(lambda: self.generations()[number]["state"] == "ready", "the service")

    def test_one_that_shut_its_listener_down_before_it_ended_listens_when_it_is_started_again(self):
        first = self.handoff(self.service("1"))
        for with_candidate in (False, True):
            with self.subTest(with_candidate=with_candidate), self.load() as running:
                control = self.begin()
                if with_candidate:
                    self.candidate(control, self.service("2"))
                running.wait_for_answers(20, generation="1")
                self.assertIn('"result":"ok"', self.post("/switch?shutdown-listener=http"))
                pid = self.generations()[first]["pid"]
                os.kill(pid, signal.SIGKILL)
                supervisor.wait_for(lambda: self.generations()[first]["pid"] not in (0, pid), "its next process")
                running.wait_for_answers(100, flow="fresh", generation="1")
                control.ask("end", epoch=control.epoch)
                self.only(first)
        with self.load() as running:  # and it is steered as before
            running.wait_for_answers(100, generation="1")
            self.handoff(self.service("3"))
            running.wait_for_answers(100, generation="3")
            running.stop().assert_nothing_failed()

    def post(self, path):
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.addCleanup(client.close)
        client.request("POST", path, headers={"Connection": "close"})
        return client.getresponse().read().decode()

    def test_nobody_drives_a_restart_and_a_service_that_is_probed_is_ready_all_the_same(self):
        service = self.service("1.0.0", ready="probe", ready_timeout_ms=2_000)
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        number = control.ask("restart", service=service)["generation"]
        supervisor.wait_for(lambda: self.generations()[number]["state"] == "ready", "the first start")
        pid = self.generations()[number]["pid"]
        os.kill(pid, signal.SIGKILL)
        again = supervisor.wait_for(lambda: (one := self.generations()[number])["pid"] not in (0, pid)
                                    and one["state"] == "ready" and one, "its next process")
        time.sleep(2.5)  # past its time to get ready
        self.assertEqual({key: self.generations()[number][key] for key in ("pid", "state", "starts")},
                         {"pid": again["pid"], "state": "ready", "starts": 2})
        second = control.ask("restart", service=service)["generation"]
        self.only(second)
        self.assertEqual(self.generations()[second]["role"], "active")

    def test_a_driven_candidate_that_is_probed_is_ready_when_its_driver_says_so(self):
        self.handoff(self.service("1.0.0"))
        control = self.begin()
        number = control.ask("start", service=self.service("2.0.0", ready="probe"), epoch=control.epoch)["generation"]
        supervisor.wait_for(lambda: "serving" in self.generations()[number]["status"], "what it says itself")
        time.sleep(0.5)  # longer than a connection takes to be accepted
        self.assertEqual(self.generations()[number]["state"], "starting")
        control.ask("ready", epoch=control.epoch, generation=number)
        self.assertEqual(self.generations()[number]["state"], "ready")
        control.ask("end", epoch=control.epoch)

    def test_nothing_is_started_into_a_stop(self):
        self.handoff(self.service("1.0.0", "--ignore-term", "1", stop_timeout_ms=3_000))
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        control.ask("stop")
        for op in ("restart", "begin"):
            with self.assertRaisesRegex(supervisor.Refused, "is being stopped"):
                control.ask(op, service=self.service("1.0.0"))
        self.supervisor.process.wait(timeout=60)

    def test_an_operators_restart_ends_over_a_succession(self):
        first = self.handoff(self.service("1.0.0"))
        for end in ("ready", "failed"):
            with self.subTest(end):
                control = self.supervisor.connect()
                teller = Teller(self, end)
                service = (teller.service("1.0.0") if end == "ready" else
                           self.service("1.0.0", "--never-ready", "1", ready_timeout_ms=10_000))
                number = control.ask("restart", service=service)["generation"]
                with self.assertRaisesRegex(supervisor.Refused, "a restart of this app is under way"):
                    control.ask("begin", trace="0" * 32)
                supervisor.wait_for(lambda: self.generations()[number]["pid"], "its process")
                control.close()
                self.supervisor.kill()
                if end == "ready":
                    teller.say("READY=1")
                self.supervisor.start()
                first = number if end == "ready" else first
                self.only(first)
                self.assertEqual(self.generations()[first]["role"], "active")
                supervisor.wait_for(lambda: self.supervisor.status()["deployment"] is None, "the end of the restart")


class Told(Case):
    """What goes on although something of it could not be done: the log and status say what."""

    def events(self, name):
        texts = [path.read_text() for path in sorted((self.root / "spool").glob("*.jsonl"))]
        return [line for text in texts for line in text.splitlines() if f'"{name}"' in line]

    def test_a_public_name_that_can_not_be_taken_back(self):
        names = [self.root / "first.sock", self.root / "second.sock"]
        service = lambda version: self.service(version, listeners=[
            {"name": path.stem, "address": f"unix:{path}", "backlog": 64} for path in names])
        self.handoff(service("1.0.0"))
        inodes = [path.stat().st_ino for path in names]
        for how in ("driver", "rollback"):
            with self.subTest(how):
                control = self.begin()
                number, news = self.candidate(control, service("2.0.0"))
                self.assertEqual(news["life"], "ready", news)
                control.ask("weight", epoch=control.epoch, weight=10_000)
                names[0].unlink()
                names[0].write_text("somebody's file")
                told = len(self.events("supervisor.problem"))
                if how == "driver":
                    control.close()
                    supervisor.wait_for(lambda: not self.supervisor.status()["deployment"]["driven"], "the end of the driver")
                    control = self.begin()
                control.ask("rollback", epoch=control.epoch, reason="test")
                self.assertIn("first.sock", self.supervisor.status()["problem"])
                self.assertGreater(len(self.events("supervisor.problem")), told)
                self.assertEqual(names[1].stat().st_ino, inodes[1], "the other name is the old one's")
                names[0].unlink()
                control.ask("end", epoch=control.epoch)
                control.close()
                supervisor.wait_for(lambda: number not in self.generations(), "the end of the candidate")
                supervisor.wait_for(lambda: names[0].exists() and names[0].stat().st_ino == inodes[0], "the first name again")


class Teller:
    """A generation that says only what the test tells it to: see teller.py."""

    def __init__(self, case, name):
        self.case, self.orders, self.told = case, case.root / f"orders-{name}", 0
        self.orders.touch()

    def service(self, version, **changes):
        teller = pathlib.Path(supervisor.__file__).with_name("teller.py")
        line = f'{shlex.join([sys.executable, str(teller), str(self.orders)])} & exec "$@"'
        whole = self.case.service(version, "--never-ready", "1", **({"ready_timeout_ms": 600_000} | changes))
        whole["service"]["command"] = ["/bin/sh", "-c", line, "sh", *whole["service"]["command"]]
        return whole

    def say(self, *messages):
        """Returns when all of them have been sent."""
        with open(self.orders, "a") as file:
            file.writelines(message.replace("\n", "|") + "\n" for message in messages)
        self.told += len(messages)
        said = pathlib.Path(f"{self.orders}.said")
        supervisor.wait_for(lambda: said.exists() and int(said.read_text()) == self.told, "what was to be said")


class Words(Case):
    """Failures that say what was the matter."""

    def test_a_candidate_that_stops_by_itself_gets_no_user_more_and_ends_in_its_own_time(self):
        self.handoff(self.service("1.0.0"))
        teller = Teller(self, "2")
        control = self.begin()
        number = control.ask("start", service=teller.service("2.0.0"), epoch=control.epoch)["generation"]
        teller.say("READY=1")
        supervisor.wait_for(lambda: self.generations()[number]["state"] == "ready", "its readiness")
        control.ask("weight", epoch=control.epoch, weight=10_000)
        teller.say("STOPPING=1")
        news = control.await_news(lambda n: n.get("number") == number and n["life"] == "failed")
        self.assertIn("is stopping by itself", news["problem"])
        one = self.generations()[number]
        self.assertEqual((one["weight"], one["state"]), (0, "ready"))
        with self.load() as running:
            running.wait_for_answers(50, generation="1.0.0")
            control.ask("rollback", epoch=control.epoch, reason=news["problem"])
            control.ask("end", epoch=control.epoch)
            self.only(1)
            running.stop().assert_nothing_failed()

    def test_an_active_one_that_stops_by_itself_is_started_again(self):
        teller = Teller(self, "1")
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        number = control.ask("restart", service=teller.service("1.0.0"))["generation"]
        teller.say("READY=1")
        supervisor.wait_for(lambda: self.generations()[number]["state"] == "ready", "its readiness")
        pid = self.generations()[number]["pid"]
        teller.say("STOPPING=1")
        supervisor.wait_for(lambda: self.generations()[number]["status"] == "stopping by itself", "its word")
        os.kill(pid, signal.SIGTERM)
        supervisor.wait_for(lambda: (one := self.generations()[number])["starts"] == 2 and one["pid"] not in (0, pid), "its next process")

    def test_one_that_can_not_be_connected_to(self):
        path = self.root / "public.sock"
        gone = self.service("1.0.0", command=["/bin/sh", "-c", f"rm {path}.g*; exec sleep 600"], ready="listening", ready_timeout_ms=3_000,
                            listeners=[{"name": "path", "address": f"unix:{path}", "backlog": 64}])
        deaf = self.service("1.0.0", "--hang", "accept", ready="listening", ready_timeout_ms=1_000)
        for service, words in ((gone, f"cannot connect to unix:{path}"), (deaf, f"nobody accepts at tcp:127.0.0.1:{self.port}")):
            control = self.begin()
            _, news = self.candidate(control, service)
            control.ask("end", epoch=control.epoch)
            control.close()
            self.assertEqual(news["life"], "failed")
            self.assertIn(words, news["problem"])


    def test_a_drain_of_which_nobody_can_tell_has_its_whole_time(self):
        self.supervisor.stop()
        self.supervisor.start(UPDAGENT_FAILPOINTS="sys.sock_diag#0=EOPNOTSUPP")
        self.handoff(self.service("1.0.0", drain_timeout_ms=500))
        self.only(self.handoff(self.service("2.0.0")))
        texts = [path.read_text() for path in (self.root / "spool").glob("*.jsonl")]
        (drained,) = [text for text in texts if '"traffic.drained"' in text]
        self.assertIn("cannot ask sock_diag", drained)
        self.assertNotIn('"busy"', drained)


class Binds(Case):
    """Protocol inject: what a service says counts when it has its sockets."""

    def binder(self):
        self.order = self.root / "bind"
        server = pathlib.Path(supervisor.__file__).with_name("bind_server.py")
        return self.service("1.0.0", protocol="inject",
                            command=[sys.executable, str(server), "1.0.0", str(self.port), str(self.order), "--eager"])

    def started(self, service):
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        return control.ask("restart", service=service)["generation"]

    def test_a_process_that_is_started_again_has_to_bind_again(self):
        service = self.binder()
        self.order.touch()
        number = self.started(service)
        supervisor.wait_for(lambda: self.generations()[number]["state"] == "ready", "the first process")
        self.order.unlink()
        os.kill(self.generations()[number]["pid"], signal.SIGKILL)
        supervisor.wait_for(lambda: (one := self.generations()[number])["starts"] == 2 and one["status"] == "waiting",
                            "what its next process says")
        self.assertEqual(self.generations()[number]["state"], "starting")
        self.order.touch()
        supervisor.wait_for(lambda: self.generations()[number]["state"] == "ready", "its bind")

    def test_an_upgrade_waits_for_a_bind_that_is_under_way(self):
        trace = self.root / "trace"
        self.supervisor.stop()
        # who replaces the socket is stopped, until the supervisor gives up on it
        self.supervisor.start(UPDAGENT_FAILPOINTS="inject.replaced=stop", UPDAGENT_FAILPOINTS_TRACE=str(trace))
        service = self.binder()
        self.order.touch()
        number = self.started(service)
        supervisor.wait_for(lambda: trace.exists() and "inject.replaced" in trace.read_text(), "the bind")
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        with self.assertRaisesRegex(supervisor.Refused, f"generation {number} is just being started"):
            control.ask("upgrade", program=BINARY)
        supervisor.wait_for(lambda: self.generations()[number]["state"] == "ready", "its bind")
        self.assertEqual(control.ask("upgrade", program=BINARY)["pid"], self.supervisor.process.pid)


class Unheard(Case):
    """What services say while no supervisor lives."""

    def test_a_candidate_that_got_ready_meanwhile_is_ready(self):
        self.handoff(self.service("1.0.0"))
        teller = Teller(self, "2")
        with self.load() as running:
            running.wait_for_answers(50)
            control = self.begin()
            number = control.ask("start", service=teller.service("2.0.0"), epoch=control.epoch)["generation"]
            supervisor.wait_for(lambda: self.generations()[number]["pid"], "its process")
            teller.say("STATUS=warming up")
            supervisor.wait_for(lambda: self.generations()[number]["status"] == "warming up", "its status")
            self.supervisor.kill()
            control.close()
            # far more than a queue takes: it would wait for ever if nobody read
            teller.say(*["WATCHDOG=1"] * 600, "STATUS=nearly", "READY=1\nSTATUS=warm", "WATCHDOG=1")
            self.supervisor.start()
            supervisor.wait_for(lambda: self.generations()[number]["state"] == "ready", "its readiness")
            self.assertEqual(self.generations()[number]["status"], "warm")
            control = self.begin()
            control.ask("weight", epoch=control.epoch, weight=10_000)
            running.wait_for_answers(50, generation="2.0.0")
            control.ask("commit", epoch=control.epoch)
            control.ask("end", epoch=control.epoch)
            self.only(number)
            running.stop().assert_nothing_failed()

    def test_a_stranger_is_not_believed_later_either(self):
        self.handoff(self.service("1.0.0"))
        teller = Teller(self, "2")
        control = self.begin()
        number = control.ask("start", service=teller.service("2.0.0"), epoch=control.epoch)["generation"]
        supervisor.wait_for(lambda: self.generations()[number]["pid"], "its process")
        self.supervisor.kill()
        control.close()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"READY=1\nSTATUS=lie", str(self.root / f"run/.demo/notify.{number}"))
        teller.say("STATUS=not yet")
        self.supervisor.start()
        supervisor.wait_for(lambda: self.generations()[number]["status"] == "not yet", "what it said itself")
        self.assertEqual(self.generations()[number]["state"], "starting")

    def test_a_candidate_that_gave_up_meanwhile_has_failed(self):
        first = self.handoff(self.service("1.0.0"))
        teller = Teller(self, "2")
        control = self.begin()
        number = control.ask("start", service=teller.service("2.0.0"), epoch=control.epoch)["generation"]
        supervisor.wait_for(lambda: self.generations()[number]["pid"], "its process")
        self.supervisor.kill()
        control.close()
        teller.say("WATCHDOG=trigger")
        self.supervisor.start()
        supervisor.wait_for(lambda: self.generations().get(number, {"state": "gone"})["state"] != "starting", "its failure")
        self.assertEqual(self.generations()[first]["role"], "active")


class InPlace(Case):
    """Strategy restart: must not run twice, and the old one comes back."""

    def begun(self, *options):
        first = self.handoff(self.service("1.0.0", strategy="restart"))
        control = self.begin()
        return first, control, control.ask("start", service=self.service("2.0.0", *options, strategy="restart"),
                                           epoch=control.epoch)["generation"]

    def versions_of_processes(self):
        return sorted(one["version"] for one in self.generations().values() if one["pid"] and one["state"] != "down")

    def test_a_candidate_that_fails_is_followed_by_the_old_one(self):
        with self.load_after_first() as running:
            for ending in ("rollback", "end"):
                control = self.begin()
                number, news = self.candidate(control, self.service("2.0.0", "--crash-at-start", "3", strategy="restart"))
                self.assertEqual(news["life"], "failed")
                control.ask(ending, epoch=control.epoch, **({"reason": "test"} if ending == "rollback" else {}))
                control.close()
                supervisor.wait_for(lambda: [g["version"] for g in self.generations().values() if g["state"] == "ready"] == ["1.0.0"],
                                    "the old release")
                running.wait_for_answers(20, generation="1.0.0")
            running.stop().assert_nothing_failed("fresh")

    def load_after_first(self):
        self.handoff(self.service("1.0.0", strategy="restart"))
        return self.load()

    def test_the_way_back_is_known_to_a_successor(self):
        _, control, _ = self.begun("--ready-after", "600000")
        self.supervisor.kill()
        control.close()
        self.supervisor.start()
        again = self.begin()
        again.ask("rollback", epoch=again.epoch, reason="left over")
        again.ask("end", epoch=again.epoch)
        again.close()
        supervisor.wait_for(lambda: [(g["version"], g["state"]) for g in self.generations().values()] == [("1.0.0", "ready")],
                            "the old release alone")

    def test_the_way_back_to_a_service_that_is_probed_ends(self):
        service = self.service("1.0.0", strategy="restart", ready="probe", ready_timeout_ms=2_000)
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        first = control.ask("restart", service=service)["generation"]
        supervisor.wait_for(lambda: self.generations()[first]["state"] == "ready", "the old release")
        control = self.begin()
        _, news = self.candidate(control, self.service("2.0.0", "--crash-at-start", "3", strategy="restart"))
        self.assertEqual(news["life"], "failed")
        control.ask("rollback", epoch=control.epoch, reason="test")
        control.ask("end", epoch=control.epoch)
        supervisor.wait_for(lambda: [(g["version"], g["state"]) for g in self.generations().values()] == [("1.0.0", "ready")],
                            "the old release again")

    def test_where_nothing_is_left_the_way_back_starts_the_old_one(self):
        control = self.begin()
        number, news = self.candidate(control, self.service("2.0.0", "--crash-at-start", "3", strategy="restart"))
        self.assertEqual(news["life"], "failed")
        control.ask("rollback", epoch=control.epoch, reason="test", service=self.service("1.0.0", strategy="restart"))
        control.ask("end", epoch=control.epoch)
        control.close()
        supervisor.wait_for(lambda: [(g["version"], g["state"]) for g in self.generations().values()] == [("1.0.0", "ready")],
                            "the old release alone")

    def test_an_operators_restart_never_runs_two(self):
        self.handoff(self.service("1.0.0", strategy="restart"))
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        with self.load() as running:
            running.wait_for_answers(20)
            number = control.ask("restart", service=self.service("1.0.0", strategy="restart"))["generation"]
            self.only(number)
            supervisor.wait_for(lambda: self.generations()[number]["state"] == "ready", "the new one")
            running.wait_for_answers(50)
            running.stop().assert_nothing_failed("fresh")
        lines = []
        for path in sorted((self.root / "spool").glob("*.jsonl")):
            text = path.read_text()
            lines += [name for name in ("service.started", "service.stopped") if f'"{name}"' in text]
        self.assertEqual(lines, ["service.started", "service.stopped", "service.started"])


if __name__ == "__main__":
    unittest.main()
