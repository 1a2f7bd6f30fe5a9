"""Deaths from outside while a job runs, slots that cannot be cleaned, clients that die, and clocks that are set."""
import fcntl
import json
import os
import re
import signal
import subprocess
import time

from lib import PREFIX, Skip, main
from lib_faults import Injector, nothing_open
from lib_leaks import descendants, die_with_parent, processes
from test_worker_death import child_named

UID_BASE = 0x70010000  # of slot 0: POOL_UID_BASE
MAP = "read inside outside count < /proc/self/uid_map; echo $outside"


def around_the_job(worker):
    """{part: pid} around the job that runs `sleep`, as in docs/architecture.md."""
    all_of = processes()
    job = next(p for p in descendants(worker.process.pid) if all_of.get(p, (0, ""))[1] == "sleep")
    line = [job]
    while line[-1] != worker.process.pid:
        line.append(all_of[line[-1]].parent)
    found = {"job": job, "supervisor": worker.process.pid, "worker": child_named(worker, "petri-worker"), "nursery": child_named(worker, "petri-nursery")}
    below = line[:line.index(found["nursery"])]
    rooms = [p for p in below if all_of[p].name == "petri-room"]
    found["room"], found["init"] = rooms[-1], rooms[-2]
    keepers = [pid for pid, p in all_of.items() if p.parent == found["nursery"] and p.name == "petri-keeper"]
    if keepers:
        with open(f"/proc/{found['room']}/cgroup", encoding="utf-8") as f:
            slot = re.search(r"slot-\d+", f.read())[0]
        for pid in keepers:
            with open(f"/proc/{pid}/cgroup", encoding="utf-8") as f:
                if re.search(slot + r"\b", f.read()):
                    found["keeper"] = pid
    return found


# What becomes of the job whose process that is: (status, attempt). The keeper only makes rooms: the job does not notice.
AFTER = {"supervisor": ("exited", 2), "worker": ("exited", 2), "nursery": ("exited", 2), "keeper": ("exited", 1), "room": ("internal_error", 1),
         "init": ("internal_error", 1), "job": ("signaled", 1)}


def sleeps(worker):
    all_of = processes()
    return any(all_of.get(p, (0, ""))[1] == "sleep" for p in descendants(worker.process.pid))


def test_death_while_the_job_runs(t):
    """kill -9 of each process while the job sleeps: a result each, by the table, and both slots serve again.

    Negative control: with a supervisor that does not start a killed worker again, "no result of job-1 after 30 s"."""
    emulated = os.uname().nodename == "petri-vm"  # where each costs ten seconds
    for number, (part, (status, attempt)) in enumerate(AFTER.items()):
        if emulated and part not in ("supervisor", "nursery", "room"):
            continue
        worker = t.worker("--lease", "1s", slots=2, name=f"w{number}")
        name = f"job-{number}"
        worker.submit({"id": name, "argv": ["/bin/sleep", "3" if emulated else "1"], "reply": "front"})
        t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:state:{name}"), "it runs", 10)
        t.eventually(lambda: sleeps(worker), "its program runs", 10)
        pids = around_the_job(worker)
        if part not in pids:
            continue  # cgroup v2 has no keepers
        os.kill(pids[part], signal.SIGKILL)
        if part == "supervisor":
            worker.process.wait(10)
            worker = t.worker("--lease", "1s", slots=2, name=f"x{number}")
        result = worker.result(name, 30)
        t.equal((part, result["status"], result["attempt"]), (part, status, attempt), f"{result}\n{worker.log[-2000:]}")
        for i in range(2):
            worker.submit({"id": f"{name}-{i}", "argv": ["/bin/sh", "-c", "ls -A /work /tmp; sleep 0.05"]})
        for i in range(2):
            after = worker.result(f"{name}-{i}", 20)
            t.equal((part, after["status"], after["stdout"]["data"]), (part, "exited", "/tmp:\n\n/work:\n"), after)
        t.eventually(lambda: nothing_open(worker.client), "all is acknowledged", 10)
        t.equal(worker.stop(), 0, worker.log[-2000:])
    with t.redis.client() as client:
        told = [dict(zip(e[1][::2], e[1][1::2]))["id"] for e in client("XRANGE", f"{PREFIX}:results:front", "-", "+")]
    t.equal(len(told), len(set(told)), told)


