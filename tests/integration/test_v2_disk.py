"""Project quotas on the first-class host: bytes and inodes through the overlay, and no way out of the project."""
import ctypes
import errno
import fcntl
import json
import os
import re
import struct
import subprocess

from lib import main
from lib_programs import ended, exited
from test_v2 import MIB, disk_image, first_class, import_image


def test_bytes(t):
    """The job gets its limit, to the block: what petri itself puts there does not count."""
    first_class(t)
    for where in ("/work", "/tmp", "/var/tmp"):
        run = t.petri.sh(f"dd if=/dev/zero of={where}/x bs=4k; exit 1", "--disk", "4M")
        ended(t, run, "disk_limit")
        t.contains(run.err, "No space left", run)
        t.equal(int(re.search(r"^(\d+) bytes", run.err, re.M)[1]), 4 * MIB, run)
        t.equal(run.result["usage"]["disk_bytes"], 4 * MIB, run)


def test_large_writes(t):
    """XFS refuses a write that does not fit as a whole: the disk counts as full a little before it is."""
    first_class(t)
    for size in ("16k", "64k", "100k"):
        run = t.petri.sh(f"dd if=/dev/zero of=/work/x bs={size}", "--disk", "4M")
        ended(t, run, "disk_limit")


def test_far_from_full(t):
    """A program that fails with room left has exited."""
    first_class(t)
    exited(t, t.petri.sh("head -c 3M /dev/zero > /work/x; exit 1", "--disk", "4M"), 1)


def test_inodes(t):
    first_class(t)
    for make in ("true > /work/f$i", "mkdir /tmp/d$i", "ln -s x /work/l$i"):
        run = t.petri.sh(f"i=0; while {make}; do i=$((i + 1)); done; echo $i; exit 1", "--inodes", 50, "--cpu", "60s",
                         "--wall", "60s")
        ended(t, run, "disk_limit")
        # What overlay tried at its mount may not be freed yet: that is taken from the job, never given to it.
        t.check(47 <= int(run.out) <= 50, run)


def test_sparse_and_reserved(t):
    """A hole takes nothing, what fallocate reserves does."""
    first_class(t)
    exited(t, t.petri.sh("truncate -s 1G /work/x", "--disk", "4M"))
    run = t.petri.run("--disk", "4M", "--", "/usr/bin/fallocate", "-l", "8M", "/work/x")
    t.check(run.code != 0, run)
    t.contains(run.err, "No space left", run)
    exited(t, t.petri.run("--disk", "4M", "--", "/usr/bin/fallocate", "-l", "3M", "/work/x"))


def test_statfs_shows_the_limit(t):
    first_class(t)
    run = t.petri.sh("stat -f -c '%b %S %f %c' /work", "--disk", "8M", "--inodes", 123)
    blocks, size, free, inodes = (int(x) for x in run.out.split())
    t.check(8 * MIB <= blocks * size <= 8 * MIB + (256 << 10), run)
    t.check(free * size >= 8 * MIB - (64 << 10), run)
    t.check(123 <= inodes <= 140, run)


def test_copy_up_counts(t):
    """Writing to a file of the image copies all of it into the job's project."""
    first_class(t)
    image = disk_image(t)
    big = os.path.join(image, "data/big")
    with open(big, "wb") as f:
        f.write(os.urandom(6 * MIB))
    os.chmod(big, 0o666)
    import_image(t, image)
    append = ("--image", "disk", "--", "/bin/sh", "-c", "echo more >> /data/big")
    run = t.petri.run("--disk", "4M", *append)
    t.check(run.code != 0 and "No space left" in run.err, run)
    run = t.petri.run("--disk", "8M", *append)
    exited(t, run)
    t.check(6 * MIB <= run.result["usage"]["disk_bytes"] <= 7 * MIB, run)


def test_next_job_has_all_of_it(t):
    """XFS frees in the background what was deleted; the next job in the slot gets its limit all the same, and no more."""
    first_class(t)
    worker = t.worker(slots=1)
    limits = {"disk_bytes": 32 * MIB, "disk_inodes": 1000, "cpu_ms": 60000, "wall_ms": 60000}
    for i, script in enumerate(("head -c 31M /dev/zero > x", "i=0; while [ $i -lt 900 ]; do : > f$i; i=$((i + 1)); done") * 3):
        result = worker.do({"id": f"fill-{i}", "argv": ["/bin/sh", "-c", f"stat -f -c '%b %S %c' /work; cd /work; {script}"],
                            "limits": limits}, 60)
        t.equal((result["status"], result["exit_code"]), ("exited", 0), result)
        blocks, size, inodes = (int(x) for x in result["stdout"]["data"].split())
        t.check(32 * MIB <= blocks * size <= 32 * MIB + 131072, result)
        t.check(1000 <= inodes <= 1020, result)
        t.check(result["usage"]["disk_bytes"] <= 32 * MIB, result)


