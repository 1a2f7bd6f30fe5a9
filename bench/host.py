"""What this machine is, the programs to be started on it, and cgroups to crowd it with."""
import json
import os
import platform
import re
import shutil
import subprocess
import time

from harness import NotMeasured

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
CGROUPS = "/sys/fs/cgroup"


def first_match(path, pattern, default="unknown"):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            found = re.search(pattern, f.read(), re.M)
    except OSError:
        return default
    return found[1].strip().strip('"') if found else default


def output(argv):
    try:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def commit():
    if not shutil.which("git"):
        return "unknown"
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", ROOT]
    head = output([*git, "rev-parse", "--short=12", "HEAD"])
    changed = output([*git, "status", "--porcelain", "--untracked-files=no"])
    return head + (" with changes" if head and changed else "") or "unknown"


def doctor(harness):
    try:
        return json.loads(harness.run([harness.petri, "doctor", "--json", "--state", os.path.join(harness.dir, "doctor")], 60))
    except (NotMeasured, ValueError) as e:
        return {"error": str(e)}


def describe(harness):
    memory_kib = int(first_match("/proc/meminfo", r"^MemTotal:\s+(\d+)", "0"))
    return {
        "cpu": first_match("/proc/cpuinfo", r"^model name\s*:\s*(.+)$"),
        "cpus": os.cpu_count(),
        "memory_gib": round(memory_kib / (1 << 20), 1),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "system": first_match("/etc/os-release", r"^PRETTY_NAME=(.+)$"),
        "virtualised": "hypervisor" in first_match("/proc/cpuinfo", r"^flags\s*:\s*(.+)$", ""),
        "governor": first_match("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", r"^(\S+)", "not told"),
        "load_before": os.getloadavg()[0],
        "doctor": doctor(harness),
        "commit": commit(),
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


# ---- programs ----
def make_rootfs(harness):
    """A small root: /true, /hello where there is a C++ compiler, and room for the host's /usr."""
    root = os.path.join(harness.dir, "rootfs")
    for name in ("usr", "proc", "dev", "sys", "tmp", "work", "run", "etc", "root", "var"):
        os.makedirs(os.path.join(root, name))
    for name in ("bin", "sbin", "lib", "lib64"):
        if os.path.islink("/" + name):
            os.symlink(os.readlink("/" + name), os.path.join(root, name))
    shutil.copy2(harness.true, os.path.join(root, "true"))
    if os.path.exists("/etc/ld.so.cache"):
        shutil.copy2("/etc/ld.so.cache", os.path.join(root, "etc", "ld.so.cache"))
    return root


def make_hello(harness, root):
    """Return: why there is no /hello, or None."""
    source, target = os.path.join(HERE, "hello.cpp"), os.path.join(root, "hello")
    if not shutil.which("g++"):
        return "there is no g++"
    try:
        harness.run(["g++", "-O2", "-o", target, source], 60)
    except NotMeasured as e:
        return f"g++: {e}"
    return None


# ---- a host with many cgroups ----
class Cgroups:
    """N empty cgroups in a directory of our own, in each hierarchy that petri uses."""

    def __init__(self, harness):
        self.tops = []
        names = ("", "unified", "memory", "pids", "cpu", "cpuacct")
        for place in (os.path.join(CGROUPS, name) if name else CGROUPS for name in names):
            if os.path.ismount(place) and os.path.exists(os.path.join(place, "cgroup.procs")):
                self.tops.append(os.path.join(place, f"petri-bench-{os.getpid()}"))
        self.count = 0
        harness.undo.append(self.remove)

    def grow(self, count):
        if not self.tops:
            raise NotMeasured("no cgroup hierarchy found")
        for top in self.tops:
            os.makedirs(top, exist_ok=True)
            for i in range(self.count, count):
                os.mkdir(os.path.join(top, str(i)))
        self.count = max(self.count, count)

    def remove(self):
        for top in self.tops:
            for name in os.listdir(top) if os.path.isdir(top) else []:
                if name.isdigit():
                    os.rmdir(os.path.join(top, name))
            if os.path.isdir(top):
                os.rmdir(top)
        self.count = 0
