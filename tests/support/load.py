"""The load client (tests/handoff/load) from Python: start it, mark moments, stop it, judge what it saw.

    with Load({"fresh": {"target": "tcp:127.0.0.1:8080", "connections": 16, "rate": 1000},
               "kept": {"target": "tcp:127.0.0.1:8080", "connections": 50, "rate": 500, "keepalive": 1}}) as load:
        load.wait_for_answers(500)
        begin = load.mark("begin")
        ...                                     # the handoff
        load.wait_for_answers(500, generation="2")
        end = load.mark("end")
        seen = load.stop()
    seen.assert_nothing_failed()
    seen.between(begin, end, "fresh").percentile(0.99)

Times are time.monotonic_ns(). `loadclient --help` has the keys of a flow.
"""

import collections
import json
import os
import subprocess
import threading

BINARY = os.environ.get("UPDAGENT_LOADCLIENT", "loadclient")
ANSWER_LIMIT_S = 60  # of a command to the client, and of what a test waits for; far above what any needs

# In the order of Outcome in tally.hpp. A lost keep-alive race is no failure: the client may send
# again, which ours does once, and that attempt counts like any other.
FAILURES = ("refused", "reset", "eof", "cut", "timeout", "wrong_status", "wrong_body",
            "wrong_generation", "other")


def flow_text(name, keys):
    return " ".join([name, *(f"{key}={value}" for key, value in keys.items())])


class Segment:
    """Windows added up: what became of the requests that became due in a span of time."""

    def __init__(self, windows):
        self.classes = collections.Counter()
        self.generations = collections.Counter()
        self.idle = collections.Counter()
        self.latency = collections.Counter()  # microseconds (the end of a bucket) -> requests
        self.max_us = 0
        self.requests = 0
        spans = {}
        for window in windows:
            self.classes.update(window["classes"])
            self.generations.update(window["generations"])
            self.idle.update(window["idle"])
            self.latency.update(dict(map(tuple, window["latency"])))
            self.max_us = max(self.max_us, window["max_us"])
            self.requests += window["begun"]
            spans[window["from_ns"], window["to_ns"]] = window["to_ns"] - window["from_ns"]
        self.seconds = sum(spans.values()) / 1e9  # windows of several flows are the same ones

    @property
    def failed(self):
        return sum(self.classes[name] for name in FAILURES)

    def percentile(self, share):
        """Microseconds within 0.8 %, of good answers; None without any."""
        rank, seen = share * self.latency.total(), 0
        for value in sorted(self.latency):
            seen += self.latency[value]
            if seen >= rank:
                return min(value, self.max_us)
        return None

    def share(self, generation):
        """How much of the answers came from it, 0 to 1."""
        return self.generations[str(generation)] / max(1, self.generations.total())


class Seen:
    """All that a run said."""

    def __init__(self, events):
        self.windows = [e for e in events if e["event"] == "window"]
        self.failures = [e for e in events if e["event"] == "failure"]
        self.marks = {e["name"]: e["at_ns"] for e in events if e["event"] == "mark"}
        results = [e for e in events if e["event"] == "result"]
        if len(results) != 1:
            raise AssertionError(f"the load client said {len(results)} results")
        self.result = results[0]
        self.flows = self.result["flows"]

    def total(self, name):
        """Sum of one class over all flows."""
        return sum(flow["classes"][name] for flow in self.flows.values())

    def between(self, begin_ns, end_ns, flow=None):
        """Requests that became due in the span. Exact when both ends are marks: windows end there."""
        return Segment(w for w in self.windows if w["from_ns"] >= begin_ns and w["to_ns"] <= end_ns
                       and flow in (None, w["flow"]))

    def whole(self, flow=None):
        return Segment(w for w in self.windows if flow in (None, w["flow"]))

    def generations_over_time(self, flow=None):
        """[(from_ns, to_ns, {generation: answers})], in order."""
        spans = collections.defaultdict(collections.Counter)
        for window in self.windows:
            if flow in (None, window["flow"]):
                spans[window["from_ns"], window["to_ns"]].update(window["generations"])
        return [(*span, dict(spans[span])) for span in sorted(spans)]

    def describe(self):
        lines = []
        for name, flow in self.flows.items():
            counts = {kind: count for kind, count in flow["classes"].items() if count}
            lines.append(f"{name}: {flow['requests']} requests, {counts}, {flow['details']}, idle {flow['idle']}")
        lines += [f"  {failure}" for failure in self.failures[:20]]
        return "\n".join(lines)

    def assert_nothing_failed(self, *flows):
        """No attempt of these flows (of all, if none is named) failed, and each had good answers."""
        for name in flows or self.flows:
            flow = self.flows[name]
            if flow["failed"] or not flow["classes"]["ok"] or flow["classes"]["unfinished"]:
                raise AssertionError(f"flow '{name}' has failures, or no good answer:\n{self.describe()}")


