"""What services say and do that is allowed and odd, and what a node can lack."""

import os
import pathlib
import shutil
import signal
import unittest

import census
import scene
import supervisor
from succession_test import Witnessed


class Said(Witnessed):
    def test_one_that_never_ends_to_say_that_it_stops_fails_once(self):
        self.handoff(self.witness("1"))
        control = self.begin()
        number, _ = self.candidate(control, self.witness("2", "flood=STOPPING=1"))
        control.await_news(lambda one: one.get("life") == "failed")
        for _ in range(100):  # turns of the loop, in each of which it says so some 30 times
            control.ask("progress", epoch=control.epoch, progress={})
        control.ask("rollback", epoch=control.epoch, reason="test")
        control.ask("end", epoch=control.epoch)
        self.only(1)
        self.assertEqual(len(self.events("service.failed")), 1)
        self.assertEqual([one for one in control.news if one.get("life") == "failed"], [])

    def test_one_that_gives_its_place_as_main_process_to_a_child_leaves_nothing(self):
        number = self.handoff(self.witness("1", "daemon"))
        os.kill(self.generations()[number]["pid"], signal.SIGKILL)
        supervisor.wait_for(lambda: self.seen("1 ready") == 2, "a restart")
        self.only(self.handoff(self.witness("2")))
        children = self.children()
        self.assertEqual(len(children), 1, children)

    def test_what_a_service_takes_out_of_its_store_again_nobody_has(self):
        self.handoff(self.witness("1", "store=128"))
        self.wait_seen("1 removed")
        found = scene.processes_of(self.root)
        for pid in [*found["supervisor"], *found["holder"]]:
            supervisor.wait_for(lambda: not self.stored(pid), "a store that is empty")
        self.assertEqual(self.events("supervisor.problem"), [])

    def stored(self, pid):
        return [what for what in census.descriptors(pid).values() if "memfd:stored-" in what]

    def children(self):
        """Of the supervisor, also those that nobody has waited for."""
        pid = self.supervisor.process.pid
        listed = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {int(one): scene.state_of(int(one)) for one in listed}


class Left(Witnessed):
    def test_a_runtime_folder_that_is_too_deep_to_be_removed_is_said(self):
        number = self.handoff(self.witness("1"))
        folder = self.root / "run/demo" / str(number)
        inner = os.open(folder, os.O_RDONLY)
        for _ in range(500):
            os.mkdir("d", dir_fd=inner)
            outer, inner = inner, os.open("d", os.O_RDONLY, dir_fd=inner)
            os.close(outer)
        os.close(inner)
        self.only(self.handoff(self.witness("2")))
        self.assertTrue(folder.exists())
        self.assertIn("its runtime folder stays", str(self.events("service.complaint")))


class Removed(Witnessed):
    """Some servers remove the path that they think they have bound; some machines are tidied up."""

    def setUp(self):
        super().setUp()
        self.path = self.root / "public"
        self.listeners = [{"name": "http", "address": f"unix:{self.path}", "backlog": 16}]
        self.first = self.handoff(self.witness("1", listeners=self.listeners))

    def test_the_path_of_the_generation(self):
        pathlib.Path(f"{self.path}.g{self.first}").unlink()
        control = self.begin()
        number, news = self.candidate(control, self.witness("2", listeners=self.listeners))
        self.assertEqual(news["life"], "ready", news)
        control.ask("weight", epoch=control.epoch, weight=10_000)
        self.assertEqual(self.answer_at(self.path), "2")
        control.ask("rollback", epoch=control.epoch, reason="test")
        self.assertEqual(self.answer_at(self.path), "1")
        control.ask("end", epoch=control.epoch)
        self.only(self.first)
        self.assertEqual(self.answer_at(self.path), "1")

    def test_the_public_name_as_well(self):
        pathlib.Path(f"{self.path}.g{self.first}").unlink()
        self.path.unlink()
        self.handoff(self.witness("2", listeners=self.listeners))
        self.assertEqual(self.answer_at(self.path), "2")

    def test_a_listener_that_was_shut_down_is_said_and_the_next_start_has_another(self):
        pid = self.generations()[self.first]["pid"]
        os.kill(pid, signal.SIGUSR1)
        self.wait_seen("1 shut")
        self.assertIn("was shut down", self.supervisor.status()["problem"])
        os.kill(pid, signal.SIGKILL)
        supervisor.wait_for(lambda: self.seen("1 ready") == 2, "a restart")
        self.assertEqual(self.answer_at(self.path), "1")
        self.kill()
        self.supervisor.start()  # which has the new one from the holder
        self.assertEqual(self.answer_at(self.path), "1")
        self.only(self.handoff(self.witness("2", listeners=self.listeners)))
        self.assertEqual(self.answer_at(self.path), "2")


    def test_what_a_machine_that_died_left_beside_the_public_name_is_swept(self):
        self.only(self.handoff(self.witness("2", listeners=self.listeners)))
        scene.end(sum(scene.processes_of(self.root).values(), []))
        shutil.rmtree(self.root / "run")
        self.supervisor.start()
        number = self.handoff(self.witness("3", listeners=self.listeners))
        self.assertEqual({one.name for one in self.root.glob("public*")}, {"public", f"public.g{number}"})
        self.assertEqual(self.answer_at(self.path), "3")


class Released(Witnessed):
    def test_mode_of_a_public_name_is_that_of_the_release_that_serves(self):
        path = self.root / "public"
        for version, mode in (("1", 0o600), ("2", 0o666), ("3", 0o600)):
            listener = {"name": "http", "address": f"unix:{path}", "backlog": 16, "mode": f"{mode:04o}"}
            self.handoff(self.witness(version, listeners=[listener]))
            self.assertEqual(path.stat().st_mode & 0o777, mode)


class Full(Witnessed):
    def test_without_room_for_the_state_nothing_is_started(self):
        self.handoff(self.witness("1"))
        hindrance = self.root / "run/.demo/state.new"
        hindrance.mkdir()
        control = self.begin()
        for strategy in ("handoff", "restart"):
            with self.assertRaisesRegex(supervisor.Refused, "state.new"):
                control.ask("start", service=self.witness("2", strategy=strategy), epoch=control.epoch)
        control.ask("end", epoch=control.epoch)
        with self.assertRaisesRegex(supervisor.Refused, "state.new"):
            control.ask("restart", service=self.witness("2"))
        self.only(1)
        self.assertEqual((self.seen("1 TERM"), self.seen("2 ready")), (0, 0))
        self.assertIn("state.new", self.supervisor.status()["problem"])
        hindrance.rmdir()
        self.only(self.handoff(self.witness("2")))


if __name__ == "__main__":
    unittest.main()
