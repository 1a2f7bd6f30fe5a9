"""A worker's processes die: what ran runs again, once, and nothing is lost."""
import os
import signal
import time

import lib_leaks
from lib import PREFIX, main
from test_worker import echo, nothing_open, running, settled, sleeper

SYS_PIDFD_GETFD = 438  # pidfd_getfd(2), on all architectures


def child_named(worker, name):
    """The pid of petri-worker or petri-nursery beneath the supervisor."""
    return lib_leaks.child_named(worker.process.pid, name)


def crash(t, name, sig):
    """Kill a process of the worker mid-job: it is replaced, the job runs again, and gets exactly one result."""
    worker = t.worker("--lease", f"{max(1, int(t.scale))}s", slots=2)
    worker.submit({**sleeper("mid", 1.5), "reply": "front"})
    running(t, worker, "mid")
    victim = child_named(worker, name)
    t.check(victim, f"no {name} beneath the supervisor: {worker.pids()}")
    os.kill(victim, sig)
    t.eventually(lambda: child_named(worker, name) not in (None, victim), f"a new {name}\n{worker.log}", 15)
    result = settled(t, worker, "mid", "exited", timeout=40)
    t.equal((result["stdout"]["data"], result["attempt"] > 1), ("slept\n", True), result)
    t.equal(worker.do(echo("after"))["stdout"]["data"], "hi\n")
    t.equal(worker.client("XLEN", f"{PREFIX}:results:front"), 1)
    nothing_open(t, worker.client)
    t.equal(worker.stop(), 0, worker.log)


def test_worker_killed(t):
    crash(t, "petri-worker", signal.SIGKILL)


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def nursery_gone(t, sig):
    """The worker goes on with another: long before any lease runs out the job runs again, what waited in the worker's memory is there still."""
    worker = t.worker("--lease", "60s", "--max-attempts", "9", slots=2)
    process, nursery = child_named(worker, "petri-worker"), child_named(worker, "petri-nursery")
    t.equal(worker.do(echo("before"))["status"], "exited")
    files = open_files(process)
    for attempt in (1, 2):
        worker.submit({**sleeper(f"mid-{attempt}", 1.5), "reply": "front", "commit": "/work", "collect": ["/etc/hostname"]})
        running(t, worker, f"mid-{attempt}")
        os.kill(nursery, sig)
        # With the look for a removed leaf taken out of run_maybe_finish(), the worker stopped waiting for what ran to be gone after 5 s, and ended
        # itself, in 4 of 11 runs of nursery_terminated.
        t.eventually(lambda: child_named(worker, "petri-nursery") not in (None, nursery), f"a new nursery\n{worker.log}", 15)
        nursery = child_named(worker, "petri-nursery")
        result = settled(t, worker, f"mid-{attempt}", "exited", timeout=20)
        t.equal((result["stdout"]["data"], result["attempt"]), ("slept\n", 2), result)
        t.equal(child_named(worker, "petri-worker"), process, worker.log)
        for i in range(4):
            t.equal(worker.do(echo(f"after-{attempt}-{i}"))["stdout"]["data"], "hi\n")
    # A slot has 25 and more, and may have been in the making when they were counted; four of them were replaced.
    t.eventually(lambda: open_files(process) <= files + 50, f"the worker keeps files of the old ones: it had {files}", 10)
    t.equal(worker.client("XLEN", f"{PREFIX}:results:front"), 2)
    nothing_open(t, worker.client)
    t.equal(worker.stop(), 0, worker.log)


def test_nursery_killed(t):
    nursery_gone(t, signal.SIGKILL)


def test_nursery_terminated(t):
    nursery_gone(t, signal.SIGTERM)


def storing(worker):
    """The children of the supervisor that store something: they are called as it is."""
    pid = worker.process.pid
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as f:
        children = {int(child): lib_leaks.process(child) for child in f.read().split()}
    return [child for child, p in children.items() if p and p.name == "petri" and p.state != "Z"]


def stop_storing(t, worker, but=()):
    """SIGSTOP for the first that is seen to store something, but for those. Return: its pid."""
    deadline = time.monotonic() + 20 * t.scale
    while not (found := [pid for pid in storing(worker) if pid not in but]):
        t.check(time.monotonic() < deadline, f"nothing is stored\n{worker.log[-2000:]}")
    os.kill(found[0], signal.SIGSTOP)
    return found[0]


FILES = "i=0; while [ $i -lt 500 ]; do echo $i > f$i; i=$((i+1)); done"


def test_nursery_killed_during_a_commit_that_takes_long(t):
    """
    Nobody waits for it: the job goes back and runs again, as does the one beside it, and worker and Redis connections stay.
    Taken out once: collect_abandon() in engine_cancel(): "the worker was replaced", 5 s later; the kill of commits_forget(): "it is still there".
    """
    worker = t.worker("--lease", "60s", "--max-attempts", "9", slots=2)
    process, nursery = child_named(worker, "petri-worker"), child_named(worker, "petri-nursery")
    worker.submit({"id": "long", "argv": ["/bin/sh", "-c", FILES], "commit": "/work"})
    stopped = stop_storing(t, worker)
    worker.submit(sleeper("beside", 1))
    running(t, worker, "beside")
    os.kill(nursery, signal.SIGKILL)
    t.eventually(lambda: child_named(worker, "petri-nursery") not in (None, nursery), f"a new nursery\n{worker.log}", 15)
    for name in ("long", "beside"):
        result = settled(t, worker, name, "exited", timeout=20)
        t.equal((result["attempt"], bool(result["layer"])), (2, name == "long"), result)
    t.equal(child_named(worker, "petri-worker"), process, f"the worker was replaced\n{worker.log}")
    t.check(lib_leaks.process(stopped) is None, "it is still there")
    nothing_open(t, worker.client)
    t.equal(worker.stop(), 0, worker.log)


