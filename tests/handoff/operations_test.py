"""Operations of the control socket that steps and people need: orders, figures, last words, progress."""

import os
import socket
import unittest

import supervisor
from supervisor_test import Case


class Deployment(Case):
    def setUp(self):
        super().setUp()
        self.first = self.handoff(self.service("1"))

    def tearDown(self):
        self.doCleanups()  # a supervisor with a driver is not to be stopped
        supervisor.wait_for(lambda: not (self.supervisor.status()["deployment"] or {}).get("driven"), "the driver's end")
        super().tearDown()

    def under_way(self, weight=0, *options):
        control = self.begin()
        self.number, news = self.candidate(control, self.service("2", *options))
        self.assertEqual(news["life"], "ready", news)
        if weight:
            control.ask("weight", epoch=control.epoch, weight=weight)
        return control

    def operator(self):
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        return control

    def succeed(self):
        self.supervisor.kill()
        self.supervisor.start()

    def resume(self, driver):
        """As a driver does that lost its supervisor."""
        control = self.supervisor.connect()
        self.addCleanup(control.close)
        control.epoch = control.ask("begin", resumes=driver.epoch)["epoch"]
        driver.close()
        return control

    def open_orders(self):
        return self.supervisor.status()["deployment"]["orders"]

    def assert_refused(self, code, control, op, **fields):
        with self.assertRaises(supervisor.Refused) as refused:
            control.ask(op, **fields)
        self.assertEqual(refused.exception.code, code, refused.exception)
        return refused.exception

    def order_news(self, control):
        news = control.await_news(lambda one: one["news"] == "order")
        return news["order"], news["actor"], news["id"]


class Orders(Deployment):
    def test_an_order_reaches_the_driver_and_whoever_gave_it_hears_that_it_was_taken(self):
        driver, operator = self.under_way(), self.operator()
        answer = operator.ask("order", order="pause", actor="alice")
        self.assertEqual(self.order_news(driver), ("pause", "alice", answer["order_id"]))
        self.assertEqual(self.open_orders(), 1)
        driver.ask("order_taken", epoch=driver.epoch, order_id=answer["order_id"])
        taken = operator.await_news(lambda one: one["news"] == "order_taken")
        self.assertEqual(taken["id"], answer["order_id"])
        self.assertEqual(self.open_orders(), 0)

    def test_an_order_that_nobody_took_is_told_again_by_the_next_supervisor(self):
        driver = self.under_way(1_000)
        given = [self.operator().ask("order", order=word, actor="alice")["order_id"] for word in ("pause", "promote")]
        self.succeed()
        self.assertEqual(self.open_orders(), 2)
        driver = self.resume(driver)
        self.assertEqual(self.order_news(driver), ("pause", "alice", given[0]))
        self.assertEqual(self.order_news(driver), ("promote", "alice", given[1]))
        driver.ask("order_taken", epoch=driver.epoch, order_id=given[0])
        self.succeed()
        driver = self.resume(driver)
        self.assertEqual(self.order_news(driver), ("promote", "alice", given[1]))
        later = self.operator().ask("order", order="resume", actor="bob")["order_id"]
        self.assertGreater(later, given[1])  # a driver knows by it what it has heard before
        driver.await_news(lambda one: (one["news"], one.get("id"), one.get("order")) == ("order", later, "resume"))

    def test_abort_takes_the_share_at_once_and_the_driver_can_not_give_it_back(self):
        with self.load() as running:
            driver = self.under_way(10_000)
            running.wait_for_answers(20, generation="2")
            self.operator().ask("order", order="abort", actor="alice")
            self.assertEqual(self.generations()[self.number]["weight"], 0)  # the driver has not read yet
            since = running.mark("aborted")
            running.wait_for_answers(100, generation="1")
            for _ in range(2):  # the next supervisor knows it as well
                error = self.assert_refused("aborted", driver, "weight", epoch=driver.epoch, weight=100)
                self.assertIn("alice", str(error))
                self.assert_refused("aborted", driver, "renew", epoch=driver.epoch)
                self.succeed()
                driver = self.resume(driver)
            driver.ask("rollback", epoch=driver.epoch, reason="aborted")
            driver.ask("end", epoch=driver.epoch)
            seen = running.stop()
        seen.assert_nothing_failed()
        end = max(window["to_ns"] for window in seen.windows)
        self.assertEqual(seen.between(since, end, "fresh").generations.get("2", 0), 0)

    def test_what_is_aborted_is_the_deployment_and_not_the_next_one(self):
        driver = self.under_way(1_000)
        self.operator().ask("order", order="abort", actor="alice")
        driver.ask("rollback", epoch=driver.epoch, reason="aborted")
        driver.ask("end", epoch=driver.epoch)
        driver = self.begin()
        self.addCleanup(driver.close)
        number, news = self.candidate(driver, self.service("3"))
        self.assertEqual(news["life"], "ready", news)
        driver.ask("weight", epoch=driver.epoch, weight=1_000)
        self.assertEqual(self.generations()[number]["weight"], 1_000)

    def test_orders_are_of_a_deployment_that_is_driven_and_of_known_words(self):
        operator = self.operator()
        self.assert_refused("not_found", operator, "order", order="pause", actor="alice")
        driver = self.under_way()
        self.assert_refused("usage", operator, "order", order="hurry", actor="alice")
        self.assert_refused("busy", operator, "order_taken", epoch=driver.epoch - 1, order_id=1)
        driver.close()
        supervisor.wait_for(lambda: not (self.supervisor.status()["deployment"] or {}).get("driven"), "the driver's end")
        self.assert_refused("not_found", operator, "order", order="pause", actor="alice")

    def test_orders_that_nobody_takes_are_bounded(self):
        self.under_way()
        operator = self.operator()
        for _ in range(16):
            operator.ask("order", order="pause", actor="alice")
        self.assert_refused("busy", operator, "order", order="pause", actor="alice")
        self.assertEqual(self.open_orders(), 16)


