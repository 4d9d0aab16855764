"""The supervisor alone, driven over its control socket, under load: handoffs, its own death, bad candidates."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import census
import load
import scene
import supervisor

DEMO = os.environ["UPDAGENT_DEMO_SERVICE"]
BINARY = os.environ["UPDAGENT_SUPERVISOR"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Case(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="updagent-svc-"))
        self.root.chmod(0o755)
        (self.root / "run").mkdir()
        self.port = free_port()
        self.supervisor = supervisor.Supervisor(BINARY, self.root)
        self.trace = 0

    def tearDown(self):
        try:
            self.supervisor.stop()
        except BaseException:  # a test that failed leaves nobody who holds its output open
            scene.end(sum(scene.processes_of(self.root).values(), []))
            raise
        shutil.rmtree(self.root)

    def service(self, version, *options, strategy="handoff", **changes):
        service = {"command": [DEMO, "--version", version, "--generation", version, *options], "protocol": "systemd",
                   "ready": "notify", "drain_timeout_ms": 20_000, "ready_timeout_ms": 20_000, "stop_signal": "SIGTERM",
                   "stop_timeout_ms": 10_000,
                   "listeners": [{"name": "http", "address": f"tcp:127.0.0.1:{self.port}", "backlog": 4096}]}
        service.update(changes)
        return {"schema": 1, "app": "demo", "version": version, "strategy": strategy, "release": str(self.root),
                "data": str(self.root / "data"), "cache": str(self.root / "cache"),
                "runtime": str(self.root / "run/demo"), "user": "", "environment": {}, "environment_files": [],
                "max_generations": 4, "max_ready_timeout_ms": 600_000, "max_stop_timeout_ms": 600_000,
                "memory_reserve": 0, "service": service}

    def begin(self):
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        self.trace += 1
        control.epoch = control.ask("begin", trace=f"{self.trace:032x}")["epoch"]
        return control

    def candidate(self, control, service):
        number = control.ask("start", service=service, epoch=control.epoch)["generation"]
        news = control.await_news(lambda n: n.get("number") == number and n["life"] in ("ready", "failed"))
        return number, news

    def handoff(self, service):
        control = self.begin()
        number, news = self.candidate(control, service)
        self.assertEqual(news["life"], "ready", news)
        control.ask("weight", epoch=control.epoch, weight=10_000)
        control.ask("commit", epoch=control.epoch)
        control.ask("end", epoch=control.epoch)
        control.close()
        return number

    def generations(self):
        return {one["number"]: one for one in self.supervisor.status()["generations"]}

    def only(self, number):
        return supervisor.wait_for(lambda: list(self.generations()) == [number], f"generation {number} alone")

    def load(self, **more):
        target = f"tcp:127.0.0.1:{self.port}"
        return load.Load({"fresh": {"target": target, "connections": 8, "rate": 300},
                          "kept": {"target": target, "connections": 8, "rate": 200, "keepalive": 1}, **more})


class Handoffs(Case):
    def test_twenty_handoffs_under_load_lose_nothing_and_leave_nothing(self):
        self.handoff(self.service("0"))
        with self.load() as running:
            running.wait_for_answers(200)
            number = self.handoff(self.service("1"))
            self.only(number)
            descriptors = len(census.descriptors(self.supervisor.process.pid))
            for version in range(2, 20):
                number = self.handoff(self.service(str(version)))
                running.wait_for_answers(20, generation=str(version))
            self.only(number)
            seen = running.stop()
        seen.assert_nothing_failed()
        supervisor.wait_for(lambda: len(census.descriptors(self.supervisor.process.pid)) <= descriptors, "as few descriptors as before")

    def test_nobody_reaches_a_candidate_without_weight_and_probes_do(self):
        self.handoff(self.service("1"))
        with self.load() as running:
            control = self.begin()
            number, _ = self.candidate(control, self.service("2"))
            since = running.mark("candidate")
            running.wait_for_answers(300, generation="1")
            for _ in range(20):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    source = "tcp:127.0.0.1:%d" % probe.getsockname()[1]
                    entry = control.ask("probe", generation=number, source=source)["entry"]
                    probe.connect(("127.0.0.1", self.port))
                    control.ask("probe_end", entry=entry)
                    probe.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    answer = b"".join(iter(lambda: probe.recv(4096), b""))
                    self.assertIn(b'"version":"2"', answer)
            control.ask("rollback", epoch=control.epoch, reason="test")
            control.ask("end", epoch=control.epoch)
            seen = running.stop()
        seen.assert_nothing_failed()
        self.assertEqual(set(seen.whole("fresh").generations), {"1"})

    def test_state_in_the_fdstore_goes_on_to_the_next_generation(self):
        self.handoff(self.service("1"))
        before = self.get("/counter")
        self.handoff(self.service("2"))
        self.assertGreaterEqual(self.get("/counter"), before)
        self.assertIn("true", self.get("/", "counter_inherited"))

    def get(self, path, word=None):
        done = subprocess.run(["curl", "-sS", f"http://127.0.0.1:{self.port}{path}"], check=True, capture_output=True, text=True)
        return done.stdout if word is None else done.stdout.split(word)[1]

    def test_strategy_restart_makes_connections_wait_and_refuses_none(self):
        self.handoff(self.service("1"))
        with self.load() as running:
            running.wait_for_answers(100)
            control = self.begin()
            number, news = self.candidate(control, self.service("2", strategy="restart", drain_timeout_ms=2_000))
            self.assertEqual(news["life"], "ready", news)
            control.ask("commit", epoch=control.epoch)
            control.ask("end", epoch=control.epoch)
            running.wait_for_answers(100, generation="2")
            self.only(number)
            seen = running.stop()
        seen.assert_nothing_failed()


    def test_every_process_of_the_one_that_serves_dies_last_when_memory_ends(self):
        first = self.handoff(self.service("1", "--fork", "hold"))
        self.assertEqual(self.scores(first), [0, 0])
        control = self.begin()
        second, _ = self.candidate(control, self.service("2", "--fork", "hold"))
        self.assertEqual((self.scores(first), self.scores(second)), ([0, 0], [200, 200]))
        with socket.create_connection(("127.0.0.1", self.port)) as busy:
            time.sleep(0.05)  # the kernel counts in ticks: the last word is the client's
            busy.sendall(b"GET / HTTP/1.1\r\n")  # the first one is asked, and drains until there is more
            control.ask("weight", epoch=control.epoch, weight=10_000)
            self.assertEqual((self.scores(first), self.scores(second)), ([0, 0], [200, 200]))  # nothing is decided yet
            control.ask("commit", epoch=control.epoch)
            self.assertEqual((self.scores(first), self.scores(second)), ([200, 200], [0, 0]))
        control.ask("end", epoch=control.epoch)

    def scores(self, number):
        pid = self.generations()[number]["pid"]
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(pathlib.Path(f"/proc/{one}/oom_score_adj").read_text()) for one in (pid, *children)]


class Deaths(Case):
    def test_the_supervisor_is_killed_in_every_phase_and_nobody_notices(self):
        self.handoff(self.service("1"))
        with self.load() as running:
            running.wait_for_answers(50)
            self.again()
            # with a candidate at 0
            control = self.begin()
            number, _ = self.candidate(control, self.service("2"))
            self.again()
            control = self.begin()
            status = self.generations()
            self.assertEqual(status[number]["state"], "ready", status)
            control.ask("weight", epoch=control.epoch, weight=10_000)
            running.wait_for_answers(50, generation="2")
            self.again()
            control = self.begin()
            control.ask("weight", epoch=control.epoch, weight=10_000)
            control.ask("commit", epoch=control.epoch)
            self.again()  # while the old one drains
            control = self.begin()
            control.ask("end", epoch=control.epoch)
            self.only(number)
            self.again()
            running.wait_for_answers(50, generation="2")
            seen = running.stop()
        seen.assert_nothing_failed()

    def again(self):
        self.supervisor.kill()
        self.supervisor.start()

    def test_supervisor_and_holder_are_killed_together(self):
        self.handoff(self.service("1"))
        with self.load() as running:
            running.wait_for_answers(50)
            holders = [int(p) for p in os.listdir("/proc") if p.isdigit() and self.is_holder(p)]
            self.assertTrue(holders)
            for pid in [self.supervisor.process.pid, *holders]:
                os.kill(pid, signal.SIGKILL)
            self.supervisor.process.wait()
            self.supervisor.start()
            self.handoff(self.service("2"))
            running.wait_for_answers(50, generation="2")
            seen = running.stop()
        seen.assert_nothing_failed()

    def is_holder(self, pid):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                return str(self.root) in file.read() and int(pid) != self.supervisor.process.pid
        except OSError:
            return False

    def test_a_dead_driver_has_no_candidate_with_users(self):
        self.handoff(self.service("1"))
        with self.load() as running:
            control = self.begin()
            number, _ = self.candidate(control, self.service("2"))
            control.ask("weight", epoch=control.epoch, weight=5_000)
            running.wait_for_answers(20, generation="2")
            control.close()
            supervisor.wait_for(lambda: self.generations()[number]["weight"] == 0, "weight 0")
            since = running.mark("gone")
            running.wait_for_answers(200, generation="1")
            seen = running.stop()
        seen.assert_nothing_failed()
        end = max(window["to_ns"] for window in seen.windows)
        self.assertEqual(seen.between(since, end, "fresh").generations.get("2", 0), 0)

    def test_an_active_service_that_is_killed_comes_back_and_refuses_nobody(self):
        self.handoff(self.service("1"))
        pid = self.generations()[1]["pid"]
        os.kill(pid, signal.SIGKILL)
        supervisor.wait_for(lambda: self.generations()[1]["state"] == "ready" and self.generations()[1]["pid"] != pid, "a restart")
        with self.load() as running:
            running.wait_for_answers(50, generation="1")
            running.stop().assert_nothing_failed()


class Bad(Case):
    def candidate_fails(self, *options, **changes):
        self.handoff(self.service("1"))
        with self.load() as running:
            running.wait_for_answers(50)
            control = self.begin()
            number, news = self.candidate(control, self.service("2", *options, **changes))
            self.assertEqual(news["life"], "failed", news)
            control.ask("rollback", epoch=control.epoch, reason=news["problem"])
            control.ask("end", epoch=control.epoch)
            self.only(1)
            running.wait_for_answers(50, generation="1")
            running.stop().assert_nothing_failed()
        return news["problem"]

    def test_one_that_exits_at_once(self):
        self.assertIn("exit status 3", self.candidate_fails("--crash-at-start", "3"))

    def test_one_that_is_never_ready(self):
        problem = self.candidate_fails("--never-ready", "1", ready_timeout_ms=1_000)
        self.assertIn("was not ready in time (expected within 1s READY=1", problem)
        self.assertIn('wants ready = "listening"', problem)

    def test_one_that_can_not_be_executed(self):
        self.handoff(self.service("1"))
        control = self.begin()
        number, news = self.candidate(control, self.service("2", command=["/no/such/program"]))
        self.assertEqual(news["life"], "failed")
        self.assertIn("/no/such/program", news["problem"])
        control.ask("end", epoch=control.epoch)
        self.only(1)

    def test_one_that_hangs_with_users_gives_its_queue_back(self):
        self.handoff(self.service("1"))
        with self.load() as running:
            control = self.begin()
            number, _ = self.candidate(control, self.service("2", "--hang", "accept"))
            control.ask("weight", epoch=control.epoch, weight=10_000)
            supervisor.wait_for(lambda: self.generations()[number]["waiting"] > 5, "a queue")
            control.ask("rollback", epoch=control.epoch, reason="it hangs")
            control.ask("end", epoch=control.epoch)
            running.wait_for_answers(200, generation="1")
            seen = running.stop()
        seen.assert_nothing_failed()

    def test_a_way_back_does_not_wait_for_words_that_nobody_understands(self):
        self.handoff(self.service("1"))
        with self.load() as running:
            control = self.begin()
            number, _ = self.candidate(control, self.service("2"))
            control.ask("weight", epoch=control.epoch, weight=10_000)
            running.wait_for_answers(20, generation="2")
            control.ask("rollback", epoch=control.epoch, reason="test", service={"schema": 999})
            self.assertEqual(self.generations()[1]["weight"], 10_000)
            self.assertIn("schema", self.supervisor.status()["problem"])
            running.wait_for_answers(50, generation="1")
            control.ask("end", epoch=control.epoch)
            self.only(1)
            running.stop().assert_nothing_failed()

    def test_an_old_epoch_is_refused(self):
        self.handoff(self.service("1"))
        control = self.begin()
        self.candidate(control, self.service("2"))
        old = control.epoch
        control.close()
        control = self.begin()
        with self.assertRaises(supervisor.Refused) as refused:
            control.ask("weight", epoch=old, weight=10_000)
        self.assertEqual(refused.exception.code, "busy")
        control.ask("rollback", epoch=control.epoch, reason="")
        control.ask("end", epoch=control.epoch)


class Crash(Case):
    REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    def clients(self, count):
        """Connections with a request in them."""
        made = [socket.create_connection(("127.0.0.1", self.port), timeout=supervisor.WAIT_S) for _ in range(count)]
        for client in made:
            self.addCleanup(client.close)
            client.sendall(self.REQUEST)
        return made

    def test_who_came_before_and_after_the_death_of_the_only_server_waits_and_is_answered(self):
        self.handoff(self.service("1"))
        pid = self.generations()[1]["pid"]
        os.kill(pid, signal.SIGSTOP)
        waiting = self.clients(20)
        os.kill(self.supervisor.process.pid, signal.SIGSTOP)  # so that nothing is started yet
        os.kill(pid, signal.SIGKILL)
        supervisor.wait_for(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", "its death")
        waiting += self.clients(20)
        os.kill(self.supervisor.process.pid, signal.SIGCONT)
        answers = [b"".join(iter(lambda: client.recv(65_536), b"")) for client in waiting]
        self.assertEqual([answer for answer in answers if b'"version":"1"' not in answer], [])
        self.assertNotEqual(self.generations()[1]["pid"], pid)


class Idle(Case):
    def test_where_nothing_happens_nobody_wakes_up(self):
        self.handoff(self.service("1"))
        self.only(self.handoff(self.service("2")))
        found = scene.processes_of(self.root)
        pids = [*found["supervisor"], *found["holder"]]
        self.assertEqual(len(pids), 2, found)

        def wakes(seconds):
            """Of both, in that time."""
            def count():
                return [line for pid in pids
                        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if "ctxt_switches" in line]
            before = count()
            time.sleep(seconds)  # it is time that must change nothing
            return [(old, new) for old, new in zip(before, count()) if old != new]
        supervisor.wait_for(lambda: not wakes(0.5), "the end of what the handoff left to do")
        self.assertEqual(wakes(5), [])


if __name__ == "__main__":
    unittest.main()
