"""After a kill -9 of everything, the next start finds leaves, directories and project ids of the dead, and clears them."""
import os
import signal

from lib import main
from lib_leaks import child_named
from test_v2 import JOBS, first_class
from test_v2_disk import projects

FILL = ["/bin/sh", "-c", "mkdir /work/a && fallocate -l 4M /work/x && exec sleep 600"]
LIMITS = {"wall_ms": 900000, "cpu_ms": 60000}


def leaves():
    return sorted(name for name in os.listdir(JOBS) if name.startswith("slot-")) if os.path.isdir(JOBS) else []


def slot_directories(t):
    top = os.path.join(t.state, "slots")
    return sorted(name for name in os.listdir(top) if name.isdigit() and os.listdir(os.path.join(top, name)))


def kill_all(worker):
    """kill -9 of supervisor, worker, nursery and what else they started, all at once; by pid, the parents first so
    that none can react to the death of another."""
    pids = worker.pids()
    for sig in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                pass
    worker.process.wait(30)


def full_projects(t):
    return [size for size, _ in projects(t.state) if size >= 4 << 20]


def busy_worker(t, jobs, *flags):
    worker = t.worker(*flags, slots=2, name="busy")
    for i in range(jobs):
        worker.submit({"id": f"fill-{i}", "argv": FILL, "limits": LIMITS})
    t.eventually(lambda: len(full_projects(t)) == jobs, "the jobs fill their disks", 20)
    return worker


def all_clean(t):
    return not leaves() and not projects(t.state)


def test_kill_9_of_all(t):
    """Jobs die with petri; the next `petri run` clears what is left of the slots."""
    first_class(t)
    worker = busy_worker(t, 2)
    kill_all(worker)
    t.check(leaves(), "the dead left no leaf behind: nothing to recover, so this test shows nothing")
    t.check(projects(t.state), "the dead left no files behind")
    run = t.petri.sh("ls -A /work; df --output=used /work | tail -n 1")
    t.equal((run.status, run.out.split()), ("exited", ["0"]), run)
    again = t.worker(slots=2, name="next")
    done = again.do({"id": "after", "argv": ["/bin/sh", "-c", "ls -A /work; head -c 50M /dev/zero > /work/x"],
                     "limits": {"wall_ms": 60000, "cpu_ms": 60000}}, 60)
    t.equal((done["status"], done["exit_code"], done["stdout"]["data"]), ("exited", 0, ""), done)
    t.equal(again.stop(), 0, again.log)
    t.eventually(lambda: all_clean(t), "leaves and projects of the dead are gone", 10)
    t.equal(slot_directories(t), [], "slot directories of the dead")


def sleepers(worker):
    found = set()
    for pid in worker.pids():
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                if f.read().strip() == "sleep":
                    found.add(pid)
        except OSError:
            pass
    return found


def nursery_of(worker):
    pid = child_named(worker.process.pid, "petri-nursery")
    if not pid:
        raise AssertionError(f"no nursery among {worker.pids()}")
    return pid


def test_kill_9_of_the_nursery(t):
    """The supervisor replaces it; its slots are swept before they are used, and the job runs again."""
    first_class(t)
    worker = busy_worker(t, 1, "--grace", "1s", "--lease", "3s")
    before, old = nursery_of(worker), sleepers(worker)
    t.equal(len(old), 1)
    os.kill(before, signal.SIGKILL)
    # FILL gets as far as sleep only in an empty /work.
    t.eventually(lambda: len(sleepers(worker) - old) == 1, "the job runs again, on an empty disk", 30)
    t.eventually(lambda: len(full_projects(t)) == 1, "the first run's disk is gone", 10)
    t.check(nursery_of(worker) != before, "the same nursery")
    worker.stop()
    t.eventually(lambda: all_clean(t), "leaves and projects are gone", 10)


if __name__ == "__main__":
    main(globals())