def test_waiting_client_dies(t):
    """The job is petri's from XADD on: it runs, has its result, and who asks later gets it."""
    worker = t.worker(slots=1)
    job = t.write("job.json", json.dumps({"id": "orphan", "argv": ["/bin/sh", "-c", "sleep 0.5; echo done"]}))
    client = subprocess.Popen([t.petri.binary, "submit", "--redis", t.redis.url, "--wait", job], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=t.petri.env(), preexec_fn=die_with_parent)
    t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:state:orphan"), "it runs", 10)
    client.kill()
    client.wait(10)
    t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:result:orphan"), "a result", 10)
    run = t.petri.call("status", "--redis", t.redis.url, "orphan")
    t.equal(json.loads(run.out)["result"]["stdout"]["data"], "done\n", run)
    t.check(nothing_open(worker.client))


def slot_uid(worker, name):
    """The host uid of the slot that a job ran in: its number."""
    result = worker.do({"id": name, "argv": ["/bin/sh", "-c", MAP]}, 20)
    worker.t.equal(result["status"], "exited", result)
    return int(result["stdout"]["data"])


def free(uid):
    """Whether nobody has that slot's number: a start takes the lowest that are free."""
    with open(f"/run/petri/slot-{(uid - UID_BASE) // 65536}", "rb+") as f:
        try:
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            return False


def heartbeat(worker, field):
    return worker.client("HGET", f"{PREFIX}:worker:{worker.name}", field)


# A helper is forked for it: there is more than a room takes away itself (REMOVALS_MAX in pool/room.c), and beneath it, since a tmpfs lists
# the newest first, what is too large for the nursery to free itself.
LITTER = "head -c 8M /dev/zero > /work/x; i=0; while [ $i -lt 400 ]; do : > /work/f$i; i=$((i + 1)); done"


def test_slot_that_cannot_be_scrubbed(t):
    """Its cleaning is killed: the slot is retired and counted, no later job gets its number, and the next start has it back.

    Negative control: with slot_reaped() taking any end of the helper for a good one, "not within 15 s: retired"."""
    worker = t.worker(slots=2)
    worker.t = t
    before = {slot_uid(worker, f"a{i}") for i in range(12)}
    injector = Injector(t, ["--fault", "helper:prctl:1:kill"], pid=worker.process.pid)
    spoilt = worker.do({"id": "spoilt", "argv": ["/bin/sh", "-c", MAP + "; " + LITTER]}, 20)
    t.equal(spoilt["status"], "exited", spoilt)
    retired = int(spoilt["stdout"]["data"])
    t.eventually(lambda: "is retired" in worker.log or worker.do({"argv": ["/bin/true"]}) is None, f"retired\n{worker.log}", 15)
    t.equal(injector.end(), "helper")
    later = {slot_uid(worker, f"b{i}") for i in range(12)}
    t.check(retired not in later and len(later) == 1, f"{retired} in {later}; before: {before}")
    t.eventually(lambda: heartbeat(worker, "retired") == "1", worker.log, 15)
    t.equal(worker.stop(), 0, worker.log)
    again = t.worker(slots=2, name="again")
    again.t = t
    for i in range(4):
        again.submit({"id": f"c{i}", "argv": ["/bin/sh", "-c", f"ls -A /work; sleep 0.2; {MAP}"]})
    numbers = {again.result(f"c{i}", 20)["stdout"]["data"].strip() for i in range(4)}
    t.check(str(retired) in numbers or not free(retired), f"{retired} is none of {numbers}, and nobody else has it")
    t.equal(heartbeat(again, "retired"), "0")


def test_child_dies_before_it_is_known(t):
    """A zygote's child that is killed as it is about to introduce itself: another one is made, and no job waits for it.

    Negative control: with its init's report ignored while the slot is made, "no result of b0 after 20 s"."""
    worker = t.worker(slots=1)
    worker.do({"id": "a", "argv": ["/bin/true"]})
    injector = Injector(t, ["--fault", "child:sendmsg:1:kill"], pid=worker.process.pid)
    for i in range(3):
        t.equal(worker.do({"id": f"b{i}", "argv": ["/bin/true"]}, 20)["status"], "exited")
    t.equal(injector.end(), "child")


