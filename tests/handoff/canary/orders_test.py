"""What people may order while a release takes its steps: pause, resume, promote, abort."""

import json
import sys
import unittest

import canary
import scene
from supervisor import Control, wait_for

LONG_STEPS = {"steps": [10, 100], "step_duration": "600s"}


class Orders(canary.Case):
    def orders_of(self, done):
        return [(event["detail"]["order"], bool(event["detail"]["actor"])) for event in self.events_of(done)
                if event["event"] == "deployment.ordered"]

    def names_of(self, done):
        return [event["event"] for event in self.events_of(done)]

    def paused_at(self, place, options=(), **keys):
        keys.setdefault("rollout", {"steps": [10, 50, 100], "step_duration": "300ms"})
        driver = self.apply_stopped_at(self.release(*options, **keys), place)
        self.pause_here(driver)
        return driver

    def assert_held(self, percent):
        """Longer than the step would have lasted, and gates judge on."""
        self.load_.wait_for_answers(300)
        deployment = self.status()["deployment"]
        self.assertEqual((deployment["stage"], deployment["weight_percent"]), ("shift", percent))

    def assert_status_tells_it(self, percent):
        wait_for(lambda: self.status()["deployment"]["paused"], "the pause in the status")
        wait_for(lambda: self.status()["deployment"]["measured_percent"] is not None, "its connections in the status")
        told = self.status()["deployment"]
        self.assertEqual(told["step_percent"], percent)
        self.assertTrue(told["waiting_for"].startswith("paused by "), told)
        self.assertTrue(0 < told["measured_percent"] < 100, told)
        line = next(one for one in self.node_.run("status", env=scene.ENV).out.splitlines() if one.startswith("  step "))
        self.assertRegex(line, rf"^  step {percent} %, measured \d+\.\d %, paused by ")

    def test_a_pause_holds_a_step_beyond_its_time_until_it_is_resumed(self):
        driver = self.paused_at("deploy.step.50")
        self.assert_held(50)
        self.assert_status_tells_it(50)
        answer = self.deployment("resume")
        self.assertEqual((answer["order"], answer["taken"]), ("resume", True))
        done = driver.end()
        self.assert_committed(done, self.newest)
        self.assertEqual(self.orders_of(done), [("pause", True), ("resume", True)])
        names = self.names_of(done)
        self.assertLess(names.index("rollout.paused"), names.index("rollout.resumed"))

    def test_a_bad_one_is_undone_while_it_is_paused(self):
        driver = self.paused_at("deploy.step.50", options=["--fail-ratio", "1"], gates=[canary.errors(self)],
                                rollout={"steps": [50, 100], "step_duration": "300ms"})
        done = driver.end()
        self.assert_undone(done, gate="errors", step=50, allowed=frozenset({"wrong_status"}))
        self.assertIn("rollout.paused", self.names_of(done))
        self.assertNotIn("rollout.resumed", self.names_of(done))

    def test_promote_skips_the_rest(self):
        driver = self.apply(self.release(rollout=LONG_STEPS, watch="600s"))
        driver.wait_for_step(10)
        self.assertTrue(self.deployment("promote")["taken"])
        done = driver.end()
        self.assert_committed(done, self.newest)
        self.assertEqual(self.orders_of(done), [("promote", True)])

    def test_promote_ends_a_pause_too_and_a_watch(self):
        driver = self.paused_at("deploy.step.10")
        self.deployment("promote")
        self.assert_committed(driver.end(), self.newest)
        driver = self.apply(self.release(watch="600s", rollout={"steps": [50, 100], "step_duration": "100ms"}))
        driver.wait_for_progress(lambda one: one.get("progress") == "watch", "the watch")
        self.deployment("promote")
        self.assert_committed(driver.end(), self.newest)

    def test_abort_leads_back_from_a_step_and_from_the_watch(self):
        for steps, progress in (([10, 100], "step"), ([100], "watch")):
            with self.subTest(progress):
                spans = {"steps": steps, "step_duration": "600s" if progress == "step" else "100ms"}
                driver = self.apply(self.release(rollout=spans, watch="600s"))
                driver.wait_for_progress(lambda one: one.get("progress") == progress, progress)
                self.assertTrue(self.deployment("abort")["taken"])
                done = driver.end()
                self.assert_exit(done, 4)
                self.assertEqual((done.json["outcome"], done.json["reason"]), ("rolled_back", "aborted"))
                self.assertEqual(self.orders_of(done), [("abort", True)])
                self.assert_only(canary.NONE)
                self.assert_settled_as(self.before)

    def test_an_abort_that_comes_twice_or_into_the_way_back_is_one(self):
        driver = self.apply_stopped_at(self.release(rollout=LONG_STEPS), "deploy.step.10", "deploy.before_rollback_link")
        self.order("abort")
        self.order("abort")
        driver.resume()
        canary.scene.wait_stopped(driver.pid)
        self.order("abort")
        driver.resume()
        done = driver.end()
        self.assert_exit(done, 4)
        self.assertEqual(done.json["reason"], "aborted")
        self.assert_only(canary.NONE)
        self.assert_settled_as(self.before)

    def test_abort_before_the_switch_ends_it_with_nothing_changed(self):
        for place in ("deploy.begin.stage", "deploy.after_start"):
            with self.subTest(place):
                driver = self.apply_stopped_at(self.release(rollout=LONG_STEPS), place)
                if place == "deploy.after_start":
                    self.order("abort")
                else:
                    self.deployment("abort")  # nobody but the driver knows of it yet
                driver.resume()
                done = driver.end()
                self.assert_exit(done, 1)
                self.assertEqual(done.json["outcome"], "aborted")
                self.assertEqual(self.orders_of(done), [("abort", True)])
                self.assert_settled_as(self.before)

    def test_after_the_way_back_of_another_ones_candidate_they_are_heard(self):
        state = json.loads((self.node_.root / "run/.demo/state").read_text())
        control = Control(self.node_.root / "run/demo.sock")
        epoch = control.ask("begin")["epoch"]
        control.ask("start", service=json.loads(state["generations"][0]["run"]), epoch=epoch)
        control.close()
        driver = self.paused_at("deploy.step.50")
        self.deployment("resume")
        self.assert_committed(driver.end(), self.newest)

    def test_a_rollback_that_was_asked_for_is_called_off_until_it_is_committed(self):
        self.assert_exit(self.apply(self.release()).end(), 0)
        for place in ("deploy.after_start", "deploy.after_rollback_link", "deploy.after_post_rollback"):
            with self.subTest(place):
                driver = scene.Driver(self.node_, "rollback", "demo", env={"UPDAGENT_FAILPOINTS": f"{place}=stop"})
                self.addCleanup(self.end_driver, driver)
                scene.wait_stopped(driver.pid)
                self.order("abort")
                driver.resume()
                done = driver.end()
                self.assert_exit(done, 1)
                self.assertEqual((done.json["outcome"], done.json["reason"]), ("aborted", "aborted"))
                self.assertEqual(self.orders_of(done), [("abort", True)])
                self.assert_only(canary.NONE)
                self.assert_settled_as(self.newest)

    def test_an_order_without_a_deployment_is_refused(self):
        for word in ("pause", "resume", "promote", "abort"):
            answer = self.deployment(word, code=6)
            self.assertEqual(answer["error"]["code"], "not_found")

    def test_orders_that_came_in_time_hold_although_the_supervisor_died(self):
        driver = self.apply_stopped_at(self.release(rollout={"steps": [50, 100], "step_duration": "300ms"}), "deploy.step.50")
        self.order("pause")
        self.supervise()
        driver.resume()
        wait_for(lambda: any(one.get("paused") for one in driver.progress()[-1:]), "the pause")
        self.assert_held(50)
        self.deployment("resume")
        self.assert_committed(driver.end(), self.newest)

    def test_steps_are_streamed_as_documents_and_the_answer_is_one(self):
        driver = self.apply(self.release(rollout={"steps": [50, 100], "step_duration": "1s"}, watch="1s"))
        done = driver.end()
        self.assert_committed(done, self.newest)
        self.assertEqual(done.json["outcome"], "committed")
        ended = [(one["progress"], one["percent"]) for one in driver.progress() if one["ended"]]
        self.assertEqual(ended, [("step", 50), ("step", 100), ("watch", 100)])
        for one in driver.progress():
            self.assertLessEqual({"progress", "steps", "percent", "measured_percent", "connections", "left_ms", "paused",
                                  "waiting_for", "ended"}, set(one))
        quiet = self.apply(self.release(rollout={"steps": [50, 100], "step_duration": "100ms"}), words=["--quiet"])
        self.assert_exit(quiet.end(), 0)
        self.assertEqual(quiet.progress(), [])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
