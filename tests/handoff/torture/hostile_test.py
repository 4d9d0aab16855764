"""A candidate that attacks: the supervisor, the kernel's steering, the node. The active one keeps its users.

The candidate runs as another user (`daemon`), is ready, and has no weight; each attack's answer is the kernel's own.
Whatever is not refused must be harmless: no request fails, and none is answered by the candidate.
"""

import json
import os
import pathlib
import socket
import sys
import unittest

import bpf
import scene
from supervisor import wait_for

SERVICE = pathlib.Path(__file__).with_name("hostile_service.py")
USER, NEIGHBOUR = "daemon", "games"
DENIED = ("EACCES", "EPERM")


class Hostile(scene.Case):
    flows = {"fresh": {"connections": 8, "rate": 200, "timeout_ms": 20_000}}

    @classmethod
    def pack(cls, version, *options, watch=None, listener="", **keys):
        spec = f"""strategy = "handoff"
[service]
command = ["bin/hostile", "{version}"]
user = "{USER}"
drain_timeout = "1s"
stop_timeout = "1s"
[[service.listener]]
name = "http"
address = "tcp:127.0.0.1:{cls.port}"
{listener}
[[probe]]
name = "front"
type = "http"
url = "http://127.0.0.1:{cls.port}/"
interval = "50ms"
timeout = "5s"
failures = 2
[rollout]
watch = "{watch or cls.watch}"
"""
        return cls.workshop.pack(version, spec, {"bin/hostile": (SERVICE.read_bytes(), 0o755)})

    @classmethod
    def prepare(cls):
        cls.node_.configure(f'[allow]\nusers = ["{USER}"]\n', app="demo")
        cls.configure_neighbour(NEIGHBOUR)
        cls.neighbour_port = scene.harness.free_port()
        spec = f"""strategy = "handoff"
[service]
command = ["bin/demo-service"]
[[service.listener]]
name = "http"
address = "tcp:127.0.0.1:{cls.neighbour_port}"
[[service.listener]]
name = "local"
address = "unix:{cls.node_.root}/run/other/local"
[rollout]
watch = "0s"
"""
        program = {"bin/demo-service": (pathlib.Path(scene.DEMO).read_bytes(), 0o755)}
        done = cls.node_.apply(cls.workshop.pack("1.0.0", spec, program, app="other"), env=scene.ENV)
        assert done.code == 0, done

    @classmethod
    def configure_neighbour(cls, user):
        cls.node_.configure(f'[run]\nuser = "{user}"\n', app="other")

    @classmethod
    def end_everything(cls):
        cls.node_.run("stop", "other", env=scene.ENV)
        for pids in scene.processes_of(cls.node_.root, "other").values():
            scene.end(pids)
        super().end_everything()

    def setUp(self):
        self.before, self.after = self.node_.committed(), self.other()
        self.driver = self.apply(failpoints="deploy.before_shift=stop")
        scene.wait_stopped(self.driver.pid)
        generations = {one["role"]: one for one in self.generations()}
        self.active, self.candidate = generations["active"], generations["candidate"]
        self.control = socket.socket(socket.AF_UNIX)
        self.control.settimeout(scene.harness.COMMAND_LIMIT_S)
        self.control.connect(str(self.runtime(self.candidate) / "ctl"))
        self.stream = self.control.makefile("rw")
        self.load_.expect("fresh", self.before)

    def tearDown(self):
        self.stream.close()
        self.control.close()
        self.load_.expect("fresh")
        scene.end([self.driver.pid])  # its guardian undoes the deployment
        self.driver.end()
        self.assert_settled_as(self.before)

    def runtime(self, generation):
        return self.node_.root / "run/demo" / str(generation["number"])

    def own(self, name):
        return str(self.node_.root / "run/.demo" / name)

    def attack(self, *words):
        print(json.dumps(words), file=self.stream, flush=True)
        return self.stream.readline().strip()

    def assert_harmless(self):
        self.assert_served(self.before)
        self.assertEqual(len(self.processes()["supervisor"]), 1)
        states = {one["number"]: one["state"] for one in self.generations()}
        self.assertEqual(states[self.active["number"]], "ready")

    def test_the_steering_can_not_be_taken_over(self):
        for name in ("attach_cbpf", "attach_cbpf_raw", "attach_ebpf", "detach", "unlock_filter", "attach_filter"):
            self.assertIn(self.attack(name), DENIED, name)
        self.assertEqual(self.attack("second_bind"), "EADDRINUSE")
        state = json.loads((self.node_.root / "run/.demo/state").read_text())
        policy = state["policy"]["map"]
        (program,) = bpf.steering(policy)
        self.assertIn(self.attack("bpf_map", policy), DENIED)
        self.assertIn(self.attack("bpf_program", program), DENIED)
        self.assert_harmless()

    def test_its_own_listener_is_its_own_loss(self):
        for _ in range(3):
            self.assertTrue(self.attack("listen_0").startswith("ok"))
        self.assert_harmless()
        self.assertTrue(self.attack("shutdown").startswith("ok"))
        self.assert_harmless()
        # listening again puts it back among the sockets, not into its place
        self.assertTrue(self.attack("listen_0").startswith("ok"))
        self.assert_harmless()
        self.driver.resume()
        done = self.driver.end()
        self.assert_exit(done, 4)
        self.assertIn("does not listen any more", done.json["error"]["message"])

    def test_the_supervisor_can_not_be_reached(self):
        supervisor = self.one("supervisor")
        for path in (self.own("held"), str(self.node_.root / "run/demo.sock")):
            self.assertIn(self.attack("connect", path), DENIED, path)
        for name in ("steal", "ptrace", "kill"):
            self.assertIn(self.attack(name, supervisor), DENIED, name)
            self.assertIn(self.attack(name, self.one("holder")), DENIED, name)
        self.assert_harmless()

    def neighbour(self):
        (generation,) = self.node_.json("status", "other", env=scene.ENV)["apps"][0]["generations"]
        return generation

    def test_another_app_can_not_be_reached(self):
        run, data = self.node_.root / "run", self.node_.root / "apps/other/data"
        before = self.neighbour()
        number = before["number"]
        local = run / "other/local"
        self.assertTrue(local.is_socket())
        found = scene.processes_of(self.node_.root, "other")
        for (pid,) in (found["supervisor"], found["holder"], found["service", number]):
            for name in ("steal", "ptrace", "kill"):
                self.assertIn(self.attack(name, pid), DENIED, name)
            for file in ("environ", "mem"):
                self.assertIn(self.attack("read", f"/proc/{pid}/{file}"), DENIED, file)
        for path in (run / "other.sock", run / ".other/held"):
            self.assertIn(self.attack("connect", str(path)), DENIED, path)
        for path in (data, run / f"other/{number}"):
            self.assertIn(self.attack("write", str(path / "planted")), DENIED, path)
            self.assertIn(self.attack("symlink", "/etc", str(path / "planted")), DENIED, path)
        self.assertIn(self.attack("list", str(data)), DENIED)
        self.assertIn(self.attack("rename", str(self.runtime(self.candidate) / "ctl"), str(local)), DENIED)
        self.assertIn(self.attack("bind_path", str(run / "other/more")), DENIED)
        spoofed = self.attack("notify_at", str(run / f".other/notify.{number}"), "STOPPING=1\nSTATUS=spoofed\nMAINPID=1")
        self.assertTrue(spoofed in DENIED or spoofed.startswith("ok"), spoofed)
        self.assertEqual(self.neighbour(), before)
        self.assert_harmless()

    def test_two_apps_of_one_user_are_named(self):
        def said():
            checks = self.node_.json("doctor", env=scene.ENV)["checks"]
            return [check for check in checks if check["check"] == "users"]
        self.assertEqual(said(), [])
        self.addCleanup(self.configure_neighbour, NEIGHBOUR)
        self.configure_neighbour(USER)
        (check,) = said()
        self.assertEqual(check["health"], "limited")
        self.assertIn(f"demo, other run as '{USER}'", check["found"])

    def test_its_folders_are_no_way_out(self):
        number, target = self.candidate["number"], "/etc/passwd"
        before = pathlib.Path(target).read_bytes()
        for name in (f"role.{number}", f"output.{number}", f"notify.{number}", "state"):
            self.assertIn(self.attack("replace_by_symlink", target, self.own(name)), DENIED, name)
            self.assertIn(self.attack("symlink", target, self.own(name + ".new")), DENIED, name)
        for name in ("demo.sock", "demo.lock", f".demo/{number + 1}"):
            path = str(self.node_.root / "run" / name)
            self.assertIn(self.attack("symlink", target, path), (*DENIED, "EEXIST"), name)
            self.assertIn(self.attack("rename", str(self.runtime(self.candidate)), path), DENIED, name)
        self.assertIn(self.attack("write", str(self.node_.root / "apps/demo/current/planted")), DENIED)
        # its own runtime folder is its own: a link in it leads nobody else anywhere
        self.assertTrue(self.attack("symlink", "/etc", str(self.runtime(self.candidate) / "etc")).startswith("ok"))
        # and so is the app's: what it puts in the way of the next generation is taken away (the next test has one)
        self.attack("symlink", "/etc", str(self.node_.root / f"run/demo/{number + 1}"))
        self.assert_harmless()
        self.assertEqual(pathlib.Path(target).read_bytes(), before)
        self.tearDown()
        self.setUp()
        self.assertTrue((self.runtime(self.candidate) / "ctl").is_socket())

    def test_a_link_of_its_leads_the_supervisor_to_no_folder_that_is_not_allowed(self):
        # the app's runtime folder needs no permission, and belongs to the service's user
        folder, away = self.runtime(self.candidate).parent, self.node_.root / "away"
        away.mkdir()
        self.addCleanup(away.rmdir)  # nothing is in it
        self.assertTrue(self.attack("symlink", str(away), str(folder / "d")).startswith("ok"))
        self.addCleanup((folder / "d").unlink)
        self.assert_harmless()
        self.tearDown()
        self.driver = self.apply(self.pack("3.0.0", listener=f"""[[service.listener]]
name = "planted"
address = "unix:{folder}/d/x"
mode = "0777"
"""))
        done = self.driver.end()
        self.assert_exit(done, 3)
        self.assertIn("through the link 'd'", done.json["error"]["message"])
        self.assertEqual(list(away.iterdir()), [])
        self.setUp()

    def test_its_words_are_heard_for_what_they_are(self):
        active = self.active
        spoofed = self.attack("notify_at", self.own(f"notify.{active['number']}"), "STOPPING=1\nSTATUS=spoofed\nMAINPID=1")
        self.assertTrue(spoofed in DENIED or spoofed.startswith("ok"), spoofed)
        for text in (f"MAINPID={active['pid']}", "MAINPID=1", "MAINPID=0", f"MAINPID={self.one('supervisor')}"):
            self.assertTrue(self.attack("notify", text).startswith("ok"))
        self.assertTrue(self.attack("store_as", "http").startswith("ok"))
        self.attack("huge_notify", 100_000)
        self.assertTrue(self.attack("notify", "STATUS=\x1b[2Jred \x9b31m\x07 alert").startswith("ok"))
        status = wait_for(lambda: next((one["status"] for one in self.generations()
                                        if one["number"] == self.candidate["number"] and "alert" in one["status"]), None), "its status")
        self.assertEqual(status, "[2Jred 31m alert")
        shown = self.node_.run("status", "demo", env=scene.ENV).out
        self.assertIn("alert", shown)
        self.assertNotRegex(shown, "[\x00-\x09\x0b-\x1f\x7f-\x9f]")
        by_number = {one["number"]: one for one in self.generations()}
        self.assertEqual(by_number[self.candidate["number"]]["pid"], self.candidate["pid"])
        self.assertEqual((by_number[active["number"]]["pid"], by_number[active["number"]]["status"]),
                         (active["pid"], active["status"]))
        self.assert_harmless()

    def test_a_flood_of_descriptors_is_bounded(self):
        supervisor, holder = self.one("supervisor"), self.one("holder")
        for _ in range(3):
            self.assertTrue(self.attack("flood", 200).startswith("ok"))
        self.assert_harmless()
        for pid in (supervisor, holder):
            # 128 are kept; what was refused is closed again
            wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) < 128 + 64, f"bounded descriptors of {pid}")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
