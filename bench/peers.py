"""Other executors, each behind an adapter: a small script with the contract of docs/bench.md."""
import json
import os

from harness import NotMeasured
from host import HERE, ROOT

ADAPTERS = os.path.join(HERE, "adapters")
SHIPPED = ("crun", "runc", "bubblewrap", "unshare", "firejail", "systemd-nspawn", "shell")


class Adapter:
    def __init__(self, harness, path):
        self.harness = harness
        self.path = path
        self.name = os.path.basename(path)
        self.env = {"PETRI_BENCH_POLICY": os.path.join(ROOT, "policies", "judge.json"), "PETRI_BENCH_PETRI": harness.petri}
        self.started = 0

    def call(self, *words):
        return self.harness.run([self.path, *words], 60, env=self.env)

    def check(self):
        """NotMeasured, with what it says, when it cannot run here."""
        self.call("check")

    def start(self, directory, rootfs, program):
        out = self.call("start", directory, rootfs, *program)
        try:
            plan = json.loads(out)
            words = plan.get("argv") or plan["serve"]
            assert isinstance(words, list) and all(isinstance(word, str) for word in words)
        except (ValueError, KeyError, AssertionError) as e:
            raise NotMeasured(f"its start printed no plan: {out[:200]!r}") from e
        return plan


def command_line(plan, rootfs, program):
    """The words that run the program once (or for every line, with "serve")."""
    words = list(plan.get("argv") or plan["serve"])
    if plan.get("complete"):
        return words
    seen = [rootfs + program[0], *program[1:]] if plan.get("sees_host") and os.path.exists(rootfs + program[0]) and \
        not os.path.exists(program[0]) else program
    return [*words, *seen]


def measure(adapter, rootfs, program, options):
    """One program with one adapter: its plan's notes, and petri-bench's figures."""
    harness = adapter.harness
    adapter.started += 1
    directory = os.path.join(harness.dir, f"adapter-{adapter.name}-{adapter.started}")
    os.mkdir(directory)
    stopped = []

    def stop():
        if not stopped:
            stopped.append(True)
            adapter.call("stop", directory)

    harness.undo.append(stop)
    try:
        plan = adapter.start(directory, rootfs, program)
        words = command_line(plan, rootfs, program)
        verb = "serve" if "serve" in plan else "command"
        figures = harness.measure(verb, *options, "--", *words, around=plan.get("around", []))
    finally:
        harness.undo.remove(stop)
        try:
            stop()
        except NotMeasured as e:
            harness.say(f"  {adapter.name}: its stop failed: {e}")
    figures["command"] = [*plan.get("around", []), *words]
    return plan, figures


def find(harness, extra):
    """The shipped adapters, then the user's files."""
    paths = [os.path.join(ADAPTERS, name) for name in SHIPPED] + [os.path.abspath(path) for path in extra]
    for path in paths:
        if not os.access(path, os.X_OK):
            raise SystemExit(f"bench: the adapter {path} is not an executable file")
    return [Adapter(harness, path) for path in paths]
