"""Supervisors as units of a real systemd: boots, stops, restarts, crashes, upgrades, power cuts. See machine.py."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import unittest

import harness
import load
import machine
from supervisor import wait_for

DEMO = os.environ["UPDAGENT_DEMO_SERVICE"]
BUILD = os.environ["UPDAGENT_BUILD_DIR"]
UNIT = "updagent@demo.service"
# The ten seconds that a handoff is watched where nothing is said would only cost time here.
UNWATCHED = '[rollout]\nwatch = "0s"\n'


class Case(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.workshop = harness.Workshop()
        cls.addClassCleanup(cls.workshop.close)

    def setUp(self):
        folder = tempfile.mkdtemp(prefix="machine-", dir=self.workshop.path)
        self.machine = machine.Machine(folder)
        self.addCleanup(self.machine.close)
        self.machine.install(BUILD)
        self.machine.boot()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        shutil.copy(self.workshop.public(), self.machine.root / "root/release.pub")
        self.ok("updagent", "trust", "add", "/root/release.pub")

    def ok(self, *words, env=None):
        return self.exits(0, *words, env=env)

    def exits(self, code, *words, env=None):
        done = self.machine.run(*words, env=env)
        self.assertEqual(done.code, code, f"{words}: {done}\n{self.journal()}")
        return done

    def journal(self, unit=UNIT):
        return self.machine.run("journalctl", "--no-pager", "-o", "short-precise", "-u", unit).out

    def release(self, version, *options, says="", stop_timeout="10s", more="", service=True):
        command = ["bin/demo-service", "--version", version, "--generation", version, *options]
        if says:
            command = ["/bin/sh", "-c", f"echo {says}; exec " + " ".join(command)]
        spec = 'strategy = "files"\n'
        if service:
            spec = f"""strategy = "handoff"
