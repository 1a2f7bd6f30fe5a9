"""What only the first-class host has: the cgroup v2 controllers, and io.max on a disk. Run by `./dev test-vm`."""
import json
import os
import re
import shutil
import subprocess
import time

from lib import SCALE, main
from lib_leaks import die_with_parent

ATTACKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "attacks")
MIB = 1 << 20
JOBS = "/sys/fs/cgroup/petri/jobs"
TOLERANCE = 0.2  # of a rate over several seconds


def first_class(t):
    """Return what doctor says; skip where the host is another."""
    doctor = json.loads(t.petri.call("doctor", "--json").stdout)
    if doctor["cgroup"] != "v2":
        t.skip(f"the cgroup v2 driver: here it is {doctor['cgroup']}")
    if doctor["scratch"] != "project-quota":
        t.skip(f"a state directory with project quotas: here scratch is {doctor['scratch']}")
    return doctor


def program(t, name):
    """Build tests/attacks/NAME.c; returns the flags that put it at /work/NAME."""
    with open(os.path.join(ATTACKS, name + ".c"), encoding="utf-8") as f:
        return "--file", f"/work/{name}=" + t.compile(f.read(), name, "-Wall", "-Wextra", "-Werror", "-pthread")


def ended(t, run, status):
    t.equal(run.status, status, run)
    t.equal((run.result["exit_code"], run.result["signal"]), (None, None), run)


def exited(t, run, code=0):
    t.equal(run.status, "exited", run)
    t.equal(run.result["exit_code"], code, run)


def cpu_ms(run):
    return (run.result["usage"]["cpu_user_us"] + run.result["usage"]["cpu_system_us"]) / 1000


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def busy_leaf(comm):
    """The directory of the leaf in which a program of that name runs; None while there is none."""
    for name in sorted(os.listdir(JOBS)) if os.path.isdir(JOBS) else ():
        try:
            for pid in read(os.path.join(JOBS, name, "cgroup.procs")).split():
                if read(f"/proc/{pid}/comm").strip() == comm:
                    return os.path.join(JOBS, name)
        except (OSError, ValueError):
            continue
    return None


def while_running(t, look, *flags, argv=("/bin/sleep", "600")):
    """Run a job, call look(leaf) while it runs, and return what that returned."""
    argv = [t.petri.binary, "run", *map(str, flags), "--wall", "600s", "--cpu", "600s", "--", *argv]
    comm = os.path.basename(argv[argv.index("--") + 1])
    with subprocess.Popen(argv, env=t.petri.env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, preexec_fn=die_with_parent) as run:
        try:
            t.eventually(lambda: busy_leaf(comm) or run.poll() is not None, "a leaf with the job in it", 10)
            t.check(run.poll() is None, run.poll() is not None and run.stderr.read())
            return look(busy_leaf(comm))
        finally:
            run.terminate()


# ---- what the kernel was told ----

def test_drivers(t):
    doctor = first_class(t)
    t.check(doctor["ok"], doctor)
    t.check(doctor["layers_idmapped"], doctor)
    weak = [name for name, limit in doctor["limits"].items() if not limit["enforced"]]
    # pids.peak came with Linux 6.1; memory.peak with 5.19: all that petri supports have both.
    t.equal(weak, [], doctor)


def test_leaf_holds_the_limits(t):
    first_class(t)
    names = ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max", "cpuset.cpus", "io.max")
    last = os.cpu_count() - 1

    def look(leaf):
        return {name: read(os.path.join(leaf, name)).strip() for name in names}
    held = while_running(t, look, "--memory", "48M", "--swap", "16M", "--pids", 7, "--cpus", "0.5", "--cpuset", last,
                         "--io", "rbps=1000000,wbps=2000000,riops=30,wiops=40")
    io = held.pop("io.max")
    quota, period = held.pop("cpu.max").split()
    t.equal(int(quota) / int(period), 0.5)
    t.equal(int(held.pop("pids.max")) - 7 in (0, 1), True, "init has a task of its own")
    t.equal(held, {"memory.max": str(48 * MIB), "memory.swap.max": str(16 * MIB), "memory.oom.group": "1",
                   "cpuset.cpus": str(last)})
    t.contains(io, "rbps=1000000 wbps=2000000 riops=30 wiops=40")


