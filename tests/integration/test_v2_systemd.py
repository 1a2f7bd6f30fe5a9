#!/usr/bin/python3
"""The unit under systemd itself, as process 1 of a pid namespace in the VM: what it is told, what it does when parts die, and its end."""
import json
import os
import re
import signal
import subprocess
import time

from lib import main
from test_v2 import first_class

SYSTEMD = "/lib/systemd/systemd"
UNIT = "petri-worker.service"
GROUP = f"/sys/fs/cgroup/system.slice/{UNIT}"
# A manager of its own: /run, /proc and the mounts are its, the files and the cgroup tree are the machine's.
START = """mount --make-rprivate / && mount -t tmpfs run /run && mount -t proc proc /proc && mkdir -p /run/systemd/system &&
cp "$0"/*.service /run/systemd/system/ && exec env container=test {systemd} --system --unit=idle.service --log-target=null --show-status=no"""
IDLE = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep infinity\n"


class Manager:
    def __init__(self, t, units):
        self.t, self.units = t, units
        self.outer = subprocess.Popen(["unshare", "--pid", "--fork", "--mount", "--kill-child", "/bin/sh", "-c", START.format(systemd=SYSTEMD), units],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        t.defer(self.end)
        self.inner = None
        t.eventually(self.find, "systemd's process", 10)
        t.eventually(lambda: self("is-active", "idle.service").stdout == "active\n", "systemd is up", 60)

    def find(self):
        with open(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children", encoding="ascii") as f:
            children = f.read().split()
        self.inner = children[0] if children else None
        return self.inner

    def inside(self, *command):
        return subprocess.run(["nsenter", "-t", self.inner, "-m", "-p", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False, timeout=120)

    def __call__(self, *words):
        return self.inside("systemctl", *words)

    def show(self, *names):
        lines = self("show", UNIT, "-p", ",".join(names)).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)

    def end(self):
        """All in the namespace dies with its first process. Its groups are empty then, and go from the deepest up."""
        if self.inner and os.path.exists(f"/proc/{self.inner}"):
            os.kill(int(self.inner), signal.SIGKILL)
        self.outer.wait(20)
        made = [n for n in os.listdir("/sys/fs/cgroup") if re.search(r"[.](slice|scope|mount|service)$", n)]
        for name in made:
            for folder, _, _ in os.walk(os.path.join("/sys/fs/cgroup", name), topdown=False):
                for _ in range(50):
                    try:
                        os.rmdir(folder)
                        break
                    except OSError:
                        time.sleep(0.05)


def install(t):
    """The unit as it is built, with the build's program, and the shortest watchdog that an emulated machine keeps."""
    unit = os.path.join(os.path.dirname(t.petri.binary), "..", "share", UNIT)
    with open(unit, encoding="utf-8") as f:
        text = f.read()
    command = re.search(r"^ExecStart=(\S+) (\S+ \S+) (\S+)$", text, re.M)
    config = t.write("worker.conf", f"redis = {t.redis.url}\nallow-volatile-redis = true\nslots = 2\nlease = 5s\nname = unit\nstate = {t.state}\n")
    text = text.replace(command[0], f"ExecStart={t.petri.binary} {command[2]} {config}")
    text = text.replace("WatchdogSec=30s", "WatchdogSec=6s").replace("RestartSec=5s", "RestartSec=1s")
    os.mkdir(t.path("units"))
    t.write(f"units/{UNIT}", text)
    t.write("units/idle.service", IDLE)
    return t.path("units")


def job(t, client, name, script, **limits):
    client("XADD", "petri:jobs", "*", "id", name, "job",
           json.dumps({"argv": ["/bin/sh", "-c", script], "limits": {"wall_ms": 60000, "cpu_ms": 60000, **limits}}))


def result(t, client, name):
    t.eventually(lambda: client("EXISTS", f"petri:result:{name}"), f"the result of {name}", 60)
    return json.loads(client("GET", f"petri:result:{name}"))


def test_life(t):
    """Controls: without Delegate=yes in the unit "got ('active', …, 'no', '0')"; without WatchdogSec "not within 40 s: restarted by the watchdog"."""
    first_class(t)
    if not os.path.exists(SYSTEMD):
        t.skip("systemd")
    client = t.redis.client()
    systemd = Manager(t, install(t))

    started = systemd("start", UNIT)
    t.equal(started.returncode, 0, started.stdout + systemd("status", UNIT).stdout)
    now = systemd.show("ActiveState", "StatusText", "ControlGroup", "Delegate", "NRestarts", "MainPID")
    t.equal((now["ActiveState"], now["ControlGroup"], now["Delegate"], now["NRestarts"]), ("active", f"/system.slice/{UNIT}", "yes", "0"), now)
    t.contains(now["StatusText"], "ready")
    t.check(os.path.isdir(f"{GROUP}/petri/jobs/slot-0") and os.path.isdir(f"{GROUP}/self"), os.listdir(GROUP))

    job(t, client, "plain", "echo hi")
    t.equal(result(t, client, "plain")["stdout"]["data"], "hi\n")
    job(t, client, "fat", "x=x; while :; do x=$x$x; done", memory_bytes=16 << 20)
    t.equal(result(t, client, "fat")["status"], "memory_limit")
    t.equal(systemd.show("ActiveState", "MainPID"), {"ActiveState": "active", "MainPID": now["MainPID"]})

    stopped = systemd.inside("/bin/sh", "-c", "kill -STOP $(pgrep -x petri-worker)")
    t.equal(stopped.returncode, 0, stopped.stdout)
    t.eventually(lambda: systemd.show("NRestarts")["NRestarts"] == "1", "restarted by the watchdog", 30)
    job(t, client, "after", "echo again")
    t.equal(result(t, client, "after")["stdout"]["data"], "again\n")

    systemd("kill", "--kill-whom=main", "-s", "KILL", UNIT)
    t.eventually(lambda: systemd.show("NRestarts")["NRestarts"] == "2", "restarted after a death", 30)
    job(t, client, "running", "echo began; sleep 2; echo done")
    t.eventually(lambda: client("XPENDING", "petri:jobs", "petri")[0] == 1, "it runs", 60)
    ended = systemd("stop", UNIT)
    t.equal(ended.returncode, 0, ended.stdout)
    t.equal(systemd.show("ActiveState", "Result", "ExecMainStatus"), {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"})
    t.equal(result(t, client, "running")["stdout"]["data"], "began\ndone\n")
    t.check(not os.path.exists(GROUP), "its groups are left")


if __name__ == "__main__":
    main(globals())
