"""What a soak looks at every few seconds, and which change of it is growth."""
import os
import statistics
import subprocess
import time

from lib_leaks import cgroups, descendants

COMMS = ("petri", "petri-worker", "petri-nursery", "petri-keeper", "petri-room")
# Of the medians of two quarters of the samples, the first and the last: (share, amount) by which the last may be larger. Fds and
# processes get the room of four slots that are being made anew, or of commits under way, and no more: one left by every thousandth job would be
# seen. What the whole machine shares (everybody's cgroups, network namespaces) gets room for others.
BOUNDS = {
    "fds petri": (0, 32), "fds petri-worker": (0, 32), "fds petri-nursery": (0, 16), "fds petri-keeper": (0, 32), "processes": (0, 16),
    "cgroups": (0, 4), "mounts nursery": (0, 2), "mounts machine": (0, 2),
    "kB petri": (0.1, 512), "kB petri-worker": (0.1, 1024), "kB petri-nursery": (0.1, 512), "kB petri-keeper": (0.1, 512), "kB petri-room": (0.25, 2048),
    "inodes state": (0.2, 300), "kB state": (0.2, 2048), "kB redis": (0.25, 3072), "keys redis": (0.3, 600), "fds redis": (0, 8),
}
# In a short run: what is there at every moment, and has no time in which it goes.
COUNTS = ("fds petri", "fds petri-worker", "fds petri-nursery", "fds petri-keeper", "processes", "cgroups", "mounts nursery", "mounts machine")
# With room by the number of jobs: one left by every two hundredth would be seen.
MACHINE = ("dying cgroups", "net namespaces")
# What stays for a while after each job: twice as much when twice as many are done in a second.
KEPT = ("inodes state", "kB state", "kB redis", "keys redis")


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def _comm(pid):
    return _read(f"/proc/{pid}/comm").strip()


def _own_kb(pid):
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Anonymous:"):  # what is its own: a share of libraries (Pss) grows when others that map them end
            return int(line.split()[1])
    return 0


def _fds(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def _tree(path):
    """Inodes and kB of a directory."""
    done = subprocess.run(["du", "-sk", "--inodes", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    inodes = int(done.stdout.split()[0]) if done.stdout else 0
    done = subprocess.run(["du", "-sk", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return inodes, int(done.stdout.split()[0]) if done.stdout else 0


def _own_cgroups(pids):
    """Directories of the slots that our keepers and rooms sit in, in every hierarchy."""
    slots = set()
    for pid in pids:
        for line in _read(f"/proc/{pid}/cgroup").splitlines():
            for part in line.split(":", 2)[-1].split("/"):
                if part.startswith("slot-"):
                    slots.add(part)
    return sum(1 for path in cgroups() if slots & set(path.split("/")))


def _dying():
    total = 0
    for top in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        for line in _read(os.path.join(top, "cgroup.stat")).splitlines():
            if line.startswith("nr_dying_descendants"):
                return int(line.split()[1])
    return total


def _spawn_us(times=7):
    """posix_spawn of `true`: how busy the machine is with others."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        took.append((time.perf_counter() - start) * 1e6)
    return statistics.median(took)


class Watch:
    def __init__(self, worker, state, client, warm_up_s):
        self.worker, self.state, self.client, self.warm_up_s, self.samples = worker, state, client, warm_up_s, []

    def look(self, jobs, latencies_us):
        pid = self.worker.process.pid
        pids = [pid, *descendants(pid)]
        s = {"jobs": jobs, "at": time.monotonic(), "processes": len(pids)}
        for each in pids:
            comm = _comm(each)
            if comm in COMMS:
                s["kB " + comm] = s.get("kB " + comm, 0) + _own_kb(each)
                if comm != "petri-room":  # their number changes with the jobs
                    s["fds " + comm] = s.get("fds " + comm, 0) + _fds(each)
            if comm == "petri-nursery":
                s["mounts nursery"] = max(s.get("mounts nursery", 0), len(_read(f"/proc/{each}/mountinfo").splitlines()))
        last = self.samples[-1] if self.samples else s
        s["rate"] = (jobs - last["jobs"]) / max(s["at"] - last["at"], 0.1)
        s["mounts machine"] = sum(1 for line in _read("/proc/self/mountinfo").splitlines() if "petri" in line)
        s["cgroups"] = _own_cgroups(pids)
        s["inodes state"], s["kB state"] = _tree(self.state)
        memory = dict(x.split(":", 1) for x in self.client("INFO", "memory").splitlines() if ":" in x)
        s["kB redis"] = int(memory["used_memory"]) // 1024
        s["keys redis"] = self.client("DBSIZE")
        s["dying cgroups"] = _dying()
        s["kernel cgroups"] = sum(int(x.split()[2]) for x in _read("/proc/cgroups").splitlines()[1:])
        s["net namespaces"] = sum(int(x.split()[1]) for x in _read("/proc/slabinfo").splitlines() if x.startswith("net_namespace"))
        s["spawn us"] = _spawn_us()
        if latencies_us:
            ordered = sorted(latencies_us)
            s["p50 us"], s["p99 us"] = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        self.samples.append(s)
        return s

    def quarter(self, key, last):
        """The median of a quarter's samples. What came before anything could expire or be collected is left out, and the first tenth:
        caches fill, pools of the C library grow."""
        skip = max(len(self.samples) // 10, sum(1 for s in self.samples if s["at"] < self.samples[0]["at"] + self.warm_up_s))
        rest = [s[key] for s in self.samples[skip if skip < len(self.samples) // 2 else 1:] if key in s]
        n = max(len(rest) // 4, 1)
        return statistics.median((rest[-n:] if last else rest[:n]) or [0])

    def judge(self, jobs, short):
        """Return: (rows for the report, what grew)."""
        rows, grown = [], []
        bounds = {**BOUNDS, **{key: (0, max(64, jobs // 200)) for key in MACHINE}}
        for key, (share, amount) in bounds.items():
            if not any(key in s for s in self.samples):
                continue
            first, last = self.quarter(key, False), self.quarter(key, True)
            bound = first * (1 + share) + amount
            if key in KEPT:
                bound *= max(self.quarter("rate", True) / max(self.quarter("rate", False), 0.1), 1)
            rows.append((key, first, last, bound))
            if last > bound and (not short or key in COUNTS):
                grown.append(f"{key}: {first:g} in the first quarter, {last:g} in the last, at most {bound:g}")
        pace = self.quarter("spawn us", True) / max(self.quarter("spawn us", False), 1)
        for key, factor in (("p50 us", 1.3), ("p99 us", 2.0)):
            first, last = self.quarter(key, False), self.quarter(key, True)
            bound = first * factor * max(pace, 1)
            rows.append((key, first, last, bound))
            if not short and last > bound:
                grown.append(f"{key}: {first:g} in the first quarter, {last:g} in the last; the machine's own pace changed by {pace:.2f}")
        for key in ("rate", "kernel cgroups"):
            rows.append((key, self.quarter(key, False), self.quarter(key, True), 0))
        rows.append(("spawn us (the machine's pace)", self.quarter("spawn us", False), self.quarter("spawn us", True), 0))
        return rows, grown
