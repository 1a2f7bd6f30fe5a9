#!/usr/bin/python3
"""Workers that are killed, cut off and restarted at random, one Redis that is killed too, and an auditor who counts.

    chaos.py --petri BUILD/executor/petri [--jobs 1000] [--workers 3] [--slots 3] [--seed S] [--hits 10] [--keep]

Fails unless every job has exactly one right result, nothing stays in the streams, no result ever changed, no job ran again more
often than it was in the hands of a worker that was struck, and enough blows hit running jobs. Some jobs take longer than the lease. Every choice comes from the seed, which is
printed; the machine's own timing does not.

Negative controls, each tried once on a changed copy of petri, and what the auditor said:
* results without NX: "its result was changed after it had been read", 14 of 700 jobs.
* no renewal of leases: two jobs "ran 2 times more, and were in the hands of those that were struck 1 times".
* XACK and XDEL at once, the result 100 ms later: jobs without a result.
"""
import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

from resp import Lost, Refused
from scene import PREFIX, START_S, Scene

STREAMS = ("jobs:high", "jobs", "jobs:low")


class Chaos:
    def __init__(self, options):
        self.o = options
        self.random = random.Random(options.seed)
        self.scene = Scene(options)
        self.redis = None
        self.hands = collections.Counter()  # how often a job was in the hands of a worker that was struck
        self.hits = self.blows = 0
        self.by_kind = {}
        self.failures = []

    def fail(self, text):
        self.failures.append(text)
        print(f"chaos: {text}", file=sys.stderr, flush=True)

    # ---- what a worker has ----
    def ask(self, *commands):
        """Replies, or None while Redis is away."""
        try:
            return self.redis.many(commands)
        except Lost:
            return None

    def pending(self, worker):
        """{id: consumer} of the jobs that were given to a worker and not finished, and how many of them run."""
        entries = []
        for stream in STREAMS:
            reply = self.ask(("XPENDING", f"{PREFIX}:{stream}", "petri", "-", "+", 1000))
            if reply is None or isinstance(reply[0], Refused):
                return {}, 0
            entries += [(stream, e[0], e[1]) for e in reply[0] if e[1].startswith(worker.name + "/")]
        ids = {}
        for stream, entry, consumer in entries:
            reply = self.ask(("XRANGE", f"{PREFIX}:{stream}", entry, entry))
            if reply and reply[0]:
                fields = reply[0][0][1]
                ids[fields[fields.index("id") + 1]] = consumer
        states = self.ask(*[("HGET", f"{PREFIX}:state:{i}", "worker") for i in ids]) if ids else []
        return ids, sum(1 for s in states or [] if s == worker.name)

    def count(self, kind, workers):
        runs, seen = 0, {}
        for worker in workers:
            ids, running = self.pending(worker)
            runs += running
            self.hands.update(ids.keys())
            seen.update(ids)
        self.blows += 1
        self.hits += runs > 0
        self.by_kind[kind] = self.by_kind.get(kind, 0) + 1
        return seen

    @staticmethod
    def freeze(workers):
        """Return: the pids that were stopped, which must go on even where nobody finds them any more, their parent being dead."""
        stopped = []
        for worker in workers:
            for part in ("petri-worker", "petri-nursery", "petri"):
                pid = worker.part(part)
                try:
                    if pid:
                        os.kill(pid, signal.SIGSTOP)
                        stopped.append(pid)
                except ProcessLookupError:
                    pass
        return stopped

    def strike(self, kind, workers, blow):
        """Frozen first, so that what is counted is what is lost."""
        stopped = self.freeze(workers)
        time.sleep(0.05)  # what they had sent is in Redis by now
        seen = self.count(kind, workers)
        blow()
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if kind != "redis":
            # The worker may take a job more before it notices; and what its read was waiting for may have come while it was frozen.
            self.count_late(workers[0], seen)

    def count_late(self, worker, seen):
        consumers = set(seen.values())
        until = time.monotonic() + 0.15  # before another worker process can have a slot
        while time.monotonic() < until:
            for job, consumer in self.pending(worker)[0].items():
                if job not in seen and (not consumers or consumer in consumers):
                    seen[job] = consumer
                    self.hands[job] += 1

    # ---- blows ----
    def kill_part(self, name):
        worker = self.random.choice([w for w in self.scene.workers if w.alive()] or self.scene.workers)
        pid = worker.part(name)
        if not pid:
            return

        def blow():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.strike(name, [worker], blow)
        if name == "petri":
            worker.process.wait()

    def cut(self, seconds):
        worker = self.random.choice(self.scene.workers)
        worker.host.cable(False)
        time.sleep(0.1)
        # A third of the lease may have passed since the last renewal, and as much passes before the next.
        self.count("cut, shorter than the lease" if seconds * 1000 < self.o.lease_ms else "cut, longer than the lease", [worker])
        time.sleep(seconds)
        worker.host.cable(True)

    def lose_redis(self):
        self.strike("redis", self.scene.workers, self.scene.kill_redis)
        time.sleep(self.random.choice((0, 0.3, 1)))
        self.scene.start_redis()

    def revive(self):
        for w in self.scene.workers:
            if not w.alive():
                w.start()

    def step(self):
        lease = self.o.lease_ms / 1000
        kind = self.random.choice(("petri-worker", "petri-nursery", "petri", "petri-worker", "petri", "short", "long", "redis"))
        if kind == "short":
            self.cut(lease * 0.4)
        elif kind == "long":
            self.cut(lease * 1.6)
        elif kind == "redis":
            self.lose_redis()
        else:
            self.kill_part(kind)
        time.sleep(self.random.uniform(0.2, 1.2))
        self.revive()

    # ---- phases ----
    def wait_for_workers(self):
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            reply = self.ask(*[("HGET", f"{PREFIX}:worker:{w.name}", "slots") for w in self.scene.workers])
            if reply and all(isinstance(r, str) for r in reply):
                return
            time.sleep(0.1)
        self.fail("workers did not start: " + ", ".join(w.log for w in self.scene.workers))

    def storm(self):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "auditor.py")
        book = os.path.join(self.scene.dir, "book")
        auditor = subprocess.Popen(
            [sys.executable, "-B", script, "--host", self.scene.hub.address, "--port", "6379", "--prefix", PREFIX, "--book", book,
             "--jobs", str(self.o.jobs), "--seed", str(self.o.seed), "--seconds", str(self.o.seconds), "--slow", str(self.o.slow),
             "--window", str(self.o.window), "--long", str(self.o.lease_ms / 1000 * 1.4), "--settle", str(self.o.lease_ms / 1000 * 2)], stdout=subprocess.PIPE, text=True)
        try:
            calm = time.monotonic() + self.o.seconds * 0.8
            done = lambda: auditor.poll() is not None or time.monotonic() > calm
            time.sleep(1)
            while not done() and not self.settling():
                self.step()
            self.revive()
            out, _ = auditor.communicate(timeout=self.o.seconds + 120)
        finally:
            auditor.kill()
        verdict = json.loads(out)
        for text in verdict["wrong"]:
            self.fail("auditor: " + text)
        return verdict

    def settling(self):
        """Every job has been added, and none is left: the auditor is about to read all results again."""
        reply = self.ask(*[("XLEN", f"{PREFIX}:{s}") for s in STREAMS])
        book = os.path.join(self.scene.dir, "book")
        with open(book, encoding="utf-8") as f:
            added = sum(1 for _ in f)
        return added >= self.o.jobs and reply is not None and not any(reply)

    def takeover(self):
        """One dies with a job that runs; how long until another has it?"""
        self.redis("XADD", f"{PREFIX}:jobs", "*", "id", "heir", "job",
                   json.dumps({"argv": ["/bin/sleep", "1"], "limits": {"wall_ms": 20000}}))
        until = time.monotonic() + 10
        owner = None
        while not owner and time.monotonic() < until:
            owner = self.redis("HGET", f"{PREFIX}:state:heir", "worker")
        worker = next(w for w in self.scene.workers if w.name == owner)
        time.sleep(0.3)
        worker.stop(hard=True)
        died = time.monotonic()
        while time.monotonic() < died + self.o.lease_ms / 1000 * 3 + 5:
            if self.redis("HGET", f"{PREFIX}:state:heir", "attempt") == "2":
                break
            time.sleep(0.01)
        took = time.monotonic() - died
        if took > self.o.lease_ms / 1000 + 1:
            self.fail(f"a dead worker's job ran again after {took:.2f} s; the lease is {self.o.lease_ms / 1000} s")
        self.revive()
        self.wait_for_workers()
        return round(took, 2)

    def result(self, job, seconds=60):
        reply = self.redis.many([("BLPOP", f"{PREFIX}:done:{job}", 0.01)])
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            raw = self.redis("GET", f"{PREFIX}:result:{job}")
            if raw:
                return json.loads(raw)
            time.sleep(0.02)
        self.fail(f"no result of {job}, {reply}")
        return {"status": None}

    def route(self):
        """Compile once somewhere; a hundred runs follow the result's `worker`, whose store has the layer."""
        add = lambda stream, job, text: self.redis("XADD", f"{PREFIX}:{stream}", "*", "id", job, "job", json.dumps(text))
        script = "printf '#!/bin/sh\\necho ran $1\\n' > prog; chmod 755 prog"
        add("jobs", "compile", {"argv": ["/bin/sh", "-c", script], "commit": "/work"})
        made = self.result("compile")
        if made["status"] != "exited" or not made.get("layer"):
            self.fail(f"compile: {made}")
            return 0
        for i in range(100):
            add("jobs:worker:" + made["worker"], f"run-{i}",
                {"argv": ["/work/prog", str(i)], "layers": [made["layer"]], "worker": made["worker"]})
        good = 0
        for i in range(100):
            r = self.result(f"run-{i}")
            good += r["status"] == "exited" and r["stdout"]["data"] == f"ran {i}\n" and r["worker"] == made["worker"]
        if good != 100:
            self.fail(f"only {good} of 100 runs of a layer that was compiled once")
        return good

    def run(self):
        self.scene.open()
        self.redis = self.scene.client()
        for w in self.scene.workers:
            w.start()
        self.wait_for_workers()
        took = self.takeover()
        routed = self.route()
        verdict = self.storm()
        for job, times in verdict.pop("rerun").items():
            if times > self.hands[job]:
                self.fail(f"{job} ran {times} times more, and was in the hands of those that were struck {self.hands[job]} times")
        if self.hits < self.o.hits:
            self.fail(f"only {self.hits} of {self.blows} blows hit a worker with running jobs; {self.o.hits} are wanted")
        return {"seed": self.o.seed, "blows": self.by_kind, "hits": self.hits, "in_hands": sum(self.hands.values()), "takeover_s": took,
                "routed": routed, "starts": [w.starts for w in self.scene.workers], **verdict}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--petri", required=True)
    p.add_argument("--jobs", type=int, default=1000)
    p.add_argument("--workers", type=int, default=3)
    p.add_argument("--slots", type=int, default=3)
    p.add_argument("--lease-ms", type=int, default=3000)
    p.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    p.add_argument("--hits", type=int, default=10)
    p.add_argument("--slow", type=int, default=25, help="per cent of jobs that take 50 ms to 1 s")
    p.add_argument("--window", type=int, default=200, help="jobs that have no result yet, at most")
    p.add_argument("--seconds", type=float, default=240)
    p.add_argument("--keep", action="store_true")
    options = p.parse_args()
    if os.geteuid() != 0 or not all(shutil.which(program) for program in ("ip", "nsenter", "redis-server")):
        print("chaos: skipped: it needs root, ip, nsenter and redis-server", file=sys.stderr)
        return 77
    print(f"chaos: seed {options.seed}", file=sys.stderr, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chaos = Chaos(options)
    summary = {}
    try:
        summary = chaos.run()
    except (Lost, Refused, RuntimeError, subprocess.SubprocessError) as e:
        chaos.fail(f"the scene broke: {type(e).__name__}: {e}")
    finally:
        chaos.scene.close(options.keep or bool(chaos.failures))
    print(json.dumps(summary, indent=1))
    print(f"chaos: {'FAILED' if chaos.failures else 'passed'}, seed {options.seed}", file=sys.stderr)
    return 1 if chaos.failures else 0


if __name__ == "__main__":
    sys.exit(main())
