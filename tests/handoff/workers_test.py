"""Workers and roles: a queue's consumer that belongs to the committed release, through deployments and deaths."""

import collections
import contextlib
import fcntl
import json
import os
import pathlib
import signal
import sys
import threading
import unittest

import canary
import scene
import supervisor
import supervisor_test

SOURCE = pathlib.Path(os.environ["UPDAGENT_SOURCE_DIR"])
CONSUMER = SOURCE / "fixtures/queue-consumer/consumer.py"
ROLE_SERVER = SOURCE / "tests/support/role_server.py"
LONG = os.environ.get("UPDAGENT_LONG") == "1"
MOST_WAITING = 40  # jobs: whoever makes them waits for the consumer


class Queue:
    """The folder of fixtures/queue-consumer, and somebody who puts jobs into it for as long as it is asked to."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("new", "work", "tmp"):
            (folder / name).mkdir(parents=True)
        (folder / "done").touch()
        os.mkfifo(folder / "bell")
        self.bell = os.open(folder / "bell", os.O_RDWR | os.O_NONBLOCK)
        self.made = []

    def close(self):
        os.close(self.bell)

    def put(self):
        job = f"{len(self.made) + 1:06d}"
        self.made.append(job)
        (self.folder / "tmp" / job).touch()
        os.rename(self.folder / "tmp" / job, self.folder / "new" / job)
        with contextlib.suppress(BlockingIOError):  # it rings already
            os.write(self.bell, b"!")

    @contextlib.contextmanager
    def busy(self):
        over = threading.Event()

        def produce():
            while not over.wait(0.002):
                if len(os.listdir(self.folder / "new")) < MOST_WAITING:
                    self.put()

        producer = threading.Thread(target=produce)
        producer.start()
        try:
            yield
        finally:
            over.set()
            producer.join()

    def lines(self):
        """[(job, pid, version)] as they were done."""
        return [tuple(line.split()) for line in (self.folder / "done").read_text().splitlines()]

    def is_empty(self):
        return not os.listdir(self.folder / "new") and not os.listdir(self.folder / "work")

    def is_free(self):
        """No consumer lives."""
        with open(self.folder / "lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def versions(self):
        """Whose turn it was, one after the other."""
        turns = []
        for _, _, version in self.lines():
            if turns[-1:] != [version]:
                turns.append(version)
        return turns

    def wait_for_one_by(self, version):
        supervisor.wait_for(lambda: any(line[2] == version for line in self.lines()), f"a job done by {version}")

    def assert_each_once(self, case):
        supervisor.wait_for(self.is_empty, "an empty queue")
        counts = collections.Counter(job for job, _, _ in self.lines())
        case.assertEqual({job: count for job, count in counts.items() if count != 1}, {}, "done twice")
        case.assertEqual(set(self.made) - set(counts), set(), "lost")
        case.assertFalse((self.folder / "violations").exists(), "two ran at once")


def stand_still(pid):
    """It ends when we want it to. Of two signals that wait the lower one comes first: not without a look."""
    os.kill(pid, signal.SIGSTOP)
    stat = pathlib.Path(f"/proc/{pid}/stat")
    supervisor.wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "a process that stands still")


class Case(supervisor_test.Case):
    def setUp(self):
        super().setUp()
        self.queue = Queue(self.root / "queue")
        self.addCleanup(self.queue.close)

    def tearDown(self):
        if self.supervisor.process.poll() is not None:  # a test that failed half-way
            self.supervisor.start()
        super().tearDown()

    def worker(self, *options, name="consumer", **changes):
        return {"name": name, "command": [sys.executable, str(CONSUMER), str(self.queue.folder), *options],
                "stop_signal": "SIGTERM", "stop_timeout_ms": 20_000, **changes}

    def release(self, version, *options, **changes):
        changes.setdefault("workers", [self.worker()])
        return self.service(version, *options, **changes)

    def workers(self):
        return self.supervisor.status()["workers"]

    def runs(self, version, count=1):
        """Waits until all workers are of this version and run."""
        def all_run():
            found = self.workers()
            good = [one for one in found if one["version"] == version and one["state"] == "ready" and one["pid"] > 0]
            return found if len(good) == len(found) == count else None

        return supervisor.wait_for(all_run, f"{count} workers of {version}")

    def done_by(self, version):
        self.queue.wait_for_one_by(version)

    def roll_back(self, service):
        control = self.begin()
        number, news = self.candidate(control, service)
        self.assertEqual(news["life"], "ready", news)
        control.ask("rollback", epoch=control.epoch, reason="test")
        control.ask("end", epoch=control.epoch)
        control.close()
        return number

    def assert_each_once(self):
        self.queue.assert_each_once(self)

    def events(self, name):
        found = []
        for file in sorted((self.root / "spool").glob("*.jsonl")):
            event = json.loads(file.read_text().splitlines()[1])["event"]
            if event["event"] == name:
                found.append(event)
        return found


class Applied(canary.Case):
    """By `updagent apply`, with hooks, a gate that condemns every second one, and its service under load."""

    rollout = {"steps": [50, 100], "step_duration": "100ms"}

    @classmethod
    def prepare(cls):
        """Commands of a release are run as nobody."""
        cls.queue = Queue(cls.node_.root / "queue")
        for path in (cls.queue.folder, *cls.queue.folder.iterdir()):
            path.chmod(0o777)
        cls.hooks = cls.queue.folder / "hooks"
        cls.hooks.touch()
        cls.hooks.chmod(0o666)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.queue.close()

    @classmethod
    def pack(cls, version, *options, more="", **keys):
        def say(hook):
            text = f'echo "{hook} $UPDAGENT_FROM_VERSION $UPDAGENT_TO_VERSION" >> {cls.hooks}'
            return f"{hook} = {{ command = {json.dumps(['/bin/sh', '-c', text])} }}\n"

        consumer = {"bin/consumer": (CONSUMER.read_bytes(), 0o755)}
        worker = f'[[worker]]\nname = "consumer"\ncommand = ["bin/consumer", "{cls.queue.folder}"]\nstop_timeout = "20s"\n'
        hooks = "[hooks]\n" + say("post_commit") + say("post_rollback")
        return super().pack(version, *options, more=more + worker + hooks, files=consumer, **keys)

    def consumer_runs(self, version):
        def runs():
            [one] = self.status()["workers"]
            return (one["version"], one["state"]) == (version, "ready")
        supervisor.wait_for(runs, f"the consumer of {version}")

    def setUp(self):
        super().setUp()
        self.turns, self.hooks_before = self.queue.versions(), self.hooks.read_text().splitlines()

    def assert_turns(self, committed, hooks):
        """Of this test: whose turn it was, and what the hooks were told."""
        self.queue.assert_each_once(self)
        goes_on = self.turns[-1:] == committed[:1]
        self.assertEqual(self.queue.versions(), self.turns + committed[goes_on:])
        self.assertEqual(self.hooks.read_text().splitlines(), self.hooks_before + hooks)

    def test_a_driver_that_dies_leaves_the_queue_to_one_version(self):
        committed, hooks = [self.before], []
        with self.queue.busy():
            for place in ("deploy.step.50", "deploy.after_commit_link"):
                driver = self.apply_stopped_at(self.release(rollout=self.rollout), place)
                scene.end([driver.pid])
                driver.end()
                ends_well = place == "deploy.after_commit_link"
                hooks.append(f"{'post_commit' if ends_well else 'post_rollback'} {committed[-1]} {self.newest}")
                if ends_well:
                    committed.append(self.newest)
                supervisor.wait_for(self.settled, "the end of what its driver left")
                self.consumer_runs(committed[-1])
                self.queue.wait_for_one_by(committed[-1])
        self.assert_turns(committed, hooks)
        self.assert_only(canary.NONE)

    def test_no_job_is_done_twice_or_lost_and_each_end_has_its_hook(self):
        committed, hooks = [self.before], []
        gates = [canary.errors(self, min_samples=20, failures=1, window="500ms")]
        with self.queue.busy():
            for i in range(1, 51 if LONG else 11):
                bad = i % 2 == 1
                artifact = self.release("--fail-ratio", "1" if bad else "0", gates=gates, rollout=self.rollout)
                done = self.assert_exit(self.apply(artifact).end(), 4 if bad else 0)
                hooks.append(f"post_rollback {committed[-1]} {self.newest}" if bad else
                             f"post_commit {committed[-1]} {self.newest}")
                if bad:
                    self.assert_judged_by("errors", done, self.failed_stage(done))
                else:
                    committed.append(self.newest)
                self.consumer_runs(committed[-1])
                self.queue.wait_for_one_by(committed[-1])
        self.assert_turns(committed, hooks)
        self.assert_only(frozenset({"wrong_status"}))
        supervisor.wait_for(self.settled, "one generation and no deployment")
        self.assertEqual((self.node_.current(), self.node_.committed()), (committed[-1], committed[-1]))


class Deployments(Case):
    def test_no_job_is_done_twice_or_lost_over_deployments_half_of_them_rolled_back(self):
        self.handoff(self.release("0"))
        self.runs("0")
        committed = ["0"]
        with self.queue.busy():
            for i in range(1, 51 if LONG else 11):
                if i % 2:
                    self.roll_back(self.release(f"bad{i}"))
                    self.assertEqual([one["version"] for one in self.runs(committed[-1])], [committed[-1]])
                else:
                    number = self.handoff(self.release(str(i)))
                    committed.append(str(i))
                    self.runs(str(i))
                    self.only(number)
                self.done_by(committed[-1])
        self.assert_each_once()
        self.assertEqual(self.queue.versions(), committed)

    def test_an_operators_restart_stops_the_old_ones_before_it_starts_the_new_ones(self):
        for strategy in ("handoff", "restart"):
            with self.subTest(strategy=strategy):
                self.handoff(self.release(strategy))
                [before] = self.runs(strategy)
                with self.queue.busy():
                    self.done_by(strategy)
                    control = self.supervisor.connect()
                    control.ask("restart", service=self.release(strategy, strategy=strategy))
                    control.close()
                    supervisor.wait_for(lambda: self.workers()[-1:] and self.runs(strategy)[0]["pid"] != before["pid"],
                                        "another worker")
                self.assert_each_once()

    def test_with_strategy_restart_they_stop_with_the_old_service_and_start_at_the_commit(self):
        self.handoff(self.release("1"))
        self.runs("1")
        with self.queue.busy():
            self.done_by("1")
            control = self.begin()
            self.candidate(control, self.release("2", strategy="restart"))
            self.assertEqual(self.workers(), [])
            control.ask("commit", epoch=control.epoch)
            control.ask("end", epoch=control.epoch)
            control.close()
            self.runs("2")
            self.done_by("2")
        self.assert_each_once()
        self.assertEqual(self.queue.versions(), ["1", "2"])

    def test_with_strategy_restart_the_old_ones_come_back_with_the_old_service(self):
        self.handoff(self.release("1"))
        [before] = self.runs("1")
        with self.queue.busy():
            self.done_by("1")
            self.roll_back(self.release("2", strategy="restart"))
            [after] = self.runs("1")
            self.assertNotEqual(before["pid"], after["pid"])
            supervisor.wait_for(lambda: any(line[1] == str(after["pid"]) for line in self.queue.lines()), "a job of the new one")
        self.assert_each_once()
        self.assertEqual(self.queue.versions(), ["1"])

    def test_a_release_without_workers_ends_those_of_the_one_before(self):
        self.handoff(self.release("1", workers=[self.worker(), self.worker("--exit", "0", name="other")]))
        supervisor.wait_for(lambda: {one["name"] for one in self.workers()} == {"consumer", "other"}, "both")
        number = self.handoff(self.release("2", workers=[]))
        supervisor.wait_for(lambda: self.workers() == [], "no workers")
        self.only(number)

    def test_no_new_one_starts_before_the_last_process_of_all_old_ones_is_gone(self):
        other = Queue(self.root / "other")
        self.addCleanup(other.close)

        def release(version):
            second = self.worker(name="other")
            second["command"][2] = str(other.folder)
            return self.release(version, workers=[self.worker(), second])

        self.handoff(release("1"))
        slow = next(one["pid"] for one in self.runs("1", count=2) if one["name"] == "other")
        for queue in (self.queue, other):
            queue.put()
            supervisor.wait_for(queue.lines, "a job")
        stand_still(slow)
        number = self.handoff(release("2"))
        self.only(number)
        supervisor.wait_for(lambda: len(self.workers()) == 3, "the end of the quick one")
        states = sorted((one["name"], one["version"], one["state"]) for one in self.workers())
        self.assertEqual(states, [("consumer", "2", "waiting"), ("other", "1", "stopping"), ("other", "2", "waiting")])
        self.assertTrue(self.queue.is_free())
        os.kill(slow, signal.SIGCONT)
        self.runs("2", count=2)
        for queue in (self.queue, other):
            queue.put()
            supervisor.wait_for(lambda: queue.lines()[-1][2] == "2", "a job of the new one")

    def test_a_stop_ends_them_and_waits_for_the_job_at_hand(self):
        self.handoff(self.release("1", workers=[self.worker("--job-ms", "300")]))
        self.runs("1")
        self.queue.put()
        supervisor.wait_for(lambda: os.listdir(self.queue.folder / "work"), "a job at hand")
        self.supervisor.stop()
        self.assert_each_once()


class Bad(Case):
    def test_one_that_ignores_its_stop_signal_is_killed_and_its_job_is_done_once(self):
        self.handoff(self.release("1", workers=[self.worker("--stubborn", stop_timeout_ms=200)]))
        self.runs("1")
        self.queue.put()
        supervisor.wait_for(lambda: os.listdir(self.queue.folder / "work"), "a job at hand")
        with self.queue.busy():
            self.handoff(self.release("2"))
            self.runs("2")
            self.done_by("2")
        self.assert_each_once()
        self.assertEqual(self.queue.versions(), ["2"])

    def test_one_that_crashes_is_started_again_and_rolls_nothing_back(self):
        self.handoff(self.release("1", workers=[self.worker("--crash-after", "3")]))
        self.runs("1")
        with self.queue.busy():
            supervisor.wait_for(lambda: len(self.queue.lines()) > 9, "jobs over three crashes")
        self.assertGreater(self.workers()[0]["starts"], 3)
        self.assertEqual([one["version"] for one in self.generations().values()], ["1"])
        number = self.handoff(self.release("2"))
        self.runs("2")
        self.only(number)
        self.assert_each_once()

    def test_one_that_never_comes_up_is_said_to_and_serves_nobody_less(self):
        self.handoff(self.release("1", workers=[self.worker("--exit", "7")]))
        supervisor.wait_for(lambda: "'consumer'" in self.supervisor.status()["problem"], "the problem")
        self.assertIn("exit status 7", self.supervisor.status()["problem"])
        self.assertEqual(self.generations()[1]["state"], "ready")
        supervisor.wait_for(lambda: self.events("service.crash_loop"), "a crash loop")
        [said] = self.events("service.crash_loop")
        self.assertEqual(said["detail"]["worker"], "consumer")
        self.assertFalse(said["detail"]["rollback"])


class Deaths(Case):
    POINTS = ("service.workers_switched", "service.workers_stopping", "service.workers_gone", "service.worker_started")

    def deploy(self, version):
        number = self.handoff(self.release(version))
        self.runs(version)
        self.only(number)

    def dies_at(self, point, version):
        """Whether it died there, in a deployment of this version or before it."""
        self.supervisor.kill()
        with contextlib.suppress(ConnectionError, supervisor.Ended):
            self.supervisor.start(UPDAGENT_FAILPOINTS=f"{point}=kill")
            self.deploy(version)
            return False
        self.assertEqual(self.supervisor.process.wait(timeout=supervisor.WAIT_S), -signal.SIGKILL, point)
        return True

    def finish(self, version):
        """What a driver that comes back does: it goes on with the deployment."""
        self.supervisor.start()
        control = self.begin()
        status = self.supervisor.status()
        number = status["deployment"]["candidate"]
        if not number and self.generations()[status["active"]]["version"] != version:
            number, _ = self.candidate(control, self.release(version))
        if number:
            supervisor.wait_for(lambda: self.generations()[number]["state"] in ("ready", "down"), "the candidate")
            if self.generations()[number]["state"] == "down":  # nobody knew its process
                control.ask("rollback", epoch=control.epoch, reason="test")
                number, _ = self.candidate(control, self.release(version))
            control.ask("commit", epoch=control.epoch)
        control.ask("end", epoch=control.epoch)
        control.close()
        self.runs(version)

    def test_the_supervisor_dies_at_every_step_of_the_change(self):
        self.handoff(self.release("0"))
        self.runs("0")
        committed = ["0"]
        with self.queue.busy():
            self.done_by("0")
            for point in self.POINTS:
                with self.subTest(point=point):
                    version = point.partition(".")[2]
                    self.assertTrue(self.dies_at(point, version))
                    self.finish(version)
                    committed.append(version)
                    self.done_by(version)
        self.assert_each_once()
        self.assertEqual(self.queue.versions(), committed)

    def test_the_supervisor_dies_at_any_writing_of_its_state(self):
        self.handoff(self.release("0"))
        self.runs("0")
        committed = ["0"]
        with self.queue.busy():
            self.done_by("0")
            for count in range(1, 100, 1 if LONG else 5):
                version = str(count)
                died = self.dies_at(f"service.state_saved#{count}", version)
                if died:
                    self.finish(version)
                committed.append(version)
                self.done_by(version)
                if not died:
                    break
        self.assertFalse(died, "more writings than are tried")
        self.supervisor.kill()  # it would die in its next ones
        self.supervisor.start()
        self.assertGreater(len(committed), 3)
        self.assert_each_once()
        self.assertEqual(self.queue.versions(), committed)

    def test_a_worker_goes_on_while_its_supervisor_dies_and_is_known_by_the_next(self):
        self.handoff(self.release("1"))
        [before] = self.runs("1")
        with self.queue.busy():
            for _ in range(3):
                self.supervisor.kill()
                self.supervisor.start()
                [after] = self.runs("1")
                self.assertEqual(after["pid"], before["pid"])
        self.assert_each_once()

    def test_one_that_died_without_a_supervisor_is_started_again(self):
        self.handoff(self.release("1"))
        [before] = self.runs("1")
        self.supervisor.kill()
        os.kill(before["pid"], signal.SIGKILL)
        self.queue.put()
        self.supervisor.start()
        supervisor.wait_for(lambda: self.runs("1")[0]["pid"] != before["pid"], "another worker")
        self.assert_each_once()

    def test_it_is_killed_while_all_is_being_stopped_and_the_next_ends_the_rest(self):
        self.handoff(self.release("1"))
        [before] = self.runs("1")
        self.queue.put()
        self.done_by("1")
        stand_still(before["pid"])
        control = self.supervisor.connect()
        control.ask("stop")
        control.close()
        self.supervisor.kill()
        self.supervisor.start()
        supervisor.wait_for(lambda: not self.generations(), "the end of the service")
        self.assertEqual([one["state"] for one in self.workers()], ["stopping"])
        os.kill(before["pid"], signal.SIGCONT)
        self.supervisor.process.wait(timeout=supervisor.WAIT_S)
        self.assertTrue(self.queue.is_free())

    def test_the_supervisor_becomes_a_newer_program_and_its_workers_notice_nothing(self):
        self.handoff(self.release("1"))
        [before] = self.runs("1")
        with self.queue.busy():
            control = self.supervisor.connect()
            control.ask("upgrade", program=supervisor_test.BINARY)
            control.close()
            supervisor.wait_for(self.supervisor.connectable, "the control socket")
            [after] = self.runs("1")
            self.assertEqual(after["pid"], before["pid"])
            self.handoff(self.release("2"))
            self.runs("2")
        self.assert_each_once()


class Roles(Case):
    def setUp(self):
        super().setUp()
        self.log = self.root / "roles"

    def server(self, version, *options, **changes):
        return self.service(version, command=[sys.executable, str(ROLE_SERVER), str(self.log), *options],
                            role_signal="SIGUSR1", **changes)

    def roles(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def says(self, *lines):
        supervisor.wait_for(lambda: self.roles() == list(lines), f"{lines}, it is {self.roles()}")

    def test_a_service_gets_its_role_signal_when_its_role_changes_and_not_otherwise(self):
        self.handoff(self.server("1"))
        self.says("1 candidate", "1 active")
        self.supervisor.kill()
        self.supervisor.start()
        self.roll_back(self.server("2"))
        self.says("1 candidate", "1 active", "2 candidate", "2 draining")
        self.handoff(self.server("3"))
        supervisor.wait_for(lambda: len(self.roles()) == 8, "three roles more")
        self.assertEqual(self.roles()[4:6], ["3 candidate", "1 standby"])
        self.assertEqual(sorted(self.roles()[6:]), ["1 draining", "3 active"])

    def test_no_signal_comes_before_it_is_ready(self):
        gate = self.root / "gate"
        os.mkfifo(gate)
        self.handoff(self.server("1"))
        control = self.begin()
        number = control.ask("start", service=self.server("2", "--unready", str(gate)), epoch=control.epoch)["generation"]
        supervisor.wait_for(lambda: "2 candidate" in self.roles(), "the start")
        self.supervisor.kill()
        # as if it had died between the file and the state: the next one writes the file again
        (self.root / f"run/.demo/role.{number}").write_text("active\n")
        self.supervisor.start()
        control = self.begin()
        self.assertEqual((self.root / f"run/.demo/role.{number}").read_text(), "candidate\n")
        with open(gate, "r+b", buffering=0) as opened:
            opened.write(b"!")
            supervisor.wait_for(lambda: self.generations()[number]["state"] == "ready", "ready")
        control.ask("commit", epoch=control.epoch)
        control.ask("end", epoch=control.epoch)
        supervisor.wait_for(lambda: "2 active" in self.roles(), "its role")
        self.assertEqual([line for line in self.roles() if line.startswith("2")], ["2 candidate", "2 active"])


if __name__ == "__main__":
    unittest.main()
