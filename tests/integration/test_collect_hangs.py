"""
Those that fetch a job's outputs stand still, as they would on a filesystem that does not answer: the job ends all the same, and its slot serves the next.
More than a minute, so with PETRI_FAULTS=all only; the unit tests collect and commits have the parts.
"""
import os
import signal
import time

import lib_leaks
from lib import Skip, main
from lib_faults import EVERYTHING
from test_worker import nothing_open
from test_worker_death import FILES, child_named, stop_storing

PATIENCE = 60
MANY = [f"/work/f{i}" for i in range(60)]
# Each is read by the worker, in a millisecond or so. One process and few files: else the job's room would end anyway.
WRITE = "i=0; while [ $i -lt 60 ]; do printf %200000d $i > f$i; i=$((i+1)); done"
LAYER = FILES.replace("500", "200")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as f:
        return [int(child) for child in f.read().split()]


def rooms(nursery, parent=None):
    """{pid of a room}: children of the nursery, or of its keepers."""
    found = set()
    for child in children(parent or nursery):
        p = lib_leaks.process(child)
        if p and p.name == "petri-room":
            found.add(child)
        elif p and p.name == "petri-keeper":
            found |= rooms(nursery, child)
    return found


def job_user(pid):
    """Is it a process of a job's user, in whatever slot?"""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as f:
            uid = int(f.read().partition("\nUid:\t")[2].split()[0])
    except (OSError, IndexError):
        return False
    return lib_leaks.UID_FIRST <= uid <= lib_leaks.UID_LAST and uid % 65536 == 1000


def openers(nursery):
    """The helpers: children of the nursery's that have become their job's user. Until all outputs are stored they wait for the next request."""
    return [pid for pid in children(nursery) if job_user(pid)]


def stop_opener(t, nursery, but):
    deadline = time.monotonic() + 20 * t.scale
    while not (found := [pid for pid in openers(nursery) if pid not in but]):
        t.check(time.monotonic() < deadline, "no helper was seen")
    os.kill(found[0], signal.SIGSTOP)
    return found[0]


def test_all_kinds(t):
    """
    Taken out once: the timer of ask(): "no result of opener"; the answer of look_at(): "no result of commit"; `fresh_room` of reuse_room(), on a hybrid
    host: "other rooms".
    """
    if not EVERYTHING:
        raise Skip("PETRI_FAULTS=all")
    worker = t.worker("--lease", "120s", slots=3)
    nursery = child_named(worker, "petri-nursery")
    limits = {"disk_bytes": 1 << 30, "memory_bytes": 2 << 30, "cpu_ms": 60000, "wall_ms": 60000}
    stopped = []
    worker.submit({"id": "commit", "argv": ["/bin/sh", "-c", LAYER], "commit": "/work"})
    stopped.append(stop_storing(t, worker))
    worker.submit({"id": "blob", "argv": ["/bin/sh", "-c", "head -c 800M /dev/zero > a"], "collect": ["/work/a"], "limits": limits})
    stopped.append(stop_storing(t, worker, but=stopped))
    others = openers(nursery)
    worker.submit({"id": "opener", "argv": ["/bin/sh", "-c", WRITE], "collect": MANY, "limits": limits})
    stopped.append(stop_opener(t, nursery, others))
    began, before = time.monotonic(), rooms(nursery)
    t.equal(len(before), 3, worker.log)
    for name, says in (("commit", "has not run for 60 s"), ("blob", "/work/a"), ("opener", "has not answered for 30 s")):
        result = worker.result(name, PATIENCE + 30)
        t.equal(result["status"], "internal_error", result)
        t.contains(result["message"], says, result)
    t.check(time.monotonic() - began > PATIENCE / 2, "they were given no time")
    t.eventually(lambda: not any(lib_leaks.process(pid) for pid in stopped), f"the stopped are gone: {stopped}")
    t.eventually(lambda: len(rooms(nursery)) == 3 and not rooms(nursery) & before, "other rooms", 10)
    for i in range(6):
        worker.submit({"id": f"after{i}", "argv": ["/bin/sh", "-c", "ls /work; sleep 0.3"]})
    for i in range(6):
        result = worker.result(f"after{i}")
        t.equal((result["status"], result["stdout"]["data"]), ("exited", ""), result)
    nothing_open(t, worker.client)


if __name__ == "__main__":
    main(globals())