def test_nursery_that_hangs_is_killed_and_replaced(t):
    """Stopped, it neither ends nor answers; killed in the middle of that, with jobs that wait for a slot, its successor serves them."""
    worker = t.worker("--lease", "60s", slots=1)
    t.equal(worker.do(echo("before"))["status"], "exited")
    process, nursery = child_named(worker, "petri-worker"), child_named(worker, "petri-nursery")
    os.kill(nursery, signal.SIGSTOP)
    worker.submit(echo("first"))  # into the warm slot, which is not made again
    settled(t, worker, "first", "exited")
    worker.submit(echo("second"))
    time.sleep(0.3)
    os.kill(nursery, signal.SIGKILL)
    t.equal(settled(t, worker, "second", "exited")["attempt"], 1)
    t.equal(child_named(worker, "petri-worker"), process, worker.log)


def test_term_while_the_nursery_is_replaced(t):
    worker = t.worker("--lease", "60s", slots=1)
    worker.submit(sleeper("mid", 1.5))
    running(t, worker, "mid")
    os.kill(child_named(worker, "petri-nursery"), signal.SIGKILL)
    worker.process.terminate()
    worker.process.wait(20 * t.scale)
    second = t.worker(slots=1)
    t.equal(settled(t, second, "mid", "exited")["attempt"], 2)


def test_nursery_killed_before_a_job_began(t):
    """A job that waits for its slot goes back as it came, and long before its lease runs out."""
    worker = t.worker("--slots", "1", "--lease", "60s")
    t.equal(worker.do(echo("before"))["status"], "exited")
    nursery = child_named(worker, "petri-nursery")
    os.kill(nursery, signal.SIGSTOP)
    began = time.monotonic()
    worker.submit(echo("waits", network="loopback"))  # no slot is warm for it
    t.eventually(lambda: worker.client("XPENDING", f"{PREFIX}:jobs", "petri")[0] == 1, "it is taken")
    time.sleep(0.2)
    os.kill(nursery, signal.SIGKILL)
    result = settled(t, worker, "waits", "exited")
    t.equal(result["attempt"], 1, f"{result}\n{worker.log[-2000:]}")
    t.check(time.monotonic() - began < 30, "it waited for its lease")
    nothing_open(t, worker.client)


def test_supervisor_killed(t):
    """kill -9 of all of it: the next start sweeps what was left, and the job runs again."""
    worker = t.worker("--lease", "1s", slots=2)
    worker.submit(sleeper("mid", 1.5))
    running(t, worker, "mid")
    worker.kill_all()
    second = t.worker("--lease", "1s", slots=2)
    t.equal(settled(t, second, "mid", "exited", timeout=40)["stdout"]["data"], "slept\n")


def kept_lock(t, nursery):
    """A copy of the fd with which a nursery holds its only slot's number, so that the lock outlives it. Return: fd, number."""
    held = {}
    for fd in os.listdir(f"/proc/{nursery}/fd"):
        try:
            name = os.readlink(f"/proc/{nursery}/fd/{fd}")
        except OSError:
            continue
        if name.startswith("/run/petri/slot-"):
            held[int(fd)] = int(name.rpartition("-")[2])
    t.equal(len(held), 1, held)
    (fd, number), pidfd = held.popitem(), os.pidfd_open(nursery)
    copy = lib_leaks.LIBC.syscall(SYS_PIDFD_GETFD, pidfd, fd, 0)
    os.close(pidfd)
    t.check(copy >= 0, "pidfd_getfd")
    return copy, number


def outlived(t, end):
    """A worker is killed, and is not quite gone yet when the next one starts and looks for what others left."""
    first = t.worker(slots=1)
    first.do(echo("first"))
    lock, number = kept_lock(t, child_named(first, "petri-nursery"))
    first.kill_all()

    def left():
        groups = [path for path in lib_leaks.cgroups() if os.path.basename(path) == f"slot-{number}"]
        return groups + [path for path in [os.path.join(t.state, "slots", str(number))] if os.path.exists(path)]

    second = t.worker(slots=1)
    second.do(echo("second"))
    time.sleep(0.5)
    t.check(left(), "nothing was left: this test shows nothing")
    end(second, lambda: os.close(lock))
    t.eventually(lambda: not left(), f"what it left goes: {left()}", 15)
    t.equal((second.stop(), left()), (0, []), second.log)


def test_owner_that_dies_late(t):
    """It is looked for again while the next worker works."""
    outlived(t, lambda second, let_go: (let_go(), second.do(echo("third"))))


def test_owner_that_dies_later_still(t):
    """And once more when that one stops."""
    def end(second, let_go):
        let_go()
        t.equal(second.stop(), 0, second.log)
    outlived(t, end)


def test_poison_job(t):
    """A job whose worker dies each time it runs is given up, with a result that says so."""
    worker = t.worker("--lease", "300ms", "--max-attempts", "2", slots=1)
    worker.submit({**sleeper("poison", 20), "limits": {"wall_ms": 60000}})
    for _ in range(2):
        running(t, worker, "poison", 20)
        victim = child_named(worker, "petri-worker")
        os.kill(victim, signal.SIGKILL)
        worker.client("DEL", f"{PREFIX}:state:poison")
        t.eventually(lambda: child_named(worker, "petri-worker") not in (None, victim), "a new worker", 15)
    result = settled(t, worker, "poison", "internal_error", timeout=40)
    t.check(result["message"], result)
    t.equal(worker.client("XLEN", f"{PREFIX}:dead"), 1)
    nothing_open(t, worker.client)


if __name__ == "__main__":
    main(globals())