class Told(Deployment):
    def row(self, control, number, **fields):
        return next(one for one in control.ask("measure", **fields)["generations"] if one["number"] == number)

    def test_figures_tell_the_share_that_was_and_the_cost_of_each(self):
        driver = self.under_way(5_000)
        with self.load() as running:
            running.wait_for_answers(100, generation="2")
            running.wait_for_answers(100, generation="1")
            running.stop()
        quick = self.row(driver, self.number)
        self.assertEqual((quick["version"], quick["role"], quick["crashes"]), ("2", "candidate", 0))
        if self.supervisor.status()["mechanism"] == "steered":
            self.assertGreater(quick["selected"], 0)
            self.assertGreater(self.row(driver, self.first)["selected"], 0)
        self.assertGreaterEqual(quick["waiting_limit"], 1)
        self.assertNotIn("memory_bytes", quick)
        thorough = self.row(driver, self.number, thorough=True)
        self.assertGreater(thorough["memory_bytes"], 100_000)
        pid = self.generations()[self.number]["pid"]
        self.assertAlmostEqual(thorough["descriptors"], len(os.listdir(f"/proc/{pid}/fd")), delta=20)  # connections end
        self.assert_refused("usage", driver, "meassure")

    def selected(self, control):
        row = self.row(control, self.number)
        return row["selected"] + row["fallback"]

    def hold_it(self):
        """A user of the candidate who is not served soon: it drains for as long."""
        user = socket.create_connection(("127.0.0.1", self.port))
        self.addCleanup(user.close)
        user.sendall(b"GET /stream?bytes=10000000&rate=10000 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(user.recv(1))

    def test_once_the_share_is_taken_back_nobody_is_sent_to_the_candidate(self):
        """Before the answer, and not some time after it: who asked for it may rely on that."""
        with self.load() as running:
            for order, fields in (("weight", {"weight": 0}), ("rollback", {"reason": "test"})):
                with self.subTest(order):
                    driver = self.under_way(10_000)
                    self.hold_it()
                    running.wait_for_answers(100, "fresh", generation="2")
                    driver.ask(order, epoch=driver.epoch, **fields)
                    before = self.selected(driver)
                    running.wait_for_answers(200, "fresh", generation="1")
                    self.assertEqual(self.selected(driver), before)
                    self.assertGreater(before, 100)
                    driver.ask("rollback", epoch=driver.epoch, reason="test")
                    self.doCleanups()
                    self.only(self.first)
            seen = running.stop()
        seen.assert_nothing_failed("fresh")

    def test_the_last_words_of_a_generation_are_there_unless_the_journal_has_them(self):
        driver = self.begin()
        service = self.service("2")
        service["service"]["command"] = ["/bin/sh", "-c", "echo one; echo two >&2; exit 3"]
        number, news = self.candidate(driver, service)
        self.assertEqual(news["life"], "failed", news)
        answer = driver.ask("output", generation=number)
        self.assertTrue(answer["in_journal"] or answer["output"].splitlines() == ["one", "two"], answer)
        self.assert_refused("not_found", driver, "output", generation=number + 100)

    def test_the_driver_tells_its_progress_and_not_at_any_length(self):
        driver = self.under_way()
        driver.ask("progress", epoch=driver.epoch, progress={"percent": 10, "measured": 987, "waiting_for": "users"})
        self.assertEqual(self.supervisor.status()["deployment"]["progress"],
                         {"percent": 10, "measured": 987, "waiting_for": "users"})
        for wrong in ("text", None, [1], {"waiting_for": "x" * 4096}):
            self.assert_refused("usage", driver, "progress", epoch=driver.epoch, progress=wrong)
        self.assert_refused("busy", driver, "progress", epoch=driver.epoch - 1, progress={"percent": 50})
        self.assertEqual(self.supervisor.status()["deployment"]["progress"]["percent"], 10)


if __name__ == "__main__":
    unittest.main()