[service]
command = {json.dumps(command)}
ready_timeout = "20s"
drain_timeout = "20s"
stop_timeout = "{stop_timeout}"
[[service.listener]]
name = "http"
address = "tcp:127.0.0.1:{self.port}"
{more if "[rollout]" in more else more + UNWATCHED}"""
        files = {"bin/demo-service": (pathlib.Path(DEMO).read_bytes(), 0o755)}
        artifact = self.workshop.pack(version, spec, files)
        shutil.copy(artifact, self.machine.root / "root" / artifact.name)
        return f"/root/{artifact.name}"

    def apply(self, *words, code=0, env=None):
        return json.loads(self.exits(code, "updagent", "--json", "apply", *words, env=env).out)

    def app(self):
        return json.loads(self.ok("updagent", "--json", "status", "demo").out)["apps"][0]

    def events(self, name):
        lines = self.ok("updagent", "--json", "log", "--limit", "0").out.splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def generations(self):
        return {one["number"]: one for one in self.app()["generations"]}

    def show(self, name, unit=UNIT):
        return self.ok("systemctl", "show", "--value", "-p", name, unit).out.strip()

    def unit_is(self, state):
        return wait_for(lambda: self.show("ActiveState") == state, f"the unit to be {state}")

    def load(self):
        target = f"tcp:127.0.0.1:{self.port}"
        return load.Load({"fresh": {"target": target, "connections": 8, "rate": 200},
                          "kept": {"target": target, "connections": 8, "rate": 100, "keepalive": 1}})

    def serving(self):
        """The version that answers, None if nobody listens."""
        done = subprocess.run(["curl", "-sS", f"http://127.0.0.1:{self.port}/"], capture_output=True, text=True)
        return json.loads(done.stdout)["version"] if done.returncode == 0 else None

    def serves(self, version):
        wait_for(lambda: self.serving() == version, f"{version} to serve")

    def generation_cgroups(self):
        folder = self.machine.path("/sys/fs/cgroup" + self.show("ControlGroup"))
        return sorted(path.name for path in folder.glob("generation-*"))

    def service_processes(self):
        done = self.machine.run("pgrep", "-x", "demo-service")
        return done.out.split()

    def links(self):
        folder = self.machine.root / "var/lib/updagent/apps/demo"
        return [os.readlink(folder / name).removeprefix("releases/") if (folder / name).is_symlink() else None
                for name in ("current", "committed")]

    def drop_in(self, text):
        folder = self.machine.root / "etc/systemd/system/updagent@.service.d"
        folder.mkdir()
        (folder / "test.conf").write_text(text)
        self.ok("systemctl", "daemon-reload")

    def fake_systemctl(self, body):
        path = self.machine.root / "usr-local/sbin/systemctl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n" + body)
        path.chmod(0o755)
        return path


class Life(Case):
    def test_the_first_apply_enables_and_starts_the_unit(self):
        self.apply(self.release("1.0.0"))
        self.serves("1.0.0")
        self.assertEqual(self.ok("systemctl", "is-enabled", UNIT).out.strip(), "enabled")
        self.assertEqual(self.ok("systemctl", "is-enabled", "updagent-recover.service").out.strip(), "enabled")
        self.assertEqual(self.app()["boot"], UNIT)
        self.unit_is("active")
        self.assertEqual([self.show(name) for name in ("KillMode", "Delegate", "OOMPolicy", "Restart", "Type")],
                         ["process", "yes", "continue", "always", "notify"])
        self.assertIn("updagent-recover.service", self.show("After").split())
        self.assertEqual(self.generation_cgroups(), ["generation-1"])
        pid = self.generations()[1]["pid"]
        membership = self.machine.run("cat", f"/proc/{pid}/cgroup").out
        self.assertTrue(membership.strip().endswith(f"{UNIT}/generation-1"), membership)

    def test_what_a_service_prints_is_in_the_journal_of_its_unit(self):
        self.apply(self.release("1.0.0", says="hello from one"))
        wait_for(lambda: "hello from one" in self.journal(), "the line in the journal")
        line = next(line for line in self.journal().splitlines() if "hello from one" in line)
        self.assertIn(" demo[", line)

    def test_restarts_crashes_and_upgrades_leave_the_generations_serving(self):
        self.apply(self.release("1.0.0"))
        self.serves("1.0.0")
        before = self.generations()[1]["pid"]
        with self.load() as running:
            running.wait_for_answers(100)
            for disturb in (self.restart_unit, self.kill_supervisor, self.upgrade):
                main = self.show("MainPID")
                disturb()
                wait_for(lambda: self.show("MainPID") not in ("0", main) and self.show("ActiveState") == "active",
                         "the next supervisor")
                running.wait_for_answers(100)
                self.assertEqual({n: one["pid"] for n, one in self.generations().items()}, {1: before}, disturb)
            self.reload_after_an_upgrade()
            running.wait_for_answers(100)
            self.assertEqual({n: one["pid"] for n, one in self.generations().items()}, {1: before})
            self.apply(self.release("2.0.0"))
            running.wait_for_answers(100, generation="2.0.0")
            running.stop().assert_nothing_failed()
        wait_for(lambda: self.service_processes() == [str(one["pid"]) for one in self.generations().values()] and
                 [one["version"] for one in self.generations().values()] == ["2.0.0"], "the new one alone")

    def restart_unit(self):
        self.ok("systemctl", "restart", UNIT)

    def kill_supervisor(self):
        self.ok("kill", "-9", self.show("MainPID"))

    def upgrade(self):
        self.machine.install(BUILD)
        self.ok("systemctl", "daemon-reload")
        self.ok("systemctl", "restart", UNIT)

    def reload_after_an_upgrade(self):
        """The same process becomes the program that was installed."""
        main = self.show("MainPID")

        def program():
            return self.ok("readlink", f"/proc/{main}/exe").out.strip()
        self.machine.install(BUILD)
        self.assertTrue(program().endswith("/updagent-supervisor (deleted)"), program())
        self.ok("systemctl", "reload", UNIT)
        wait_for(lambda: program().endswith("/updagent-supervisor"), "the program that was installed")
        self.unit_is("active")
        self.assertEqual(self.show("MainPID"), main)

    def test_everything_in_the_unit_is_killed_and_the_service_comes_back(self):
        self.apply(self.release("1.0.0"))
        self.serves("1.0.0")
        self.ok("systemctl", "kill", "--kill-who=all", "--signal=KILL", UNIT)
        self.serves("1.0.0")
        self.unit_is("active")
        wait_for(lambda: [one["state"] for one in self.generations().values()] == ["ready"], "one generation")


    def test_what_another_unit_had_started_is_adopted_and_replaced(self):
        shutil.copy(DEMO, self.machine.root / "root/stranger")
        (self.machine.root / "etc/systemd/system/stranger.service").write_text(
            f"[Service]\nExecStart=/root/stranger --version 0 --port {self.port}\n")
        (self.machine.root / "root/demo.toml").write_text(
            f'app = "demo"\nversion = "0.0.1"\nstrategy = "handoff"\n[service]\ncommand = ["/root/stranger"]\n'
            f'[[service.listener]]\nname = "http"\naddress = "tcp:0.0.0.0:{self.port}"\n')
        self.ok("systemctl", "start", "stranger.service")
        self.serves("0")
        pid = self.show("MainPID", "stranger.service")
        with self.load() as running:
            running.wait_for_answers(50)
            told = self.ok("updagent", "adopt", "demo", "--pid", pid, "--spec", "/root/demo.toml")
            self.assertIn("systemctl disable stranger.service", told.out + told.err)
            self.unit_is("active")
            self.ok("systemctl", "restart", UNIT)
            running.wait_for_answers(50, generation="0")
            running.stop().assert_nothing_failed()


class Stops(Case):
    def test_a_stop_ends_everything_and_is_no_wish(self):
        self.apply(self.release("1.0.0"))
        self.serves("1.0.0")
        self.ok("systemctl", "stop", UNIT)
        self.assertIsNone(self.serving())
        self.assertEqual((self.show("ActiveState"), self.show("Result")), ("inactive", "success"), self.journal())
        self.assertEqual(self.service_processes(), [])
        self.assertIsNone(self.app()["stopped"])
        self.assertEqual(self.app()["boot"], UNIT)
        self.ok("systemctl", "start", UNIT)
        self.serves("1.0.0")
        self.machine.reboot()
        self.serves("1.0.0")
        # the shutdown has not just killed it
        self.assertEqual([event["status"] for event in self.events("service.stopped")], ["success"] * 2)
        self.assertEqual(self.events("service.failed"), [])

    def test_a_stop_may_take_as_long_as_the_service_is_given(self):
        self.drop_in("[Service]\nTimeoutStopSec=1s\n")
        self.apply(self.release("1.0.0", "--ignore-term", "1", stop_timeout="3s"))
        self.serves("1.0.0")
        self.ok("systemctl", "stop", UNIT)
        self.assertEqual((self.show("Result"), self.service_processes()), ("success", []), self.journal())

    def test_a_wish_survives_a_boot_and_a_commit_ends_it(self):
        self.apply(self.release("1.0.0"))
        self.ok("updagent", "stop", "demo")
        self.assertIsNone(self.serving())
        self.unit_is("inactive")
        self.assertEqual(self.show("Result"), "success")
        self.machine.reboot()
        self.assertEqual(self.show("ActiveState"), "inactive", self.journal())
        self.assertEqual(self.show("NRestarts"), "0")
        self.assertEqual(self.ok("systemctl", "is-enabled", UNIT).out.strip(), "enabled")
        self.assertEqual(self.machine.run("systemctl", "is-system-running").out.strip(), "running")
        app = self.app()
        self.assertEqual((app["boot"], app["generations"]), ("stopped", []))
        self.assertIn("uid=0", app["stopped"]["by"])
        self.ok("systemctl", "start", UNIT)  # a condition that does not hold is no failure
        self.assertIsNone(self.serving())
        # one that fails leaves it stopped, one that is committed does not
        self.apply(self.release("2.0.0", "--crash-at-start", "3"), code=1)
        self.assertIsNone(self.serving())
        self.assertEqual(self.app()["boot"], "stopped")
        told = self.ok("updagent", "apply", self.release("3.0.0"))
        self.assertIn("it runs again", told.err)
        self.serves("3.0.0")
        self.assertIsNone(self.app()["stopped"])
        self.machine.reboot()
        self.serves("3.0.0")

    def test_start_takes_the_wish_off(self):
        self.apply(self.release("1.0.0"))
        self.ok("updagent", "stop", "demo")
        self.ok("updagent", "start", "demo")
        self.serves("1.0.0")
        first = self.generations()
        self.ok("updagent", "start", "demo")  # it runs: nothing to do
        self.assertEqual(self.generations().keys(), first.keys())
        self.machine.reboot()
        self.serves("1.0.0")

    def test_stop_ends_what_a_dead_supervisor_left(self):
        self.apply(self.release("1.0.0"))
        self.serves("1.0.0")
        self.drop_in("[Service]\nRestart=no\n")
        self.ok("kill", "-9", self.show("MainPID"))
        wait_for(lambda: self.show("MainPID") == "0", "no supervisor")
        self.assertEqual(self.serving(), "1.0.0")
        self.assertIn("no supervisor runs", self.ok("updagent", "status").out)
        self.ok("updagent", "stop", "demo")
        self.assertIsNone(self.serving())
        self.assertEqual(self.service_processes(), [])

    def test_without_an_answer_from_systemd_services_serve_on(self):
        self.apply(self.release("1.0.0"))
        self.serves("1.0.0")
        fake = self.fake_systemctl("echo 'no bus' >&2; exit 1\n")
        pid = self.generations()[1]["pid"]
        self.machine.run("/usr/bin/systemctl", "stop", UNIT)
        self.assertEqual(self.serving(), "1.0.0")
        self.assertIn("no bus", self.journal())
        fake.unlink()
        self.ok("systemctl", "start", UNIT)
        self.assertEqual(self.generations()[1]["pid"], pid)


    def test_a_stop_in_a_deployment_is_obeyed_and_the_deployment_undone(self):
        probe = f'[[probe]]\nname = "up"\ntype = "http"\nurl = "http://127.0.0.1:{self.port}/healthz"\ninterval = "50ms"\n'
        self.apply(self.release("1.0.0", more=probe))
        watched = self.release("2.0.0", more=probe + '[rollout]\nwatch = "10m"\n')
        with self.machine.popen("updagent", "apply", watched) as driver:
            wait_for(lambda: (self.app()["deployment"] or {}).get("stage") == "watch", "the watch")
            self.ok("systemctl", "stop", UNIT)
            self.assertEqual(self.service_processes(), [])
            self.assertEqual(driver.wait(), 4, self.ok("updagent", "log", "--limit", "0").out)
        self.assertEqual(self.links(), ["1.0.0", "1.0.0"])
        self.assertFalse(self.app()["needs_person"])
        self.assertIsNone(self.serving())
        self.ok("systemctl", "start", UNIT)
        self.serves("1.0.0")


class Boots(Case):
    def test_a_power_cut_in_the_watch_boots_what_was_committed(self):
        self.apply(self.release("1.0.0"))
        watched = self.release("2.0.0", more='[rollout]\nwatch = "10m"\n')
        with self.machine.popen("updagent", "apply", watched) as driver:
            wait_for(lambda: (self.app()["deployment"] or {}).get("stage") == "watch", "the watch")
            self.serves("2.0.0")
            self.assertEqual(self.links(), ["2.0.0", "1.0.0"])
            self.machine.cut_power()
            driver.wait()
        self.machine.boot()
        self.serves("1.0.0")
        self.assertEqual(self.links(), ["1.0.0", "1.0.0"])
        app = self.app()
        self.assertIsNone(app["deployment"])
        self.assertFalse(app["needs_person"])
        self.assertEqual([one["version"] for one in app["generations"]], ["1.0.0"])
        last = self.events("deployment.finished")[-1]
        self.assertEqual((last["actor"], last["detail"]["outcome"], last["detail"]["reason"]),
                         ("boot", "rolled_back", "reboot"), last)
        self.ok("updagent", "log", "verify")

    def test_a_damaged_tree_is_not_started(self):
        self.apply(self.release("1.0.0"))
        program = self.machine.root / "var/lib/updagent/apps/demo/releases/1.0.0/bin/demo-service"
        self.machine.power_off()
        program.write_bytes(program.read_bytes() + b"x")
        self.machine.boot()
        self.unit_is("failed")
        self.assertEqual((self.show("ExecMainStatus"), self.show("NRestarts")), ("9", "0"), self.journal())
        self.assertIsNone(self.serving())
        self.assertIn("not what was signed", self.journal())
        self.exits(9, "updagent", "start", "demo")
        # a good release leads out
        self.apply(self.release("2.0.0"))
        self.serves("2.0.0")
        self.unit_is("active")

    def test_by_hand_it_is_refused(self):
        self.apply(self.release("1.0.0"))
        refused = self.exits(2, "updagent", "supervise", "demo")
        self.assertIn(f"systemctl start {UNIT}", refused.err)
        # another root is nobody's unit
        self.exits(6, "updagent", "--root", "/root/other", "supervise", "demo")

    def test_what_a_boot_starts_follows_the_strategy(self):
        self.apply(self.release("1.0.0"))
        self.serves("1.0.0")
        self.apply(self.release("2.0.0", service=False))
        self.unit_is("inactive")
        self.assertEqual(self.machine.run("systemctl", "is-enabled", UNIT).out.strip(), "disabled")
        self.assertIsNone(self.serving())
        self.apply(self.release("3.0.0"))
        self.serves("3.0.0")
        self.assertEqual(self.app()["boot"], UNIT)
        # an operator who disabled it meant it
        self.ok("systemctl", "disable", UNIT)
        self.apply(self.release("4.0.0"))
        self.assertEqual(self.app()["boot"], "none")
        self.ok("updagent", "stop", "demo")
        self.ok("systemctl", "enable", UNIT)
        self.ok("updagent", "remove", "demo")
        self.assertEqual(self.machine.run("systemctl", "is-enabled", UNIT).out.strip(), "disabled")

    def test_a_unit_that_can_not_be_enabled_is_told(self):
        fake = self.fake_systemctl('case "$*" in *enable*) echo "disk is read-only" >&2; exit 1 ;; esac\n'
                                   'exec /usr/bin/systemctl "$@"\n')
        told = self.ok("updagent", "apply", self.release("1.0.0"))
        self.assertIn("disk is read-only", told.err)
        self.serves("1.0.0")
        fake.unlink()
        self.assertEqual(self.app()["boot"], "none")
        self.assertIn(f"systemctl enable updagent-recover.service {UNIT}", self.ok("updagent", "status").out)


if __name__ == "__main__":
    machine.enter_own_network()
    unittest.main()