def test_the_same_for_all(t):
    """What petri's own directories take is the same for every job, whatever XFS has not freed yet of the jobs before it.
    With the quota's own count in scratch_settle(): "own inodes: {12, 14}"."""
    first_class(t)
    worker = t.worker(slots=1)
    names = [f"own-{i}" for i in range(30)]
    for i, name in enumerate(names):
        worker.submit({"id": name, "argv": ["/usr/bin/stat", "-f", "-c", "%c", "/work"], "limits": {"disk_inodes": 1000 + i, "wall_ms": 60000}})
    own = {int(worker.result(name, 60)["stdout"]["data"]) - 1000 - i for i, name in enumerate(names)}
    t.check(len(own) == 1, f"own inodes: {own}")


def project(path, wanted=None):
    """The project id of a file; @wanted: another, before that is asked."""
    attr, fd = bytearray(28), os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, 0x801c581f, attr)  # FS_IOC_FSGETXATTR
        if wanted is not None:
            struct.pack_into("<I", attr, 12, wanted)
            fcntl.ioctl(fd, 0x401c5820, bytes(attr))  # FS_IOC_FSSETXATTR
        return struct.unpack_from("<I", attr, 12)[0]
    finally:
        os.close(fd)


def test_no_project_is_free(t):
    """Then the next job gets the one that was in use longest ago, not the last job's. With one try fewer in attach_scratch(): "the same"."""
    first_class(t)
    worker = t.worker(slots=1)

    def generation():
        slots = os.path.join(t.state, "slots")
        found = [f"{slots}/{n}/{g}" for n in os.listdir(slots) if n.isdigit() for g in os.listdir(f"{slots}/{n}")]
        t.equal(len(found), 1, found)
        return found[0]
    before = generation()
    first = project(before) // 16 * 16  # STAMP_PROJECTS, and what a range begins with
    for i in range(16):
        path = os.path.join(t.state, f"charged-{i}")
        with open(path, "wb") as f:
            f.write(bytes(65536))
        t.defer(lambda path=path: os.unlink(path))
        project(path, first + i)
    old = project(before)
    t.equal(worker.do({"argv": ["/bin/sh", "-c", "echo > x"]}, 60)["status"], "exited")
    t.eventually(lambda: not os.path.exists(before), "its scratch is gone", 20)
    t.eventually(lambda: worker.do({"argv": ["/bin/true"]}, 60)["status"] == "exited", "another job", 60)
    t.equal(project(generation()), first + (old - first + 1) % 16, "the same" if project(generation()) == old else "another")


ESCAPE = """
import fcntl, os, struct
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801c581f, 0x401c5820
fd = os.open("/work/x", os.O_RDWR | os.O_CREAT)
for project in (0, 12345):
    attr = bytearray(28)
    try:
        fcntl.ioctl(fd, FS_IOC_FSGETXATTR, attr)
        struct.pack_into("<I", attr, 12, project)
        fcntl.ioctl(fd, FS_IOC_FSSETXATTR, bytes(attr))
        print("escaped to", project)
    except OSError as e:
        print("refused", e.errno)
try:
    while True:
        os.write(fd, b"x" * 65536)
except OSError as e:
    print("full", e.errno, os.fstat(fd).st_blocks * 512)
"""


def test_no_escape(t):
    """FS_IOC_FSSETXATTR would move a file out of its project. Every policy denies it, and where one does not, the
    kernel does, since the job sits in a user namespace."""
    first_class(t)
    os.mkdir(t.path("policies"), 0o755)
    with open(t.path("policies/all.json"), "w", encoding="utf-8") as f:
        json.dump({"defaultAction": "SCMP_ACT_ALLOW"}, f)
    worker = t.worker("--policies", t.path("policies"), slots=1)
    for policy in ("all", "judge", None):
        job = {"id": f"escape-{policy}", "argv": ["/usr/bin/python3", "-c", ESCAPE],
               "limits": {"disk_bytes": 4 * MIB, "cpu_ms": 60000, "wall_ms": 60000}}
        if policy:
            job["policy"] = policy
        result = worker.do(job, 60)
        if result["status"] == "violation":
            t.equal(result["violation"]["syscall"], "ioctl", result)
            continue
        lines = result["stdout"]["data"].splitlines()
        t.equal([x for x in lines if x.startswith("escaped")], [], result)
        t.equal(len([x for x in lines if x.startswith("refused")]), 2, result)
        full = lines[-1].split()
        t.check(full[0] == "full" and int(full[2]) <= 4 * MIB, result)


def test_collected_and_committed(t):
    """What a job made on the quota scratch comes out of it, as output and as a layer."""
    first_class(t)
    worker = t.worker(slots=1)
    made = worker.do({"id": "make", "argv": ["/bin/sh", "-c", "echo one > a; mkdir d; echo two > d/b"], "commit": "/work",
                      "collect": [{"path": "/work/a", "as": "inline"}]})
    t.equal(made["status"], "exited", made)
    t.equal(made["files"]["/work/a"]["data"], "one\n", made)
    used = worker.do({"id": "use", "layers": [made["layer"]], "argv": ["/bin/cat", "a", "d/b"]})
    t.equal(used["stdout"]["data"], "one\ntwo\n", used)