def test_init_dies_before_the_program_begins(t):
    """It has the job already, but nothing of it has happened: another zygote runs it.

    Negative control: without `unborn` in start_over(), "internal_error", "the sandbox's init ended without a report"."""
    worker = t.worker(slots=1)
    worker.do({"id": "a", "argv": ["/bin/true"]})

    def child():
        all_of = processes()
        rooms = [p for p in descendants(worker.process.pid) if all_of.get(p, (0, ""))[1] == "petri-room"]
        return next((p for p in rooms if all_of[p].parent in rooms and all_of[all_of[p].parent].parent in rooms), None)
    t.eventually(child, "an idle zygote", 10)
    time.sleep(0.3)
    waiting = child()
    init = processes()[waiting].parent
    os.kill(waiting, signal.SIGSTOP)
    worker.submit({"id": "b", "argv": ["/bin/echo", "hi"]})
    t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:state:b"), "it was dispatched", 10)
    time.sleep(0.2)
    os.kill(init, signal.SIGKILL)
    result = worker.result("b", 20)
    t.equal((result["status"], result["stdout"]["data"], result["attempt"]), ("exited", "hi\n", 1), result)


def test_all_slots_retired(t):
    """The worker cannot go on; the supervisor starts it anew, after a sweep, and the next job runs.

    Negative control: as above, "no 'every slot had to be retired' in ''"."""
    worker = t.worker("--lease", "1s", slots=1)
    worker.t = t
    old = child_named(worker, "petri-nursery")
    injector = Injector(t, ["--fault", "helper:prctl:1:kill"], pid=worker.process.pid)
    spoilt = worker.do({"id": "spoilt", "argv": ["/bin/sh", "-c", LITTER]}, 20)
    t.equal(spoilt["status"], "exited", spoilt)
    result = worker.do({"id": "next", "argv": ["/bin/ls", "-A", "/work"]}, 30)
    t.equal((result["status"], result["stdout"]["data"]), ("exited", ""), result)
    t.equal(injector.end(), "helper")
    t.contains(worker.log, "every slot had to be retired")
    t.check(child_named(worker, "petri-nursery") != old, "the same nursery")


# ---- clocks ----

class Clock:
    """CLOCK_REALTIME of a machine that is nobody else's, and its way back."""

    def __init__(self, t):
        if os.uname().nodename != "petri-vm":
            raise Skip("a machine whose clock may be set")
        self.offset = time.time() - time.monotonic()
        t.defer(lambda: self.set(0))

    def set(self, seconds):
        time.clock_settime(time.CLOCK_REALTIME, time.monotonic() + self.offset + seconds)


def test_clock_jumps(t):
    """An hour forward, then back, while jobs run and their leases are held: wall limits and leases hold, each job has one result, and
    not_after_ms follows the clock. Redis' own times (leases, results' time to live) are Redis' clock's: docs/reliability.md."""
    clock = Clock(t)
    worker = t.worker("--lease", "4s", "--max-attempts", "5", slots=3)
    for number, jump in enumerate((3600, 0, -3600, 0)):
        sleeping, limited = f"sleeping-{number}", f"limited-{number}"
        worker.submit({"id": limited, "argv": ["/bin/sleep", "600"], "limits": {"wall_ms": 3000}, "reply": "front"})
        worker.submit({"id": sleeping, "argv": ["/bin/sh", "-c", "sleep 2; echo slept"], "limits": {"wall_ms": 60000}, "reply": "front"})
        for name in (sleeping, limited):
            t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:state:{name}"), "it runs", 20)
        start = time.monotonic()
        clock.set(jump)
        results = {n: worker.result(n, 60) for n in (sleeping, limited)}
        t.equal((results[sleeping]["status"], results[sleeping]["stdout"]["data"]), ("exited", "slept\n"), results)
        t.equal(results[limited]["status"], "wall_limit", results)
        t.check(2.9e6 < results[limited]["usage"]["wall_us"] < 3.5e6, results)
        t.check(time.monotonic() - start < 30 * t.scale)
        t.check(all(0 <= r["timing"]["queued_us"] < 3700e6 for r in results.values()), results)
        late = worker.do({"argv": ["/bin/true"], "not_after_ms": int((time.time() - 60) * 1000)}, 30)
        soon = worker.do({"argv": ["/bin/true"], "not_after_ms": int((time.time() + 600) * 1000)}, 30)
        t.equal((late["status"] == "exited", soon["status"]), (False, "exited"), f"{late} {soon}")
        t.eventually(lambda: nothing_open(worker.client), "all is acknowledged", 20)
    told = [dict(zip(e[1][::2], e[1][1::2]))["id"] for e in worker.client("XRANGE", f"{PREFIX}:results:front", "-", "+")]
    t.equal(len(told), 8, told)


if __name__ == "__main__":
    main(globals())