def test_leaves_weigh_less(t):
    """Jobs sit beneath one parent of low weight, so that petri itself is not starved by them."""
    first_class(t)

    def look(_):
        return [int(read(os.path.join(path, "cpu.weight"))) for path in (os.path.dirname(JOBS), JOBS)]
    t.check(min(while_running(t, look)) < 100)


# ---- memory ----

def test_oom_kills_the_whole_leaf(t):
    """memory.oom.group: the kernel ends the parent and its sleeping child with the one that asked for too much."""
    first_class(t)
    run = t.petri.sh("sleep 60 & /work/eat 100; echo survived", *program(t, "eat"), "--memory", "48M", "--wall", "40s")
    ended(t, run, "memory_limit")
    t.check(run.result["usage"]["oom_kills"] >= 3, run)  # the shell, sleep and eat
    t.check("survived" not in run.out, run)
    t.check(run.result["usage"]["memory_peak_bytes"] <= 49 * MIB, run)


def test_swap_none(t):
    first_class(t)
    ended(t, t.petri.run(*program(t, "eat"), "--memory", "48M", "--", "/work/eat", 100), "memory_limit")


def test_swap_some(t):
    """memory.swap.max: what does not fit into memory goes to swap, up to that limit."""
    first_class(t)
    if len(read("/proc/swaps").splitlines()) < 2:
        t.skip("a swap disk")
    eat = program(t, "eat")
    run = t.petri.run(*eat, "--memory", "48M", "--swap", "128M", "--wall", "60s", "--cpu", "60s", "--", "/work/eat", 100)
    exited(t, run)
    t.check(40 * MIB <= run.result["usage"]["memory_peak_bytes"] <= 48 * MIB, run)
    run = t.petri.run(*eat, "--memory", "48M", "--swap", "16M", "--wall", "60s", "--cpu", "60s", "--", "/work/eat", 100)
    ended(t, run, "memory_limit")


def peak_can_be_reset():
    """A write through the reader's own fd sets memory.peak back from Linux 6.12 on; told by trying."""
    path = os.path.join("/sys/fs/cgroup", f"petri-test-{os.getpid()}")
    os.mkdir(path)
    try:
        with open(os.path.join(path, "memory.peak"), "rb+", buffering=0) as f:
            f.write(b"0")
        return True
    except OSError:
        return False
    finally:
        os.rmdir(path)


def test_peak_is_the_jobs_own(t):
    """The second job in a slot does not show the first one's peak: set back in place, or in a new leaf."""
    first_class(t)
    worker = t.worker(slots=1)
    resettable, seen, source = peak_can_be_reset(), [], t.compile(read(os.path.join(ATTACKS, "eat.c")), "eat")
    with open(source, "rb") as f:
        blob = t.petri.call("blob", "put", t.write("program", f.read())).out.strip()
    for mib in (100, 5, 40):
        job_id = f"eat-{mib}"
        worker.submit({"id": job_id, "argv": ["/bin/sh", "-c", f"/work/eat {mib} && exec sleep {0.4 * SCALE}"],
                       "files": {"/work/eat": {"blob": blob, "mode": "0755"}}, "limits": {"wall_ms": int(8000 * SCALE)}})
        t.eventually(lambda: busy_leaf("sleep"), "the job's leaf", 10)
        leaf = busy_leaf("sleep")
        seen.append(os.stat(leaf).st_ino)
        result = worker.result(job_id)
        t.equal(result["status"], "exited", result)
        t.check(mib * MIB <= result["usage"]["memory_peak_bytes"] <= (mib + 8) * MIB, result)
    t.equal(len(set(seen)), 1 if resettable else 3, f"leaves {seen}, memory.peak can be set back: {resettable}")


# ---- CPU ----

def test_cpu_is_throttled(t):
    first_class(t)
    run = t.petri.run(*program(t, "burn"), "--cpus", "0.2", "--wall", "2s", "--cpu", "60s", "--", "/work/burn", 2, 0)
    ended(t, run, "wall_limit")
    # A fifth of two seconds, one period's quota more at either end, and what killing costs.
    t.check(300 <= cpu_ms(run) <= 440 + 20 * SCALE, run)
    t.check(run.result["usage"]["throttled_us"] > 1000000, run)