class Load:
    def __init__(self, flows, seconds=300, requests=0, window_ms=100, drain_s=10, binary=None):
        self.words = [binary or BINARY, "--seconds", str(seconds), "--requests", str(requests),
                      "--window", str(window_ms), "--drain", str(drain_s * 1000)]
        for name, keys in flows.items():
            self.words += ["--flow", flow_text(name, keys)]
        self.events = []
        self.arrived = threading.Condition()
        self.process = None
        self.ended = False

    def __enter__(self):
        self.process = subprocess.Popen(self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self._wait(lambda: self.events)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()

    def _read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            with self.arrived:
                self.events.append(event)
                self.arrived.notify_all()
        with self.arrived:
            self.ended = True
            self.arrived.notify_all()

    def _wait(self, condition, limit_s=ANSWER_LIMIT_S):
        with self.arrived:
            if not self.arrived.wait_for(lambda: condition() or self.ended, timeout=limit_s):
                raise AssertionError(f"the load client said nothing of it in {limit_s} s; of late:\n{self._of_late()}")
            answer = condition()
        if not answer:
            raise AssertionError("the load client has ended")
        return answer

    def _of_late(self):
        """What a person needs who asks why nothing came: the last second of each flow, and the last failures."""
        windows = [e for e in self.events if e["event"] == "window"]
        newest = max((w["to_ns"] for w in windows), default=0)
        lines = []
        for flow in sorted({w["flow"] for w in windows}):
            late = Segment(w for w in windows if w["flow"] == flow and w["to_ns"] > newest - 1_000_000_000)
            classes = {name: count for name, count in late.classes.items() if count}
            lines.append(f"{flow}: {late.requests} requests, {classes}, answers by {dict(late.generations)}")
        return "\n".join(lines + [str(e) for e in self.events if e["event"] == "failure"][-5:])

    def _command(self, text):
        """Sends a command that is answered by a mark; the mark's time."""
        def marks():
            return [e["at_ns"] for e in self.events if e["event"] == "mark"]
        with self.arrived:
            before = len(marks())
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self._wait(lambda: marks()[before:])[0]

    def mark(self, name):
        return self._command(f"mark {name}")

    def expect(self, flow, *generations):
        """Requests that begin from now on may be answered by these only; none: by any."""
        return self._command(f"expect {flow} {','.join(map(str, generations)) or '*'}")

    def wait_until(self, condition, since_ns=0, limit_s=ANSWER_LIMIT_S):
        """Until condition(Segment of the windows since then) holds. Windows come when all their requests have
        ended; a mark makes the current one end."""
        self.mark("wait")
        self._wait(lambda: condition(Segment(e for e in self.events if e["event"] == "window"
                                             and e["from_ns"] >= since_ns)), limit_s)

    def wait_for_answers(self, count, flow=None, generation=None, limit_s=ANSWER_LIMIT_S):
        """Until so many good answers came to requests that became due after this call (with `generation`:
        so many answers of it)."""
        began = self.mark("wait")

        def enough():
            windows = [w for w in self.events if w["event"] == "window" and w["from_ns"] >= began
                       and flow in (None, w["flow"])]
            if generation is not None:
                return sum(w["generations"].get(str(generation), 0) for w in windows) >= count
            return sum(w["classes"]["ok"] for w in windows) >= count
        self._wait(enough, limit_s)

    def segment(self, begin_ns, end_ns, flow=None):
        """Of a run that goes on: what became of the requests that became due between two marks. Waits for the last."""
        with self.arrived:
            names = {e["flow"] for e in self.events if e["event"] == "window"} if flow is None else {flow}
        self.mark("segment")  # the windows after it are others

        def whole():
            return names <= {e["flow"] for e in self.events if e["event"] == "window" and e["from_ns"] >= end_ns}
        self._wait(whole)
        with self.arrived:
            return Segment(e for e in self.events if e["event"] == "window" and e["from_ns"] >= begin_ns
                           and e["to_ns"] <= end_ns and e["flow"] in names)

    def failed_so_far(self):
        with self.arrived:
            return [e for e in self.events if e["event"] == "failure"]

    def stop(self):
        """Waits for what is in flight; what the whole run saw."""
        if not self.ended:
            try:
                self.process.stdin.write("stop\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                pass  # it had come to its own end
        return self.finish()

    def finish(self, limit_s=ANSWER_LIMIT_S):
        """Waits until it ends by --seconds or --requests."""
        self.reader.join(timeout=limit_s)
        if self.reader.is_alive():
            raise AssertionError(f"the load client goes on after {limit_s} s")
        code = self.process.wait(timeout=limit_s)
        if code != 0:
            raise AssertionError(f"the load client ended with {code}")
        return Seen(self.events)
