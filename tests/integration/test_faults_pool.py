"""The pool, the worker and the supervisor when a process is killed or a system call fails, at each step of a job's life.

After each fault: the job has one result, which is right or says that petri failed; the next job runs well; no fd and no process stays
in those that live on; and at the end nothing is left behind. PETRI_FAULTS=all tries every fault (half an hour), otherwise as many as the
time allows, in an order that PETRI_FAULTS_SEED=N changes; PETRI_FAULTS_ONLY=nursery:openat tries those that begin so.

Negative controls, each the state before it was mended, and what was said:
* an output that could not be stored left the status alone: "exited", "no layer" (jail chroot ENOMEM), "got [], wanted ['/work/big', …" (helper fcntl EMFILE).
* a helper whose reply could not be sent ended with 0: "no result of job-144 after 30 s" (commit sendmsg ENOMEM).
* a jail that kept a copy of its caller's end of their socket: "LEAK: process … (petri)" (commit, killed before it maps the jail's ids).
* a poll without memory was taken for the worker's end: "no result of job-83 after 30 s" (supervisor poll ENOMEM).
"""
import errno
import os
import signal
import subprocess
import time

from lib import PREFIX, main
from lib_faults import (EVERYTHING, Injector, big_job, errors_of, fds_by_role, judge, kills_of, name_of, nothing_open, one_result, read_record,
                        sample)
from lib_leaks import process, processes
from test_worker_death import child_named

FLAGS = ("--lease", "1s", "--grace", "10s")
# What the short run in CI may take: seconds of faults each case.
SECONDS = 3.0
# After its result a job's slot is cleaned and made anew: traced, in so long.
SCRUB_S = 0.25


def need_time(t):
    if os.uname().nodename == "petri-vm" and not EVERYTHING:
        t.skip("the time, where everything is emulated: PETRI_FAULTS=all in `./dev vm`")


class Scene:
    """A worker that is struck again and again, and made anew when it does not survive that."""

    def __init__(self, t):
        self.t, self.worker, self.count, self.baseline, self.ends = t, None, 0, None, {}
        self.client = t.redis.client()
        self.log_from = 0

    def log(self):
        return self.worker.log[self.log_from:][-3000:]

    def whole(self):
        """A worker whose processes are all there and that has done a job of each slot."""
        if self.worker and self.worker.process.poll() is not None:
            self.worker = None
        if not self.worker:
            self.client("DEL", f"{PREFIX}:worker:faults")
            self.worker = self.t.worker(*FLAGS, slots=2, name="faults")
            self.baseline = None
        self.log_from = len(self.worker.log)
        if not self.baseline:
            for _ in range(3):
                self.plain_jobs()
            self.strike_nothing()
            # Room, init and child of both slots are there, and the worker knows.
            def complete():
                now = fds_by_role(self.worker.process.pid)
                return now["sandboxes"] == 6 and now.get("petri-worker anon_inode:[pidfd]") == 2
            self.t.eventually(complete, "two zygotes", 15)
            self.baseline = self.settled()
        return self.worker

    def strike_nothing(self):
        self.count += 1
        result = self.worker.do(big_job(f"warm-{self.count}"))
        self.t.equal(judge(self.t, result, "none:none:1:0"), "exited", result)

    def settled(self):
        """The count of fds and processes once two looks agree."""
        before, pid = None, self.worker.process.pid
        for _ in range(10):
            now = fds_by_role(pid)
            if now == before:
                break
            before = now
            time.sleep(0.05)
        return before

    def orphans(self):
        """What outlived the process that made it is this one's child now. None of petri's may."""
        found = {}
        for pid, p in processes().items():
            if p.state not in "ZX" and p.parent == os.getpid() and p.name.startswith("petri") and p.name != "petri-inject" and pid != self.worker.process.pid:
                found[f"orphan {p.name}"] = pid
        return found

    def plain_jobs(self):
        """Both slots, at once."""
        self.count += 1
        names = [f"next-{self.count}-{i}" for i in range(2)]
        for name in names:
            self.worker.submit({"id": name, "argv": ["/bin/sh", "-c", f"cat /work/* /tmp/* /dev/shm/* 2>/dev/null; echo {name}"]})
        for name in names:
            result = self.worker.result(name, 20)
            self.t.equal((result["status"], result["stdout"]["data"]), ("exited", name + "\n"), f"the next job: {result}\n{self.log()}")

    def renew(self):
        """After a death that the supervisor has to answer by starting anew: do not wait for its back-off next time."""
        if self.worker and self.worker.process.poll() is None:
            self.t.equal(self.worker.stop(), 0, self.log())
        self.worker = None

    def same_processes(self, before):
        return self.worker.process.poll() is None and all(child_named(self.worker, n) == p for n, p in before.items())

    def strike(self, fault):
        """A job under one fault."""
        t, worker = self.t, self.whole()
        before = {n: child_named(worker, n) for n in ("petri-worker", "petri-nursery")}
        self.count += 1
        name, struck = f"job-{self.count}", worker.process.pid
        injector = Injector(t, ["--fault", fault], pid=worker.process.pid)
        worker.submit(big_job(name))
        try:
            if fault.endswith(":kill") and fault.startswith("supervisor:"):
                try:
                    worker.process.wait(3)
                except subprocess.TimeoutExpired:
                    pass
                if worker.process.poll() is not None:
                    self.worker, self.baseline = None, None
                    worker = self.whole()
            result = worker.result(name, 30)
            injector.linger(SCRUB_S)
        finally:
            hit = injector.end()
        end = judge(t, result, fault)
        one_result(t, self.client, name, attempts=2)
        self.ends[end if hit else "not reached"] = self.ends.get(end if hit else "not reached", 0) + 1
        # The supervisor starts both anew; its back-off is not to be waited for next time.
        fatal = hit and fault.endswith(":kill") and fault.split(":")[0] in ("worker", "nursery")
        if worker.process.poll() is None and worker.process.pid == struck and (fatal or not self.same_processes(before)):
            self.renew()
        self.whole()
        self.plain_jobs()
        self.no_growth()

    def no_growth(self):
        """Of those that live on: an open fd or a process more than before is one that stays for ever."""
        want, deadline, looks = self.baseline, time.monotonic() + 5 * self.t.scale, 0
        while True:
            looks += 1
            now = self.settled()
            more = {k: (want.get(k, 0), v) for k, v in now.items() if v > want.get(k, 0)}
            more.update(self.orphans())
            if all(" " in k and "orphan" not in k for k in more):  # sums count: one kind may stand for another
                return
            if time.monotonic() > deadline and looks > 8:  # a busy machine shows things that are under way
                raise AssertionError(f"(before, now): {more}")
            self.plain_jobs()


