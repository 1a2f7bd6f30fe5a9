"""What test_faults_pool.py injects, by tests/faults/inject.c, and how a job that was struck may end."""
import errno
import json
import os
import random
import re
import signal
import subprocess
import time

from lib import PREFIX, SCALE, Skip
from lib_leaks import descendants, die_with_parent

EVERYTHING = os.environ.get("PETRI_FAULTS") == "all"
SEED = int(os.environ.get("PETRI_FAULTS_SEED") or 1)

# What each call may fail with by its manual page, of what is asked about here: ENOSPC, EMFILE, ENOMEM, EAGAIN, EINTR (and two more
# where a call knows none of these). Not in it: calls that cannot fail so (close, which frees the fd whatever it says; exit, kill,
# getpid, prctl without memory of its own). EINTR only where a call waits; for read and recvmsg it is what SIGSTOP and SIGCONT do.
_OPEN = ("EMFILE", "ENOMEM", "EINTR")
_FD = ("EMFILE", "ENOMEM")
_MEMORY = ("ENOMEM",)
_DISK = ("ENOSPC", "ENOMEM")
ERRORS = {
    "openat": _OPEN, "openat2": _OPEN, "open_tree": _FD, "fsopen": _FD, "fsmount": _FD, "pidfd_open": _FD, "socketpair": _FD, "pipe2": _FD,
    "memfd_create": _FD, "eventfd2": _FD, "signalfd4": _FD, "timerfd_create": _FD, "io_uring_setup": _FD, "socket": _FD, "dup": ("EMFILE",),
    "dup2": ("EINTR",), "dup3": ("EINTR",), "fcntl": ("EMFILE",), "inotify_init1": _FD, "epoll_create1": _FD,
    "mmap": _MEMORY, "mprotect": _MEMORY, "mremap": _MEMORY, "munmap": _MEMORY,
    "clone": ("EAGAIN", "ENOMEM"), "clone3": ("EAGAIN", "ENOMEM", "ENOSPC"), "fork": ("EAGAIN",), "vfork": ("EAGAIN",),
    "execve": ("ENOMEM", "EAGAIN", "EMFILE"), "wait4": ("EINTR",), "poll": ("EINTR", "ENOMEM"), "ppoll": ("EINTR",),
    "read": ("EINTR",), "pread64": ("EINTR", "ENOMEM"), "write": ("EINTR", "ENOSPC"), "pwrite64": ("EINTR", "ENOSPC"), "writev": ("EINTR",),
    "sendmsg": ("EINTR", "ENOMEM", "EAGAIN"), "sendto": ("EINTR", "ENOMEM"), "recvmsg": ("EINTR", "ENOMEM"), "recvfrom": ("EINTR",),
    "connect": ("EINTR", "EAGAIN"), "splice": ("ENOMEM", "EINTR"), "copy_file_range": _DISK, "sendfile": _MEMORY,
    "io_uring_enter": ("EINTR", "EAGAIN"), "io_uring_register": _MEMORY,
    "mkdirat": _DISK, "mkdir": _DISK, "mknodat": _DISK, "symlinkat": _DISK, "linkat": _DISK, "renameat": _DISK, "renameat2": _DISK,
    "unlinkat": ("ENOMEM", "EBUSY"), "unlink": ("ENOMEM",), "ftruncate": ("EINTR", "ENOSPC"), "fallocate": ("ENOSPC", "EINTR"),
    "fsync": ("ENOSPC", "EIO"), "fdatasync": ("ENOSPC",), "syncfs": ("ENOSPC",), "flock": ("EINTR",), "getdents64": _MEMORY,
    "newfstatat": _MEMORY, "fstatfs": _MEMORY, "statfs": _MEMORY, "statx": _MEMORY, "faccessat2": _MEMORY, "readlink": _MEMORY,
    "readlinkat": _MEMORY, "chdir": _MEMORY, "chroot": _MEMORY, "fchown": ("ENOSPC",), "fchownat": _DISK, "fchmod": ("EIO",),
    "fchmodat": _MEMORY, "fsetxattr": _DISK, "flistxattr": _MEMORY, "utimensat": ("EIO",),
    "fsconfig": _MEMORY, "move_mount": _MEMORY, "mount_setattr": _MEMORY, "mount": _DISK, "umount2": ("ENOMEM", "EBUSY"),
    "pivot_root": _MEMORY, "unshare": _DISK, "setns": _MEMORY, "setresuid": ("EAGAIN",), "setgroups": _MEMORY, "seccomp": _MEMORY,
    "keyctl": _MEMORY, "getrandom": ("EINTR",), "sched_setaffinity": _MEMORY, "quotactl": ("ENOSPC",), "quotactl_fd": ("ENOSPC",),
    "epoll_wait": ("EINTR",), "epoll_ctl": _DISK, "accept4": _OPEN, "restart_syscall": ("EINTR",),
}


