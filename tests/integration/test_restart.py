#!/usr/bin/python3
"""Start, drain and restart: what a second SIGTERM does, and that what is left from an earlier crash goes."""
import json
import os
import signal
import time

from lib import PREFIX, main
from test_worker_death import child_named


def sleeper(name, seconds):
    return {"id": name, "argv": ["/bin/sh", "-c", f"sleep {seconds}; echo slept"], "limits": {"wall_ms": 60000}}


def running(t, worker, name):
    t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:state:{name}"), f"{name} runs\n{worker.log}", 10)


def delivered(client):
    """The delivery counts of what is pending, handed back or not."""
    return [entry[3] for entry in client("XPENDING", f"{PREFIX}:jobs", "petri", "-", "+", 10)]


def test_second_sigterm_hands_back(t):
    """The first waits for the job; the second kills it and hands it back at once, with its attempt not counted."""
    worker = t.worker("--grace", "1m", "--lease", "1m", slots=1)
    worker.submit(sleeper("long", 3))
    running(t, worker, "long")
    worker.process.terminate()
    time.sleep(0.7)
    t.equal(worker.process.poll(), None, "the first signal did not wait for the job")
    worker.process.terminate()
    start = time.monotonic()
    t.equal(worker.process.wait(10 * t.scale), 0, worker.log)
    t.check(time.monotonic() - start < 2 * t.scale, worker.log)
    with t.redis.client() as client:
        t.equal(client("EXISTS", f"{PREFIX}:result:long"), 0)
        t.equal(client("XLEN", f"{PREFIX}:jobs"), 1)
        t.equal(delivered(client), [0])
    # It was handed back: another worker takes it without waiting for the lease, which is a minute.
    result = t.worker(slots=1, name="other").result("long", 20)
    t.equal((result["status"], result["worker"], result["attempt"]), ("exited", "other", 1), result)


def test_sigterm_stops_fetching(t):
    """While it drains, new jobs are left to others, who get them at once."""
    worker = t.worker("--grace", "1m", slots=2)
    worker.submit(sleeper("last", 2))
    running(t, worker, "last")
    worker.process.terminate()
    time.sleep(0.3)
    other = t.worker(slots=1, name="other")
    t.equal(other.do({"id": "new", "argv": ["/bin/true"]})["worker"], "other")
    t.equal(worker.process.wait(20 * t.scale), 0, worker.log)
    with t.redis.client() as client:
        t.equal(json.loads(client("GET", f"{PREFIX}:result:last"))["status"], "exited")


def test_nursery_dies_with_jobs_of_all_kinds(t):
    """The other jobs' results stay as they were, what ran is run again, what waited is run once, and there is one result each."""
    worker = t.worker("--lease", "2s", slots=2)
    done = worker.do({"id": "before", "argv": ["/bin/echo", "one"], "reply": "front"})
    for name in ("a", "b"):
        worker.submit({**sleeper(name, 1), "reply": "front"})
    for name in ("a", "b"):
        running(t, worker, name)
    for i in range(6):
        worker.submit({"id": f"w{i}", "argv": ["/bin/echo", str(i)], "reply": "front"})
    os.kill(child_named(worker, "petri-nursery"), signal.SIGKILL)
    for name in ("a", "b"):
        result = worker.result(name, 40)
        t.equal((result["stdout"]["data"], result["attempt"]), ("slept\n", 2), result)
    for i in range(6):
        result = worker.result(f"w{i}", 40)
        t.equal((result["stdout"]["data"], result["attempt"]), (f"{i}\n", 1), result)
    t.equal(json.loads(worker.client("GET", f"{PREFIX}:result:before")), done)
    replies = [dict(zip(e[1][::2], e[1][1::2]))["id"] for e in worker.client("XRANGE", f"{PREFIX}:results:front", "-", "+")]
    t.equal(sorted(replies), sorted(["before", "a", "b", *(f"w{i}" for i in range(6))]))
    t.equal(worker.process.poll(), None, "the supervisor ended")
    t.equal(worker.stop(), 0, worker.log)


if __name__ == "__main__":
    main(globals())