def record_of(t, scene):
    worker = scene.whole()
    injector = Injector(t, ["--record", t.path("record")], pid=worker.process.pid)
    for i in range(2):
        worker.do(big_job(f"record-{i}"))
        time.sleep(SCRUB_S)
    injector.end()
    return {key: max(count // 2, 1) for key, count in read_record(t.path("record")).items()}


def each(t, faults, try_one):
    """Stops at the first failure; with PETRI_FAULTS=all, tells all of them."""
    failures = []
    for fault in sample(faults, SECONDS):
        try:
            try_one(fault)
        except Exception as e:  # whatever it is, it is told with the fault
            failures.append(f"{fault}: {name_of(fault)}: {e}")
            print(failures[-1][:1500], flush=True)
            if not EVERYTHING:
                break
    t.check(not failures, f"{len(failures)} faults:\n" + "\n".join(f[:1500] for f in failures))


def strike_all(t, faults_of):
    need_time(t)
    scene = Scene(t)
    faults = faults_of(record_of(t, scene))

    def try_one(fault):
        try:
            scene.strike(fault)
        except Exception as e:
            log = scene.log() if scene.worker else ""
            try:
                scene.renew()
            except AssertionError:
                scene.worker = None
            raise AssertionError(f"{e!r}\n{log}") from None
    each(t, faults, try_one)
    scene.renew()
    print(f"jobs ended: {scene.ends}")


def test_errors_while_a_job_runs(t):
    strike_all(t, errors_of)


def test_death_while_a_job_runs(t):
    strike_all(t, kills_of)


def limits_of(worker):
    """The files of cgroups that the worker holds: {name: count}."""
    found, pid = {}, child_named(worker, "petri-worker")
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            path = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        if "slot-" in path:
            name = os.path.basename(path).removesuffix(" (deleted)")
            found[name] = found.get(name, 0) + 1
    return found


def test_no_leaf_lacks_a_limit(t):
    """A leaf whose files could not all be opened when it was renewed is none: what is not there would not be enforced, nor said to be missing.
    With open_knobs() leaving such a file out: "not within 5 s: ['pids.peak'] in the worker's hands",
    for good, since a leaf that tells no pids.peak is never spent (nursery openat number 46 ENOMEM)."""
    need_time(t)
    worker = t.worker(*FLAGS, slots=1, name="leaf")
    forks = {"argv": ["/bin/sh", "-c", "echo one | cat; echo two | cat"]}  # its leaf is not used again

    def under(flags, name):
        injector = Injector(t, flags, pid=worker.process.pid)
        try:
            t.equal(worker.do({**forks, "id": name}, 30)["status"], "exited")
            injector.linger(SCRUB_S)
        finally:
            hit = injector.end()
        return hit
    worker.do(forks)
    under(["--record", t.path("record")], "record")
    whole = limits_of(worker)
    t.check("memory.limit_in_bytes" in whole or "memory.max" in whole, whole)
    calls = [c for c in read_record(t.path("record")).items() if c[0] == ("nursery", "openat")]
    hits = []

    def try_one(fault):
        hits.append(under(["--fault", fault], f"leaf-{len(hits)}"))
        t.eventually(lambda: limits_of(worker) == whole, f"{sorted(set(whole) - set(limits_of(worker)))} in the worker's hands", 5)
    each(t, [f"nursery:openat:{n}:{errno.ENOMEM}" for n in range(1, calls[0][1] + 1)], try_one)
    t.check(any(hits), "no fault was reached")


# ---- start and drain ----

class Start:
    """`petri worker` from its exec on."""

    def __init__(self, t, flags):
        self.t, self.client = t, t.redis.client()
        self.client("DEL", f"{PREFIX}:worker:start")
        self.log_path = t.path("start.log")
        with open(self.log_path, "wb") as log:
            self.injector = Injector(t, flags, command=[t.petri.binary, "worker", "--redis", t.redis.url, "--name", "start", "--slots", "2",
                                                        "--allow-volatile-redis", *FLAGS], stderr=log, env=t.petri.env(), cwd=t.tmp)
        self.pid = self.injector.pid
        t.defer(self.kill)

    @property
    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()[-3000:]

    def ready(self):
        deadline = time.monotonic() + 30 * self.t.scale
        while time.monotonic() < deadline:
            if not self.alive():
                return False
            if self.client("EXISTS", f"{PREFIX}:worker:start"):
                return True
            time.sleep(0.01)
        raise AssertionError(f"neither ready nor ended within 30 s:\n{self.log}")

    def alive(self):
        p = process(self.pid)
        return p is not None and p.state not in "ZX"

    def kill(self):
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)

    def stop(self):
        if self.alive():
            os.kill(self.pid, signal.SIGTERM)
        self.t.eventually(lambda: not self.alive(), f"the end\n{self.log}", 40)


def start_and_stop(t, flags, what):
    """Return: the injector's last word, after one start, one job and one stop under it."""
    start = Start(t, flags)
    try:
        if start.ready():
            start.client("XADD", f"{PREFIX}:jobs", "*", "id", what, "job", '{"argv": ["/bin/echo", "hi"], "limits": {"wall_ms": 9000}}')
            t.eventually(lambda: start.client("EXISTS", f"{PREFIX}:result:{what}") or not start.alive(), f"a result\n{start.log}", 30)
        start.stop()
        told = start.log or start.client("EXISTS", f"{PREFIX}:result:{what}")
        t.check(told or flags[1].split(":")[0] not in ("worker", "nursery"), "no result, and not a word about why")
    finally:
        hit = start.injector.end()
    return hit


def test_start_and_end(t):
    """Errors and deaths while petri starts, does its first job and ends: it ends by itself or works, and the next start is a good one."""
    need_time(t)
    t.petri.call("image", "list")
    start_and_stop(t, ["--record", t.path("record")], "first")
    record = read_record(t.path("record"))
    count = [0]
    ends = {}

    def try_one(fault):
        count[0] += 1
        name = f"s{count[0]}"
        hit = start_and_stop(t, ["--fault", fault], name)
        worker = t.worker(*FLAGS, slots=2, name="after")
        worker.do({"argv": ["/bin/true"]})
        t.eventually(lambda: nothing_open(worker.client), "all is acknowledged", 15)
        done = worker.client("EXISTS", f"{PREFIX}:result:{name}")
        ends[(bool(done), bool(hit))] = ends.get((bool(done), bool(hit)), 0) + 1
        t.equal(worker.stop(), 0, worker.log[-2000:])
        worker.client = t.redis.client()
        worker.client("DEL", f"{PREFIX}:worker:after")
    each(t, errors_of(record) + kills_of(record), try_one)
    print(f"(job done, fault reached): {ends}")


if __name__ == "__main__":
    main(globals())
