"""What only the first-class host has: the cgroup v2 controllers, and io.max on a disk. Run by `./dev test-vm`."""
import json
import os
import re
import shutil
import subprocess
import time

from lib import SCALE, main
from lib_leaks import die_with_parent
from lib_programs import PROGRAMS, cpu_ms, ended, exited, program

MIB = 1 << 20
# io HOW BLOCK COUNT FILE: moves COUNT blocks and prints the bytes and the microseconds that took.
# HOW: write or read past the cache; cached: read through it; mapped: write through it, and only msync(2) is timed.
IO_PROGRAM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static long mapped(int fd, size_t size)
{
	char *p = ftruncate(fd, size) == 0 ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
	if (p == MAP_FAILED)
		return -1;
	memset(p, 1, size);
	long begin = now();
	return msync(p, size, MS_SYNC) == 0 ? now() - begin : -1;
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	const char *how = argv[1];
	size_t block = strtoul(argv[2], NULL, 10), count = strtoul(argv[3], NULL, 10);
	int reads = strcmp(how, "read") == 0 || strcmp(how, "cached") == 0;
	int direct = strcmp(how, "read") == 0 || strcmp(how, "write") == 0;
	int fd = open(argv[4], (reads ? O_RDONLY : O_RDWR | O_CREAT) | (direct ? O_DIRECT : 0), 0600);
	void *buffer = aligned_alloc(4096, block);
	if (fd < 0 || !buffer)
		return 3;
	memset(buffer, 1, block);
	long begin = now(), us = strcmp(how, "mapped") == 0 ? mapped(fd, block * count) : 0;
	for (size_t i = 0; us == 0 && i < count; i++)
		if ((reads ? read(fd, buffer, block) : write(fd, buffer, block)) != (ssize_t)block)
			return 4;
	if (us == 0)
		us = now() - begin;
	printf("%zu %ld\n", block * count, us);
	return us < 0;
}
"""
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


def disk_image(t):
    """Import image `disk`: busybox and a program that measures I/O, both static. Unlike the VM's own /usr, which is
    virtiofs, an imported image lies on the block device, and io limits are refused where the image does not."""
    busybox = shutil.which("busybox", path="/bin:/usr/bin")
    if not busybox:
        t.skip("busybox-static")
    for name in ("bin", "usr", "data"):
        os.makedirs(t.path(f"image/{name}"))
    for name in ("busybox", "sh", "sleep"):
        shutil.copy(busybox, t.path(f"image/bin/{name}"))
    shutil.copy(t.compile(IO_PROGRAM, "io", "-static", "-Wall", "-Wextra", "-Werror"), t.path("image/bin/io"))
    return t.path("image")


def import_image(t, path):
    done = t.petri.call("image", "import", "disk", path, timeout=60)
    t.equal(done.code, 0, done)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def busy_leaf(comm):
    """The directory of the leaf in which a program of that name runs; None while there is none."""
    for name in sorted(os.listdir(JOBS)) if os.path.isdir(JOBS) else ():
        try:
            for pid in read(os.path.join(JOBS, name, "job", "cgroup.procs")).split():
                if read(f"/proc/{pid}/comm").strip() == comm:
                    return os.path.join(JOBS, name, "job")
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
    import_image(t, disk_image(t))
    held = while_running(t, look, "--image", "disk", "--memory", "48M", "--swap", "16M", "--pids", 7, "--cpus", "0.5",
                         "--cpuset", last, "--io", "rbps=1000000,wbps=2000000,riops=30,wiops=40")
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
    # The shell, sleep and eat, and the init; whoever dies of the init's end before the kernel comes to it is not counted.
    t.check(run.result["usage"]["oom_kills"] >= 2, run)
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
    resettable, seen, source = peak_can_be_reset(), [], t.compile(read(os.path.join(PROGRAMS, "eat.c")), "eat")
    with open(source, "rb") as f:
        blob = t.petri.call("blob", "put", t.write("program", f.read())).out.strip()
    for mib in (100, 5, 40):
        job_id = f"eat-{mib}"
        worker.submit({"id": job_id, "argv": ["/work/eat", str(mib), "hold"],
                       "files": {"/work/eat": {"blob": blob, "mode": "0755"}}, "limits": {"wall_ms": int(8000 * SCALE)}})
        t.eventually(lambda: busy_leaf("eat"), "the job's leaf", 10)
        leaf = busy_leaf("eat")
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

def moved(t, run):
    """(bytes, seconds) of each `io` in the job, as measured inside it."""
    exited(t, run)
    return [(int(x), int(us) / 1e6) for x, us in (line.split() for line in run.out.splitlines())]


def near(t, got, limit, what):
    t.check((1 - TOLERANCE) * limit <= got <= (1 + TOLERANCE) * limit,
            f"{got:.0f} a second with a limit of {limit}: more than {TOLERANCE:.0%} off\n{what}")


def io_run(t, script, *flags):
    return t.petri.run("--image", "disk", "--wall", "120s", "--cpu", "120s", "--disk", "64M", *flags, "--", "/bin/sh", "-c",
                       script)


def written(t):
    """Bytes that the disk below the state directory has taken: a leaf's io.stat may count a write when it is queued."""
    device = os.stat(t.tmp).st_dev
    with open(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat", encoding="ascii") as f:
        return int(f.read().split()[6]) * 512


def written_a_second(t, seconds):
    """From the first writeback to the last one in that time: they come in pieces of some MiB, each held back as a whole until the
    limit allows it."""
    end, seen = time.monotonic() + seconds, [(time.monotonic(), written(t))]
    while time.monotonic() < end:
        time.sleep(0.05)
        now = written(t)
        if now > seen[-1][1] + MIB // 4:  # and not what the filesystem writes of its own
            seen.append((time.monotonic(), now))
    t.check(len(seen) > 2, f"{seconds} s of writing, and {len(seen) - 1} times something came to the disk")
    (begin, before), (last, after) = seen[1], seen[-1]
    return (after - before) / (last - begin)


def test_io_buffered_writes(t):
    """Pages that were written to the cache are the job's own when they go to the disk (writeback of cgroup v2). A writer
    that never stops and never syncs is paced by the kernel's guess of the disk's speed: never faster than the limit, but
    at times slower. test_io_synced_writes has the other bound."""
    first_class(t)
    import_image(t, disk_image(t))
    # Small files in turn: a file's pages go to the disk in one piece, which the limit holds back as a whole.
    script = ("i=0; while :; do /bin/busybox dd if=/dev/zero of=/work/x$((i % 10)) bs=64k count=64 conv=notrunc 2>/dev/null; "
              "i=$((i + 1)); done")

    def rate(seconds, *flags):
        return while_running(t, lambda leaf: written_a_second(t, seconds), "--image", "disk", "--memory", "48M", "--disk", "64M",
                             *flags, argv=("/bin/sh", "-c", script))
    free = rate(6)
    limit = 2 * MIB
    t.check(free > 2 * limit, f"the disk itself is too slow to tell: {free:.0f} bytes a second")
    got = rate(20, "--io", f"wbps={limit}")
    t.check(limit / 3 <= got <= (1 + TOLERANCE) * limit, f"{got:.0f} a second with a limit of {limit}; without, {free:.0f}")


def test_io_synced_writes(t):
    """The scratch overlay is volatile, so fsync(2) does nothing there; msync(2) reaches the disk all the same."""
    first_class(t)
    import_image(t, disk_image(t))
    run = io_run(t, "io mapped 65536 128 /work/x", "--io", f"wbps={2 * MIB}")
    size, seconds = moved(t, run)[0]
    near(t, size / seconds, 2 * MIB, run)
    t.check(8 * MIB <= run.result["usage"]["io_write_bytes"] <= 10 * MIB, run)


def test_io_direct_writes(t):
    first_class(t)
    import_image(t, disk_image(t))
    size, seconds = moved(t, io_run(t, "io write 65536 128 /work/x"))[0]
    t.check(size / seconds > 6 * MIB, f"the disk itself is too slow to tell: {size} bytes in {seconds} s")
    run = io_run(t, "io write 65536 128 /work/x", "--io", f"wbps={2 * MIB}")
    size, seconds = moved(t, run)[0]
    near(t, size / seconds, 2 * MIB, run)
    t.check(8 * MIB <= run.result["usage"]["io_write_bytes"] <= 10 * MIB, run)


def test_io_reads(t):
    """Past the page cache, and through it: it holds nothing of a file that was written past it."""
    first_class(t)
    import_image(t, disk_image(t))
    for how in ("read", "cached"):
        run = io_run(t, f"io write 65536 128 /work/x && io {how} 65536 128 /work/x", "--io", f"rbps={2 * MIB}")
        size, seconds = moved(t, run)[1]
        near(t, size / seconds, 2 * MIB, run)
        t.check(8 * MIB <= run.result["usage"]["io_read_bytes"] <= 10 * MIB, run)


def test_io_operations(t):
    first_class(t)
    import_image(t, disk_image(t))
    for limit, at in (("wiops", 0), ("riops", 1)):
        run = io_run(t, "io write 4096 200 /work/x && io read 4096 200 /work/x", "--io", f"{limit}=50")
        near(t, 200 / moved(t, run)[at][1], 50, run)


def test_io_limits_end_with_the_job(t):
    first_class(t)
    import_image(t, disk_image(t))
    worker = t.worker(slots=1)
    job = {"image": "disk", "argv": ["/bin/io", "write", "65536", "64", "/work/x"]}
    slow = worker.do({**job, "id": "slow", "limits": {"io": {"wbps": MIB}, "wall_ms": 60000}}, 60)
    fast = worker.do({**job, "id": "fast", "limits": {"wall_ms": 60000}}, 60)
    t.equal((slow["status"], fast["status"]), ("exited", "exited"), (slow, fast))
    t.check(slow["usage"]["wall_us"] > 3000000, slow)
    t.check(fast["usage"]["wall_us"] < 2000000, fast)
    t.check(4 * MIB <= fast["usage"]["io_write_bytes"] <= 6 * MIB, fast)


def test_io_refused_where_it_cannot_be_held(t):
    """The image `host` is the machine's /usr: an io limit on a job that reads from no disk would hold nothing."""
    first_class(t)
    if os.major(os.stat("/usr").st_dev) != 0:
        t.skip("a /usr that lies on no disk")
    t.rejected(t.petri.run("--io", "rbps=1M", "--", "/bin/true"), "limits.io.rbps", "unsupported")


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
    image = disk_image(t)
    for uid in (0, 7, 1000):
        path = os.path.join(image, "data", str(uid))
        with open(path, "wb") as f:
            f.write(b"x")
        os.chown(path, uid, uid)
    import_image(t, image)
    run = t.petri.run("--image", "disk", "--", "/bin/busybox", "stat", "-c", "%u %g", "/data/0", "/data/7", "/data/1000")
    t.equal(run.out, "0 0\n7 7\n1000 1000\n", run)


if __name__ == "__main__":
    main(globals())