def injector(t):
    path = os.path.join(os.path.dirname(t.petri.binary), "..", "tests", "petri-inject")
    if not os.access(path, os.X_OK):
        raise Skip("petri-inject, which is built on x86-64 with the tests")
    return path


class Injector:
    """petri-inject on a running worker (pid), or on a command from its start."""

    def __init__(self, t, flags, pid=None, command=None, **how):
        argv = [injector(t), *flags, *(("--pid", str(pid)) if pid else ("--", *command))]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent, **how)
        self.pid = pid
        line = self.process.stdout.readline()
        if line.startswith("pid "):
            self.pid = int(line.split()[1])
            line = self.process.stdout.readline()
        if line.strip() != "ready":
            self.process.wait(10)
            raise Skip("the right to trace")

    def linger(self, seconds):
        """Wait for the fault that long."""
        try:
            self.process.wait(seconds * SCALE)
        except subprocess.TimeoutExpired:
            pass

    def end(self):
        """Let go of all; returns the role that was struck, or None."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            said = self.process.communicate(timeout=20 * SCALE)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("petri-inject does not end") from None
        if self.process.returncode < 0:
            raise AssertionError(f"petri-inject died of signal {-self.process.returncode}")
        hits = [line.split()[2] for line in said.splitlines() if line.startswith("hit ")]
        return hits[0] if hits else None


def read_record(path):
    with open(path, encoding="ascii") as f:
        return {(role, call): int(count) for role, call, count in (line.split() for line in f)}


def errors_of(record):
    """Each error at the first call of its kind and at one in the middle: "role:call:number:errno"."""
    found = []
    for (role, call), count in sorted(record.items()):
        if role in ("job", "other"):
            continue
        if call == "wait4" and role in ("supervisor", "nursery"):
            continue  # with WNOHANG: it waits for nobody
        for name in ERRORS.get(call, ()):
            for number in sorted({1, count // 2 + 1}):
                found.append(f"{role}:{call}:{number}:{getattr(errno, name)}")
    return found


def kills_of(record):
    """Death at the first call of each kind, and in the middle: each step of each process, since every step makes calls."""
    found = []
    for (role, call), count in sorted(record.items()):
        if role not in ("job", "other"):
            found += [f"{role}:{call}:{number}:kill" for number in sorted({1, count // 2 + 1})]
    return found


def sample(faults, seconds):
    """In an order that is the same every time, until the time is used up; PETRI_FAULTS=all: all of them."""
    faults = list(faults)
    random.Random(SEED).shuffle(faults)
    only = os.environ.get("PETRI_FAULTS_ONLY")
    if only:
        faults = [f for f in faults if f.startswith(only)] or [only]
    end, done = time.monotonic() + seconds, 0
    for fault in faults:
        if not EVERYTHING and not only and time.monotonic() > end:
            break
        yield fault
        done += 1
    print(f"{done} of {len(faults)} faults")


def name_of(fault):
    role, call, number, error = fault.split(":")
    return f"{role} {call} number {number} {error if error == 'kill' else errno.errorcode[int(error)]}"


# ---- the job that is struck ----

BIG = 300 * 1024  # more than a worker stores itself
SCRIPT = """read line; echo "got $line"; cat /work/in; echo small > /work/out; head -c %d /dev/zero > /work/big
mkdir /work/d; echo deep > /work/d/e; i=0; while [ $i -lt 40 ]; do echo x > /tmp/f$i; i=$((i+1)); done; sleep %s"""


def big_job(name, nap=0):
    """All that petri does for a job: stdin, a file, outputs small and large, a commit, files left behind in /tmp."""
    return {"id": name, "argv": ["/bin/sh", "-c", SCRIPT % (BIG, nap)], "stdin": {"data": name + "\n"}, "reply": "faults",
            "files": {"/work/in": {"data": f"file of {name}\n"}}, "collect": ["/work/out", "/work/big"], "commit": "/work",
            "limits": {"wall_ms": 60000, "cpu_ms": 60000}}


def _blob(t, entry):
    digest = entry["blob"].partition(":")[2]
    for top in ("blobs", "blobs/jobs"):
        path = os.path.join(t.state, top, digest[:2], digest[2:])
        if os.path.exists(path):
            with open(path, "rb") as f:
                return f.read()
    run = t.petri.call("blob", "cat", entry["blob"])
    return run.stdout if run.code == 0 else None


def whole(t, result):
    """A job that "exited" has all of its outputs, and they are right."""
    name = result["id"]
    t.equal((result["exit_code"], result["stdout"]), (0, {"data": f"got {name}\nfile of {name}\n", "truncated": False}), result)
    t.equal(sorted(result["files"]), ["/work/big", "/work/out"], result)
    t.equal(_blob(t, result["files"]["/work/out"]), b"small\n", result)
    t.check(_blob(t, result["files"]["/work/big"]) == bytes(BIG), f"the large output: {result}")
    t.check(result["layer"], f"no layer: {result}")
    layer = os.path.join(t.state, "layers", result["layer"].partition(":")[2], "diff", "work")
    with open(os.path.join(layer, "d", "e"), encoding="ascii") as f:
        t.equal(f.read(), "deep\n", result)
    with open(os.path.join(layer, "in"), encoding="ascii") as f:
        t.equal(f.read(), f"file of {name}\n", result)


def judge(t, result, fault):
    """What may be said of a job whose sandbox, or whose petri, was struck: never a wrong "exited", never the job's own fault."""
    role, call, _, error = fault.split(":")
    status = result["status"]
    if status == "exited":
        whole(t, result)
    elif status == "signaled":
        # Until its exec, and by its pid, the child is the job.
        t.check(role in ("child", "init") and error == "kill" and result["signal"] == signal.SIGKILL, result)
    elif status == "rejected":
        # A full disk while its files are written: what it brings is too large.
        t.equal((role, error, result["field"], result["reason"]), ("child", str(errno.ENOSPC), "files", "too_large"), result)
    elif status == "exec_failed":
        t.equal((role, call), ("child", "execve"), result)
    else:
        t.equal(status, "internal_error", result)
        t.check(result["message"], result)
    return status