def test_cpuset(t):
    first_class(t)
    if os.cpu_count() < 2:
        t.skip("a second CPU")
    for cpu in (0, 1):
        run = t.petri.run(*program(t, "burn"), "--cpuset", cpu, "--cpus", 2, "--wall", "1s", "--cpu", "60s", "--",
                          "/work/burn", 2, 0)
        ended(t, run, "wall_limit")
        t.check(cpu_ms(run) <= 1000 + 50 * SCALE, run)


# ---- processes ----

def test_pids_max(t):
    first_class(t)
    run = t.petri.run(*program(t, "forks"), "--pids", 5, "--", "/work/forks", 100)
    t.equal(run.out, "4\n", run)
    t.check(run.result["usage"]["pids_limit_hits"] > 0, run)
    t.equal(run.result["usage"]["pids_peak"], 5, run)


# ---- I/O ----

def rate_of(t, run):
    """Bytes a second as dd measured them: the time inside the job alone."""
    exited(t, run)
    found = re.findall(r"^(\d+) bytes .* copied, ([0-9.e-]+) s", run.err, re.M)
    t.check(found, run)
    return int(found[-1][0]) / float(found[-1][1])


def near(t, got, limit, run):
    t.check((1 - TOLERANCE) * limit <= got <= (1 + TOLERANCE) * limit,
            f"{got:.0f} a second with a limit of {limit}: more than {TOLERANCE:.0%} off\n{run}")


WRITE = "dd if=/dev/zero of=/work/x bs=64k count=128 oflag=direct"
TIMES = ("--wall", "120s", "--cpu", "120s", "--disk", "64M")


def written(leaf):
    return sum(int(x) for x in re.findall(r"\bwbytes=(\d+)", read(os.path.join(leaf, "io.stat"))))


def written_a_second(t, leaf, seconds=6):
    """From the first writeback on: until then the job fills its share of dirty pages, at the speed of memory."""
    t.eventually(lambda: written(leaf) > MIB, "writeback begins", 10)
    bytes_before, begin = written(leaf), time.monotonic()
    time.sleep(seconds)
    return (written(leaf) - bytes_before) / (time.monotonic() - begin)


def test_io_buffered_writes(t):
    """Pages that were written to the cache are the job's own when they go to the disk (writeback of cgroup v2). A writer
    that never stops has as many dirty pages as its memory limit lets it, and from then on goes as fast as the disk."""
    first_class(t)
    script = "while :; do dd if=/dev/zero of=/work/x bs=64k count=256 conv=notrunc 2>/dev/null; done"

    def rate(*flags):
        return while_running(t, lambda leaf: written_a_second(t, leaf), "--memory", "48M", "--disk", "64M", *flags,
                             argv=("/bin/sh", "-c", script))
    free = rate()
    t.check(free > 6 * MIB, f"the disk itself is too slow to tell: {free:.0f} bytes a second")
    for limit in (2 * MIB, 3 * MIB):
        near(t, rate("--io", f"wbps={limit}"), limit, f"wbps={limit}, without {free:.0f}")


SYNC = """
import mmap, time
with open("/work/x", "wb+") as f:
    f.truncate(8 << 20)
    with mmap.mmap(f.fileno(), 8 << 20) as m:
        m[:] = b"x" * (8 << 20)
        begin = time.monotonic()
        m.flush()
print("%d bytes copied, %.3f s" % (8 << 20, time.monotonic() - begin))
"""


def test_io_synced_writes(t):
    """The scratch overlay is volatile, so fsync(2) does nothing there; msync(2) reaches the disk all the same."""
    first_class(t)
    run = t.petri.run("--io", f"wbps={2 * MIB}", *TIMES, "--", "/usr/bin/python3", "-c", SYNC)
    found = re.search(r"([0-9.]+) s$", run.out.strip())
    t.check(found, run)
    near(t, 8 * MIB / float(found[1]), 2 * MIB, run)
    t.check(8 * MIB <= run.result["usage"]["io_write_bytes"] <= 10 * MIB, run)


