"""What may stay behind after a test, and how it is found.

Processes are found exactly: the test makes itself a child subreaper (prctl(2)), so that whatever it started,
however often it forked and whoever died in between, is still among its descendants. Everything else is the
difference between two snapshots, narrowed to what is petri's, so that other work on the machine is not blamed.
"""
import ctypes
import collections
import os
import re
import signal
import subprocess
import time

UID_FIRST, UID_LAST = 0x70000000, 0x7FFE0000  # petri's range of host uids: the store's, the worker's, the slots'
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LIBC = ctypes.CDLL(None, use_errno=True)
# Directories that petri may keep between runs; below them, leaves are numbered.
LASTING = re.compile(r"^[a-z_.-]*$")


def become_subreaper():
    if LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def die_with_parent():
    """For Popen's preexec_fn: SIGTERM when the test itself is killed (ctest does that on a timeout)."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def reap():
    """Collect the exit of every child that has ended. Call it only when no Popen still waits for one."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _read(path):
    try:
        with open(path, "rb") as f:
            return f.read().decode("utf-8", "replace")
    except OSError:
        return ""


Process = collections.namedtuple("Process", "parent name state")


def process(pid):
    """A process as /proc/PID/stat has it; None when it is gone."""
    stat = _read(f"/proc/{pid}/stat")
    if not stat:
        return None
    state, parent = stat.rpartition(")")[2].split()[:2]
    return Process(int(parent), stat[stat.index("(") + 1:stat.rindex(")")], state)


def processes():
    """{pid: Process} of the whole machine, zombies included."""
    found = {int(name): process(name) for name in os.listdir("/proc") if name.isdigit()}
    return {pid: p for pid, p in found.items() if p}


def child_named(pid, name):
    """The child of pid that is called so; None when there is none."""
    return next((child for child, p in processes().items() if p.parent == pid and p.name == name), None)


def descendants(root=None):
    """Pids of all that root (default: this process) started, directly or not, zombies included."""
    root = root or os.getpid()
    children = {}
    for pid, p in processes().items():
        children.setdefault(p.parent, []).append(pid)
    found, todo = [], [root]
    while todo:
        for pid in children.get(todo.pop(), ()):
            found.append(pid)
            todo.append(pid)
    return found


def describe(pid):
    cmdline = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
    status = _read(f"/proc/{pid}/status")
    uid = re.search(r"^Uid:\s+(\d+)", status, re.M)
    state = re.search(r"^State:\s+(\S)", status, re.M)
    comm = _read(f"/proc/{pid}/comm").strip()
    return f"process {pid} ({comm}) uid {uid[1] if uid else '?'} state {state[1] if state else '?'}: {cmdline[:160]}"


def hierarchies():
    found = []
    for line in _read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        if right.split(" ")[0] in ("cgroup", "cgroup2"):
            found.append(left.split(" ")[4])
    return found


def cgroups():
    """Every cgroup directory of petri's on this machine: those beneath a directory with petri in its name."""
    found = set()
    for top in hierarchies():
        for path, dirs, _ in os.walk(top):
            found.update(os.path.join(path, d) for d in dirs if "petri" in os.path.join(path, d)[len(top):])
    return found


def cgroup_pids(path):
    pids = []
    for directory, _, _ in os.walk(path):
        pids += [int(p) for p in _read(os.path.join(directory, "cgroup.procs")).split()]
    return pids


def _mounts():
    return {line.split(" ", 1)[0]: line for line in _read("/proc/self/mountinfo").splitlines()}


def _loops():
    found = {}
    try:
        for name in os.listdir("/sys/block"):
            if name.startswith("loop"):
                backing = _read(f"/sys/block/{name}/loop/backing_file").strip()
                if backing:
                    found[name] = backing
    except OSError:
        pass
    return found


def _sockets():
    paths = set()
    for line in _read("/proc/net/unix").splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8:
            paths.add(fields[7])
    return paths


def _shm():
    found = {}
    try:
        with os.scandir("/dev/shm") as entries:
            for entry in entries:
                found[entry.name] = entry.stat(follow_symlinks=False).st_uid
    except OSError:
        pass
    return found


def _sysv():
    """System V shared memory, semaphores and message queues owned by petri's uids in this IPC namespace."""
    found = set()
    for kind in ("shm", "sem", "msg"):
        lines = _read(f"/proc/sysvipc/{kind}").splitlines()
        names = lines[0].split() if lines else []
        for line in lines[1:]:
            row = dict(zip(names, line.split()))
            if UID_FIRST <= int(row.get("uid", 0)) <= UID_LAST:
                found.add(f"{kind} {line.split()[1]} of uid {row['uid']}")
    return found


class Snapshot:
    """Take one before; afterwards leaks() says what is there that was not. `marks` are strings (the test's own
    temporary directories) that make a mount, socket or loop device ours beyond doubt."""

    def __init__(self, marks=()):
        self.marks = list(marks)
        self.mounts, self.cgroups, self.loops = _mounts(), cgroups(), _loops()
        self.sockets, self.shm, self.sysv = _sockets(), _shm(), _sysv()

    def _ours(self, text):
        return "petri" in text or any(mark in text for mark in self.marks)

    def _cgroup_leaks(self, mine):
        for path in sorted(cgroups() - self.cgroups):
            pids = cgroup_pids(path)
            if any(pid in mine for pid in pids):
                yield f"cgroup {path} with our processes in it"
            elif not pids and not LASTING.match(os.path.basename(path)):
                yield f"cgroup {path}"

    def leaks_now(self):
        reap()
        mine = set(descendants())
        found = [describe(pid) for pid in sorted(mine)]
        # Named network namespaces are `ip netns`'s: the chaos test's, and never petri's own.
        found += [f"mount {line}" for key, line in _mounts().items()
                  if key not in self.mounts and self._ours(line) and not line.split(" ")[4].startswith("/run/netns/")]
        found += self._cgroup_leaks(mine)
        found += [f"loop device {name} on {backing}" for name, backing in _loops().items()
                  if name not in self.loops and self._ours(backing)]
        found += [f"socket {path}" for path in sorted(_sockets() - self.sockets)
                  if any(mark in path for mark in self.marks) or path.startswith("@petri")]
        found += [f"/dev/shm/{name} of uid {uid}" for name, uid in _shm().items()
                  if name not in self.shm and ("petri" in name or UID_FIRST <= uid <= UID_LAST)]
        found += [f"System V IPC: {entry}" for entry in sorted(_sysv() - self.sysv)]
        return found

    def leaks(self, patience=5.0):
        """What is still there after `patience` seconds, since teardown of namespaces and cgroups is asynchronous;
        of that, only what two looks in a row have seen."""
        deadline = time.monotonic() + patience
        found = self.leaks_now()
        while found:
            time.sleep(0.05)
            again = self.leaks_now()
            if time.monotonic() >= deadline:
                # A process is described with its state, which changes; compare by what comes before that.
                before = {x.split(" state ")[0] for x in found}
                return sorted(x for x in again if x.split(" state ")[0] in before)
            found = again
        return []


def kill_descendants():
    """The last resort after a failure: end what this process started, by pid, children of the dead included."""
    for _ in range(50):
        pids = descendants()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        reap()
        if not descendants():
            return
        time.sleep(0.02)


def unmount_beneath(directory):
    """After a failure: detach what is still mounted beneath a directory of ours, so that it can be removed."""
    points = [line.split(" ")[4] for line in _mounts().values()]
    for point in sorted((p for p in points if p == directory or p.startswith(directory + "/")), reverse=True):
        subprocess.run(["umount", "-l", "--", point], stderr=subprocess.DEVNULL, check=False)