def nothing_open(client):
    return not any(client("EXISTS", f"{PREFIX}:{s}") and (client("XLEN", f"{PREFIX}:{s}") or client("XPENDING", f"{PREFIX}:{s}", "petri")[0])
                   for s in ("jobs:high", "jobs", "jobs:low"))


def one_result(t, client, name, attempts=1):
    """Redis has one result, woke one waiter and told the reply stream once; nothing is left to run."""
    t.eventually(lambda: nothing_open(client), f"{name} is acknowledged", 15)
    t.equal(client("LLEN", f"{PREFIX}:done:{name}"), 0, "a second wake-up")
    told = [dict(zip(e[1][::2], e[1][1::2]))["id"] for e in client("XRANGE", f"{PREFIX}:results:faults", "-", "+")]
    t.equal(told.count(name), 1, f"entries in the reply stream: {told[-5:]}")
    result = json.loads(client("GET", f"{PREFIX}:result:{name}"))
    t.check(1 <= result["attempt"] <= attempts, f"attempt {result['attempt']}, at most {attempts} were expected")


def fds_by_role(pid):
    """Open fds of the processes that stay: {comm: count}, and how many processes there are in all."""
    found = {"processes": 0, "sandboxes": 0}
    for each in [pid, *descendants(pid)]:
        try:
            with open(f"/proc/{each}/comm", encoding="utf-8") as f:
                comm = f.read().strip()
            found["processes"] += 1
            found["sandboxes"] += comm == "petri-room"
            if comm in ("petri", "petri-worker", "petri-nursery", "petri-keeper"):
                for fd in os.listdir(f"/proc/{each}/fd"):
                    # Of which kind, so that a failure says what stayed: "socket", "/memfd:petri-policy (deleted)".
                    kind = re.sub(r":\[\d+\]|\d+", "", os.readlink(f"/proc/{each}/fd/{fd}"))
                    found[comm] = found.get(comm, 0) + 1
                    found[f"{comm} {kind}"] = found.get(f"{comm} {kind}", 0) + 1
        except OSError:
            pass
    return found
