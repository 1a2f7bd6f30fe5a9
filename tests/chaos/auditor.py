#!/usr/bin/python3
"""The auditor: submits jobs and keeps books about them, and knows nothing of petri but its protocol on Redis.

Each job prints a nonce that nobody else was told. The book (a file) gets a job's id and nonce before Redis gets the job;
an entry whose XADD was not answered is added again, with the same id: petri runs an id once however often it is added.

    auditor.py --host H --port P --prefix X --book FILE --jobs N --seed S [--window W] [--slow PERCENT]

prints one JSON object when every job has a result: what was wrong, how many ran again, by whom. Exit 0 when nothing was wrong.
"""
import argparse
import hashlib
import json
import os
import random
import sys
import time

from resp import Client, Lost, Refused

STREAMS = ("jobs:high", "jobs", "jobs:low")
POLL_S = 0.03
SAY_S = 5.0


class Book:
    """What was promised: one line a job, on disk before the job is anywhere else."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8")

    def add(self, jobs):
        self.file.write("".join(f"{job} {nonce}\n" for job, nonce in jobs))
        self.file.flush()
        os.fsync(self.file.fileno())


class Auditor:
    def __init__(self, options):
        self.o = options
        self.redis = Client(options.host, options.port)
        self.random = random.Random(options.seed)
        self.book = Book(options.book)
        self.nonce = {}
        self.open = {}  # id -> (stream, job); its result was not read yet
        self.unsure = []  # added, but Redis has not said so
        self.digest = {}  # id -> SHA-256 of its result as it was first read
        self.attempts = {}
        self.workers = {}
        self.wrong = []
        self.added = self.added_again = 0
        self.accepted_at = {}
        self.slowest_s = 0.0

    def key(self, name):
        return f"{self.o.prefix}:{name}"

    def complain(self, text):
        self.wrong.append(text)
        print(f"auditor: {text}", file=sys.stderr, flush=True)

    # ---- submitting ----
    def make(self, number):
        job = f"c{self.o.seed}-{number}"
        nonce = os.urandom(12).hex()
        slow = self.random.randrange(100) < self.o.slow
        nap = self.random.choice((0.05, 0.1, 0.2, 0.5, 1.0)) if slow else 0
        argv = ["/bin/sh", "-c", f"sleep {nap}; echo {nonce}"] if slow else ["/bin/echo", nonce]
        text = json.dumps({"image": "host", "argv": argv, "limits": {"wall_ms": 20000}, "meta": {"n": number}})
        stream = self.random.choice((STREAMS[1],) * 8 + (STREAMS[0], STREAMS[2]))
        return job, nonce, stream, text

    def submit(self):
        """As many as the window has room for."""
        fresh = []
        while self.added < self.o.jobs and len(self.open) + len(fresh) < self.o.window and len(fresh) < 100:
            fresh.append(self.make(self.added))
            self.added += 1
        self.book.add([(job, nonce) for job, nonce, _, _ in fresh])
        for job, nonce, stream, text in fresh:
            self.nonce[job] = nonce
            self.open[job] = (stream, text)
            self.unsure.append(job)
        batch = [job for job in self.unsure if job in self.open]
        self.unsure = batch
        try:
            replies = self.redis.many([("XADD", self.key(self.open[j][0]), "*", "job", self.open[j][1], "id", j) for j in batch])
        except Lost:
            self.added_again += len(batch)
            return
        self.unsure = [j for j, reply in zip(batch, replies) if isinstance(reply, Refused)]
        for j in batch:
            self.accepted_at.setdefault(j, time.monotonic())

    # ---- reading ----
    def judge(self, job, raw):
        self.digest[job] = hashlib.sha256(raw.encode("utf-8", "surrogateescape")).hexdigest()
        result = json.loads(raw)
        if result["id"] != job or result["status"] != "exited" or result["exit_code"] != 0:
            self.complain(f"{job}: {raw[:300]}")
        elif result["stdout"] != {"data": self.nonce[job] + "\n", "truncated": False}:
            self.complain(f"{job}: another nonce: {result['stdout']}")
        self.attempts[job] = result["attempt"]
        self.workers[result["worker"]] = self.workers.get(result["worker"], 0) + 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - self.accepted_at.get(job, time.monotonic()))

    def read(self, jobs):
        """Results of these jobs that are there: {job: text}. Lost when Redis is away."""
        found = {}
        for i in range(0, len(jobs), 500):
            part = jobs[i:i + 500]
            for job, reply in zip(part, self.redis.many([("GET", self.key("result:" + j)) for j in part])):
                if isinstance(reply, str):
                    found[job] = reply
        return found

    def collect(self):
        try:
            for job, raw in self.read(list(self.open)).items():
                self.judge(job, raw)
                del self.open[job]
        except Lost:
            pass

    # ---- the end ----
    def patiently(self, what, fn, seconds=60):
        """fn() until it is true; Redis may be away meanwhile."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if fn():
                    return
            except (Lost, Refused):
                pass
            time.sleep(0.1)
        self.complain(f"never: {what}")

    def nothing_open(self):
        for stream in STREAMS:
            if self.redis("XLEN", self.key(stream)) or self.redis("XPENDING", self.key(stream), "petri")[0]:
                return False
        return True

    def reread(self):
        for job, raw in self.read(list(self.digest)).items():
            if hashlib.sha256(raw.encode("utf-8", "surrogateescape")).hexdigest() != self.digest[job]:
                self.complain(f"{job}: its result was changed after it had been read")
        return True

    def missing(self):
        gone = [job for job in self.digest if job not in self.read([job])]
        if gone:
            self.complain(f"{len(gone)} results vanished, {gone[0]} for one")
        return True

    def run(self):
        began = said = time.monotonic()
        while self.open or self.added < self.o.jobs:
            self.submit()
            self.collect()
            now = time.monotonic()
            if now - said > SAY_S:
                said = now
                print(f"auditor: {len(self.digest)} of {self.o.jobs} after {now - began:.0f} s", file=sys.stderr, flush=True)
            if now - began > self.o.seconds:
                self.complain(f"{len(self.open)} jobs without a result after {self.o.seconds} s: {sorted(self.open)[:5]}")
                break
            time.sleep(POLL_S)
        took = time.monotonic() - began
        self.patiently("streams and pending lists are empty", self.nothing_open)
        time.sleep(self.o.settle)  # whoever still runs a job of these may now try to finish it
        self.patiently("the results can be read again", self.reread)
        self.patiently("no result is gone", lambda: len(self.read(list(self.digest))) == len(self.digest) or self.missing())
        self.patiently("streams and pending lists stay empty", self.nothing_open)
        again = sum(n - 1 for n in self.attempts.values())
        return {"jobs": len(self.digest), "seconds": round(took, 1), "reruns": again, "added_again": self.added_again,
                "workers": self.workers, "slowest_s": round(self.slowest_s, 1), "wrong": self.wrong}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--host", required=True)
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--prefix", required=True)
    p.add_argument("--book", required=True)
    p.add_argument("--jobs", type=int, required=True)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--window", type=int, default=200)
    p.add_argument("--slow", type=int, default=10)
    p.add_argument("--settle", type=float, default=2.0)
    p.add_argument("--seconds", type=float, default=540)
    auditor = Auditor(p.parse_args())
    verdict = auditor.run()
    print(json.dumps(verdict))
    return 1 if verdict["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