def test_io_direct_writes(t):
    first_class(t)
    run = t.petri.sh(WRITE, "--io", f"wbps={2 * MIB}", *TIMES)
    near(t, rate_of(t, run), 2 * MIB, run)
    t.check(8 * MIB <= run.result["usage"]["io_write_bytes"] <= 10 * MIB, run)


def test_io_reads(t):
    first_class(t)
    script = WRITE + " && dd if=/work/x of=/dev/null bs=64k iflag=direct"
    run = t.petri.sh(script, "--io", f"rbps={2 * MIB}", *TIMES)
    near(t, rate_of(t, run), 2 * MIB, run)
    t.check(8 * MIB <= run.result["usage"]["io_read_bytes"] <= 10 * MIB, run)


def test_io_buffered_reads(t):
    """Through the page cache, which holds nothing of a file that was written past it."""
    first_class(t)
    script = WRITE + " && dd if=/work/x of=/dev/null bs=64k"
    run = t.petri.sh(script, "--io", f"rbps={2 * MIB}", *TIMES)
    near(t, rate_of(t, run), 2 * MIB, run)


def test_io_operations(t):
    first_class(t)
    script = ("dd if=/dev/zero of=/work/x bs=4k count=200 oflag=direct && "
              "dd if=/work/x of=/dev/null bs=4k iflag=direct")
    for limit, flags in ((50, "wiops=50"), (50, "riops=50")):
        run = t.petri.sh(script, "--io", flags, *TIMES)
        exited(t, run)
        seconds = [float(x) for x in re.findall(r" copied, ([0-9.e-]+) s", run.err)]
        near(t, 200 / seconds[0 if flags[0] == "w" else 1], limit, run)


def test_io_limits_end_with_the_job(t):
    first_class(t)
    worker = t.worker(slots=1)
    write = ["/bin/sh", "-c", "dd if=/dev/zero of=/work/x bs=64k count=64 oflag=direct"]
    slow = worker.do({"id": "slow", "argv": write, "limits": {"io": {"wbps": MIB}, "wall_ms": 60000}}, 60)
    fast = worker.do({"id": "fast", "argv": write, "limits": {"wall_ms": 60000}}, 60)
    t.check(slow["usage"]["wall_us"] > 3000000, slow)
    t.check(fast["usage"]["wall_us"] < 2000000, fast)
    t.check(4 * MIB <= fast["usage"]["io_write_bytes"] <= 6 * MIB, fast)


def test_kill_is_quick(t):
    """cgroup.kill, with the CPU quota lifted first: a throttled crowd is gone at once."""
    first_class(t)
    run = t.petri.sh("for i in 1 2 3 4 5 6 7 8; do /work/burn 1 0 & done; wait", *program(t, "burn"), "--cpus", "0.05",
                     "--wall", "500ms", "--cpu", "60s")
    ended(t, run, "wall_limit")
    t.check(run.result["usage"]["wall_us"] < 600000 + 100000 * SCALE, run)
    t.eventually(lambda: not os.path.isdir(JOBS), "no leaf is left", 5)


def test_imported_owners(t):
    """Layers on the XFS disk are idmapped: a file's owner inside is what the image says."""
    first_class(t)
    busybox = shutil.which("busybox", path="/bin:/usr/bin")
    if not busybox:
        t.skip("busybox-static")
    for name in ("bin", "usr", "data"):
        os.makedirs(t.path(f"image/{name}"))
    shutil.copy(busybox, t.path("image/bin/busybox"))
    for uid in (0, 7, 1000):
        path = t.path(f"image/data/{uid}")
        with open(path, "wb") as f:
            f.write(b"x")
        os.chown(path, uid, uid)
    done = t.petri.call("image", "import", "tiny", t.path("image"))
    t.equal(done.code, 0, done)
    run = t.petri.run("--image", "tiny", "--", "/bin/busybox", "stat", "-c", "%u %g", "/data/0", "/data/7", "/data/1000")
    t.equal(run.out, "0 0\n7 7\n1000 1000\n", run)


if __name__ == "__main__":
    main(globals())