# ---- what stays in the quota's books ----

class Quota(ctypes.Structure):
    """struct fs_disk_quota, <linux/dqblk_xfs.h>; only what is read here."""
    _fields_ = [("version", ctypes.c_int8), ("flags", ctypes.c_int8), ("fieldmask", ctypes.c_uint16), ("id", ctypes.c_uint32),
                ("blk_hard", ctypes.c_uint64), ("blk_soft", ctypes.c_uint64), ("ino_hard", ctypes.c_uint64),
                ("ino_soft", ctypes.c_uint64), ("bcount", ctypes.c_uint64), ("icount", ctypes.c_uint64),
                ("rest", ctypes.c_char * 64)]


def projects(path):
    """[(bytes, inodes)] of every project but 0 that uses anything on path's filesystem: Q_XGETNEXTQUOTA by
    quotactl_fd(2), which answers with the next id that has an entry."""
    libc, found, number = ctypes.CDLL(None, use_errno=True), [], 1
    command = (0x5809 << 8) | 2  # QCMD(Q_XGETNEXTQUOTA, PRJQUOTA)
    fd = os.open(path, os.O_RDONLY)
    try:
        while True:
            quota = Quota()
            if libc.syscall(443, fd, command, number, ctypes.byref(quota)):
                if ctypes.get_errno() != errno.ENOENT:
                    raise OSError(ctypes.get_errno(), "quotactl_fd")
                return found
            if quota.bcount or quota.icount:
                found.append((quota.bcount * 512, quota.icount))
            number = quota.id + 1
    finally:
        os.close(fd)


def test_nothing_is_charged_afterwards(t):
    """Every slot's project is empty once the worker has stopped."""
    first_class(t)
    worker = t.worker(slots=2)
    for i in range(4):
        worker.submit({"id": f"fill-{i}", "argv": ["/bin/sh", "-c", "head -c 4M /dev/zero > /work/x; sleep 0.2"],
                       "limits": {"wall_ms": 60000}})
    for i in range(4):
        t.equal(worker.result(f"fill-{i}")["status"], "exited")
    t.check(projects(t.state), "no slot's project is in use")
    worker.stop()
    t.eventually(lambda: not projects(t.state), "all projects are empty", 10)


# ---- other filesystems under the same calls ----

def on_a_disk_of_its_own(t, kind):
    """`petri store init`: a filesystem of its own on a loop device, with project quotas from its first mount."""
    first_class(t)
    state = t.path("store")
    done = t.petri.call("store", "init", "--size", "1G", "--fs", kind, state=state, timeout=60)
    t.equal(done.code, 0, done)
    t.defer(lambda: subprocess.run(["umount", state], check=False))
    doctor = json.loads(t.petri.call("doctor", "--json", state=state).stdout)
    t.equal((doctor["ok"], doctor["scratch"]), (True, "project-quota"), doctor)
    run = t.petri.sh("dd if=/dev/zero of=/work/x bs=4k; exit 1", "--disk", "4M", state=state)
    ended(t, run, "disk_limit")
    t.check(4 * MIB - 16384 <= int(re.search(r"^(\d+) bytes", run.err, re.M)[1]) <= 4 * MIB + 65536, run)
    run = t.petri.sh("i=0; while true > /work/f$i; do i=$((i + 1)); done; echo $i; exit 1", "--inodes", 50, state=state,
                     **{"timeout": 60})
    ended(t, run, "disk_limit")
    t.check(45 <= int(run.out) <= 52, run)
    mounted_at_boot(t, kind, state)


def mounted_at_boot(t, kind, state):
    """mount(8) makes of the entry what `petri store init` made: project quotas, and what was in the store."""
    table = t.write("fstab", "# nothing yet\n")
    for said in ("mounts it at boot", "has the entry already"):
        done = t.petri.call("store", "init", "--boot", table, state=state, timeout=60)
        t.check(done.code == 0 and said in done.out and "mounted already" in done.out, done)
    with open(os.path.join(state, "kept"), "w", encoding="utf-8") as f:
        f.write("kept")
    for at in ("first", "second"):  # by hand as at boot: all of the table that is not mounted
        subprocess.run(["umount", state], check=True)
        subprocess.run(["mount", "--fstab", table, "--all"], check=True)
        with open("/proc/self/mounts", encoding="utf-8") as f:
            mount = next(x.split() for x in f if x.split()[1] == state)
        t.equal(mount[2], kind, at)
        t.check({"nosuid", "nodev", "prjquota"} <= set(mount[3].split(",")), mount)
        t.check(os.path.exists(os.path.join(state, "kept")), at)
        doctor = json.loads(t.petri.call("doctor", "--json", state=state).stdout)
        t.equal((doctor["ok"], doctor["scratch"]), (True, "project-quota"), doctor)


def test_store_on_xfs(t):
    on_a_disk_of_its_own(t, "xfs")


def test_store_on_ext4(t):
    on_a_disk_of_its_own(t, "ext4")


if __name__ == "__main__":
    main(globals())
