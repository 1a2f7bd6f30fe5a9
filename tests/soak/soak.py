#!/usr/bin/python3
"""Hostile and friendly jobs, mixed, through one worker for a long time: every result is checked, and nothing may grow.

    soak.py --petri BUILD/executor/petri [--jobs 100000] [--minutes M] [--seed S] [--slots N] [--hostile PERCENT] [--short] [--report FILE]

Layers and blobs that jobs leave are taken by `petri gc`, run every few seconds as an operator's timer would, and results expire. Exit: 0,
1 when a result was wrong or something grew (watch.py has the bounds), 77 when this host cannot run it. --short: no verdict on time.

Negative control, tried on a changed copy of petri: with one fd of each zygote left open in the worker, 250 jobs were enough:
"fds petri-worker: 165 in the first quarter, 362 in the last".
"""
import argparse
import collections
import json
import os
import random
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))
sys.dont_write_bytecode = True

from lib import PREFIX, SCALE, Skip, run_case  # noqa: E402
from mix import Mix, compile_attacks  # noqa: E402
from watch import Watch  # noqa: E402

TTL_S = 15
GC_EVERY_S = 10
KEEP_S = 90
STUCK_S = 120


class Soak:
    def __init__(self, t, options):
        self.t, self.o = t, options
        self.random = random.Random(options.seed)
        self.worker = t.worker("--result-ttl", f"{TTL_S}s", "--lease", "10s", slots=options.slots, name="soak")
        self.client = t.redis.client()
        directory = t.path("programs")
        os.mkdir(directory)
        # Compiling takes longer than the jobs where everything is emulated.
        self.built = compile_attacks(directory) if SCALE == 1 or not options.short else {}
        self.mix = Mix(self.random, self.programs(), options.hostile)
        self.watch = Watch(self.worker, t.state, t.redis.client(), 2 * (KEEP_S + GC_EVERY_S))
        self.open, self.last_reply = {}, "0"
        self.made = self.done = 0
        self.latencies, self.wrong = [], []
        self.statuses, self.slow = collections.Counter(), collections.defaultdict(float)
        self.gc = None
        self.gc_runs = 0

    def programs(self):
        found = {}
        for name, path in self.built.items():
            run = self.t.petri.call("blob", "put", path)
            if run.code != 0:
                raise AssertionError(str(run))
            found[name] = run.out.strip()
        return found

    # ---- jobs ----
    def submit(self):
        batch = []
        while self.made < self.o.jobs and len(self.open) < self.o.window:
            job = self.mix.make(self.made)
            self.made += 1
            self.open[job.name] = job
            batch.append(("XADD", f"{PREFIX}:jobs", "*", "job", job.text))
        if batch:
            self.client.pipeline(batch)

    def collect(self):
        reply = self.client("XREAD", "COUNT", 500, "BLOCK", 200, "STREAMS", f"{PREFIX}:results:soak", self.last_reply)
        if not reply:
            return
        names = []
        for entry, fields in reply[0][1]:
            self.last_reply = entry
            names.append(dict(zip(fields[::2], fields[1::2]))["id"])
        for name, raw in zip(names, self.client.pipeline([("GET", f"{PREFIX}:result:{n}") for n in names])):
            self.check(name, raw)

    def check(self, name, raw):
        job = self.open.pop(name, None)
        if not job:
            self.wrong.append(f"{name}: a second result, or one that nobody asked for")
            return
        self.done += 1
        if not isinstance(raw, str):
            self.wrong.append(f"{name}: no result ({raw})")
            return
        result = json.loads(raw)
        self.statuses[result["status"]] += 1
        why = job.wrong(result)
        if why or result["attempt"] != 1:
            self.wrong.append(f"{name} ({job.kind}), attempt {result['attempt']}: {why}: {raw[:600]}")
            print("soak: wrong: " + self.wrong[-1], flush=True)
        if job.probe:
            self.latencies.append(result["timing"]["exec_us"] + result["usage"]["wall_us"])

    # ---- the rest ----
    def collect_garbage(self, began):
        if self.gc and self.gc.poll() is not None:
            if self.gc.returncode != 0:
                self.wrong.append(f"gc ended with {self.gc.returncode}: {self.gc.stderr.read()[:500]}")
            self.gc.stderr.close()
            self.gc, self.gc_runs = None, self.gc_runs + 1
        if not self.gc and time.monotonic() - began > GC_EVERY_S * (self.gc_runs + 1):
            self.programs()  # noted as used, lest gc take them between two jobs
            self.gc = subprocess.Popen([self.t.petri.binary, "gc", "--keep", f"{KEEP_S}s"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE, text=True, env=self.t.petri.env())

    def run(self):
        began = looked = progress = time.monotonic()
        before, end = 0, began + 60 * self.o.minutes
        self.watch.look(0, [])
        while self.open or self.made < self.o.jobs:
            if time.monotonic() > end:
                self.o.jobs = self.made
            self.submit()
            self.collect()
            self.collect_garbage(began)
            now = time.monotonic()
            if self.done != before:
                before, progress = self.done, now
            if now - progress > STUCK_S:
                self.wrong.append(f"{len(self.open)} jobs without a result for {STUCK_S} s: {sorted(self.open)[:5]}")
                break
            if now - looked > self.o.every:
                looked = now
                s = self.watch.look(self.done, self.latencies)
                self.latencies = []
                self.say(s, now - began)
                if self.worker.process.poll() is not None or len(self.wrong) > 20:
                    break
        if self.gc:
            self.gc.wait(60)
            self.gc.stderr.close()
        return time.monotonic() - began

    def say(self, s, seconds):
        print(f"soak: {self.done} of {self.o.jobs} after {seconds:.0f} s; " + ", ".join(
            f"{k} {s.get(k, 0):g}" for k in ("kB petri-worker", "kB petri-nursery", "fds petri-worker", "cgroups", "dying cgroups", "net namespaces",
                                             "inodes state", "keys redis", "p50 us", "p99 us", "spawn us")) + f", wrong {len(self.wrong)}",
              flush=True)


def report(options, soak, seconds, rows, grown):
    lines = [f"{soak.done} jobs in {seconds:.0f} s ({soak.done / seconds:.0f} a second), seed {options.seed}, {options.slots} slots, "
             f"{options.hostile} % hostile, {len(soak.watch.samples)} samples, {soak.gc_runs} runs of gc", "",
             "statuses: " + ", ".join(f"{k} {v}" for k, v in soak.statuses.most_common()), "",
             "| | first quarter | last quarter | at most |", "|---|---|---|---|"]
    lines += [f"| {key} | {first:g} | {last:g} | {f'{bound:.0f}' if bound else ''} |" for key, first, last, bound in rows]
    lines += ["", f"wrong results: {len(soak.wrong)}; grown: {len(grown)}"]
    return "\n".join(lines)


def soak_case(options):
    def case(t):
        soak = Soak(t, options)
        seconds = soak.run()
        rows, grown = soak.watch.judge(soak.done, options.short)
        text = report(options, soak, seconds, rows, grown)
        print(text, flush=True)
        if options.report:
            with open(options.report, "w", encoding="utf-8") as f:
                f.write(text + "\n")
        t.check(not soak.wrong, f"{len(soak.wrong)} wrong:\n" + "\n".join(soak.wrong[:10]) + "\n" + soak.worker.log[-2000:])
        t.check(not grown, "grown:\n" + "\n".join(grown))
        t.equal(soak.worker.stop(), 0, soak.worker.log[-2000:])
    return case


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--petri", required=True)
    p.add_argument("--jobs", type=int)
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--slots", type=int, default=4)
    p.add_argument("--window", type=int, default=32)
    p.add_argument("--hostile", type=int, default=25)
    p.add_argument("--every", type=float)
    p.add_argument("--short", action="store_true")
    p.add_argument("--report")
    options = p.parse_args()
    options.jobs = options.jobs or (max(int(2000 / SCALE**2), 50) if options.short else 100000)
    options.every = options.every or (2.0 if options.short else 5.0)
    os.environ["PETRI_BIN"] = os.path.abspath(options.petri)
    return run_case(soak_case(options))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Skip as e:
        print(f"SKIP: missing: {e}")
        sys.exit(77)
