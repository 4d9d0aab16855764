"""The recipes of docs/rollout.md, as they stand there but for port, version, folder and the length of their times."""

import contextlib
import pathlib
import re
import sys
import unittest

import canary
import harness
import load
import recipes
import scene
from supervisor import wait_for

DEMO = pathlib.Path(scene.DEMO)
# Of the recipes; an hour of patience is for people.
QUICK = {'step_duration = "30s"': 'step_duration = "500ms"', 'step_duration = "60s"': 'step_duration = "500ms"',
         'watch = "60s"': 'watch = "500ms"', 'watch = "2m"': 'watch = "500ms"', "min_samples = 500": "min_samples = 100",
         'window = "60s"': 'window = "5s"', "[$window:5s]": "[$window:250ms]", "shop_info": "demo_info"}
WORKER = "#!/bin/sh\necho \"$$ $1\" >>\"$STATE_DIRECTORY/senders\"\nexec sleep 3600\n"
MIGRATE = '#!/bin/sh\necho "VERSION $1" >>"$STATE_DIRECTORY/migrations"\n'


class Recipes(harness.Case):
    def setUp(self):
        harness.become_subreaper()
        self.node_ = self.node()
        self.port = harness.free_port()

    def tearDown(self):
        self.node_.run("stop", self.recipe.app, env=scene.ENV)
        harness.reap_all()

    def take(self, name, **others):
        self.recipe = recipes.read_all("rollout.md")[name]
        self.others = QUICK | others
        for path, text in self.recipe.node.items():
            self.node_.configure(text, app=pathlib.Path(path).stem)

    def release(self, version, **files):
        written = self.recipe.release(version, self.port, self.node_.root, **self.others)
        spec = re.sub(r'^(app|version|#).*\n', "", written.pop("updagent.toml"), flags=re.M)
        if version == "1.0.0":
            spec = spec.split("[[gate]]")[0]  # nobody uses the first one yet
        programs = {f"bin/{name}": (text if isinstance(text, bytes) else text.replace("VERSION", version).encode(), 0o755)
                    for name, text in files.items()}
        return self.workshop.pack(version, spec, programs | {path: text.encode() for path, text in written.items()},
                                  app=self.recipe.app)

    def apply(self, artifact, code=0):
        return self.assert_exit(self.node_.apply(artifact, env=scene.ENV), code)

    @contextlib.contextmanager
    def users(self):
        flow = {"target": f"tcp:127.0.0.1:{self.port}", "connections": 200, "rate": 800, "timeout_ms": 20_000}
        with load.Load({"fresh": flow}) as running:
            running.wait_for_answers(50)
            yield running

    def two_good_ones(self, **files):
        self.apply(self.release("1.0.0", **files))
        with self.users() as running:
            done = self.apply(self.release("2.0.0", **files))
            running.wait_for_answers(50, generation="2.0.0")
            running.stop().assert_nothing_failed()
        return [event for event in self.node_.events("--trace", done.json["trace_id"])]

    def test_a_plain_web_server(self):
        self.take("A plain web server")
        events = self.two_good_ones()
        self.assertIn("gate.passed", [event["event"] for event in events])

    def test_a_service_with_metrics(self):
        self.take("A service with metrics")
        events = self.two_good_ones(shop=DEMO.read_bytes())
        steps = [event["detail"]["percent"] for event in events if event["event"] == "rollout.step"]
        self.assertEqual(steps, [1, 10, 50, 100])
        self.others = self.others | {'"bin/shop", ': '"bin/shop", "--fail-ratio", "1", '}
        with self.users() as running:
            done = self.apply(self.release("3.0.0", shop=DEMO.read_bytes()), 4)
            self.assertIn("gate 'errors'", done.json["error"]["message"])
            running.wait_for_answers(50, generation="2.0.0")

    def test_prometheus_a_worker_and_a_migration(self):
        with canary.Prometheus(f"127.0.0.1:{self.port}") as prometheus:
            self.take("Prometheus, a worker and a migration", **{"http://127.0.0.1:9090": prometheus.url})
            events = self.two_good_ones(shop=DEMO.read_bytes(), sender=WORKER, migrate=MIGRATE)
        self.assertIn("slo", [event["detail"]["gate"] for event in events if event["event"] == "gate.passed"])
        state = self.node_.root / "apps/mail/data"
        self.assertEqual((state / "migrations").read_text().split("\n")[:-1],
                         [f"{version} --{half}" for version in ("1.0.0", "2.0.0") for half in ("expand", "contract")])
        wait_for(lambda: len((state / "senders").read_text().splitlines()) == 2, "the sender of each version")

    def test_each_recipe_has_a_test(self):
        self.take("A plain web server")  # for the end
        names = {name.removeprefix("test_") for name in dir(self)}
        for name in recipes.read_all("rollout.md"):
            self.assertIn(re.sub(r"\W+", "_", name.lower()), names)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
